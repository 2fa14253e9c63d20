"""``agesearch bench drills``: a study behind a URI on several hosts that share an S3 server and nothing else,
and one thing that befalls them at a time.

Hosts are namespaces of this machine (``agesearch.bench.drills.hosts``): each has a folder for temporary files
of its own, so that trials and driver find nothing of each other's but what was published. Trials pretend to
train, with real checkpoints and curves.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import psutil

from agesearch.bench.chaos.checks import attempts
from agesearch.bench.chaos.study import Scene, read_begun, read_events
from agesearch.bench.drills.hosts import Hosts, need_namespaces
from agesearch.bench.overhead import bench_faces, untrained_teacher
from agesearch.errors import AgeSearchError, InputError
from agesearch.machine import free_port
from agesearch.progress import Listener, Progress, silent
from agesearch.search.run.driver import ask_to_stop, wait_until_stopped
from agesearch.search.store.records import State, open_study
from agesearch.session import LOOPBACK, prepare_environment
from agesearch.storage import Location

_BUCKET = "drills"
_PATIENCE_S = 300.0
_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "drill",
    "AWS_SECRET_ACCESS_KEY": "drill",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class Drill:
    """What befell the hosts, and how the study ended: ``repeated`` epochs were begun more than once, the most
    of them by one cut ``worst``; ``faults`` is empty where all trials ended and no finished one was touched.
    """

    name: str
    said: str
    complete: int
    trials: int
    repeated: int
    worst: int
    seconds: float
    faults: list[str] = field(default_factory=list)


class _Stage:
    """A study under way: its scene, hosts and driver."""

    def __init__(self, scene: Scene, hosts: Hosts, private: Path) -> None:
        self.scene, self.hosts = scene, hosts
        self._private, self._runs = private, 0
        self.driver = self._drive()

    def _drive(self) -> subprocess.Popen[bytes]:
        code = "from agesearch.bench.chaos.study import drive; drive()"
        self._runs += 1
        own = self._private / str(self._runs)
        own.mkdir()
        with open(f"{self.scene.log}.err", "ab") as errors:
            return subprocess.Popen(
                [sys.executable, "-c", code, json.dumps(asdict(self.scene))],
                stdout=errors,
                stderr=errors,
                env=os.environ | _temporary(own),
            )

    def resume(self) -> None:
        """Go on with the study, by another driver that has none of the first one's files."""
        self.driver = self._drive()

    def await_epochs(self, count: int) -> None:
        """Wait until so many epochs have begun."""
        end = time.monotonic() + _PATIENCE_S
        while len(read_begun(Path(self.scene.log))) < count:
            if self.driver.poll() is not None or time.monotonic() > end:
                raise AgeSearchError(f"The study ended or stands still: {self.scene.last_line()[:300]}")
            time.sleep(0.1)

    def finish(self) -> None:
        """Wait for the study's end."""
        try:
            code = self.driver.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired as error:
            raise AgeSearchError(f"The study stands still: {self.scene.last_line()[:300]}") from error
        if code != 0:
            raise AgeSearchError(f"The study ended with exit code {code}: {self.scene.last_line()[:300]}")


def _host_killed(stage: _Stage) -> str:
    stage.await_epochs(6)
    stage.hosts.kill("second")
    return "a host was killed: its trials went on elsewhere from their last epoch"


def _head_killed(stage: _Stage) -> str:
    stage.await_epochs(6)
    os.kill(stage.driver.pid, signal.SIGKILL)
    stage.driver.wait()
    for name in list(stage.hosts.started):
        stage.hosts.kill(name)
    stage.hosts.address = ""
    stage.hosts.start("head", 0)
    stage.hosts.start("third", 1)
    stage.scene = replace(stage.scene, address=stage.hosts.address)
    time.sleep(61.0)  # the lease of a killed driver ends after a minute
    stage.resume()
    return "head, hosts and driver were killed: 'resume' went on from what was published"


def _joins_late(stage: _Stage) -> str:
    stage.await_epochs(3)
    stage.hosts.start("late", 1)
    return "a host joined late and was used"


def _stopped(stage: _Stage) -> str:
    stage.await_epochs(4)
    place = Location.of(stage.scene.study)
    driver = ask_to_stop(place)
    if driver is None or not wait_until_stopped(place, driver, _PATIENCE_S):
        raise AgeSearchError("The study did not stop when it was asked to.")
    stage.finish()
    stage.resume()
    return "'stop' at the URI ended the run with checkpoints: 'resume' went on from them"


#: What befalls the hosts, by name; the first two are the shortest.
DRILLS: dict[str, Callable[[_Stage], str]] = {
    "host killed": _host_killed,
    "host joins late": _joins_late,
    "stop": _stopped,
    "head killed": _head_killed,
}


def run_drills(
    names: tuple[str, ...] = tuple(DRILLS),
    *,
    trials: int = 12,
    epochs: int = 4,
    epoch_s: float = 0.5,
    on_progress: Listener = silent,
) -> list[Drill]:
    """Run these drills, one after another, each on hosts of its own.

    Raises ``InputError`` where this user may make no namespaces, or moto's S3 server is not installed.
    """
    need_namespaces()
    prepare_environment()
    found = []
    with _s3_server() as options, bench_faces() as faces:
        for number, name in enumerate(names):
            on_progress(Progress("Drills", number, len(names), note=name))
            found.append(_drill(name, options, faces, trials, epochs, epoch_s))
    on_progress(Progress("Drills", len(names), len(names)))
    return found


def _drill(name: str, options: str, faces: Location, trials: int, epochs: int, epoch_s: float) -> Drill:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="agesearch-drill-") as folder, _hosts(Path(folder)) as hosts:
        root = Path(folder)
        private = root / "private"
        scene = Scene(
            study=f"s3://{_BUCKET}/{name.replace(' ', '-')}?{options}",
            data=str(faces),
            teacher=str(untrained_teacher(Location.of(root / "teacher"), faces)),
            log=str(root / "epochs.log"),
            events=str(root / "told.jsonl"),
            trials=trials,
            epochs=epochs,
            seed=0,
            pretend=True,
            address=hosts.address,
            concurrency=None,
            epoch_s=epoch_s,
        )
        stage = _Stage(scene, hosts, private)
        try:
            said = DRILLS[name](stage)
            stage.finish()
        finally:
            with suppress(psutil.NoSuchProcess):
                stage.driver.kill()
        return _judged(name, said, scene, time.monotonic() - began)


def _judged(name: str, said: str, scene: Scene, seconds: float) -> Drill:
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
    return Drill(name, said, complete, scene.trials, cut.lost, cut.worst, seconds, faults)


def _temporary(folder: Path) -> dict[str, str]:
    """A folder for temporary files; Ray's own lie where all of its processes find them."""
    return {"TMPDIR": str(folder), "RAY_TMPDIR": tempfile.gettempdir()}


@contextmanager
def _hosts(root: Path) -> Iterator[Hosts]:
    """A head without CPUs and two hosts of one CPU, each with an empty folder for its study's files."""
    private = root / "private"
    private.mkdir()
    hosts = Hosts(root, hidden=(private,), environment=_temporary(private))
    try:
        hosts.start("head", 0)
        hosts.start("first", 1)
        hosts.start("second", 1)
        yield hosts
    finally:
        hosts.end()


@contextmanager
def _s3_server() -> Iterator[str]:
    """An S3 server with an empty bucket, and credentials in the environment; the options of its URIs."""
    try:
        import moto.server  # noqa: F401
    except ImportError as error:
        raise InputError(
            "The drills need moto's S3 server: pip install 'moto[s3]' flask flask-cors"
        ) from error
    port = free_port(LOOPBACK)
    before = {name: os.environ.get(name) for name in _CREDENTIALS}
    os.environ |= _CREDENTIALS
    given = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        options = f"endpoint_override=127.0.0.1:{port}&scheme=http"
        _make_bucket(f"s3://{_BUCKET}?{options}&allow_bucket_creation=true")
        yield options
    finally:
        server.kill()
        server.wait()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _make_bucket(uri: str) -> None:
    end = time.monotonic() + 60.0
    while True:
        try:
            Location.of(uri).make_dir()
            return
        except InputError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
