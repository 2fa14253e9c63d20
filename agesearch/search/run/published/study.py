"""The driver's side of a study behind a URI: it works on a copy of the records, which is published as it
changes.

At most ``SOON_S`` after a record changed it is published, with a database that is whole (SQLite's own backup
of it); a request to stop that waits at the URI is looked for every ``_LOOK_S``. The files of trials are
published by the trials (``agesearch.search.run.published.trial``). Whoever loses the study's lease publishes
nothing more.
"""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from agesearch.errors import AgeSearchError, ConflictError, command, first_line
from agesearch.provenance import now
from agesearch.search.run.driver import DRIVER_FILE, STOP_FILE, StopRequest, read_request
from agesearch.search.run.published.copies import Copy, local_folder
from agesearch.search.store.records import DATABASE, TRIALS_FOLDER, StudyFolder
from agesearch.storage import Location

#: A changed record is published within so many seconds, or later where to publish takes long.
SOON_S = 2.0
_SHARE = 0.1
#: ``driver.json`` changes all the time; a driver that has not renewed it for a minute counts as dead.
_BEAT_S = 20.0
#: Seconds between two looks for a request to stop: each is a request of the store.
_LOOK_S = 15.0
#: How long the last records are tried to be published for.
_PATIENCE_S = 120.0


@contextmanager
def working_copy(study: StudyFolder, held: Callable[[], None]) -> Iterator[StudyFolder]:
    """The study as this machine works on it: itself, or behind a URI a copy that is published while the block
    runs and when it ends. ``held`` raises where the study's lease was lost.

    Raises ``AgeSearchError`` where the last records could not be published: they stay on this machine.
    """
    if study.root.is_local:
        yield study
        return
    copy = Copy(local_folder(study.root, "studies"), study.root, _is_record)
    copy.fetch()
    publisher = _Publisher(copy, held)
    publisher.start()
    try:
        yield StudyFolder(Location.of(copy.root), study.root)
    finally:
        publisher.end()
        copy.delete()


def _is_record(name: str) -> bool:
    """Whether a file is the driver's own to publish: all but those of trials, and requests of others."""
    return TRIALS_FOLDER not in name.split("/")[:-1] and name != STOP_FILE


class _Publisher:
    """Publishes a study's records in a thread of its own."""

    def __init__(self, copy: Copy, held: Callable[[], None]) -> None:
        self._copy, self._held = copy, held
        self._lost: ConflictError | None = None
        self._over = threading.Event()
        self._next_beat = 0.0
        self._thread = threading.Thread(target=self._run, name="study publisher", daemon=True)

    def start(self) -> None:
        """Begin to publish; a request to stop that an earlier run left is forgotten."""
        with suppress(OSError):
            self._stop_file.filesystem.delete_file(self._stop_file.path)
        self._thread.start()

    def end(self) -> None:
        """Publish the last records; an error where that cannot be."""
        self._over.set()
        self._thread.join()
        if self._lost is not None:
            raise self._lost
        give_up = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self._publish(with_beat=True)
                break
            except OSError as error:
                if time.monotonic() > give_up:
                    raise AgeSearchError(
                        f"The last records could not be published to '{self._copy.home}' "
                        f"({first_line(error)}): they are kept in '{self._copy.root}'. Once it can be "
                        f"reached, go on with: {command('resume', self._copy.home)}"
                    ) from error
                time.sleep(1.0)
        with suppress(OSError):
            self._stop_file.filesystem.delete_file(self._stop_file.path)

    @property
    def _stop_file(self) -> Location:
        return self._copy.home / STOP_FILE

    def _run(self) -> None:
        next_look, took = time.monotonic() + _LOOK_S, 0.0
        while not self._over.wait(max(SOON_S, took / _SHARE)):
            began = time.monotonic()
            try:
                self._publish(with_beat=began >= self._next_beat)
                if time.monotonic() >= next_look:
                    self._look()
                    next_look = time.monotonic() + _LOOK_S
            except OSError:  # out of reach for a while: what is not published is tried again
                pass
            except ConflictError as error:
                self._lost = error
                self._ask_to_stop()
                return
            took = time.monotonic() - began

    def _publish(self, *, with_beat: bool) -> None:
        later = () if with_beat else (DRIVER_FILE,)
        self._copy.publish(last=DRIVER_FILE, later=later, before=self._held, content=_content)
        if with_beat:
            self._next_beat = time.monotonic() + _BEAT_S

    def _look(self) -> None:
        """Hand a request to stop on to the driver, which looks in its own folder."""
        with suppress(AgeSearchError):
            request = read_request(self._copy.home)
            if request is not None:
                self._hand_on(request)

    def _ask_to_stop(self) -> None:
        self._hand_on(StopRequest(now=True, asked=now(), by="another driver that took the study"))

    def _hand_on(self, request: StopRequest) -> None:
        with suppress(AgeSearchError):
            (Location.of(self._copy.root) / STOP_FILE).write_json(request.model_dump(mode="json"))


def _content(path: Path) -> bytes:
    """A file's bytes; of a database those of a backup, which is whole while it is written to."""
    if path.name != DATABASE:
        return path.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        backup = Path(folder) / DATABASE
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(backup)) as target:
            source.backup(target)
        return backup.read_bytes()
