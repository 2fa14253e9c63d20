"""Kills a study again and again and checks that nothing is lost: ``agesearch bench chaos``.

A study of short trials runs in a process of its own, on a Ray cluster of three nodes on loopback (the first
holds no trial). At seeded moments, told in epochs, one of three things is killed with SIGKILL: the process
that trains, the node that it runs on (its raylet; another node takes its place), or the driver, which is then
started again to go on. Afterwards the records must tell of a study that nothing has happened to (see
``chaos_checks``), and no process may be left. The trials of an undisturbed study of the same seed must be the
same, number by number: one trial runs at a time, so that what is suggested, trained, stopped and paused hangs
on nothing but the seed.

Only processes that carry this run's mark in their environment are ever killed. Linux only.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import psutil

from agesearch.bench.chaos.checks import attempts, faults_of, same_story
from agesearch.bench.chaos.study import Scene, read_begun, read_events
from agesearch.bench.overhead import bench_faces, untrained_teacher
from agesearch.errors import AgeSearchError, InputError
from agesearch.machine import free_port
from agesearch.progress import Listener, Progress, silent
from agesearch.search.store.records import open_study
from agesearch.session import NODE_ADDRESS, prepare_environment
from agesearch.specs import Seeded, parse_spec
from agesearch.storage import Location

WORKER, NODE, DRIVER = "worker", "node", "driver"
_MARK = "AGESEARCH_CHAOS"
_POLL_S = 0.1
#: A study that begins no epoch for so long stands still.
_PATIENCE_S = 180.0
#: Seconds for processes to go after the driver or the cluster has ended.
_LEAVE_S = 30.0
_NODES = 2
#: The share of all epochs that is trained for sure where trials are stopped at rungs.
_TRAINED = 0.5
#: What 'ray start' says when its node is up.
_STARTED = b"Ray runtime started"


@dataclass(frozen=True)
class Chaos:
    """What was done to a study, and what came of it; ``faults`` is empty where nothing was lost.

    ``matches`` is whether an undisturbed study of the same seed is the same (None: none was run).
    """

    kills: dict[str, int]
    trials: int
    states: dict[str, int]
    pauses: int
    retries: int
    epochs: int
    lost: int
    worst: int
    left: int
    matches: bool | None
    seconds: float
    faults: list[str] = field(default_factory=list)


def run_chaos(
    *,
    kills: int = 20,
    trials: int = 30,
    epochs: int = 6,
    seed: int = 0,
    nodes: bool = True,
    pretend: bool = False,
    rungs: bool = False,
    reference: bool = True,
    folder: Path | None = None,
    on_progress: Listener = silent,
) -> Chaos:
    """Run a study of ``trials`` trials with ``kills`` kills, on the demo's faces.

    ``nodes`` asks for a cluster and kills of nodes; ``pretend`` for trials that sleep instead of train;
    ``rungs`` for trials that are stopped and paused. The study is left in ``folder`` where that is given.
    Raises ``AgeSearchError`` where the study stands still.
    """
    if not sys.platform.startswith("linux"):
        raise InputError("The chaos bench needs Linux: it finds processes by /proc.")
    parse_spec(Seeded, {"seed": seed}, "bench chaos")
    prepare_environment()
    began, mark = time.monotonic(), uuid.uuid4().hex
    with ExitStack() as stack:
        root = folder or Path(stack.enter_context(_temporary()))
        faces = stack.enter_context(bench_faces())
        scene = _scene(root, faces, trials=trials, epochs=epochs, seed=seed, pretend=pretend, rungs=rungs)
        stack.callback(_end_all, mark)
        if nodes:
            cluster = stack.enter_context(_cluster(mark, root))
            scene = replace(scene, address=cluster.address)
        else:
            cluster = None
        trained = round(trials * epochs * (_TRAINED if rungs else 1.0))
        done = _cut(scene, mark, cluster, _plan(kills, trained, nodes, seed), on_progress)
        if cluster is not None:
            cluster.end()
        left = _left(mark)
        matches, faults = None, _unlike(trials, scene) + [f"left running: {name}" for name in left]
        if len(done) < kills:
            faults.append(f"the study was over after {len(done)} of {kills} kills")
        if reference:
            differing = _undisturbed(scene, mark, on_progress)
            matches, faults = not differing, faults + differing
        # while the study's folder, which may be a temporary one, is there
        return _summed(scene, done, len(left), matches, time.monotonic() - began, faults)


def _scene(
    root: Path, faces: Location, *, trials: int, epochs: int, seed: int, pretend: bool, rungs: bool
) -> Scene:
    root.mkdir(parents=True, exist_ok=True)
    teacher = untrained_teacher(Location.of(root / "teacher"), faces)
    return Scene(
        study=str(root / "study"),
        data=str(faces),
        teacher=str(teacher),
        log=str(root / "epochs.log"),
        events=str(root / "told.jsonl"),
        trials=trials,
        epochs=epochs,
        seed=seed,
        pretend=pretend,
        rungs=rungs,
    )


def _plan(kills: int, epochs: int, nodes: bool, seed: int) -> list[tuple[str, int, float]]:
    """What to kill, after how many more epochs have begun, and how many seconds into the last of them."""
    kinds = [WORKER, DRIVER, NODE] if nodes else [WORKER, DRIVER]
    draw = random.Random(seed)
    victims = [kinds[index % len(kinds)] for index in range(kills)]
    draw.shuffle(victims)
    mean = 0.8 * epochs / (kills + 1)
    # An epoch at least lies between two kills: two without one between would be the trial's own fault.
    return [(kind, max(2, round(draw.uniform(0.2, 1.8) * mean)), draw.uniform(0.0, 0.4)) for kind in victims]


def _cut(
    scene: Scene,
    mark: str,
    cluster: _Cluster | None,
    plan: Sequence[tuple[str, int, float]],
    on_progress: Listener,
) -> list[str]:
    """Run the study and kill as planned; what was killed."""
    done: list[str] = []
    driver = _driver(scene, mark)
    for kind, epochs, seconds in plan:
        if not _await_epochs(scene, driver, len(read_begun(Path(scene.log))) + epochs):
            break
        time.sleep(seconds)
        if kind == DRIVER:
            os.kill(driver.pid, signal.SIGKILL)
            driver.wait()
            driver = _driver(scene, mark)
        else:
            while not _kill_worker(scene, mark, cluster if kind == NODE else None):
                if not _await_epochs(scene, driver, len(read_begun(Path(scene.log))) + 1):
                    return done
        done.append(kind)
        on_progress(Progress("Kills", len(done), len(plan), note=_note(done)))
    _await_epochs(scene, driver, None)
    if driver.wait() != 0:
        raise AgeSearchError(f"The study ended with exit code {driver.returncode}: {scene.last_line()}")
    return done


def _note(done: Sequence[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(done).items()))


def _driver(scene: Scene, mark: str) -> subprocess.Popen[bytes]:
    code = "from agesearch.bench.chaos.study import drive; drive()"
    cache = str(Path(scene.study).parent / "cache")  # latencies are timed once, for both studies
    with open(f"{scene.log}.err", "ab") as errors:
        return subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(asdict(scene))],
            env=os.environ | {_MARK: mark, "XDG_CACHE_HOME": cache},
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )


def _await_epochs(scene: Scene, driver: subprocess.Popen[bytes], count: int | None) -> bool:
    """Wait until so many epochs have begun (None: until the driver ends); False where it ended before."""
    seen, since = -1, time.monotonic()
    while driver.poll() is None:
        begun = len(read_begun(Path(scene.log)))
        if count is not None and begun >= count:
            return True
        if begun != seen:
            seen, since = begun, time.monotonic()
        if time.monotonic() - since > _PATIENCE_S:
            raise AgeSearchError(f"The study stands still after {begun} epochs: {scene.last_line()}")
        time.sleep(_POLL_S)
    return False


def _kill_worker(scene: Scene, mark: str, cluster: _Cluster | None) -> bool:
    """Kill the process that began the last epoch, or its node; False where it has ended already."""
    pid = read_begun(Path(scene.log))[-1].pid
    with suppress(psutil.Error):
        worker = psutil.Process(pid)
        if worker.environ().get(_MARK) != mark:
            return False
        victim = worker if cluster is None else worker.parent()
        if victim is None or victim.environ().get(_MARK) != mark:
            return False
        victim.kill()
        if cluster is not None:
            cluster.replace()
        return True
    return False


class _Cluster:
    """A Ray on loopback: a first node without a CPU for trials, and nodes of one CPU each beside it."""

    def __init__(self, mark: str, logs: Path) -> None:
        self._mark, self._logs = mark, logs
        self._started: list[subprocess.Popen[bytes]] = []
        self.address = f"{NODE_ADDRESS}:{free_port(NODE_ADDRESS)}"

    def start(self) -> None:
        """Start the first node, and those for trials."""
        port = self.address.rpartition(":")[2]
        self._start("--head", "--port", port, "--num-cpus", "0", "--include-dashboard", "false")
        for _ in range(_NODES):
            self.replace()

    def replace(self) -> None:
        """Start one more node for trials, and wait until it is up."""
        self._start("--address", self.address, "--num-cpus", "1")

    def end(self) -> None:
        """Take all nodes down, the first one last."""
        for process in reversed(self._started):
            process.terminate()
        for process in self._started:
            try:
                process.wait(timeout=_LEAVE_S)
            except subprocess.TimeoutExpired:
                process.kill()
        self._started.clear()

    def _start(self, *options: str) -> None:
        code = "import sys; from ray.scripts.scripts import main; sys.exit(main())"
        common = ("--block", "--node-ip-address", NODE_ADDRESS, "--disable-usage-stats")
        log = self._logs / f"node-{len(self._started)}.log"
        with open(log, "wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-c", code, "start", *options, *common],
                env=os.environ | {_MARK: self._mark},
                stdout=said,
                stderr=said,
            )
        self._started.append(process)
        end = time.monotonic() + _PATIENCE_S
        while _STARTED not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > end:
                raise AgeSearchError(f"A node of the cluster did not start: see '{log}'.")
            time.sleep(_POLL_S)


@contextmanager
def _cluster(mark: str, logs: Path) -> Iterator[_Cluster]:
    cluster = _Cluster(mark, logs)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()


def _marked(mark: str) -> list[psutil.Process]:
    """The processes that this run has started, whoever their parents are now."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _left(mark: str) -> list[str]:
    """The processes that do not go by themselves, by name."""
    end = time.monotonic() + _LEAVE_S
    while (left := _marked(mark)) and time.monotonic() < end:
        time.sleep(_POLL_S)
    return [f"{process.pid} {process.name()}" for process in left if process.is_running()]


def _end_all(mark: str) -> None:
    for process in _marked(mark):
        with suppress(psutil.Error):
            process.kill()


def _unlike(trials: int, scene: Scene) -> list[str]:
    return faults_of(
        open_study(scene.study), trials, read_begun(Path(scene.log)), read_events(Path(scene.events))
    )


def _undisturbed(scene: Scene, mark: str, on_progress: Listener) -> list[str]:
    """How the study differs from one that nothing happens to."""
    on_progress(Progress("Undisturbed", 0, 1))
    root = Path(scene.study).parent
    undisturbed = replace(
        scene,
        address=None,
        study=str(root / "undisturbed"),
        log=str(root / "undisturbed.log"),
        events=str(root / "undisturbed.jsonl"),
    )
    driver = _driver(undisturbed, mark)
    _await_epochs(undisturbed, driver, None)
    if driver.wait() != 0:
        raise AgeSearchError(
            f"The undisturbed study ended with {driver.returncode}: {undisturbed.last_line()}"
        )
    on_progress(Progress("Undisturbed", 1, 1))
    return same_story(open_study(scene.study).trials(), open_study(undisturbed.study).trials())


def _summed(
    scene: Scene, done: Sequence[str], left: int, matches: bool | None, seconds: float, faults: list[str]
) -> Chaos:
    records = open_study(scene.study).trials()
    found = attempts(read_begun(Path(scene.log)))
    return Chaos(
        kills=dict(sorted(Counter(done).items())),
        trials=len(records),
        states=dict(Counter(record.state.value for record in records)),
        pauses=sum(row["kind"] == "paused" for row in read_events(Path(scene.events))),
        retries=sum(record.retries for record in records),
        epochs=found.begun,
        lost=found.lost,
        worst=found.worst,
        left=left,
        matches=matches,
        seconds=round(seconds, 1),
        faults=faults,
    )


@contextmanager
def _temporary() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="agesearch-chaos-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
