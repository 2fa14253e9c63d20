"""Studies that begin with what an earlier one found, and with configurations that the space names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_study import ARCHS, SPEC, write_study

from agesearch.errors import InputError
from agesearch.search.sampler.earlier import begin_like
from agesearch.search.sampler.sampler import StudySampler
from agesearch.search.space.limits import Fitting
from agesearch.search.space.scaling import scaled_study
from agesearch.search.store.records import StudyFolder
from agesearch.specs import Choices, Range, StudySpec, parse_spec
from agesearch.storage import Location


@pytest.fixture
def earlier(tmp_path: Path) -> StudyFolder:
    return write_study(Location.of(tmp_path / "earlier"))


def spaced(**dimensions: Any) -> StudySpec:
    return SPEC.model_copy(
        update={"space": SPEC.space | {k.replace("__", "."): v for k, v in dimensions.items()}}
    )


def test_the_best_configurations_of_an_earlier_study_come_first(earlier: StudyFolder) -> None:
    before = {path: path.read_bytes() for path in Path(earlier.root.path).rglob("*") if path.is_file()}
    begun = begin_like(str(earlier.root), SPEC, "d" * 16)
    assert len(begun.spec.first) == SPEC.startup_trials // 2
    best = min(earlier.front(), key=lambda record: record.val_mae_years or 99.0)
    assert begun.source.trials[0] == best.number
    of_front = {record.number for record in earlier.front()}
    assert set(begun.source.trials[: len(of_front)]) <= of_front, "those behind the front come behind it"
    assert begun.spec.first[0] == best.params
    assert len(begun.notes) == 1
    sampler = StudySampler(begun.spec, Fitting())
    for number, params in enumerate(begun.spec.first):
        proposed = sampler.propose(number, [])
        assert proposed is not None
        assert proposed.params == params == sampler.drawn(number)
    assert sampler.drawn(4) == StudySampler(SPEC, Fitting()).drawn(4), "the others stay as they were"
    after = {path: path.read_bytes() for path in Path(earlier.root.path).rglob("*") if path.is_file()}
    assert after == before, "the earlier study is only read"


def test_what_differs_between_the_spaces_is_said(earlier: StudyFolder) -> None:
    spec = spaced(optim__weight_decay=Range(low=0.0, high=1.0), model__arch=Choices(choices=ARCHS[:2]))
    spec = spec.model_copy(
        update={"space": {n: d for n, d in spec.space.items() if n != "distill.temperature"}}
    )
    begun = begin_like(str(earlier.root), spec, "another")
    assert all(set(params) == set(spec.space) for params in begun.spec.first)
    assert {params["optim.weight_decay"] for params in begun.spec.first} == {SPEC.student.optim.weight_decay}
    told = " ".join(begun.notes)
    assert "not here, so left out: distill.temperature." in told
    assert "not there, so as the earlier student had it: optim.weight_decay." in told
    assert "model.arch of " in told
    assert "is not in this space" in told
    assert "another dataset" in told


def test_a_study_of_which_nothing_fits_is_refused(earlier: StudyFolder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No COMPLETE trial of .* fits this space: model\.input_size of "):
        begin_like(str(earlier.root), spaced(model__input_size=Choices(choices=(32, 48))))
    empty = write_study(Location.of(tmp_path / "empty"), trials=6, complete=False)
    with pytest.raises(InputError, match="has no COMPLETE trial to begin with"):
        begin_like(str(empty.root), SPEC)
    with pytest.raises(InputError, match="not a study|no study"):
        begin_like(str(tmp_path / "nowhere"), SPEC)


def test_a_space_may_name_what_is_tried_first() -> None:
    document = SPEC.model_dump(mode="json") | {"first": [{"model.input_size": 96}]}
    spec = parse_spec(StudySpec, document, "it")
    sampler = StudySampler(spec, Fitting())
    assert sampler.drawn(0)["model.input_size"] == 96
    assert set(sampler.drawn(0)) == set(SPEC.space), "what it does not say is drawn"
    assert "first" not in SPEC.model_dump()
    for wrong, told in (({"model.input_size": 90}, "does not take"), ({"optim.speed": 1}, "no dimension")):
        with pytest.raises(InputError, match=told):
            parse_spec(StudySpec, document | {"first": [wrong]}, "it")
    epochs = SPEC.model_copy(update={"space": {"optim.epochs": Choices(choices=(10, 20))}})
    epochs = parse_spec(StudySpec, epochs.model_dump(mode="json") | {"first": [{"optim.epochs": 20}]}, "it")
    assert scaled_study(epochs, 0.5).first == ({"optim.epochs": 10},)
