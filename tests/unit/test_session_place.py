"""Where a Ray session keeps its token and its sockets, also on a machine that lets it write little."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agesearch import session
from agesearch.errors import AgeSearchError, InputError


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR", "TMPDIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_a_home_that_cannot_be_written_gets_its_token_through_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").touch()  # a file: nothing can be made inside
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert session.ensure_token() is None
    token = os.environ["RAY_AUTH_TOKEN"]
    assert len(token) >= 32
    assert session.ensure_token() is None
    assert os.environ["RAY_AUTH_TOKEN"] == token


def test_of_many_that_make_the_token_at_once_one_wins_and_nobody_reads_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "ray/token"))
    found: list[str] = []

    def make() -> None:
        path = session.ensure_token()
        assert path is not None
        found.append(path.read_text())

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert len(found[0]) >= 32
    assert [path.name for path in (tmp_path / "ray").iterdir()] == ["token"]


def test_sockets_lie_where_their_paths_are_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert session.socket_folder() == "/tmp/ray"
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    folder = session.socket_folder()
    assert len(f"{folder}/session_2026-11-28_20-07-58_131294_4194304/sockets/plasma_store") <= 107
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="set RAY_TMPDIR to a folder"):
        session.socket_folder()


@pytest.mark.parametrize(
    "error",
    [
        Exception("The current node timed out during startup. This could happen because ...\nmore"),
        TimeoutError("The current node timed out during startup."),
        RuntimeError("The current node timed out during startup"),
        type("RpcError", (Exception,), {})("The current node timed out during startup."),
    ],
)
@pytest.mark.parametrize("address", [None, "auto"])
def test_a_ray_that_does_not_start_in_time_is_one_clear_line(
    error: Exception, address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bool] = []

    def init(**_: Any) -> None:
        raise error

    def shutdown() -> None:
        ended.append(True)
        raise RuntimeError("nothing to end")

    ray = SimpleNamespace(init=init, shutdown=shutdown, is_initialized=lambda: False)
    monkeypatch.setitem(sys.modules, "ray", ray)  # type: ignore[arg-type]
    for name in ("worker_setup", "read_environment_anew"):
        monkeypatch.setattr(session, name, dict)
    with (
        pytest.raises(AgeSearchError, match="timed out during startup") as told,
        session.ray_session(address),
    ):
        pass
    assert ended
    assert "\n" not in str(told.value)
    assert isinstance(told.value, InputError) == (address is not None)
    assert ("try again" in str(told.value)) == (address is None)
