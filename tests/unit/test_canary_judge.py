"""The judge of canaries: a fair test that seldom errs either way, on known distributions."""

from __future__ import annotations

import numpy as np
import pytest

from agesearch.serving.rollout.judge import (
    FIRST_LOOK,
    Finding,
    Histogram,
    Measure,
    Seen,
    judged,
    look_due,
    share_difference,
)

AGES = tuple(range(5, 101, 5))
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
DIFFERENCES = (-10.0, -6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 10.0)


def histogram(values: np.ndarray, edges: tuple[float, ...]) -> Histogram:
    counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
    return Histogram(tuple(map(float, edges)), tuple(map(int, counts)))


def seen(
    rng: np.random.Generator,
    requests: int,
    *,
    failing: float = 0.001,
    slower: float = 1.0,
    older: float = 0.0,
    spread: float = 18.0,
    apart: float | None = None,
) -> Seen:
    ages = np.clip(rng.normal(38 + older, spread, requests), 0, 100)
    seconds = rng.lognormal(-4.5, 0.5, requests) * slower
    pairs = Histogram() if apart is None else histogram(rng.normal(apart, 4, requests), DIFFERENCES)
    failed = int(rng.binomial(requests, failing))
    return Seen(requests, failed, histogram(seconds, SECONDS), histogram(ages, AGES), pairs)


def verdict(seed: int, most: int = 30_000, **new: float) -> tuple[str, int]:
    """What the judge decides in the end of a canary with a tenth of the requests, and after how many."""
    rng = np.random.default_rng(seed)
    looks, requests = 0, FIRST_LOOK
    while requests <= most:
        looks += 1
        found = judged(seen(rng, 9 * requests), seen(rng, requests, **new), looks)
        if found.outcome != "open":
            return found.outcome, requests
        requests *= 2
    return "open", most


def test_a_version_as_good_as_the_other_is_taken_nearly_always() -> None:
    outcomes = [verdict(seed)[0] for seed in range(30)]
    assert outcomes.count("worse") <= 1
    assert outcomes.count("fine") >= 29


@pytest.mark.parametrize(
    "new",
    [{"failing": 0.3}, {"slower": 4.0}, {"older": 9.0}, {"spread": 1.0}],
    ids=lambda new: next(iter(new)),
)
def test_a_worse_version_is_refused_whatever_is_worse(new: dict[str, float]) -> None:
    outcomes = [verdict(seed, **new) for seed in range(8)]
    assert {outcome for outcome, _ in outcomes} == {"worse"}
    assert max(requests for _, requests in outcomes) <= 3200


def test_a_version_that_always_fails_is_refused_at_the_first_look() -> None:
    new = {"failing": 1.0}
    assert verdict(0, **new) == ("worse", FIRST_LOOK)


def test_pairs_of_answers_show_a_drift_that_unpaired_ones_cannot_yet() -> None:
    rng = np.random.default_rng(0)
    old, new = seen(rng, 1000), seen(rng, 200, older=5.0, apart=5.0)
    assert judged(old, new, 4).outcome == "worse"
    unpaired = Seen(new.requests, new.failed, new.seconds, new.ages)
    assert judged(old, unpaired, 4).outcome == "open"
    close = seen(rng, 4000, apart=0.2)
    found = judged(seen(rng, 4000), close, 8)
    assert found.outcome == "fine", found.why


def test_without_evidence_nothing_is_decided() -> None:
    assert judged(Seen(), Seen(), 1) == Finding("open", ())
    rng = np.random.default_rng(0)
    assert judged(seen(rng, 30), seen(rng, 30), 1).outcome == "open"
    no_faces = seen(rng, 100_000)
    assert judged(no_faces, Seen(100_000, 0, no_faces.seconds), 9).outcome == "open"


def test_looks_are_due_as_the_requests_double() -> None:
    due = [requests for requests in range(500) if look_due(requests, 0)]
    assert due[0] == FIRST_LOOK
    assert not look_due(2 * FIRST_LOOK - 1, 1)
    assert look_due(2 * FIRST_LOOK, 1)


def test_the_interval_of_a_difference_of_shares_is_newcombes() -> None:
    # Newcombe 1998, table II, example (a): 56/70 less 48/80.
    low, high = share_difference((48, 80), (56, 70), 1.959964)
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


def test_a_measure_says_what_its_interval_allows() -> None:
    assert Measure("m", -1.0, 0.5, 1.0).outcome == "fine"
    assert Measure("m", -9.0, 0.5, 1.0, both_ways=True).outcome == "open"
    assert Measure("m", -9.0, -2.0, 1.0, both_ways=True).outcome == "worse"
    assert Measure("m", 1.5, 9.0, 1.0).outcome == "worse"
    assert Measure("m", 0.5, 9.0, 1.0).outcome == "open"


def test_what_was_counted_before_is_taken_off() -> None:
    now, then = Histogram((1.0, 2.0), (4, 5, 6)), Histogram((1.0, 2.0), (1, 2, 3))
    assert now.minus(then).counts == (3, 3, 3)
    assert now.minus(Histogram()) == now


def test_a_mean_is_exact_where_the_sum_is_known() -> None:
    edges = (6.0, 8.0, 10.0)
    binned, exact = Histogram(edges, (0, 50, 0, 0)), Histogram(edges, (0, 50, 0, 0), 50 * 7.9)
    assert binned.mean_and_variance() == (7.0, pytest.approx(1 / 3))
    assert exact.mean_and_variance() == (pytest.approx(7.9), pytest.approx(1 / 3))
    later = Histogram(edges, (0, 60, 0, 0), 50 * 7.9 + 60.0)
    assert later.minus(exact) == Histogram(edges, (0, 10, 0, 0), pytest.approx(60.0))
    # A face just beside an edge of the bins, asked again and again: a shift of 0.2 years is no drift of 5.
    old, new = (
        Histogram((0.0, 5.0, 10.0), counts, 2000 * age)
        for counts, age in (((0, 2000, 0, 0), 4.9), ((0, 0, 2000, 0), 5.1))
    )
    found = judged(Seen(2000, 0, ages=old), Seen(2000, 0, ages=new), 1)
    assert {measure.name: measure.outcome for measure in found.measures}["mean age"] == "fine"
