"""Replays on a generated record: honest counts, the same result for the same seed, what stopping saves."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from replay_rows import NETWORKS, made_record, study, timed
from typer.testing import CliRunner

from agesearch.cli.main import app
from agesearch.errors import InputError
from agesearch.reporting.replays import write_replay_figures
from agesearch.search.replay.curve_table import CurveTable, as_table, read_record, record_table
from agesearch.search.replay.engine import budget, full_volume, place_of, reference_point, replay
from agesearch.search.replay.summary import compare
from agesearch.search.store.pareto import hypervolume
from agesearch.search.store.records import State, StudyFolder, StudyHeader, TrialRecord
from agesearch.specs import RungSpec, TeachersSpec, parse_spec
from agesearch.storage import Location
from agesearch.training.curve import append_row

RECORD = made_record(count=24, epochs=8)
EPOCHS = 8


def test_random_search_spends_every_epoch_and_ends_with_the_whole_record() -> None:
    run = replay(RECORD, "random", 0, slots=3)
    assert (run.spent, run.complete, run.stopped) == (24 * EPOCHS, 24, 0)
    assert run.volumes[-1] == pytest.approx(full_volume(RECORD.rows))
    assert list(run.volumes) == sorted(run.volumes)
    assert run.epochs[1] == 3 * EPOCHS - 2  # three slots in step: the first ends as the others' last begin
    assert run.spent_to(2 * run.volumes[-1]) is None
    assert run.at([0, run.epochs[1], 10_000])[[0, 2]].tolist() == [0.0, run.volumes[-1]]


@pytest.mark.parametrize("name", ["random-rungs", "tpe-rungs"])
def test_the_same_seed_replays_the_same_and_another_does_not(name: str) -> None:
    assert replay(RECORD, name, 1) == replay(RECORD, name, 1)
    assert replay(RECORD, name, 1).epochs != replay(RECORD, name, 2).epochs


def test_stopping_spends_less_and_loses_little() -> None:
    record = made_record(count=60, epochs=16)
    whole = replay(record, "random", 0)
    spared = replay(record, "random-rungs", 0)
    assert spared.stopped + spared.complete == 60
    assert spared.spent < 0.7 * whole.spent
    assert spared.volumes[-1] > 0.95 * whole.volumes[-1]


def test_rungs_that_are_off_in_the_study_are_the_default_ones_in_a_replay() -> None:
    off = CurveTable(RECORD.spec.model_copy(update={"rungs": None}), RECORD.rows)
    on = CurveTable(RECORD.spec.model_copy(update={"rungs": RungSpec()}), RECORD.rows)
    assert replay(off, "random-rungs", 0) == replay(on, "random-rungs", 0)
    assert replay(off, "random", 0).stopped == 0


def test_nearness_follows_the_scale_of_the_space() -> None:
    space = study().space
    base = {
        "model.arch": "lcnet_050",
        "model.input_size": 64,
        "optim.learning_rate": 3e-4,
        "augment.strength": 0.0,
        "distill.kd_weight": 1.0,
    }

    def distance(**changes: object) -> float:
        other = base | {name.replace("__", "."): value for name, value in changes.items()}
        return float(np.linalg.norm(np.subtract(place_of(base, space), place_of(other, space))))

    assert distance(model__arch="mobilenetv2_100") == pytest.approx(1.0)
    assert distance(augment__strength=1.0) == pytest.approx(0.5)
    assert distance(optim__learning_rate=(3e-4 * 1e-2) ** 0.5) == pytest.approx(0.5)


def test_the_reference_lies_beyond_the_front_whatever_diverged() -> None:
    error, latency = reference_point(RECORD.rows)
    assert error < 12  # a tenth of the rows end at 25 years
    assert latency > min(ms for ms, _, _ in NETWORKS.values())
    assert full_volume(RECORD.rows) == hypervolume([row.point for row in RECORD.rows], (error, latency))


def test_a_comparison_counts_epochs_to_the_goal_over_its_seeds(tmp_path: Path) -> None:
    found = compare(RECORD, ["random", "random-rungs", "random"], seeds=3, slots=2)
    assert [row.strategy for row in found.rows] == ["random", "random-rungs"]
    whole = found.rows[0]
    assert (found.budget, whole.reached, whole.final_share) == (192, 3, pytest.approx(1.0))
    assert whole.epochs.low is not None
    assert whole.epochs.middle is not None
    assert whole.epochs.high is not None
    assert whole.epochs.low <= whole.epochs.middle <= whole.epochs.high <= found.budget
    reached = sorted(
        replay(RECORD, "random", seed, slots=2).spent_to(0.95 * found.volume) or 0 for seed in range(3)
    )
    assert whole.epochs.middle == reached[1]
    assert (whole.seconds, found.budget_s) == (None, 0.0)  # the record has none
    written = write_replay_figures([found], Location.of(tmp_path / "replay.svg"))
    assert [file.name for file in written] == ["replay.svg"]
    root = ElementTree.fromstring((tmp_path / "replay.svg").read_text(encoding="utf-8").strip())
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"random", "random-rungs", "goal: 0.95"} <= set(words)
    with pytest.raises(InputError, match="--seeds is 0"):
        compare(RECORD, ["random"], seeds=0)
    with pytest.raises(InputError, match=r"Unknown strategy 'rnd'.*random-rungs"):
        compare(RECORD, ["random", "rnd"])


def test_a_record_comes_back_from_its_table(tmp_path: Path) -> None:
    place = Location.of(tmp_path / "record.parquet")
    place.write_table(as_table(RECORD))
    again = read_record(str(place))
    assert again.spec == RECORD.spec
    assert [row.params for row in again.rows] == [row.params for row in RECORD.rows]
    for row, kept in zip(RECORD.rows, again.rows, strict=True):
        assert kept.errors == pytest.approx(row.errors, abs=6e-4)
    assert (tmp_path / "record.parquet").stat().st_size < 100_000
    assert not again.has_seconds
    place.write_table(as_table(RECORD).drop_columns(["epoch_s"]))  # as tables were at first
    assert read_record(str(place)).rows == again.rows


def test_a_table_keeps_seconds_and_names_files_without_their_folders(tmp_path: Path) -> None:
    weights = {"lcnet_050": "/home/ada/nets/small.pth", "mobilenetv2_100": "../nets/large.pth"}
    student = RECORD.spec.student.with_values({"model.init": "file", "model.weights": "../nets/own.pth"})
    changes = {"weights": weights, "student": student, "teachers": TeachersSpec(age="../teachers/age")}
    record = replace(timed(RECORD), spec=RECORD.spec.model_copy(update=changes))
    table = as_table(record)
    told = json.dumps({key.decode(): text.decode() for key, text in table.schema.metadata.items()})
    assert all(f"{folder}/" not in told for folder in ("ada", "nets", "teachers"))
    Location.of(tmp_path / "record.parquet").write_table(table)
    again = read_record(str(tmp_path / "record.parquet"))
    assert again.spec.weights == {"lcnet_050": "small.pth", "mobilenetv2_100": "large.pth"}
    assert again.has_seconds
    assert again.rows[3].seconds == pytest.approx(record.rows[3].seconds, abs=6e-4)


def test_seconds_are_charged_and_a_slow_trial_ends_late() -> None:
    record = timed(RECORD)
    run = replay(record, "random", 0, slots=1)
    assert run.seconds[-1] == pytest.approx(budget(record.rows, "seconds"))
    assert run.spent == budget(record.rows)
    assert run.at([run.seconds[1] - 1e-6, run.seconds[1]], "seconds").tolist() == [0.0, run.volumes[1]]
    aside = replay(record, "random", 0, slots=8)  # begun in the order of the seed, ended by their seconds
    assert replay(RECORD, "random", 0, slots=8).volumes != aside.volumes


def test_a_study_becomes_a_record_of_its_whole_curves(tmp_path: Path) -> None:
    folder = StudyFolder(Location.of(tmp_path))
    source = {"path": "/x", "content_digest": "0" * 16}
    header = {"spec": RECORD.spec.model_dump(), "dataset": source, "teacher": source, "crop": {}}
    folder.write_header(parse_spec(StudyHeader, {**header, "spec_digest": "0", "created": "now"}, "test"))
    trials = [
        TrialRecord(
            row.number,
            State.PRUNED if row.number == 3 else State.COMPLETE,
            row.name,
            row.params,
            val_mae_years=min(row.errors),
            latency_ms_p50=row.latency_ms,
            epochs=2 if row.number == 3 else EPOCHS,
            curve=row.errors[:2] if row.number == 3 else row.errors,
        )
        for row in RECORD.rows[:6]
    ]
    folder.write_trials(trials)
    for epoch in range(1, EPOCHS + 1):
        append_row(folder.trial_folder(trials[0]), {"epoch": epoch, "epoch_s": epoch / 2})
    record = read_record(str(tmp_path))
    assert record.rows[0].seconds == tuple(epoch / 2 for epoch in range(1, EPOCHS + 1))
    assert record.rows[1].seconds == ()  # not known
    assert (len(record.rows), record.left_out) == (5, 1)
    assert record.rows[0].errors == RECORD.rows[0].errors
    assert record_table(folder).num_rows == 5
    folder.write_trials(trials[:3])
    with pytest.raises(InputError, match="has 3 trials with a whole learning curve"):
        read_record(str(tmp_path))


def test_what_is_no_record_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a study folder nor a Parquet table"):
        read_record(str(tmp_path))
    other = Location.of(tmp_path / "other.parquet")
    other.write_table(pa.table({"a": [1]}))
    with pytest.raises(InputError, match="lacks the column number"):
        read_record(str(other))
    other.write_table(as_table(RECORD).replace_schema_metadata(None))
    with pytest.raises(InputError, match="lacks its study's spec"):
        read_record(str(other))


def test_the_command_prints_json_and_keeps_the_table(tmp_path: Path) -> None:
    Location.of(tmp_path / "record.parquet").write_table(as_table(RECORD))
    arguments = [
        "replay",
        str(tmp_path / "record.parquet"),
        "--strategies",
        "random",
        "--seeds",
        "2",
        "--json",
    ]
    result = CliRunner().invoke(app, [*arguments, "--save", str(tmp_path / "kept.parquet")])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert (found["configurations"], found["random_epochs"]) == (24, 192)
    assert found["strategies"][0]["seeds"] == 2
    assert read_record(str(tmp_path / "kept.parquet")).rows
