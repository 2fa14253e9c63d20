"""When a training looks up within an epoch: how often, what for, and all workers alike."""

from __future__ import annotations

import pytest
import torch
from torch import distributed as dist

from agesearch.training.lookout import Action, Lookout


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def actions(
    lookout: Lookout, clock: Clock, steps: int, step_s: float, *, save_s: float = 0.0
) -> list[tuple[float, Action]]:
    """What is done in an epoch of so many steps, and when."""
    lookout.begin()
    found = []
    for step in range(1, steps + 1):
        clock.now += step_s
        action = lookout.after_step(last=step == steps, diverged=lambda: False)
        if action is Action.SAVE:
            clock.now += save_s
            lookout.saved(save_s)
        if action is not Action.GO_ON:
            found.append((clock.now, action))
    return found


@pytest.mark.parametrize(("step_s", "save_s"), [(0.01, 0.0), (0.3, 4.0), (7.0, 0.0)])
def test_a_kill_costs_no_more_than_the_minutes_whatever_a_step_takes(step_s: float, save_s: float) -> None:
    clock = Clock()
    lookout = Lookout(1.0, lambda: False, clock=clock)
    saved = [when for when, _ in actions(lookout, clock, int(600 / step_s), step_s, save_s=save_s)]
    gaps = [later - earlier for earlier, later in zip([0.0, *saved], saved, strict=False)]
    assert max(gaps) <= 60.0 + save_s + 1e-6  # how long the first one takes is not known
    assert min(gaps) > 40.0


def test_it_looks_every_second_and_at_the_last_step_and_nothing_more() -> None:
    clock, looks = Clock(), []
    lookout = Lookout(10.0, lambda: bool(looks.append(clock.now)), clock=clock)
    actions(lookout, clock, 10_000, 0.01)
    assert 95 <= len(looks) <= 130
    assert looks[0] == pytest.approx(0.01)
    assert looks[-1] == pytest.approx(100.0)


def test_a_request_to_stop_is_heard_and_a_loss_that_is_no_number_goes_first() -> None:
    clock, asked = Clock(), [False]
    lookout = Lookout(10.0, lambda: asked[0], clock=clock)
    assert lookout.after_step(last=False, diverged=lambda: False) is Action.GO_ON
    asked[0] = True
    assert lookout.after_step(last=True, diverged=lambda: False) is Action.STOP
    assert lookout.after_step(last=True, diverged=lambda: True) is Action.DIVERGED


def test_a_long_validation_begins_with_a_checkpoint() -> None:
    clock = Clock()
    lookout = Lookout(10.0, lambda: False, clock=clock)
    assert lookout.after_step(last=True, diverged=lambda: False, ahead_s=60.0) is Action.GO_ON
    assert lookout.after_step(last=True, diverged=lambda: False, ahead_s=601.0) is Action.SAVE


def test_other_workers_do_what_the_first_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """One asked at a step looks at that step: what it decides itself plays no part."""
    said = torch.tensor([int(Action.SAVE), 3])
    asked: list[int] = []

    def broadcast(tensor: torch.Tensor, src: int) -> None:
        asked.append(src)
        tensor.copy_(said)

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "broadcast", broadcast)
    lookout = Lookout(10.0, lambda: True, clock=Clock())
    found = [lookout.after_step(last=False, diverged=lambda: False) for _ in range(5)]
    assert found == [Action.SAVE, Action.GO_ON, Action.GO_ON, Action.SAVE, Action.GO_ON]
    assert asked == [0, 0]
