"""How many trials run at once, and what is refused because it could wait for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agesearch.cluster.room import Room
from agesearch.errors import InputError
from agesearch.training.preflight import Plan, plan


def test_one_trial_a_cpu_and_no_more_than_there_are_trials() -> None:
    assert plan(2, 0) == Plan(2, 1.0, 0.0)
    assert plan(16, 0, trials=3).concurrency == 3
    assert plan(16, 0, concurrency=5).concurrency == 5


def test_what_could_deadlock_is_refused_with_a_way_out() -> None:
    with pytest.raises(
        InputError, match="2 trials at once need 1 for reading data and 2 CPUs.*--concurrency 1"
    ):
        plan(2, 0, concurrency=2, data_cpus=1)
    with pytest.raises(InputError, match="offers 1 CPUs.*Offer at least 2"):
        plan(1, 0, data_cpus=1)
    with pytest.raises(InputError, match="--concurrency is 0"):
        plan(2, 0, concurrency=0)


def test_on_a_cluster_that_grows_a_wish_waits_for_nodes() -> None:
    asked = plan(2, 0, concurrency=8, trials=20, grows=True)
    assert (asked.concurrency, asked.follows) == (8, False)
    free = plan(2, 0, trials=20, grows=True)
    assert (free.concurrency, free.follows, free.most) == (2, True, 20)
    assert plan(0, 0, workers=2, grows=True).concurrency == 1  # nodes with CPUs are still to come
    with pytest.raises(InputError, match="--concurrency is 0"):
        plan(2, 0, concurrency=0, grows=True)


def test_jobs_follow_what_is_free_now() -> None:
    free, now = {"CPU": 2.0}, [0.0]
    room = Room(2, cpus=2.0, follows=True, most=5, free=lambda: free, clock=lambda: now[0])

    def look(running: int, cpus: float) -> int:
        free["CPU"] = cpus
        now[0] += 5.0
        return room.now(running)

    assert room.now(2) == 2
    assert look(2, 4.0) == 4  # two nodes of two CPUs joined
    assert look(4, 8.0) == 5  # no more than there are jobs
    assert look(4, 0.0) == 5  # an actor between two jobs holds its CPUs for a moment
    assert [look(1, 0.0) for _ in range(3)] == [5, 4, 1]
    assert look(0, 0.0) == 1  # one waits for a node
    fixed = Room(3, free=lambda: free, clock=lambda: now[0])
    now[0] += 60.0
    assert fixed.now(0) == 3


def test_gpus_are_shared_but_never_split_across() -> None:
    assert plan(16, 1) == Plan(4, 1.0, 0.25)
    assert plan(16, 2, concurrency=2).gpus_per_trial == 1.0
    assert plan(16, 2, concurrency=3).gpus_per_trial == 0.5


def test_workers_hold_a_cpu_each_and_a_gpu_each_or_none() -> None:
    assert plan(4, 0, workers=2) == Plan(2, 2.0, 0.0, 2)
    assert plan(16, 4, workers=2) == Plan(2, 2.0, 2.0, 2)
    assert plan(16, 4, workers=2).gpus_per_worker == 1.0
    assert plan(16, 1, workers=2) == Plan(8, 2.0, 0.0, 2)  # two cannot share one: they train on the CPU
    with pytest.raises(InputError, match="offers 2 CPUs, but 4 for a trial are needed"):
        plan(2, 0, workers=4)
    with pytest.raises(InputError, match="--workers-per-trial is 0"):
        plan(2, 0, workers=0)


def test_gpus_are_given_as_asked_or_refused() -> None:
    assert plan(16, 2, gpus_per_trial=0.25) == Plan(8, 1.0, 0.25)
    assert plan(16, 2, gpus_per_trial=1) == Plan(2, 1.0, 1)
    assert plan(16, 2, gpus_per_trial=0) == Plan(16, 1.0, 0)
    with pytest.raises(InputError, match="3 trials at once with 1 GPUs each do not fit"):
        plan(16, 2, gpus_per_trial=1, concurrency=3)
    with pytest.raises(InputError, match="is 2, but must be 0, a share of one GPU, or 1"):
        plan(16, 2, gpus_per_trial=2)
    with pytest.raises(InputError, match="is 0.5, but must be 0, or 2: one for each worker"):
        plan(16, 2, workers=2, gpus_per_trial=0.5)
    with pytest.raises(InputError, match="but the cluster offers 0 GPUs"):
        plan(16, 0, gpus_per_trial=1)


@given(st.integers(1, 64), st.integers(0, 8), st.integers(0, 3), st.integers(1, 64))
def test_a_plan_always_fits(cpus: int, gpus: int, data: int, wanted: int) -> None:
    try:
        made = plan(cpus, gpus, concurrency=wanted, data_cpus=data)
    except InputError:
        assert wanted + data > cpus
        return
    assert made.concurrency * made.cpus_per_trial + data <= cpus
    if gpus:
        assert made.concurrency <= gpus * int(1.0 / made.gpus_per_trial + 1e-9)
