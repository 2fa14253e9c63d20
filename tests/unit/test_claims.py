"""Claims on an object store: whatever comes between two steps of one run, two never hold the same folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from agesearch import claims
from agesearch.errors import ConflictError

STORE = pafs.LocalFileSystem()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    (tmp_path / "lock").mkdir()
    return tmp_path / "lock"


def holder(folder: Path) -> claims._Held:
    held = claims._Held(STORE, str(folder))
    claims._acquire(STORE, str(folder), held, "the dataset")
    return held


def expire(held: claims._Held) -> None:
    """As if its holder had slept."""
    past = time.time() - 2 * claims.EXPIRY_S
    os.utime(held.path, (past, past))


def before_next(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], None]) -> None:
    """Run ``act`` just before the next call of one of the module's functions goes through."""
    real = getattr(claims, name)

    def interposed(*arguments: object) -> object:
        monkeypatch.setattr(claims, name, real)
        act()
        return real(*arguments)

    monkeypatch.setattr(claims, name, interposed)


def test_a_claim_that_is_renewed_while_another_takes_over_is_lost_and_not_made_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = holder(folder)
    expire(sleeper)
    taken: list[claims._Held] = []
    before_next(monkeypatch, "_write", lambda: taken.append(holder(folder)))
    assert not sleeper.renew()
    assert sleeper.is_lost()
    assert not taken[0].is_lost()
    assert [str(path) for path in folder.iterdir()] == [taken[0].path]


def test_a_claim_that_is_renewed_before_its_removal_keeps_the_other_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = holder(folder)
    expire(sleeper)
    renewed: list[bool] = []
    before_next(monkeypatch, "_withdraw", lambda: renewed.append(sleeper.renew()))
    with pytest.raises(ConflictError, match="in use by process"):
        holder(folder)
    assert renewed == [True]
    assert not sleeper.is_lost()
    assert [str(path) for path in folder.iterdir()] == [sleeper.path]


def test_a_store_that_fails_a_renewal_costs_no_claim(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = holder(folder)

    def fail() -> None:
        raise OSError("no answer")

    before_next(monkeypatch, "_write", fail)
    with pytest.raises(OSError, match="no answer"):
        held.renew()
    assert held.renew()
    assert not held.is_lost()


def test_expired_claims_that_cannot_be_removed_hold_nobody_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expire(holder(folder))
    monkeypatch.setattr(claims, "_withdraw", lambda *_: None)
    assert not holder(folder).is_lost()
