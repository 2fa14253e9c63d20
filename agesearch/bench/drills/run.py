"""``agesearch bench drills``: a study behind a URI on several hosts that share an S3 server and nothing else,
and one thing that befalls them at a time.

Hosts are namespaces of this machine on a network of their own (``agesearch.bench.drills.hosts``): each has a
folder for temporary files of its own, so that trials and driver find nothing of each other's but what was
published. Trials pretend to train, with real checkpoints and curves.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from agesearch.bench.chaos.checks import attempts
from agesearch.bench.chaos.study import Scene, read_begun, read_events
from agesearch.bench.drills.befalling import DRILLS, SECOND, Drill
from agesearch.bench.drills.hosts import Hosts, need_namespaces
from agesearch.bench.drills.network import Network, network
from agesearch.bench.drills.outcome import Outcome
from agesearch.bench.drills.stage import Stage, temporary
from agesearch.bench.drills.store import BUCKET, key_file, s3_server
from agesearch.bench.drills.submitted import NAME, need_checkout, run_submitted
from agesearch.bench.overhead import bench_faces, untrained_teacher
from agesearch.errors import AgeSearchError, first_line
from agesearch.progress import Listener, Progress, silent
from agesearch.search.store.records import State, open_study
from agesearch.serving.orphans import bound_to_driver
from agesearch.session import prepare_environment
from agesearch.storage import Location

#: Every drill; the first two are the shortest.
NAMES = (*DRILLS, NAME)


def run_drills(
    names: tuple[str, ...] = NAMES,
    *,
    trials: int = 12,
    epochs: int = 4,
    epoch_s: float = 0.5,
    on_progress: Listener = silent,
) -> list[Outcome]:
    """Run these drills, one after another, each on hosts of its own. One that breaks off has the reason
    among its faults, and the others are run all the same.

    Raises ``InputError`` where this user may make no namespaces, or moto's S3 server is not installed.
    """
    need_namespaces()
    if NAME in names:
        need_checkout()
    prepare_environment()
    found = []
    with _ground() as ground:
        for number, name in enumerate(names):
            on_progress(Progress("Drills", number, len(names), note=name))
            began = time.monotonic()
            try:
                if name == NAME:
                    found.append(_submitted(ground, trials))
                else:
                    found.append(_run(name, ground, trials, epochs, epoch_s))
            except AgeSearchError as error:
                seconds = time.monotonic() - began
                found.append(Outcome(name, "it broke off", 0, trials, 0, 0, seconds, [first_line(error)]))
    on_progress(Progress("Drills", len(names), len(names)))
    return found


@dataclass(frozen=True)
class _Ground:
    """What all drills stand on: a folder, a network, the options of the S3 server's URIs, and faces."""

    root: str
    wires: Network
    options: str
    faces: Location


@contextmanager
def _ground() -> Iterator[_Ground]:
    """Nothing of it outlives this process: not even where that is killed, but for the network, which goes
    as the next one is made.
    """
    with ExitStack() as stack:
        root = stack.enter_context(tempfile.TemporaryDirectory(prefix="agesearch-drills-"))
        stack.enter_context(bound_to_driver(Path(root)))
        wires = stack.enter_context(network())
        options = stack.enter_context(s3_server(wires.address))
        yield _Ground(root, wires, options, stack.enter_context(bench_faces()))


def _run(name: str, ground: _Ground, trials: int, epochs: int, epoch_s: float) -> Outcome:
    began, drill = time.monotonic(), DRILLS[name]
    with (
        tempfile.TemporaryDirectory(dir=ground.root) as folder,
        _hosts(Path(folder), ground.wires, drill) as hosts,
    ):
        root = Path(folder)
        scene = Scene(
            study=f"s3://{BUCKET}/{name.replace(' ', '-')}?{ground.options}",
            data=str(ground.faces),
            teacher=str(untrained_teacher(Location.of(root / "teacher"), ground.faces)),
            log=str(root / "epochs.log"),
            events=str(root / "told.jsonl"),
            trials=trials,
            epochs=epochs,
            seed=0,
            pretend=True,
            address=hosts.address,
            concurrency=drill.at_once,
            epoch_s=epoch_s * drill.slower,
        )
        keys = key_file(root / "credentials") if drill.keys_in_file else {}
        stage = Stage(scene, hosts, root / "private", keys)
        try:
            said = drill.befall(stage)
            stage.finish()
        finally:
            with suppress(psutil.NoSuchProcess):
                stage.driver.kill()
        return _judged(name, said, scene, time.monotonic() - began)


def _submitted(ground: _Ground, trials: int) -> Outcome:
    with (
        tempfile.TemporaryDirectory(dir=ground.root) as folder,
        _hosts(Path(folder), ground.wires, Drill(lambda _: ""), dashboard=True) as hosts,
    ):
        return run_submitted(Path(folder), hosts, ground.options, ground.faces, trials)


def _judged(name: str, said: str, scene: Scene, seconds: float) -> Outcome:
    records, begun = open_study(scene.study).trials(), read_begun(Path(scene.log))
    complete = sum(record.state is State.COMPLETE for record in records)
    faults = [] if complete == scene.trials == len(records) else [f"{complete} of {scene.trials} ended"]
    told = read_events(Path(scene.events))
    ends = {row["record"]["number"]: row["time"] for row in told if row["kind"] == "finished"}
    late = sorted({row.trial for row in begun if row.time > ends.get(row.trial, row.time)})
    faults += [f"trial {number} was trained after it was finished" for number in late]
    cut = attempts(begun)
    if cut.worst > 1:
        faults.append(f"a cut cost {cut.worst} epochs")
    return Outcome(name, said, complete, scene.trials, cut.lost, cut.worst, seconds, faults)


@contextmanager
def _hosts(root: Path, wires: Network, drill: Drill, *, dashboard: bool = False) -> Iterator[Hosts]:
    """A head without CPUs and two hosts of one CPU, each with an empty folder for its study's files."""
    private = root / "private"
    private.mkdir()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = temporary(private) | {"PATH": path}  # jobs run what 'python' is there
    rays = Path(environment["RAY_TMPDIR"], "ray")  # its logs, sockets, and what jobs unpack
    hosts = Hosts(root, hidden=(private,), apart=(rays,), environment=environment, network=wires)
    try:
        hosts.start("head", 0, dashboard=dashboard)
        hosts.start("first", 1)
        hosts.start(SECOND, 1, **drill.second)
        yield hosts
    finally:
        hosts.kill_all()
