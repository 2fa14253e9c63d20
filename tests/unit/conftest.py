"""Fixtures of the unit tests: work that every test would do again, done once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from agesearch.data.sources import matlab
from agesearch.errors import InputError
from agesearch.storage import Location


@pytest.fixture(scope="session", autouse=True)
def _migrations_read_once() -> Iterator[None]:
    """Optuna loads its ten migration scripts up to three times for each study that is opened, for 0.2 s."""
    from optuna.storages._rdb.storage import _VersionManager

    read, kept = _VersionManager._create_alembic_script, []

    def once(self: _VersionManager) -> object:
        if not kept:
            kept.append(read(self))
        return kept[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_VersionManager, "_create_alembic_script", once)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """SQLite waits for the disk several times a transaction, for what only a power cut could show."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def relax(connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", relax)
    yield
    event.remove(Engine, "connect", relax)


@pytest.fixture
def matlab_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """MATLAB files are read in this process: one of their own takes a second to start."""

    def read(where: Location, name: str) -> bytes:
        try:
            return matlab._read(where.read_bytes(), name)
        except InputError as error:
            raise InputError(f"'{where}' {error}") from error

    monkeypatch.setattr(matlab, "_read_apart", read)
