"""A signal to the whole process group, as batch systems send it: the run ends in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from agesearch.search.run.driver import read_driver
from agesearch.search.store.records import State, open_study
from agesearch.storage import Location

HERE = Path(__file__).parent

_HEAD = """
import sys
sys.path[:0] = [{here!r}]
from pathlib import Path
import search_helpers as helpers
from search_helpers import tiny_spec, functions, write_sources
from agesearch.cli.stopping import interruptible
from agesearch.session import prepare_environment
prepare_environment()
from ray import cloudpickle
cloudpickle.register_pickle_by_value(helpers)
root = Path({root!r})
"""

_STUDY = """
from agesearch.search.run.study import RunLimits, run_study
from agesearch.search.store.events import TrialProgress
def listen(event):
    if isinstance(event, TrialProgress) and (event.number, event.epoch) == (1, 1):
        print("epoch", flush=True)
data, teacher = write_sources(root)
limits = RunLimits(concurrency=1, dashboard=False)
made = functions(helpers.pretend, 0.4)
study = str(root / "study")
done = run_study(tiny_spec(), data, teacher, study, limits=limits, on_event=listen, functions=made)
print(done.outcome.value)
"""

_RERUN = """
import os, time
from agesearch.search.view.rerun import rerun_trial
def slow(*args, report, **rest):
    print("training", flush=True)
    time.sleep(60)
with interruptible(lambda: None, 130):
    try:
        rerun_trial(str(root / "study"), 0, root / "again", functions=functions(slow))
    except KeyboardInterrupt:
        print("stopped", flush=True)
        time.sleep(60)
"""


@contextmanager
def run(root: Path, body: str) -> Iterator[subprocess.Popen[str]]:
    """A driver in a process group of its own."""
    script = _HEAD.format(here=str(HERE), root=str(root)) + body
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def said(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_sigterm_to_the_group_ends_a_study_and_ctrl_c_a_rerun(tmp_path: Path) -> None:
    """Ctrl-C, which does the same, is sent in ``test_resume``."""
    with run(tmp_path, _STUDY) as child:
        assert said(child) == "epoch"
        os.killpg(child.pid, signal.SIGTERM)
        assert said(child) == "interrupted"
        assert child.wait(60) == 0
    study = open_study(tmp_path / "study")
    assert [record.state for record in study.trials()] == [State.COMPLETE, State.RUNNING]
    curve = (tmp_path / "study/trials/0001/curve.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in curve] == [1, 2]  # the epoch that ran was not lost
    driver = read_driver(Location.of(tmp_path / "study"))
    assert driver is not None
    assert (driver.outcome, driver.stopping) == ("interrupted", "SIGTERM")
    _stop_a_rerun(tmp_path, signal.SIGINT)


def _stop_a_rerun(root: Path, number: int) -> None:
    with run(root, _RERUN) as child:
        assert said(child) == "training"
        family = psutil.Process(child.pid).children(recursive=True)
        assert {process.name() for process in family} >= {"raylet", "gcs_server"}
        os.killpg(child.pid, number)
        assert said(child) == "stopped"
        assert not (root / "again").exists()  # nothing half-written
        os.killpg(child.pid, number)
        assert child.wait(10) == 130  # a second signal does not wait for anything
    until = time.monotonic() + 30
    while any(process.is_running() for process in family) and time.monotonic() < until:
        time.sleep(0.2)
    assert [process.name() for process in family if process.is_running()] == []
