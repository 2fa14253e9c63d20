"""The error of the worst decade of age: measured in every training, kept, shown, and a limit of a study."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pyarrow as pa
import pytest
from fake_study import write_measured, write_study
from held_faces import faces, held_split
from replay_rows import made_record, study
from rich.console import Console
from typer.testing import CliRunner

from agesearch.api.study import asked_study
from agesearch.cli import front
from agesearch.cli.main import app
from agesearch.data.dataset.records import MANIFEST, SCHEMA, SHARDS, Manifest
from agesearch.errors import InputError
from agesearch.metrics import (
    AT_END,
    VAL_MAE_YEARS,
    VAL_WORST_DECADE_FIRST_YEARS,
    VAL_WORST_DECADE_MAE_YEARS,
)
from agesearch.reporting.report import build_report
from agesearch.search.replay.engine import replay
from agesearch.search.run.phases.confirm import new_trainings
from agesearch.search.run.setup import check_end_measures
from agesearch.search.run.study import run_study
from agesearch.search.store.front_limits import LIMITED, LIMITED_AT_END, FrontLimits
from agesearch.search.store.history import STUDY_NAME, History, TrialCost
from agesearch.search.store.records import TRIALS_FILE, State, StudyFolder, TrialRecord, front_of
from agesearch.specs import CropSpec, StudySpec, TrainSpec
from agesearch.storage import Location
from agesearch.training import run
from agesearch.training.curve import ANSWERS, read_curve

LIMIT = "max_worst_decade_mae_years"
PARAMS = {"model.arch": "lcnet_050", "model.input_size": 64, "optim.learning_rate": 1e-3}


def _limited(**changes: object) -> StudySpec:
    return study().model_copy(update={LIMIT: 9.0, **changes})


def _dataset(root: Path, ages: Sequence[float | None]) -> Location:
    """Val faces of these ages, and one to train on."""
    place = Location.of(root / "ds")
    manifest = Manifest(
        name="tiny",
        label_kind="real",
        crop=CropSpec(),
        counts={"train": 1, "val": len(ages)},
        content_digest="d" * 16,
    )
    (place / MANIFEST).write_json(manifest.model_dump(mode="json"))
    rows = [
        {"sample_id": f"{index:03d}", "image": b"", "age": age, "source": "tiny", "split": "val"}
        for index, age in enumerate(ages)
    ]
    rows.append(rows[0] | {"sample_id": "train", "split": "train"})
    (place / SHARDS / "0.parquet").write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    return place


def test_a_training_tells_the_error_of_its_best_epoch_in_the_worst_decade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = TrainSpec.model_validate(
        {"model": {"arch": "lcnet_035", "input_size": 32}, "optim": {"batch_size": 8, "epochs": 3}}
    )
    val = faces(30, 36)  # 30-39, 40-49, 50-59, and six of 60-65
    val["age"][2] = np.nan  # a face without an exact age: nine are left of 30-39
    monkeypatch.setattr(run, "_subjects", lambda _: np.array([None] * 36, dtype=object))
    place = Location.of(tmp_path)
    metrics = run.train_student(spec, held_split([faces(0, 16)]), held_split([val]), place, CropSpec(size=32))
    kept = (place / ANSWERS).read_table()
    age, predicted = kept["age"].to_numpy(), kept["predicted_age"].to_numpy()
    off = {first: np.abs(predicted - age)[age // 10 * 10 == first].mean() for first in (40, 50)}
    worst = max(off, key=off.__getitem__)
    assert metrics[VAL_WORST_DECADE_FIRST_YEARS] == worst
    assert metrics[VAL_WORST_DECADE_MAE_YEARS] == pytest.approx(off[worst], abs=1e-4)
    assert VAL_WORST_DECADE_MAE_YEARS not in read_curve(place)[-1]
    again = run.train_student(spec, held_split([faces(0, 16)]), held_split([val]), place, CropSpec(size=32))
    assert again == metrics


def test_it_is_kept_whether_or_not_it_is_limited(tmp_path: Path) -> None:
    figures = {VAL_MAE_YEARS: 6.0, VAL_WORST_DECADE_MAE_YEARS: 9.5, VAL_WORST_DECADE_FIRST_YEARS: 60.0}
    for spec, constraints in ((_limited(), {LIMIT: 0.5}), (study(), {})):
        root = tmp_path / spec.digest()
        root.mkdir()
        history = History.open(root / "optuna.db", spec)
        number = history.begin(PARAMS).number
        history.knows_latency(number, 0.3)
        ended = history.complete(number, figures, TrialCost(16, 4.0, (6.0,)))
        assert ended.at_end == {"worst decade": 9.5}
        assert ended.at_end_text("worst decade", " years") == "9.50 years at 60-69"
        (stored,) = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{root}/optuna.db").trials
        assert stored.constraints == constraints
        assert History.open(root / "optuna.db", spec).records == [ended]
        folder = StudyFolder(Location.of(root))
        folder.write_trials([ended])
        assert folder.trials() == [ended]


def test_records_of_before_load_and_break_the_limit_as_not_measured(tmp_path: Path) -> None:
    folder = StudyFolder(Location.of(tmp_path))
    name = "0000-lcnet_050-64px"
    old = TrialRecord(0, State.COMPLETE, name, val_mae_years=5.0, latency_ms_p50=1.0)
    folder.write_trials([old])
    place = folder.root / TRIALS_FILE
    place.write_table(place.read_table().drop_columns(list(AT_END)))
    assert folder.trials() == [old]
    assert (old.at_end, old.at_end_text("worst decade")) == ({}, "–")
    assert VAL_WORST_DECADE_MAE_YEARS not in old.as_json()
    assert "val_worst_decade_first_years" not in old.as_json()
    assert FrontLimits.of(_limited()).broken(old) == f"{LIMIT} 9 (it was not measured)"


def test_the_front_holds_only_who_keeps_it() -> None:
    def done(number: int, worst: float) -> TrialRecord:
        name = f"{number:04d}-lcnet_050-64px"
        record = TrialRecord(number, State.COMPLETE, name, val_mae_years=5.0 - number, latency_ms_p50=1.0)
        return replace(record, val_worst_decade_mae_years=worst)

    trials = [done(0, 8.0), done(1, 9.0), done(2, 9.62)]
    limits = FrontLimits.of(_limited())
    assert [record.number for record in front_of(trials, limits)] == [1]
    assert [record.number for record in front_of(trials)] == [2]
    assert limits.broken(trials[2]) == f"{LIMIT} 9 (it has 9.62, 0.62 above)"


def test_a_study_without_ten_faces_in_a_decade_is_refused_before_it_begins(tmp_path: Path) -> None:
    nine = [*[25.0] * 9, *[35.0] * 9, *[None] * 40]
    place = _dataset(tmp_path / "nine", nine)
    words = (
        f"{LIMIT} is 9, but no decade of age has 10 of the 18 val faces of '{place}' that trials are judged"
    )
    with pytest.raises(InputError) as refused:
        run_study(_limited(), place, None, tmp_path / "study")
    assert str(refused.value).startswith(f"{words} by, and with fewer its error is mostly chance: ")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "study").exists()
    check_end_measures(study(), place)  # nothing is limited by it

    enough = _dataset(tmp_path / "ten", [*nine, 20.0])
    check_end_measures(_limited(), enough)
    student = study().student
    check_end_measures(_limited(student=student.with_values({"val_faces": 19})), enough)
    with pytest.raises(InputError, match=r"has 10 of the 12 val faces .* judged by \(val_faces: 12\), and"):
        check_end_measures(_limited(student=student.with_values({"val_faces": 12})), enough)


def test_it_is_asked_for_as_the_other_limits_are() -> None:
    asked, _ = asked_study(study(), max_worst_decade_mae_years=7.5)
    assert asked.max_worst_decade_mae_years == 7.5
    assert LIMIT not in study().model_dump()  # older specs keep their digests
    assert asked.digest() != study().digest()
    both = asked_study(asked, max_mae_years=6.0)[0]
    assert list(FrontLimits.of(both).besides_the_error.highest) == [LIMIT]
    free = new_trainings(both, 4)
    assert all(getattr(free, name) is None for name in LIMITED)
    with pytest.raises(InputError, match=f"{LIMIT}.*greater than 0"):
        asked_study(study(), max_worst_decade_mae_years=0.0)


def test_a_replay_leaves_out_what_its_record_does_not_know() -> None:
    record = made_record(count=24, epochs=8)
    limited = replace(record, spec=record.spec.model_copy(update=dict.fromkeys(LIMITED_AT_END, 1.0)))
    assert replay(limited, "ehvi", 0) == replay(record, "ehvi", 0)


def test_front_trial_and_report_say_which_decade_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_study(Location.of(tmp_path / "study"))
    known = {"val_worst_decade_mae_years": 9.41, "val_worst_decade_first_years": 90.0}
    trials = [replace(one, **known) if one.state is State.COMPLETE else one for one in folder.trials()]
    folder.write_trials(trials)
    number, place = str(folder.front()[0].number), str(folder.root)
    runner = CliRunner()
    shown = {width: io.StringIO() for width in (60, 140)}
    for width, text in shown.items():
        monkeypatch.setattr(front, "out", Console(file=text, width=width))
        told = runner.invoke(app, ["front", place])
        assert "worst decade: MAE at the true ages where it is largest" in told.stderr
        assert "MAE-C" not in told.output + text.getvalue()
        assert max(map(len, text.getvalue().splitlines())) <= width
    assert shown[140].getvalue().count("9.41 at 90-100") == len(folder.front())
    assert "worst decade" in shown[60].getvalue().split(")")[0]  # among what there was no room for
    lines = runner.invoke(app, ["trial", place, number]).stdout.splitlines()
    assert [line.split() for line in lines if "worst decade" in line] == [
        ["worst", "decade", "9.41", "years", "at", "90-100"]
    ]
    write_measured(folder)
    report = build_report(folder, Location.of(tmp_path / "report.html"))
    (section,) = [one for one in report.sections if one.id == "trials"]
    table = section.tables[0].table
    at = table.columns.index("worst decade, years")
    assert {row[at].text for row in table.rows} == {"9.41 at 90-100", "–"}
