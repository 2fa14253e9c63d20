"""``agesearch bench monitoring``: a cluster of this machine at work, a Prometheus that looks at it by the
files of ``cluster/monitoring``, and what each panel of the dashboard and each rule finds of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import httpx
import yaml

from agesearch.bench.monitoring.expressions import Expression, panels, rules
from agesearch.bench.monitoring.prometheus import SCRAPE_S, Prometheus, local_config, running
from agesearch.bench.overhead import untrained_teacher
from agesearch.bench.photos import write_photos
from agesearch.bench.serve.requests import untrained_version, write_images
from agesearch.bench.serve.servers import TOKEN, Server, our_service
from agesearch.errors import AgeSearchError
from agesearch.machine import free_port
from agesearch.progress import Listener, Progress, silent, spoken_every
from agesearch.remote.local import LocalCluster, end_cluster, start_cluster
from agesearch.serving.orphans import bound_to_driver
from agesearch.session import LOOPBACK, NODE_ADDRESS, prepare_environment
from agesearch.storage import Location

_STAGE = "bench"
_VERB_S = 600.0
#: Ray hands figures to a node's agent every ten seconds; then Prometheus looks.
_SETTLE_S = 12.0 + 2 * SCRAPE_S
_PAUSE_S = 0.2
_SPACE = {
    "startup_trials": 40,
    "student": {
        "model": {"arch": "lcnet_050", "input_size": 48},
        "optim": {"epochs": 3, "batch_size": 16, "learning_rate": 0.004},
    },
    "space": {
        "model.arch": {"choices": ["lcnet_050", "mobilenetv3_small_050"]},
        "distill.label_sigma": {"low": 1.0, "high": 4.0},
    },
}


@dataclass(frozen=True)
class Answer:
    """What an expression found: the number of its ``series``, and the last value of the first that has one;
    an alert that finds nothing is not raised, which is as it should be.
    """

    where: str
    expression: str
    series: int
    last: float | None
    is_alert: bool = False

    @property
    def is_missing(self) -> bool:
        """Whether it should have found something, and did not."""
        return not self.series and not self.is_alert


@dataclass(frozen=True)
class Monitored:
    """A run of ``seconds``: every expression's answer, and the metrics ports that did not answer."""

    seconds: float
    targets: int
    unanswered: tuple[str, ...]
    answers: tuple[Answer, ...]

    @property
    def faults(self) -> list[str]:
        """What was not seen, in words."""
        missing = [
            f"'{one.where}' returned no data: {one.expression}" for one in self.answers if one.is_missing
        ]
        return [*(f"{url} did not answer Prometheus" for url in self.unanswered), *missing]


def measure_monitoring(
    files: Path, *, photos: int = 400, trials: int = 6, on_progress: Listener = silent
) -> Monitored:
    """Ingest ``photos`` photographs and search ``trials`` trials on a cluster that is started for it, beside
    a service that is asked all the while; then evaluate every expression of ``files`` over the run.
    """
    asked = [(one, False) for one in panels(files)]
    asked += [(one, ":" not in one.where) for one in rules(files)]
    with tempfile.TemporaryDirectory(prefix="agesearch-bench-") as scratch:
        place = Path(scratch)
        on_progress(Progress(_STAGE, 0, None, note="making photographs and a model"))
        write_photos(place, photos)
        version = untrained_version(place)
        with bound_to_driver(place), _cluster(place) as cluster, our_service(version, 1) as server:
            config = _config(files, place, cluster, server)
            with running(config, place) as prometheus, _asking(server, place):
                began = time.time()
                on_progress(Progress(_STAGE, 0, None, note="ingest"))
                _ingest(place, cluster)
                on_progress(Progress(_STAGE, 0, None, note="study"))
                _tune(place, cluster, trials)
                time.sleep(_SETTLE_S)
                answers = [_answer(prometheus, *one, began) for one in asked]
                health = prometheus.targets()
    unanswered = tuple(sorted(url for url, state in health.items() if state != "up"))
    return Monitored(time.time() - began, len(health), unanswered, tuple(answers))


@contextmanager
def _cluster(place: Path) -> Iterator[LocalCluster]:
    """A cluster on free ports, written down apart from the user's own."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(place / "state")
    try:
        yield start_cluster(port=free_port(NODE_ADDRESS), dashboard_port=free_port(LOOPBACK))
    finally:
        end_cluster()
        os.environ.pop("XDG_STATE_HOME")
        if before is not None:
            os.environ["XDG_STATE_HOME"] = before


def _config(files: Path, place: Path, cluster: LocalCluster, server: Server) -> str:
    ray_token, service_token = place / "ray_token", place / "service_token"
    for path, token in ((ray_token, _ray_token()), (service_token, TOKEN)):
        path.touch(mode=0o600)
        path.write_text(token, encoding="ascii")
    return local_config(
        files,
        dashboard=cluster.dashboard_url,
        service=f"{LOOPBACK}:{server.port}",
        ray_token=ray_token,
        service_token=service_token,
    )


def _ray_token() -> str:
    prepare_environment()
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    return path.read_text(encoding="ascii").strip()


@contextmanager
def _asking(server: Server, place: Path) -> Iterator[None]:
    """Ask the service for ages within the block, now and then with what is no image."""
    image = write_images(place)[0]
    bodies = cycle([Path(image.file).read_bytes()] * 9 + [b"no image"])
    headers = {**server.headers, "Content-Type": "image/jpeg"}
    with httpx.Client(base_url=f"http://{LOOPBACK}:{server.port}", headers=headers) as client:

        def ask() -> None:
            with suppress(httpx.HTTPError):
                client.post(image.path, content=next(bodies))

        with spoken_every(_PAUSE_S, ask):
            yield


def _ingest(place: Path, cluster: LocalCluster) -> None:
    source = ["csv", str(place / "photos.csv"), "--images", str(place / "photos")]
    _verb("data", "ingest", *source, "--out", str(place / "faces"), "--address", cluster.address)


def _tune(place: Path, cluster: LocalCluster, trials: int) -> None:
    faces = Location.of(place / "faces")
    teacher = untrained_teacher(Location.of(place / "teacher"), faces)
    (place / "space.yaml").write_text(yaml.safe_dump(_SPACE), encoding="utf-8")
    order = ["--data", str(faces), "--teacher", str(teacher), "--out", str(place / "study")]
    order += ["--trials", str(trials), "--address", cluster.address]
    _verb("tune", str(place / "space.yaml"), *order)


def _verb(*words: str) -> None:
    """Run a verb of agesearch as a person does."""
    call = [sys.executable, "-m", "agesearch.cli.main", *words]
    done = subprocess.run(call, capture_output=True, text=True, timeout=_VERB_S)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        why = said[-1].removeprefix("error:").strip() if said else f"exit code {done.returncode}"
        raise AgeSearchError(f"{words[0]} of the bench failed: {why}")


def _answer(prometheus: Prometheus, one: Expression, is_alert: bool, began: float) -> Answer:
    found = prometheus.series(one.text, began, time.time())
    with_values = [values for values in found if values]
    last = with_values[0][-1] if with_values else None
    return Answer(one.where, one.text, len(with_values), last, is_alert)
