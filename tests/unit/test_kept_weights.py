"""Which trials keep their weights where a study is to keep those of its front."""

from __future__ import annotations

from pathlib import Path

import pytest

from agesearch.errors import InputError
from agesearch.models.manifest import WEIGHTS, ModelManifest, read_checked
from agesearch.search.choice.kept import KeptWeights, needed
from agesearch.search.store.records import State, StudyFolder, TrialRecord, front_of
from agesearch.specs import Choices, CropSpec, ModelSpec, StudySpec, TrainSpec
from agesearch.storage import Location


def _trial(
    number: int, latency: float, error: float, arch: str = "a", parent: int | None = None
) -> TrialRecord:
    return TrialRecord(
        number,
        State.COMPLETE,
        f"{number:04d}-{arch}-96px",
        {"seed": number},
        val_mae_years=error,
        latency_ms_p50=latency,
        inherited=parent,
    )


def _spec(**student: object) -> StudySpec:
    model = ModelSpec(arch="lcnet_050", **student)  # type: ignore[arg-type]
    return StudySpec(student=TrainSpec(model=model), space={"seed": Choices(choices=(0, 1))}, keep="front")


def test_the_front_its_nearest_and_what_they_started_from_are_needed() -> None:
    trials = [
        _trial(0, 1.0, 9.0),
        _trial(1, 2.0, 6.0, parent=4),
        _trial(2, 2.0, 6.5),
        _trial(3, 3.0, 9.0),
        _trial(4, 3.0, 8.5),
        _trial(5, 3.0, 9.5, arch="b"),
        _trial(6, 3.0, 9.9, arch="b"),
    ]
    front = front_of(trials)
    assert [trial.number for trial in front] == [0, 1]
    assert needed(trials, front, behind=1) == {0, 1, 2, 4}
    assert needed(trials, front, behind=1, inherits=True) == {0, 1, 2, 4, 5}
    running = TrialRecord(7, State.RUNNING, "0007-b-96px", inherited=6)
    assert needed(trials, front, [running], behind=0) == {0, 1, 4, 6}
    paused = TrialRecord(8, State.PAUSED, "0008-b-96px")
    assert needed(trials, front, [paused], behind=0) == {0, 1, 4}


def test_weights_go_as_trials_fall_behind_and_the_rest_of_their_folders_stays(tmp_path: Path) -> None:
    study = StudyFolder(Location.of(tmp_path / "study"))
    trials = [_trial(number, 1.0, 20.0 - number) for number in range(16)]

    def left() -> list[int]:
        found = (tmp_path / "study" / "trials").glob(f"*/{WEIGHTS}")
        return sorted(int(path.parent.name) for path in found)

    kept = KeptWeights(study, _spec(), [])
    for count, trial in enumerate(trials, start=1):
        folder = study.trial_folder(trial)
        (folder / WEIGHTS).write_bytes(b"weights")
        (folder / "curve.jsonl").write_text("{}\n")
        kept.ended(trial, front_of(trials[:count]), [])
    assert left() == list(range(3, 16))  # the front, and the twelve nearest behind it
    assert len(list((tmp_path / "study" / "trials").glob("*/curve.jsonl"))) == 16
    later = KeptWeights(study, _spec(), trials)  # a later run knows what is there
    later.sweep(front_of([*trials, _trial(16, 1.0, 0.0)]), [])
    assert left() == list(range(4, 16))


def test_whoever_asks_for_weights_that_were_removed_is_told_how_to_have_them(tmp_path: Path) -> None:
    folder = Location.of(tmp_path / "my study" / "trials" / "0007")
    manifest = ModelManifest(
        kind="trial", model=ModelSpec(arch="lcnet_050"), crop=CropSpec(), files={WEIGHTS: "0" * 64}
    )
    with pytest.raises(InputError, match=r"no weights.safetensors: .*agesearch trial '.*my study' 7 --rerun"):
        read_checked(folder, WEIGHTS, manifest=manifest)


def test_what_is_kept_is_no_part_of_what_a_study_is() -> None:
    spec = _spec()
    assert spec.digest() == spec.with_values({"keep": "all"}).digest()
    with pytest.raises(InputError, match="keep"):
        spec.with_values({"keep": "some"})
