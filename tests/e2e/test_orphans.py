"""What a driver started ends with it, also where it is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil

_DRIVER = """
import subprocess, sys, time
from pathlib import Path
from agesearch.serving.orphans import bound_to_driver
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
with bound_to_driver(Path(sys.argv[1])) as wait_until_known:
    wait_until_known()
    print(child.pid, flush=True)
    if sys.argv[2] == "killed":
        time.sleep(60)
"""


def _driver(folder: Path, end: str) -> tuple[subprocess.Popen[str], psutil.Process]:
    call = [sys.executable, "-c", _DRIVER, str(folder), end]
    driver = subprocess.Popen(call, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    return driver, psutil.Process(int(driver.stdout.readline()))


def test_a_driver_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "service"
    folder.mkdir()
    driver, child = _driver(folder, "killed")
    driver.kill()
    driver.wait()
    child.wait(30)
    deadline = time.monotonic() + 30
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()


def test_a_driver_that_ends_well_ends_its_own(tmp_path: Path) -> None:
    driver, child = _driver(tmp_path, "done")
    assert driver.wait(60) == 0
    assert child.is_running()
    child.kill()
    assert tmp_path.exists()
