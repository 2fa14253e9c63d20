"""What a driver started ends with it, also where it is killed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

from agesearch.serving.orphans import ray_lives

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


def test_a_ray_that_ends_under_the_service_is_noticed(tmp_path: Path) -> None:
    assert ray_lives()()  # none of ours: nothing to watch
    raylet = tmp_path / "raylet"
    shutil.copy(str(shutil.which("sleep")), raylet)
    child = subprocess.Popen([str(raylet), "60"])
    try:
        lives = ray_lives()
        assert lives()
        child.kill()
        deadline = time.monotonic() + 30
        while lives() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not lives()  # a zombie, until somebody waits for it
    finally:
        child.kill()
        child.wait()
    assert not lives()
