"""Long work is never silent: what waits says so, and what was said is said again."""

from __future__ import annotations

import time

import pytest

from agesearch import progress
from agesearch.progress import Progress, repeated, waiting


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_HEARTBEAT_S", 0.01)


def until(seen: list[Progress], count: int) -> None:
    deadline = time.monotonic() + 10
    while len(seen) < count and time.monotonic() < deadline:
        time.sleep(0.005)


def test_waiting_is_told_until_it_is_over() -> None:
    seen: list[Progress] = []
    with waiting(seen.append, "starting") as over:
        until(seen, 3)
        over()
        said = len(seen)
        time.sleep(0.05)
    assert len(seen) == said >= 4
    assert [update.done for update in seen] == [0] * (said - 1) + [1]
    assert {update.stage for update in seen} == {"starting"}


def test_waiting_ends_with_its_block_even_where_that_fails() -> None:
    seen: list[Progress] = []
    with pytest.raises(ValueError, match="no"), waiting(seen.append, "starting"):
        raise ValueError("no")
    said = len(seen)
    time.sleep(0.05)
    assert len(seen) == said >= 2


def test_the_last_words_are_said_again() -> None:
    seen: list[Progress] = []
    with repeated(seen.append) as listener:
        listener(Progress("work", 1, 9))
        until(seen, 4)
        listener(Progress("work", 2, 9))
        until(seen, len(seen) + 2)
    assert {update.done for update in seen} == {1, 2}
    assert seen[-1].done == 2
