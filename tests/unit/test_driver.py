"""Who runs a study, and how it is asked to stop: files in its folder, and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agesearch.search.run import driver as driver_module
from agesearch.search.run.driver import (
    Driver,
    DriverHeartbeat,
    Stopping,
    Urgency,
    ask_to_stop,
    read_driver,
    read_request,
    registered_driver,
    signals_ask,
    wait_until_stopped,
)
from agesearch.storage import Location


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "_POLL_S", 0.01)


def until(asked: Stopping, urgency: Urgency) -> None:
    for _ in range(500):
        if asked.urgency is urgency:
            return
        threading.Event().wait(0.01)
    pytest.fail(f"nobody asked to stop: {asked.urgency!r}")


def test_a_run_says_who_it_is_and_how_it_ended(tmp_path: Path) -> None:
    folder = Location.of(tmp_path)
    with registered_driver(folder) as heartbeat:
        heartbeat.search_began(finished=3, concurrency=2, dashboard=None)
        found = read_driver(folder)
        assert found is not None
        assert found.is_live
        assert (found.pid, found.finished_before, found.concurrency) == (os.getpid(), 3, 2)
        heartbeat.outcome = "complete"
    found = read_driver(folder)
    assert found is not None
    assert not found.is_live
    assert found.outcome == "complete"
    with pytest.raises(RuntimeError), registered_driver(folder):
        raise RuntimeError("disk full")
    assert read_driver(folder).outcome == "RuntimeError: disk full"  # type: ignore[union-attr]


def test_a_killed_driver_is_not_live_nor_is_a_later_process_of_its_number(tmp_path: Path) -> None:
    with registered_driver(Location.of(tmp_path)):
        live = read_driver(Location.of(tmp_path))
    assert live is not None
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    running = live.model_copy(update={"outcome": "", "ended": ""})
    assert running.is_live
    assert not running.model_copy(update={"pid": child.pid}).is_live
    assert not running.model_copy(update={"born": live.born - 100.0}).is_live


def test_a_driver_of_another_host_is_live_as_long_as_it_renews_its_file() -> None:
    other = {"pid": 1, "host": "elsewhere", "machine": "another", "began": "2026-01-01T00:00:00+00:00"}
    assert Driver(**other, beat=driver_module.now()).is_live  # type: ignore[arg-type]
    assert not Driver(**other, beat="2026-01-01T00:10:00+00:00").is_live  # type: ignore[arg-type]
    assert not Driver(**other, beat="no time").is_live  # type: ignore[arg-type]


def test_a_request_in_the_folder_reaches_the_driver_and_is_gone_after(tmp_path: Path) -> None:
    folder = Location.of(tmp_path)
    with registered_driver(folder) as heartbeat:
        heartbeat.search_began(finished=0, concurrency=1, dashboard=None)
        assert ask_to_stop(folder) is not None
        until(heartbeat.stopping, Urgency.WITH_CHECKPOINTS)
        assert "agesearch stop on" in heartbeat.stopping.by
        for _ in range(500):
            if (read_driver(folder) or heartbeat._driver).stopping:
                break
            threading.Event().wait(0.01)
        assert "agesearch stop on" in read_driver(folder).stopping  # type: ignore[union-attr]
        asked = ask_to_stop(folder, at_once=True)
        until(heartbeat.stopping, Urgency.NOW)
        assert asked is not None
        assert not wait_until_stopped(folder, asked, 0.02)
    assert wait_until_stopped(folder, asked, 0.02)
    assert read_request(folder) is None


def test_nothing_is_written_where_nothing_runs(tmp_path: Path) -> None:
    assert ask_to_stop(Location.of(tmp_path)) is None
    assert list(tmp_path.iterdir()) == []


def test_a_request_for_an_earlier_run_does_not_stop_the_next(tmp_path: Path) -> None:
    (tmp_path / "stop.json").write_text('{"now": true, "asked": "x", "by": "y"}')
    with registered_driver(Location.of(tmp_path)) as heartbeat:
        threading.Event().wait(0.05)
        assert heartbeat.stopping.urgency is Urgency.NOT


def test_a_request_that_cannot_be_read_asks_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "stop.json").write_text('{"now": ')
    assert read_request(Location.of(tmp_path)) is None


def test_a_request_during_preparation_interrupts_it(tmp_path: Path) -> None:
    folder = Location.of(tmp_path)

    def prepare() -> None:
        with registered_driver(folder):
            ask_to_stop(folder)
            threading.Event().wait(30)

    with pytest.raises(KeyboardInterrupt):
        prepare()
    assert read_driver(folder).outcome == "interrupted"  # type: ignore[union-attr]


def test_ctrl_c_once_asks_twice_hurries_and_the_third_interrupts() -> None:
    stopping = Stopping()
    before = signal.getsignal(signal.SIGINT)
    with signals_ask(stopping):
        signal.raise_signal(signal.SIGINT)
        assert (stopping.urgency, stopping.by) == (Urgency.WITH_CHECKPOINTS, "Ctrl-C")
        signal.raise_signal(signal.SIGTERM)
        assert (stopping.urgency, stopping.by) == (Urgency.NOW, "SIGTERM")
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_driver_file_that_cannot_be_written_does_not_end_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agesearch.errors import AgeSearchError

    def full(self: Location, value: object) -> None:
        raise AgeSearchError("no space left")

    monkeypatch.setattr(Location, "write_json", full)
    with registered_driver(Location.of(tmp_path)) as heartbeat:
        heartbeat.search_began(finished=0, concurrency=1, dashboard=None)
    assert isinstance(heartbeat, DriverHeartbeat)
