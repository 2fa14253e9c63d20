"""[ray] What the driver and a trial on any node tell each other within an epoch: where it stands, and that it
is to stop. It goes through the cluster's memory: an object store would be asked every second for nothing.

Each side has a folder of its own for the trial, where ``agesearch.training`` reads and writes the two files.
"""

from __future__ import annotations

import threading
import uuid
from contextlib import suppress
from pathlib import Path

from agesearch.errors import ConflictError
from agesearch.storage import Location
from agesearch.training.standing import WITHIN
from agesearch.training.stopping import request_stop, stop_requested

_SPACE = b"agesearch-trials"
_EVERY_S = 1.0
_ATTEMPT, _STANDING, _STOP = "attempt", "standing", "stop"


def exchange(home: Location, working: Location) -> None:
    """The driver's side: hand on a request to stop that lies in ``working``, and put there where the trial of
    ``home`` stands.
    """
    if stop_requested(working):
        _put(home, _STOP, b"1")
    standing = _get(home, _STANDING)
    if standing is not None:
        (working / WITHIN).write_bytes(standing)


def begin(home: Location) -> None:
    """Before a trial is handed out: what an earlier attempt left is forgotten."""
    for what in (_STOP, _STANDING):
        _delete(home, what)


class Exchange:
    """The trial's side, in a thread, until ``end``. The last one to begin is the trial; an earlier attempt
    that lives on is told so by ``check``.
    """

    def __init__(self, home: Location, working: Path) -> None:
        self._home, self._working = home, working
        self._attempt = uuid.uuid4().hex.encode()
        self._told = b""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trial exchange", daemon=True)

    def start(self) -> None:
        """From now on this process is the trial."""
        _put(self._home, _ATTEMPT, self._attempt)
        self._thread.start()

    def check(self) -> None:
        """A ``ConflictError`` where another attempt has begun."""
        if _get(self._home, _ATTEMPT) != self._attempt:
            raise ConflictError(f"The trial '{self._home}' goes on elsewhere.")

    def end(self) -> None:
        """Tell nothing more."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(_EVERY_S):
            with suppress(OSError, RuntimeError):  # no epoch stands anywhere yet, or the head is out of reach
                if _get(self._home, _STOP) is not None:
                    request_stop(Location.of(self._working))
                standing = (self._working / WITHIN).read_bytes()
                if standing != self._told:
                    _put(self._home, _STANDING, standing)
                    self._told = standing


def _key(home: Location, what: str) -> bytes:
    return f"{home}:{what}".encode()


def _put(home: Location, what: str, value: bytes) -> None:
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(_key(home, what), value, overwrite=True, namespace=_SPACE)


def _get(home: Location, what: str) -> bytes | None:
    from ray.experimental.internal_kv import _internal_kv_get

    found: bytes | None = _internal_kv_get(_key(home, what), namespace=_SPACE)
    return found


def _delete(home: Location, what: str) -> None:
    from ray.experimental.internal_kv import _internal_kv_del

    _internal_kv_del(_key(home, what), namespace=_SPACE)
