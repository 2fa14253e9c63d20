"""What a trial's process reports of its training, whatever that does; without a running Ray."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from agesearch.errors import ConflictError, StorageFullError
from agesearch.search.run import trial
from agesearch.specs import CropSpec, ModelSpec, TrainSpec
from agesearch.storage import Location
from agesearch.training.stopping import TrainingStopped

Body = Callable[[Callable[[dict[str, Any]], None]], Any]


def reports_of(
    folder: Path, body: Body, monkeypatch: pytest.MonkeyPatch, reads: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """What Tune is told of a trial whose trainer does ``body(report)``."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(trial.tune, "report", told.append)
    spec = TrainSpec(model=ModelSpec(arch="lcnet_050")).with_values({"optim.epochs": 2})

    def trainer(*_: Any, report: Callable[[dict[str, Any]], None], **__: Any) -> Any:
        return body(report)

    config = {"spec": spec.model_dump_json(), "folder": str(folder), "name": "0000"}
    trial.run_trial(config, trial.TrialInputs(trainer, None, None, CropSpec(), reads=reads))
    return told


def raising(error: BaseException) -> Body:
    """A training that ends with an error after its first epoch."""

    def body(report: Callable[[dict[str, Any]], None]) -> None:
        report({"epoch": 1, "val_mae_years": 7.0})
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (ZeroDivisionError("by zero"), "failed", "ZeroDivisionError: by zero"),
        (MemoryError(), "failed", "MemoryError"),
        (SystemExit(3), "failed", "the training called sys.exit(3)"),
        (StorageFullError("'a' could not be written: no room."), "cut", "'a' could not be written: no room."),
        (OSError(28, "No space left on device"), "cut", "OSError: [Errno 28] No space left on device"),
    ],
)
def test_an_error_ends_the_trial_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, outcome: str, reason: str
) -> None:
    first, last = reports_of(tmp_path, raising(error), monkeypatch)
    assert first["epoch"] == 1
    assert (last["outcome"], last["reason"], last["epoch"]) == (outcome, reason, 1)


def test_a_training_that_was_asked_to_stop_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, last = reports_of(tmp_path, raising(TrainingStopped.within(1)), monkeypatch)
    assert (last["outcome"], last["epoch"]) == ("stopped", 1)
    assert "reason" not in last


def test_a_full_disk_before_the_first_epoch_cuts_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageFullError("no room")

    monkeypatch.setattr("agesearch.storage.Location.write_text", full)
    (last,) = reports_of(tmp_path, lambda report: {}, monkeypatch)
    assert (last["outcome"], last["reason"]) == ("cut", "no room")


def _denied(place: object) -> str:
    return f"'{place}' cannot be reached: AWS Error ACCESS_DENIED during HeadObject operation"


@pytest.mark.parametrize(
    "fault",
    [OSError(28, "No space left on device"), StorageFullError("no room"), OSError(_denied("s3://b/ds"))],
)
def test_what_ails_its_node_is_not_the_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    monkeypatch.setattr(trial, "this_node", lambda: "b2")
    own = trial.WorkingTrial(Location.of(tmp_path), is_shared=False)
    monkeypatch.setattr(trial, "working_trial", lambda _: nullcontext(own))
    first, last = reports_of(tmp_path, raising(fault), monkeypatch)
    assert (first["epoch"], last["epoch"], last["outcome"], last["node_id"]) == (1, 1, "misplaced", "b2")
    assert last["reason"] == str(fault)


def test_a_node_that_lacks_what_trials_read_trains_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "this_node", lambda: "b2")
    monkeypatch.setattr(trial, "unreadable", lambda place: _denied(place) if "gone" in place else None)
    (last,) = reports_of(tmp_path, lambda report: {}, monkeypatch, reads=("there", "gone"))
    assert last["outcome"] == "misplaced"
    assert last["reason"].startswith("it cannot read 'gone' ('gone' cannot be reached: AWS Error")


def test_the_stop_of_tune_passes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_: object) -> None:
        raise SystemExit(0)  # as Tune ends a function that is not to go on

    def body(report: Callable[[dict[str, Any]], None]) -> None:
        monkeypatch.setattr(trial.tune, "report", stopped)
        report({"epoch": 1})

    with pytest.raises(SystemExit):
        reports_of(tmp_path, body, monkeypatch)


def test_what_the_training_warns_of_is_told_with_its_next_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def body(report: Callable[[dict[str, Any]], None]) -> dict[str, float]:
        logging.getLogger("agesearch.training.checkpoint").warning("its checkpoint is damaged: starting over")
        report({"epoch": 1})
        report({"epoch": 2})
        return {"val_mae_years": 6.0}

    told = reports_of(tmp_path, body, monkeypatch)
    assert [row.get("note") for row in told] == ["its checkpoint is damaged: starting over", None, None]
    assert told[-1]["outcome"] == "completed"


def test_the_process_of_an_earlier_attempt_keeps_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys; from agesearch.storage import Location, exclusive\n"
        "with exclusive(Location.of(sys.argv[1]), 'the trial'): print('held', flush=True); sys.stdin.read()"
    )
    orphan = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert orphan.stdout is not None
    assert orphan.stdout.readline() == "held\n"
    monkeypatch.setattr(trial, "_ORPHAN_S", 0.0)
    with pytest.raises(ConflictError, match=f"the trial .* is in use by process {orphan.pid}"):
        reports_of(tmp_path, lambda report: {}, monkeypatch)
    orphan.kill()
    orphan.wait()
    (last,) = reports_of(tmp_path, lambda report: {"val_mae_years": 6.0}, monkeypatch)
    assert last["outcome"] == "completed"


def test_a_report_after_the_end_is_not_another_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Callable[[dict[str, Any]], None]] = []

    def body(report: Callable[[dict[str, Any]], None]) -> dict[str, float]:
        kept.append(report)
        return {"val_mae_years": 6.0}

    told = reports_of(tmp_path, body, monkeypatch)
    kept[0]({"epoch": 9, "val_mae_years": 0.0})
    assert [row["outcome"] for row in told] == ["completed"]
