"""What an epoch shows: every face once, in batches that depend on neither the workers nor the place of the
faces; mixed whatever the order of the shards; a share of the faces from few shards.
"""

from __future__ import annotations

import numpy as np
import pytest

from agesearch.errors import InputError
from agesearch.specs import ModelSpec, OptimSpec, TrainSpec
from agesearch.training.faces import plan as planning
from agesearch.training.faces.plan import EpochPlan, mixed_windows

#: 23 shards, of which one is empty and one small.
SIZES = [12] * 20 + [0, 1, 30]
TOTAL = sum(SIZES)


def spec(share: float = 1.0, seed: int = 0, batch_size: int = 8) -> TrainSpec:
    return TrainSpec(
        model=ModelSpec(arch="lcnet_035", input_size=32),
        optim=OptimSpec(batch_size=batch_size),
        share_of_faces=share,
        seed=seed,
    )


def batches(plan: EpochPlan, epoch: int = 0, start: int = 0, rank: int = 0) -> list[list[int]]:
    return [step.rows.tolist() for step in plan.batches(epoch, start, rank)]


@pytest.fixture(params=[10_000, 60, 1], ids=["one window", "windows", "a shard a window"])
def window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "WINDOW_FACES", request.param)
    monkeypatch.setattr(planning, "LEAST_SHARDS", 2)


@pytest.mark.usefixtures("window")
@pytest.mark.parametrize("share", [1.0, 0.9, 0.37, 0.1])
@pytest.mark.parametrize("world", [2, 3])
def test_workers_together_have_the_batches_of_one(share: float, world: int) -> None:
    alone, shared = EpochPlan(SIZES, spec(share)), EpochPlan(SIZES, spec(share), world)
    assert alone.faces == shared.faces == round(TOTAL * share)
    for epoch in (0, 1):
        whole = batches(alone, epoch)
        assert len(whole) == alone.steps == shared.steps
        assert len({row for batch in whole for row in batch}) == alone.faces == sum(map(len, whole))
        assert {len(batch) for batch in whole} <= {len(whole[-1]), len(whole[-1]) + 1}
        parts = [batches(shared, epoch, rank=rank) for rank in range(world)]
        for step, batch in enumerate(whole):
            assert [part[step] for part in parts] == [batch[rank::world] for rank in range(world)]


@pytest.mark.usefixtures("window")
@pytest.mark.parametrize("world", [1, 2])
def test_an_epoch_goes_on_where_it_was_left(world: int) -> None:
    plan = EpochPlan(SIZES, spec(0.7), world)
    whole = batches(plan, 3, rank=world - 1)
    for start in (0, 1, 9, plan.steps - 1, plan.steps):
        assert batches(plan, 3, start, world - 1) == whole[start:]


@pytest.mark.usefixtures("window")
def test_a_step_says_which_windows_it_needs() -> None:
    plan = EpochPlan(SIZES, spec())
    windows = [set(plan.own(0, number).tolist()) for number in range(len(plan.windows(0)))]
    for step in plan.batches(0):
        assert step.faces == len(step.rows)
        assert set(step.rows.tolist()) <= set[int]().union(*windows[step.first : step.last + 1])
        assert step.rows[0] in windows[step.first]
        assert step.rows[-1] in windows[step.last]


@pytest.mark.usefixtures("window")
def test_orders_differ_by_epoch_and_seed_and_come_again() -> None:
    first, again, second = (batches(EpochPlan(SIZES, spec()), epoch) for epoch in (0, 0, 1))
    other = batches(EpochPlan(SIZES, spec(seed=1)))
    assert first == again
    assert first != second
    assert first != other


def test_the_order_of_a_small_set_is_one_permutation() -> None:
    wanted = np.random.default_rng([4, 2]).permutation(TOTAL)
    assert sum(batches(EpochPlan(SIZES, spec(seed=4)), 2), []) == wanted.tolist()


def test_batches_of_a_sorted_set_span_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty shards in order of age, windows of five: batches in the order of the shards span 8 faces."""
    monkeypatch.setattr(planning, "WINDOW_FACES", 60)
    plan = EpochPlan([12] * 20, spec(batch_size=60))
    for batch in batches(plan):
        assert np.histogram(batch, bins=range(0, 241, 48))[0].tolist() == [12] * 5
    assert min(max(batch) - min(batch) for batch in batches(EpochPlan([12] * 20, spec()))) > 60


@pytest.mark.parametrize("people", ["mixed", "in order"])
def test_as_many_people_meet_as_in_a_perfect_shuffle(people: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """3,000 people of 20 faces each: as many of them in 4,096 faces as in a perfect shuffle, where rows are
    mixed; and far more than in rows one after the other where they are not.
    """
    monkeypatch.setattr(planning, "WINDOW_FACES", 8192)
    person = np.repeat(np.arange(3000), 20)
    if people == "mixed":
        person = np.random.default_rng(0).permutation(person)
    plan = EpochPlan([512] * 117 + [96], spec(batch_size=64))
    order = [np.concatenate([step.rows for step in plan.batches(epoch)]) for epoch in range(2)]
    perfect = np.random.default_rng(1).permutation(person)[:4096]
    for rows in order:
        met = [len(set(person[rows[at : at + 4096]])) for at in range(0, len(rows) - 4096, 4096)]
        if people == "mixed":
            assert np.mean(met) == pytest.approx(len(set(perfect)), rel=0.05)
        assert min(met) > 1.5 * 4096 / 20
    assert (order[0] == order[1]).mean() < 0.01


def test_a_share_of_a_large_set_is_of_few_whole_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "WINDOW_FACES", 1000)
    sizes = [100] * 400
    for share, shards in ((0.1, 40), (0.1026, 42), (0.01, planning.LEAST_SHARDS)):
        plan = EpochPlan(sizes, spec(share))
        kept = [len(plan.kept(shard)) for shard in plan.shards]
        assert (len(kept), sum(kept)) == (shards, plan.faces)
        if shards > planning.LEAST_SHARDS:
            assert kept.count(100) >= shards - 1
        else:
            assert set(kept) <= {25}
        spread = np.histogram(plan.shards, bins=range(0, 401, 50))[0]
        assert spread.min() >= 1  # of all of the set, which may be sorted
        shown = {row for batch in batches(plan) for row in batch}
        assert {row // 100 for row in shown} == set(plan.shards)
        assert shown == {row for batch in batches(plan, 1) for row in batch}
    assert EpochPlan(sizes, spec(0.1)).shards != EpochPlan(sizes, spec(0.1, seed=1)).shards


def test_the_smallest_share_is_two_faces() -> None:
    assert EpochPlan(SIZES, spec(1e-6)).faces == 2


def test_faces_too_few_for_the_workers_are_refused() -> None:
    with pytest.raises(InputError, match="at least 2 faces a worker, but 3 faces have 2"):
        EpochPlan([3], spec(), 2)
    plans = [EpochPlan([count], spec(), 4) for count in range(8, 40)]
    assert min(len(part) for plan in plans for part in batches(plan, rank=3)) >= 2


@pytest.mark.parametrize(("count", "number"), [(20, 4), (21, 5), (7, 1), (3, 3)])
def test_each_window_has_a_shard_of_every_stretch(count: int, number: int) -> None:
    windows = mixed_windows(count, number, np.random.default_rng(0))
    assert sorted(shard for window in windows for shard in window) == list(range(count))
    for window in windows:
        stretches = sorted(shard // len(windows) for shard in window)
        assert stretches in (list(range(len(stretches))), list(range(len(stretches) + 1))[:-1])
