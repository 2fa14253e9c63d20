"""Nothing of a service outlives its driver, however that ends.

A driver that is killed cannot end what it started, and some of Ray's processes (the dashboard, the agents)
would stay and listen for minutes. A small process beside the driver notes now and then what the driver has
started, and ends it when the driver is gone.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

#: Seconds between two looks at the driver's processes: a look takes milliseconds.
_LOOK_S = 2.0
_CALL = "from agesearch.serving.orphans import watch; watch()"
_DONE = b"done"
#: The processes without which a Ray of this process answers nobody.
_RAY = ("raylet", "gcs_server")


@contextmanager
def bound_to_driver(folder: Path) -> Iterator[Callable[[], object]]:
    """For the length of the block: where this process is killed, all that it started is ended within seconds,
    and ``folder`` is deleted. What it gives waits until what was started before is known.
    """
    watcher = subprocess.Popen(
        [sys.executable, "-c", _CALL, str(os.getpid()), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a signal to the driver's group must not end it first
    )
    assert watcher.stdout is not None
    try:
        yield watcher.stdout.readline
    finally:
        with suppress(subprocess.TimeoutExpired, BrokenPipeError):
            watcher.communicate(_DONE, timeout=5)
        watcher.kill()
        watcher.wait()


def ray_lives() -> Callable[[], bool]:
    """A question: whether the Ray that this process has started still runs. Where it has started none, but
    joined one, yes: that one is watched by others.
    """
    found = [child for child in psutil.Process().children(recursive=True) if _name_of(child) in _RAY]
    return lambda: all(map(_lives, found))


def _name_of(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return str(process.name())
    return ""


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def watch() -> None:
    """The watcher's process: driver and folder are its arguments; its standard input ends with the driver."""
    driver, folder = int(sys.argv[1]), sys.argv[2]
    started: set[psutil.Process] = set()
    has_looked = False
    while True:
        with suppress(psutil.NoSuchProcess):
            started = set(psutil.Process(driver).children(recursive=True))
        if not has_looked:
            has_looked = True
            with suppress(BrokenPipeError):
                print(flush=True)
        if select.select([sys.stdin.buffer], [], [], _LOOK_S)[0]:
            break
    if sys.stdin.buffer.read() == _DONE:
        return
    for process in started:
        # psutil compares the time of its start, too: a number that was given anew is another process.
        if process.pid != os.getpid():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                process.kill()
    shutil.rmtree(folder, ignore_errors=True)
