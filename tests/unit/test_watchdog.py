"""Deaths count against a trial that gets nowhere between them; silence has a limit that epochs set."""

from __future__ import annotations

from agesearch.search.run.watchdog import MAX_LOST_NODES, Death, Deaths, Watchdog

KILLED, LOST = Death("worker died"), Death("its node was lost", of_node=True)


def test_two_deaths_without_an_epoch_between_are_the_trials_own() -> None:
    deaths = Deaths()
    assert deaths.died(7, KILLED)
    assert not deaths.died(7, KILLED)
    assert deaths.verdict(7, 3) == "worker died, twice after epoch 3"


def test_an_epoch_clears_the_record_of_its_trial_alone() -> None:
    deaths = Deaths()
    for _ in range(5):
        assert deaths.died(1, KILLED)
        deaths.progressed(1)
    assert deaths.died(1, KILLED)
    assert deaths.died(2, KILLED)
    deaths.progressed(2)
    assert not deaths.died(1, KILLED)


def test_lost_nodes_count_less_but_have_an_end() -> None:
    deaths = Deaths()
    assert deaths.died(1, KILLED)
    assert all(deaths.died(1, LOST) for _ in range(MAX_LOST_NODES))
    assert not deaths.died(1, LOST)
    assert (
        deaths.verdict(1, 0) == "its node was lost, 4 times before its first epoch (before that: worker died)"
    )


def test_a_lost_node_alone_never_gives_a_trial_up_at_once() -> None:
    deaths = Deaths()
    assert all(deaths.died(1, LOST) for _ in range(MAX_LOST_NODES))
    assert deaths.died(1, KILLED)
    assert not deaths.died(1, KILLED)
    assert (
        deaths.verdict(1, 0) == "worker died, twice before its first epoch (before that: its node was lost)"
    )


def test_a_death_that_nothing_follows_has_no_count() -> None:
    deaths = Deaths()
    deaths.died(1, KILLED)
    assert deaths.verdict(1, 2) == "worker died"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def pass_by(watchdog: Watchdog, clock: Clock, seconds: float) -> dict[int, str]:
    """What is found while the driver looks once a second."""
    found: dict[int, str] = {}
    for _ in range(round(seconds)):
        clock.now += 1
        found |= watchdog.hung()
    return found


def test_a_silent_trial_is_told_once_and_slow_epochs_are_borne() -> None:
    clock = Clock()
    watchdog = Watchdog(60.0, clock)
    for number in (1, 2):
        watchdog.began(number)
        watchdog.heard(number)
        watchdog.heard(number)
    for _ in range(4):
        assert pass_by(watchdog, clock, 14) == {}
        watchdog.heard(2)
    assert watchdog.limit_s == 20 * 14
    assert pass_by(watchdog, clock, 224) == {}
    assert pass_by(watchdog, clock, 1) == {1: "hung: no progress for 5 min"}
    watchdog.over(2)
    assert pass_by(watchdog, clock, 1000) == {}


def test_before_any_epoch_is_over_a_trial_has_three_times_as_long() -> None:
    clock = Clock()
    watchdog = Watchdog(10.0, clock)
    watchdog.began(1)
    assert pass_by(watchdog, clock, 30) == {}
    assert pass_by(watchdog, clock, 1) == {1: "hung: no progress for 31 s"}


def test_a_driver_that_stood_still_blames_nobody() -> None:
    clock = Clock()
    watchdog = Watchdog(10.0, clock)
    watchdog.began(1)
    watchdog.heard(1)
    watchdog.heard(1)
    clock.now += 3600  # stopped and continued by a person
    assert watchdog.hung() == {}
    assert pass_by(watchdog, clock, 10) == {}
    assert list(pass_by(watchdog, clock, 2)) == [1]


def test_a_trial_that_gets_on_in_a_long_epoch_is_no_silent_one() -> None:
    clock = Clock()
    watchdog = Watchdog(10.0, clock)
    watchdog.began(1)
    for _ in range(60):  # ten minutes before its first epoch is over
        assert pass_by(watchdog, clock, 10) == {}
        watchdog.moved(1)
    watchdog.heard(1)
    assert watchdog.limit_s == 30.0
    assert pass_by(watchdog, clock, 40) == {1: "hung: no progress for 31 s"}
    watchdog.moved(1)  # of a process that is being killed
    assert pass_by(watchdog, clock, 100) == {}
