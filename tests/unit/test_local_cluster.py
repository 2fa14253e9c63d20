"""A cluster on this machine: how it is taken down, without Ray."""

from __future__ import annotations

from typing import Any

import pytest

from agesearch.remote import local


class Holder:
    """The first process of a node."""

    def __init__(self, name: str, told: list[Any]) -> None:
        self.name, self._told = name, told

    def terminate(self) -> None:
        self._told.append(self.name)

    def is_running(self) -> bool:
        return False


@pytest.mark.parametrize("names", [[], ["head"], ["worker-2", "worker-1", "head"]])
def test_workers_end_together_and_the_head_after_them(
    names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    def wait(holders: list[Holder], timeout: float) -> None:
        told.extend([[holder.name for holder in holders]] if holders else [])

    monkeypatch.setattr(local.psutil, "wait_procs", wait)
    local._end_processes([Holder(name, told) for name in names], ())  # type: ignore[misc]
    workers = [*names[:-1], names[:-1]] if names[1:] else []
    assert told == [*workers, *names[-1:], *([names[-1:]] if names else [])]
