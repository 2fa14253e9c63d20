"""The versions that a rolling update is tried with differ from the package's network in one thing each."""

from __future__ import annotations

import numpy as np
import pytest

from agesearch.ages import expected_age
from agesearch.bench.serve.altered import DRIFT_YEARS, NAME, altered_versions
from agesearch.bench.serve.rolling import cases
from agesearch.deploy.integrity import verify
from agesearch.deploy.registry import Registry
from agesearch.models.onnx import open_session, run_pmf

DARK, LIGHT = (np.full((1, 3, 146, 146), grey, np.float32) for grey in (90, 200))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return altered_versions(str(tmp_path_factory.mktemp("altered")))


def age(registry: Registry, number: int, face: object) -> float:
    version = registry.find(f"{NAME}:{number}")
    verify(version.folder)
    return float(expected_age(run_pmf(open_session(version.onnx), face))[0])


def test_each_is_whole_and_altered_as_it_says(registry: Registry) -> None:
    first = age(registry, 1, DARK)
    found = [age(registry, number, DARK) - first for number in (2, 3, 4, 5)]
    assert found == pytest.approx([0, DRIFT_YEARS, 0, 0], abs=0.05)
    with pytest.raises(Exception, match="out of data bounds"):
        age(registry, 5, LIGHT)
    assert registry.find(NAME).number == "0001"


def test_the_bench_has_every_kind_of_verdict(registry: Registry) -> None:
    made = cases(0.1, 1.0)
    tried = {(case.trial.shadow, case.is_taken) for case in made if case.trial is not None}
    assert tried == {(shadow, is_taken) for shadow in (False, True) for is_taken in (False, True)}
    known = {version.number for version in registry.versions(NAME)}
    assert {f"{int(case.version):04d}" for case in made if case.version} == known
