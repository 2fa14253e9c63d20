"""What was tried is not tried again; a space that is used up ends its study."""

from __future__ import annotations

from pathlib import Path

import pytest

from agesearch.metrics import VAL_MAE_YEARS
from agesearch.models.architectures import Network
from agesearch.search.run.reports import COMPLETED, OUTCOME
from agesearch.search.run.suggester import Suggester
from agesearch.search.run.trial_manager import TrialManager
from agesearch.search.space.limits import Fitting
from agesearch.search.space.space import configuration_key
from agesearch.search.store.events import Note, StudyEvent
from agesearch.search.store.history import History
from agesearch.search.store.records import State, StudyFolder, TrialRecord, front_of
from agesearch.specs import Choices, Conditional, ModelSpec, Range, StudySpec, TrainSpec
from agesearch.storage import Location

SMALL, LARGE = "mobilenetv3_small_050", "mobilenetv2_100"
LATENCIES: dict[tuple[str, int], float | str] = {
    (arch, size): ms * size for arch, ms in ((SMALL, 0.01), (LARGE, 0.03)) for size in (64, 96)
}
SAMPLERS = ("ehvi", "tpe", "random", "grid")


def study(sampler: str, space: dict[str, Choices | Range], trials: int = 12) -> StudySpec:
    student = TrainSpec(model=ModelSpec(arch=SMALL, input_size=64))
    fields = {"student": student, "space": space, "trials": trials, "startup_trials": 3, "sampler": sampler}
    return StudySpec.model_validate(fields)


def driven(
    spec: StudySpec, folder: Path, fitting: Fitting | None = None
) -> tuple[TrialManager, list[StudyEvent]]:
    """A study whose trials all end at once, by rising number."""
    events: list[StudyEvent] = []
    where = StudyFolder(Location.of(folder))
    history = History.open(where.database, spec)
    manager = TrialManager(where, history, spec, latencies=LATENCIES, on_event=events.append, fitting=fitting)
    while (record := manager.next_trial()) is not None:
        error = 5.0 + record.number % 3
        manager.ended(record.number, {"epoch": 1, VAL_MAE_YEARS: error, OUTCOME: COMPLETED})
    return manager, events


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_used_up_space_ends_the_study_and_says_so(tmp_path: Path, sampler: str) -> None:
    space = {
        "model.arch": Choices(choices=(SMALL, LARGE)),
        "model.input_size": Choices(choices=(64, 96)),
        "augment.strength": Range(low=0.1, high=0.3, step=0.1),
    }
    manager, events = driven(study(sampler, space, trials=40), tmp_path)
    tried = [configuration_key(record.params) for record in manager.records]
    assert len(tried) == len(set(tried)) == 2 * 2 * 3
    assert manager.exhausted
    assert manager.complete
    (note,) = [event.text for event in events if isinstance(event, Note)]
    assert "ends with 12 trials, not 40" in note
    again, more = driven(study(sampler, space, trials=50), tmp_path)  # a later run finds nothing, either
    assert len(again.records) == 12
    assert again.complete
    assert any("was tried" in event.text for event in more if isinstance(event, Note))


@pytest.mark.parametrize("sampler", ["ehvi", "tpe", "random"])
def test_limits_and_failures_count(tmp_path: Path, sampler: str) -> None:
    """Only what fits is tried, and a configuration that failed is not tried again."""
    space = {"model.arch": Choices(choices=(SMALL, LARGE)), "model.input_size": Choices(choices=(64, 96))}
    spec = study(sampler, space)
    small, large = (
        [Network.of(ModelSpec(arch=arch, input_size=size)) for size in (64, 96)] for arch in (SMALL, LARGE)
    )
    fitting = Fitting(spec, frozenset(small), dict.fromkeys(large, "slow"))
    history = History.in_memory(spec)
    history.latencies = LATENCIES
    suggester = Suggester(history, spec, fitting)
    for number in range(2):
        record = suggester.suggest()
        assert record is not None
        assert record.arch == SMALL
        history.fail(number, "diverged")
    assert suggester.suggest() is None


def test_a_space_with_a_branch_without_an_end_is_never_used_up(tmp_path: Path) -> None:
    when = Conditional(when={"model.arch": [SMALL]}).when
    space = {
        "model.arch": Choices(choices=(SMALL, LARGE)),
        "augment.strength": Range(low=0.0, high=1.0, when=when),
    }
    manager, _ = driven(study("tpe", space, trials=15), tmp_path)
    archs = [record.arch for record in manager.records]
    assert len(archs) == 15
    assert archs.count(LARGE) == 1


def test_the_same_configuration_is_one_point_of_the_front() -> None:
    def done(number: int, rate: float, parent: int | None = None) -> TrialRecord:
        params = {"optim.learning_rate": rate}
        return TrialRecord(
            number, State.COMPLETE, "", params, val_mae_years=5.0, latency_ms_p50=1.0, inherited=parent
        )

    front = front_of([done(0, 1e-3), done(1, 1e-3), done(2, 1e-3 + 1e-18), done(3, 2e-3), done(4, 1e-3, 0)])
    assert [record.number for record in front] == [0, 3, 4]  # another rate or parent is another training
