"""The replicas of versions, whoever starts them: each version is a group with a folder of its own in the
service's, in which every replica that answers has a Unix socket. No Ray.
"""

from __future__ import annotations

import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agesearch.data.images.memory import give_back_large_pieces
from agesearch.errors import AgeSearchError, first_line
from agesearch.serving.access.check import Access
from agesearch.serving.faces import open_service
from agesearch.serving.images import ImageLimits
from agesearch.serving.ingress.supervisor import SOCKET_SUFFIX
from agesearch.serving.replica import ReplicaServer
from agesearch.serving.web.metrics import FOLDER_VARIABLE
from agesearch.serving.web.routes import create_app
from agesearch.storage import Location

#: The folder of counts that all replicas of a service share.
METRICS = "metrics"
#: Seconds that versions may take to start, and between two questions how that goes.
_START_TIMEOUT_S, _ASK_S = 60.0, 0.5
#: In the folder of a group: why a replica cannot open the version.
_CAUSE = "cause.txt"


@dataclass(frozen=True)
class Replicas:
    """How many replicas: at least, at most, and at first (None: the fewest)."""

    least: int = 1
    most: int = 1
    first: int | None = None

    def beginning_with(self, replicas: int) -> Replicas:
        """The same, with so many at first, as far as it allows."""
        return replace(self, first=min(self.most, max(self.least, replicas)))

    @staticmethod
    def of(count: int) -> Replicas:
        """Always so many."""
        return Replicas(count, count)

    def __str__(self) -> str:
        return f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"


@dataclass(frozen=True)
class Group:
    """The replicas of one version: the name of their folder, and of their application."""

    name: str
    application: str
    folder: str


class Groups(ABC):
    """Versions that run, each as a group of replicas; ``folder`` is the service's."""

    def __init__(self, folder: Path, access: Access, threads: int, limits: ImageLimits) -> None:
        self._folder, self._access, self._threads, self._limits = folder, access, threads, limits
        self._started = 0
        (folder / METRICS).mkdir()

    def start(self, wanted: Sequence[tuple[str, Location, Replicas]]) -> list[Group]:
        """Start versions, each by a name to show, its folder and its replicas, all at once, and wait until
        they answer. An ``AgeSearchError`` says why one does not.
        """
        groups = []
        for label, folder, _ in wanted:
            self._started += 1
            name = str(self._started)
            (self._folder / name).mkdir()
            groups.append(Group(name, f"{label.replace(':', '-')}-{name}", str(folder)))
        try:
            self._run([(group, replicas) for group, (_, _, replicas) in zip(groups, wanted, strict=True)])
        except AgeSearchError:
            for group in groups:
                self.stop(group)
            raise
        return groups

    def scale(self, group: Group, replicas: Replicas) -> None:
        """Give a version more or fewer replicas; those that are to stay go on."""
        self._run([(group, replicas)])

    def stop(self, group: Group) -> None:
        """End a version: its replicas answer what they have, and go."""
        self._end(group)
        shutil.rmtree(self._folder / group.name, ignore_errors=True)

    @abstractmethod
    def close(self) -> None:
        """End all of them."""

    def _run(self, wanted: Sequence[tuple[Group, Replicas]]) -> None:
        for group, _ in wanted:
            (self._folder / group.name / _CAUSE).unlink(missing_ok=True)
        self._launch(wanted)
        deadline = time.monotonic() + _START_TIMEOUT_S
        for group, replicas in wanted:
            self._wait_for(group, replicas, deadline)

    @abstractmethod
    def _launch(self, wanted: Sequence[tuple[Group, Replicas]]) -> None:
        """Have versions run with so many replicas; do not wait until they answer."""

    @abstractmethod
    def _end(self, group: Group) -> None:
        """End the replicas of a version, and wait for it."""

    @abstractmethod
    def _fault(self, group: Group) -> str | None:
        """Why a version cannot start, as far as that is known."""

    def _wait_for(self, group: Group, replicas: Replicas, deadline: float) -> None:
        """Until the replicas answer. Their files tell it sooner than who starts them, who tells of other
        failures.
        """
        place = self._folder / group.name
        asked = time.monotonic()
        while len(list(place.glob(f"*{SOCKET_SUFFIX}"))) < (replicas.first or replicas.least):
            now = time.monotonic()
            if cause := _read(place / _CAUSE):
                raise AgeSearchError(f"{group.application.rpartition('-')[0]} cannot be opened: {cause}")
            if now > deadline:
                raise AgeSearchError(
                    f"The replicas of {group.application} do not start within {_START_TIMEOUT_S:g} s: is "
                    "there room for them beside those that answer?"
                )
            if now - asked > _ASK_S:
                asked = now
                if (why := self._fault(group)) is not None:
                    raise AgeSearchError(f"The service did not come up: {why}")
            time.sleep(0.02)

    def _environment(self) -> dict[str, str]:
        """What a replica's process has set, before it imports anything."""
        return {FOLDER_VARIABLE: str(self._folder / METRICS), "OMP_NUM_THREADS": str(self._threads)}


class Replica:
    """What one process of a group runs: a checked model, and the HTTP application around it on a Unix socket
    ``<name>.sock`` in ``place``.
    """

    def __init__(
        self, folder: str, access: Access, threads: int, limits: ImageLimits, place: str, name: str
    ) -> None:
        give_back_large_pieces()
        group = Path(place)
        try:
            service = open_service(folder, threads, limits)
        except Exception as error:  # who starts it reads that at once; Ray would try again, and tell less
            _write(group / _CAUSE, first_line(error))
            raise
        app = create_app(service, access, limits, group)
        self._batches = app.state.batches
        self._server = ReplicaServer(app, group, name)

    @property
    def waiting(self) -> float:
        """Images that wait in it."""
        return float(self._batches.waiting)

    def check(self) -> None:
        """An ``AgeSearchError`` where it serves no longer."""
        if not self._server.is_serving():
            raise AgeSearchError("The replica's HTTP server has stopped.")

    def drain(self) -> None:
        """Answer what came, and stop."""
        self._server.drain()


def _write(path: Path, text: str) -> None:
    """A text that is there whole or not at all."""
    staging = path.with_suffix(".new")
    staging.write_text(text, "utf-8")
    staging.replace(path)


def _read(path: Path) -> str:
    """A file's text; empty where there is none (yet)."""
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""
