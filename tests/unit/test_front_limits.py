"""Limits that are known once a trial has trained: who breaks one is off the front, and samplers turn away."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from fake_study import write_measured, write_study
from published_sets import Brightness
from replay_rows import NETWORKS, SIZES, study

from agesearch.data.images.crop import decode_crop, encode_crop
from agesearch.errors import InputError
from agesearch.measure.counterfactual.shifts import largest_move
from agesearch.measure.labelled_faces import LabelledFaces
from agesearch.measure.robustness.protocol import corrupted
from agesearch.measure.robustness.subset import levels_of, mae_c_years
from agesearch.metrics import SHIFT_YEARS, VAL_MAE_C_YEARS, VAL_MAE_YEARS, VAL_WORST_DECADE_MAE_YEARS
from agesearch.models.architectures import Network
from agesearch.reporting.fronts import front_table
from agesearch.reporting.report import build_report
from agesearch.search.model.trial_model import TrialModel
from agesearch.search.run.setup import check_end_measures
from agesearch.search.run.suggester import Suggester
from agesearch.search.run.trial_inputs import EndMeasures
from agesearch.search.space.limits import Fitting
from agesearch.search.store.front_limits import FrontLimits
from agesearch.search.store.history import STUDY_NAME, History, TrialCost
from agesearch.search.store.records import State, StudyFolder, TrialRecord, front_of
from agesearch.search.view.status import study_status
from agesearch.specs import CropSpec, RobustnessSpec, ShiftsSpec, StudySpec
from agesearch.storage import Location

LATENCIES = {
    Network(arch, size): ms * (size / 64) ** 2 for arch, (ms, _, _) in NETWORKS.items() for size in SIZES
}
FRAGILE = "efficientnet_lite0"


def _limited(**changes: object) -> StudySpec:
    return study().model_copy(update={"max_mae_c_years": 9.0, **changes})


def _done(number: int, error: float, corrupted_error: float | None, ms: float = 1.0) -> TrialRecord:
    name = f"{number:04d}-lcnet_050-64px"
    return TrialRecord(
        number, State.COMPLETE, name, val_mae_years=error, latency_ms_p50=ms, val_mae_c_years=corrupted_error
    )


def test_the_front_holds_only_who_keeps_every_limit() -> None:
    trials = [_done(0, 4.0, 9.5), _done(1, 5.0, 9.0), _done(2, 6.0, 7.0, 0.5), _done(3, 3.0, None)]
    limits = FrontLimits.of(_limited())
    assert [record.number for record in front_of(trials, limits)] == [2, 1]
    assert [record.number for record in front_of(trials)] == [2, 3]
    assert limits.broken(trials[0]) == "max_mae_c_years 9 (it has 9.50, 0.50 above)"
    assert limits.broken(trials[3]) == "max_mae_c_years 9 (it was not measured)"
    assert limits.excess(trials[3]) == {"max_mae_c_years": math.inf}
    both = FrontLimits.of(_limited(max_mae_years=4.5))
    assert not both.hold(trials[1])
    assert list(both.besides_the_error.highest) == ["max_mae_c_years"]


def test_what_was_measured_at_the_end_is_kept(tmp_path: Path) -> None:
    history = History.open(tmp_path / "optuna.db", _limited())
    record = history.begin({"model.arch": "lcnet_050", "model.input_size": 64, "optim.learning_rate": 1e-3})
    history.knows_latency(record.number, 0.3)
    figures = {VAL_MAE_YEARS: 6.0, VAL_MAE_C_YEARS: 8.5, SHIFT_YEARS: 1.25}
    ended = history.complete(record.number, figures, TrialCost(16, 4.0, (6.0,)))
    assert ended.at_end == {"MAE-C": 8.5, "shift": 1.25}
    (stored,) = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{tmp_path}/optuna.db").trials
    assert stored.constraints == {"max_mae_c_years": -0.5}
    assert History.open(tmp_path / "optuna.db", _limited()).records == [ended]
    folder = StudyFolder(Location.of(tmp_path))
    folder.write_trials([ended])
    assert folder.trials() == [ended]
    assert ended.as_json()[VAL_MAE_C_YEARS] == 8.5
    assert VAL_MAE_C_YEARS not in _done(0, 1.0, None).as_json()  # records of before stay as they were


def test_status_front_and_report_say_which_trials_break_a_limit_and_by_how_much(tmp_path: Path) -> None:
    folder = write_study(Location.of(tmp_path / "study"))
    trials = folder.trials()
    complete = [trial.number for trial in trials if trial.state is State.COMPLETE]
    over, unknown = complete[:2]
    figures = {number: 8.0 for number in complete} | {over: 9.62, unknown: None}
    folder.write_trials([replace(one, val_mae_c_years=figures.get(one.number)) for one in trials])
    header = folder.header()
    limited = header.spec.model_copy(update={"max_mae_c_years": 9.0})
    folder.write_header(header.model_copy(update={"spec": limited}))
    write_measured(folder)

    words = {over: "max_mae_c_years 9 (it has 9.62, 0.62 above)"}
    words[unknown] = "max_mae_c_years 9 (it was not measured)"
    found = study_status(folder.root)
    assert found.as_json()["broken_limits"] == {str(number): text for number, text in words.items()}
    told = f"2 of {len(complete)} COMPLETE trials break a limit of the study"
    assert found.notes[0].startswith(told)
    assert found.notes_now == found.notes
    assert replace(found, driver=SimpleNamespace(is_live=True)).notes_now == found.notes[:1]  # type: ignore[arg-type]

    rows = {row.trial.number: row for row in front_table(str(folder.root), every=True).rows}
    assert {number: row.broken_limits for number, row in rows.items() if row.broken_limits} == words
    report = build_report(folder, Location.of(tmp_path / "report.html"))
    (trials_section,) = [one for one in report.sections if one.id == "trials"]
    table = trials_section.tables[0].table
    at, states = table.columns.index("MAE-C, years"), table.columns.index("above its limit")
    cells = {int(row[0].text): (row[at].text, row[states].text) for row in table.rows}
    assert (cells[over], cells[unknown][0]) == (("9.62", words[over]), "–")
    assert {cells[number][1] for number in complete[2:]} == {"–"}
    assert any(note.startswith(told) for note in trials_section.notes)
    assert any("agesearch report study" in note for note in trials_section.notes)  # sizes are not known yet
    assert {row[table.columns.index("file, MB")].text for row in table.rows} == {"–"}


def _filled(spec: StudySpec, count: int = 24) -> tuple[History, list[str]]:
    """A search whose fragile network is the best but for corruption and one decade of age; the networks of
    its trials.
    """
    history = History.in_memory(spec)
    history.latencies = LATENCIES
    suggester = Suggester(history, spec, Fitting())
    for _ in range(count):
        record = suggester.suggest()
        assert record is not None
        number, arch = record.number, record.arch
        error = NETWORKS[arch][1]
        history.knows_latency(number, LATENCIES[Network(arch, record.input_size)])
        others = dict.fromkeys((VAL_MAE_C_YEARS, VAL_WORST_DECADE_MAE_YEARS), error + 1.0)
        figures = {VAL_MAE_YEARS: error, **others}
        if arch == FRAGILE:
            figures |= dict.fromkeys(others, error + 8.0)
        history.complete(number, figures, TrialCost(16, 4.0, (error,) * 16))
    return history, [record.arch for record in history.records]


@pytest.mark.parametrize("limit", ["max_mae_c_years", "max_worst_decade_mae_years"])
@pytest.mark.parametrize("sampler", ["ehvi", "tpe"])
def test_samplers_turn_away_from_what_breaks_a_limit(sampler: str, limit: str) -> None:
    free = study().model_copy(update={"sampler": sampler})
    limited = free.model_copy(update={limit: 9.0})
    (_, before), (history, after) = _filled(free, 34), _filled(limited, 34)
    assert after[10:].count(FRAGILE) < before[10:].count(FRAGILE)
    assert FRAGILE not in {record.arch for record in history.front()}


def test_only_who_keeps_the_limits_stands_in_anothers_way() -> None:
    params = {"model.arch": "lcnet_050", "model.input_size": 64, "optim.learning_rate": 1e-3}
    params |= {"augment.strength": 1.0, "distill.kd_weight": 1.0}
    trials = [replace(_done(number, 5.0 + number, 8.5 + number), params=params) for number in range(3)]
    for spec, points in ((_limited(), [(5.0, 1.0)]), (study(), [(5.0, 1.0), (6.0, 1.0), (7.0, 1.0)])):
        model = TrialModel(spec, Fitting(), LATENCIES)
        assert model.points_within([model.view(trial) for trial in trials], trials) == points


def test_older_specs_keep_their_digests_and_wrong_names_are_refused() -> None:
    spec = study()
    assert "robustness" not in spec.model_dump()
    assert spec.digest() == spec.model_copy(update={"robustness": RobustnessSpec()}).digest()
    assert spec.digest() != _limited().digest()
    wrong = RobustnessSpec(corruptions=("motion_blurr",))
    nowhere = Location.of("nowhere")
    check_end_measures(spec.model_copy(update={"robustness": wrong}), nowhere)  # nothing is limited by it
    with pytest.raises(InputError, match="motion_blurr"):
        check_end_measures(_limited(robustness=wrong), nowhere)
    with pytest.raises(InputError, match="Unknown change 'hat'"):
        check_end_measures(
            _limited(max_shift_years=1.0, counterfactual=ShiftsSpec(changes=("hat",))), nowhere
        )


def test_the_error_under_corruption_is_that_of_the_same_pixels_for_every_trial() -> None:
    crop = CropSpec(size=64)
    images = [np.full((64, 64, 3), value, np.uint8) for value in (60, 120)]
    faces = LabelledFaces(
        ["a", "b"], [None, None], ["s", "s"], np.array([30.0, 50.0], np.float32),
        [encode_crop(image, crop) for image in images], 64,
    )  # fmt: skip
    levels = levels_of(RobustnessSpec(corruptions=("brightness",), severities=(1, 4)))
    found = mae_c_years(Brightness(), faces, levels)
    expected = [
        abs(np.clip(corrupted(decode_crop(coded), level, name).mean() / 2, 0, 100) - age)
        for level in levels
        for coded, name, age in zip(faces.crops, faces.sample_id, faces.age, strict=True)
    ]
    assert found == pytest.approx(np.mean(expected), abs=0.1)
    assert found > 5


def test_the_change_that_moves_most_counts() -> None:
    nan = math.nan
    answers = np.array([[20, 30], [21, 28], [nan, 34], [nan, nan]], np.float32)
    assert largest_move(answers) == 4.0
    assert EndMeasures().of(Location.of("nowhere")) == {}
