"""Which student is picked: noise on a front, the rule of the knee, and candidates that were confirmed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_study import SPEC, write_study
from held_faces import faces, held_split

from agesearch.errors import InputError
from agesearch.metrics import EPOCH, VAL_MAE_YEARS
from agesearch.models.architectures import Network
from agesearch.search.choice.candidates import candidates_for
from agesearch.search.choice.confirmed import (
    PLAN,
    ConfirmationPlan,
    candidates_of,
    confirmation,
    confirmed_candidates,
)
from agesearch.search.choice.knee import CONFIRMED_RULE, RULE, choose
from agesearch.search.choice.noise import alike, difference, neighbours, words
from agesearch.search.front.latencies import study_latencies
from agesearch.search.run.driver import Stopping, Urgency
from agesearch.search.run.phases.confirm import (
    Planned,
    asked_when_time_is_up,
    is_confirmed,
    new_trainings,
    planned,
    refuse_confirmation,
)
from agesearch.search.run.reports import COMPLETED, OUTCOME
from agesearch.search.run.trial_manager import TrialManager
from agesearch.search.store.history import History
from agesearch.search.store.records import StudyFolder, TrialRecord, knee_of
from agesearch.search.view.status import study_status
from agesearch.specs import ConfirmSpec, CropSpec, StudySpec, TrainSpec, parse_spec
from agesearch.storage import Location
from agesearch.training import run
from agesearch.training.curve import ANSWERS, MOST_ANSWERS, write_answers

FACES = 200


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return write_study(Location.of(tmp_path / "study"), trials=20)


def answer(place: Location, error: float, own: float, seed: int, shown: Sequence[int] = range(FACES)) -> None:
    """Answers for faces of persons with two each, whose errors are nearly those of every other trial."""
    shared = np.random.default_rng(0).uniform(-1.0, 1.0, FACES)[list(shown)]
    away = error + shared + own * np.random.default_rng(seed + 1).normal(size=len(shown))
    ages = np.full(len(shown), 40.0, dtype=np.float32)
    names = [f"face{face:04d}" for face in shown]
    write_answers(place, names, [f"p{face // 2}" for face in shown], ages, (ages + away).astype(np.float32))


def with_answers(study: StudyFolder, errors: Mapping[int, float], own: float = 1.0) -> list[TrialRecord]:
    """The front, of which the trials in ``errors`` kept answers with such errors."""
    for number, error in errors.items():
        answer(study.trial_folder(number), error, own, number)
    return study.front()


def test_answers_are_kept_by_name_and_of_a_large_set_the_same_faces(tmp_path: Path) -> None:
    first, second = Location.of(tmp_path / "a"), Location.of(tmp_path / "b")
    names = [f"{index:05d}" for index in range(MOST_ANSWERS + 500)]
    ages = np.arange(len(names), dtype=np.float32)
    write_answers(first, names, [None] * len(names), ages, ages)
    order = np.random.default_rng(0).permutation(len(names))
    write_answers(second, [names[at] for at in order], [None] * len(names), ages[order], ages[order])
    tables = [(place / ANSWERS).read_table() for place in (first, second)]
    assert tables[0].num_rows == MOST_ANSWERS
    assert tables[0].equals(tables[1])


def test_a_student_keeps_what_its_best_epoch_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = TrainSpec.model_validate(
        {"model": {"arch": "lcnet_035", "input_size": 32}, "optim": {"batch_size": 8, "epochs": 1}}
    )
    train, val = held_split([faces(0, 16)]), held_split([faces(40, 6)])
    monkeypatch.setattr(run, "_subjects", lambda _: np.array(["a", "a", "b", None, "c", "c"], dtype=object))
    place = Location.of(tmp_path / "kept")
    metrics = run.train_student(spec, train, val, place, CropSpec(size=32))
    kept = (place / ANSWERS).read_table().to_pydict()
    assert kept["subject_id"] == ["a", "a", "b", None, "c", "c"]
    assert kept["age"] == [40.0, 41.0, 42.0, 43.0, 44.0, 45.0]
    errors = np.abs(np.array(kept["predicted_age"]) - np.array(kept["age"]))
    assert errors.mean() == pytest.approx(metrics["val_mae_years"], abs=1e-4)
    assert "val_worst_decade_mae_years" not in metrics  # of six faces

    def unseen(_: object) -> None:
        raise InputError("the dataset is not on this node")

    monkeypatch.setattr(run, "_subjects", unseen)
    run.train_student(spec, train, val, Location.of(tmp_path / "unseen"), CropSpec(size=32))
    assert not (Location.of(tmp_path / "unseen") / ANSWERS).exists()


def test_neighbours_are_told_apart_by_paired_errors(study: StudyFolder) -> None:
    numbers = [member.number for member in study.front()]
    errors = {number: 8.0 - 0.02 * at for at, number in enumerate(numbers[:2])}
    errors |= {number: 6.0 - at for at, number in enumerate(numbers[2:])}
    front = with_answers(study, errors)
    found = neighbours(study, front)
    assert [one.is_noise for one in found] == [True] + [False] * (len(front) - 2)
    assert found[1].years is not None
    assert found[1].years.value == pytest.approx(2.0, abs=0.3)
    assert alike(found) == {numbers[0]: [numbers[1]], numbers[1]: [numbers[0]]}
    assert f"trials {numbers[0]} and {numbers[1]}" in words(front, found)
    assert "200 faces of 100 persons" in words(front, found)
    shown = study_latencies(study)
    assert shown.differences == found
    assert words(front, found) in study_status(study.root).notes


def test_without_answers_or_on_other_faces_nothing_is_claimed(study: StudyFolder) -> None:
    front = study.front()
    assert "not known" in words(front, neighbours(study, front))
    answer(study.trial_folder(front[0]), 7.0, 1.0, 0)
    answer(study.trial_folder(front[1]), 7.0, 1.0, 0, shown=range(100))
    assert difference(study, front[0], front[1]).years is None
    choice = choose(study, study.trials(), front)
    assert choice is not None
    assert choice.chosen == choice.knee == knee_of(front)


@pytest.mark.parametrize(("above", "takes_it"), [(0.05, True), (0.5, False)])
def test_a_faster_member_within_one_standard_error_takes_the_knees_place(
    study: StudyFolder, above: float, takes_it: bool
) -> None:
    front = study.front()
    at = front.index(knee_of(front))
    assert at >= 1
    with_answers(study, {front[at].number: 6.0, front[at - 1].number: 6.0 + above})
    choice = choose(study, study.trials(), front)
    assert choice is not None
    assert choice.chosen == front[at - 1 if takes_it else at]
    assert choice.rule == RULE
    assert study_latencies(study).pick("knee").number == choice.chosen.number
    assert (f"by the errors alone: {front[at].number}" in choice.words) == takes_it


def test_candidates_are_the_front_and_who_is_behind_it_by_noise(study: StudyFolder) -> None:
    records, front = study.trials(), study.front()
    on_front = {member.number for member in front}
    few = candidates_for(study, records, front, 2)
    assert len(few) == 2
    assert knee_of(front).number in {one.number for one in few}
    all_known = candidates_for(study, records, front, 20)
    assert {one.number for one in all_known} == on_front, "without answers nobody is known to be near"
    for record in records:
        answer(study.trial_folder(record), 6.0, 1.0, record.number)
    more = candidates_for(study, records, front, 20)
    assert on_front < {one.number for one in more}
    assert [one.latency_ms_p50 for one in more] == sorted(float(one.latency_ms_p50 or 0) for one in more)


def asked(study: StudyFolder, seeds: int = 2) -> StudySpec:
    spec = SPEC.model_copy(update={"confirm": ConfirmSpec(seeds=seeds, candidates=3)})
    study.write_header(study.header().model_copy(update={"spec": spec}))
    return spec


class Confirming:
    """Trains nothing: hands new trainings out and ends them, as a run does; each opening is a new process."""

    def __init__(self, study: StudyFolder, spec: StudySpec, errors: Mapping[int, float]) -> None:
        self.study, self.spec, self.errors = study, spec, errors
        self.plan = planned(study, spec, study.trials(), study.front())
        within = confirmation(study)
        within.root.make_dir()
        (within.root / PLAN).write_json(self.plan.model_dump(mode="json"))
        kept = new_trainings(spec, len(self.plan.runs))
        within.write_header(study.header().model_copy(update={"spec": kept}))
        self.history = History.open(within.database, kept)
        records = {record.number: record for record in study.trials()}
        networks = {
            Network.of(SPEC.student.model.with_values({"arch": r.arch, "input_size": r.input_size})): float(
                r.latency_ms_p50 or 0
            )
            for r in records.values()
        }
        self.books = TrialManager(
            within,
            self.history,
            kept,
            latencies=networks,
            on_event=lambda _: None,
            suggester=Planned(self.history, self.plan, records),
            parents=study,
        )

    def train(self, most: int) -> list[int]:
        """End at most so many trainings; their numbers."""
        done = []
        while len(done) < most and (record := self.books.next_trial()) is not None:
            of, seed = self.plan.runs[record.number]
            assert self.books.spec_of(record).seed == seed
            error = self.errors[of] + 0.1 * (seed % 2)
            answer(confirmation(self.study).trial_folder(record), error, 0.5, seed)
            self.books.ended(record.number, {OUTCOME: COMPLETED, EPOCH: 20, VAL_MAE_YEARS: error})
            done.append(record.number)
        self.books.close()
        return done


def test_new_trainings_survive_a_kill_and_the_means_decide(study: StudyFolder) -> None:
    spec, front, before = asked(study), study.front(), study.trials()
    first = Confirming(study, spec, {})
    candidates = list(dict.fromkeys(number for number, _ in first.plan.runs))
    assert len(candidates) == 3
    assert [seed for _, seed in first.plan.runs] == [1, 1, 1, 2, 2, 2], "each candidate once, then again"
    first.errors = {number: 7.0 - at for at, number in enumerate(candidates)}
    assert first.train(4) == [0, 1, 2, 3]
    cut = first.books.next_trial()  # killed while it trains
    assert cut is not None
    first.books.close()
    assert confirmed_candidates(study) == [], "nobody is chosen for being early"
    assert not is_confirmed(study, spec, before, front)
    assert "4 of 6 trainings are over" in study_status(study.root).confirming
    assert "resume" in study_status(study.root).how_to_go_on
    assert Confirming(study, spec, first.errors).train(9) == [cut.number, 5]

    assert is_confirmed(study, spec, before, front)
    assert (study.trials(), study.front()) == (before, front), "the search's own records are what they were"
    choice = choose(study, before, front)
    assert choice is not None
    assert choice.rule == CONFIRMED_RULE
    assert choice.best.number == candidates[-1]
    assert {one.number for one in choice.candidates} == set(candidates)
    (one,) = [one for one in candidates_of(study) if one.number == candidates[0]]
    assert one.mean_years == pytest.approx(7.05)
    assert one.interval is not None
    assert one.interval.low < 7.05 < one.interval.high
    assert study_latencies(study).pick("best").number == candidates[-1]


def test_more_seeds_and_new_candidates_come_behind_what_is_planned(study: StudyFolder) -> None:
    Confirming(study, asked(study, 1), {})
    old = planned(study, asked(study, 1), study.trials(), study.front())
    new = planned(study, asked(study, 3), study.trials(), study.front())
    assert new.runs[: len(old.runs)] == old.runs
    assert len(new.runs) == 3 * len(old.runs)
    fewer = [replace(record) for record in study.front()[1:]]
    assert planned(study, asked(study, 1), fewer, fewer).runs[: len(old.runs)] == old.runs


def test_a_confirmation_goes_on_with_its_study_only(study: StudyFolder) -> None:
    Confirming(study, asked(study), {})
    with pytest.raises(InputError, match="go on with them by: agesearch resume"):
        refuse_confirmation(confirmation(study))
    refuse_confirmation(study)


def test_a_study_says_how_many_seeds() -> None:
    document = {"student": {"model": {"arch": "lcnet_050"}}, "space": {"model.input_size": {"choices": [64]}}}
    assert parse_spec(StudySpec, document | {"confirm": 3}, "it").confirm == ConfirmSpec(seeds=3)
    assert parse_spec(StudySpec, document | {"confirm": "off"}, "it").confirm is None
    assert "confirm" not in parse_spec(StudySpec, document, "it").model_dump()
    with pytest.raises(InputError, match="confirm"):
        parse_spec(StudySpec, document | {"confirm": 0}, "it")
    assert ConfirmationPlan(seeds=1).runs == ()


def test_new_trainings_are_asked_for_checkpoints_when_the_time_is_up() -> None:
    stopping = Stopping()
    with asked_when_time_is_up(time.monotonic() - 1.0, stopping) as is_up:
        assert is_up.wait(10.0)
    assert stopping.urgency is Urgency.WITH_CHECKPOINTS
    with asked_when_time_is_up(None, Stopping()) as is_up:
        assert not is_up.is_set()
