"""Ray Tune's own controller drives simulated slots: every trial ends, none is counted twice."""

from __future__ import annotations

import pytest

from agesearch.bench.cluster import ray_internals
from agesearch.bench.cluster.run import measure_cluster
from agesearch.errors import AgeSearchError, InputError


def test_a_small_simulated_cluster_sees_every_trial_through() -> None:
    found = measure_cluster(3, 8, trial_s=30.0, event_ms=2.0, start_s=1.0, cpu_time=True)
    assert (found.slots, found.trials) == (3, 8)
    assert sum(found.states.values()) == 8
    assert set(found.states) <= {"COMPLETE", "PRUNED"}
    assert found.epochs <= 8 * 15
    assert found.states.get("COMPLETE", 0) * 15 <= found.epochs
    assert found.driver_s["Ray, by event"] == pytest.approx(found.events * 2e-3)
    assert 0.0 < found.busy_share <= 1.0
    assert found.steady_share is not None
    assert found.study_s > 30.0  # of simulated time


def test_a_cluster_without_slots_is_refused() -> None:
    with pytest.raises(InputError, match="at least one slot"):
        measure_cluster(0, 8)


def test_what_a_version_of_ray_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ray_internals.missing_parts() == []  # this names what an upgrade of Ray has broken
    parts = {("ray.tune.experiment", "Experiment"): ("_gone",), ("ray.air.nowhere", "Part"): ()}
    monkeypatch.setattr(ray_internals, "_PARTS", parts)
    with pytest.raises(
        AgeSearchError, match=r"has no ray\.tune\.experiment\.Experiment\._gone, ray\.air\.nowhere"
    ):
        ray_internals.require_parts()
