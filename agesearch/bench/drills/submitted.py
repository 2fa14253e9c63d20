"""A study run by ``tune`` on this machine and handed to the hosts' cluster by ``submit``, with faces, teacher
and study on the S3 server: both have the same records, but for times.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from agesearch.bench.drills.hosts import Hosts
from agesearch.bench.drills.outcome import Outcome
from agesearch.bench.drills.store import BUCKET
from agesearch.bench.overhead import untrained_teacher
from agesearch.errors import AgeSearchError, InputError
from agesearch.search.store.records import State, TrialRecord, open_study
from agesearch.storage import Location

NAME = "submitted"
SPACE = "search_spaces/quick.yaml"
#: So many trials at most: later ones follow from latencies, which each run measures anew.
_MOST_TRIALS = 10
#: A share of the space's epochs: one.
_SCALE = "0.07"
_PATIENCE_S = 1800.0


def need_checkout() -> None:
    """An ``InputError`` where there is no ``search_spaces/quick.yaml``."""
    if not Path(SPACE).is_file():
        raise InputError(f"The drill '{NAME}' needs '{SPACE}': run it from a checkout of agesearch.")


def run_submitted(root: Path, hosts: Hosts, options: str, faces: Location, trials: int) -> Outcome:
    """Run the study twice, in the folder ``root`` and on the cluster of ``hosts``; compare the records."""
    began, trials = time.monotonic(), min(trials, _MOST_TRIALS)
    teacher = untrained_teacher(Location.of(root / "teacher"), faces)
    stored = {name: f"s3://{BUCKET}/{name}?{options}" for name in ("faces", "teacher", "there")}
    for place, name in ((faces, "faces"), (teacher, "teacher")):
        _upload(place, Location.of(stored[name]))
    asked = [SPACE, "--trials", str(trials), "--scale", _SCALE, "--seed", "0", "--concurrency", "1"]
    here = str(root / "here")
    _agesearch(
        "tune", *asked, "--data", str(faces), "--teacher", str(teacher), "--out", here, "--no-dashboard"
    )
    given = ["--data", stored["faces"], "--teacher", stored["teacher"], "--out", stored["there"]]
    _agesearch("submit", "tune", *asked, *given, "--address", hosts.dashboard, "--follow")
    ours, theirs = (open_study(place).trials() for place in (here, stored["there"]))
    faults = differences(ours, theirs)
    complete = sum(record.state is State.COMPLETE for record in theirs)
    if complete < trials:
        faults.append(f"{complete} of {trials} ended")
    said = f"'tune' here and 'submit tune' on the hosts have equal records of {len(theirs)} trials"
    return Outcome(NAME, said, complete, trials, 0, 0, time.monotonic() - began, faults)


def differences(ours: list[TrialRecord], theirs: list[TrialRecord]) -> list[str]:
    """How the records of two runs of one study differ, a line a trial: times and machines are their own."""
    found = [] if len(ours) == len(theirs) else [f"{len(ours)} trials here and {len(theirs)} there"]
    for one, other in zip(ours, theirs, strict=False):
        before, after = _kept(one), _kept(other)
        names = [name for name in before if before[name] != after[name]]
        if names:
            name = names[0]
            found.append(f"trial {one.number}: {name} is {before[name]} here and {after[name]} there")
    return found


def _kept(record: TrialRecord) -> dict[str, Any]:
    own = {"started", "seconds", "node", "latency_ms_p50", "expected_loss"}
    return {name: value for name, value in vars(record).items() if name not in own}


def _upload(folder: Location, to: Location) -> None:
    pafs.copy_files(folder.path, to.path, folder.filesystem, to.filesystem)


def _agesearch(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from agesearch.cli.main import run; run()", *words],
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        env=os.environ | {"COLUMNS": "200"},
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise AgeSearchError(f"'{words[0]}' of {SPACE} ended with exit code {done.returncode}: {last}")
