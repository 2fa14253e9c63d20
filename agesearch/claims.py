"""A lock for object stores, which have none: claims, one object a run, renewed while the run lives.

Who wants the folder writes a claim of its own, then lists the claims; who sees another live one withdraws. A
store whose listing shows every finished write (Amazon S3 since 2020, and the servers that follow it) thus
never has two holders: of two runs, the one that lists later sees both claims. Both may withdraw, never both
stay, so no conditional write is needed, which pyarrow does not offer.

A claim expires when it was not renewed for ``EXPIRY_S``; ages are differences of times that the store itself
wrote, so clocks need not agree. One whose process has ended on this machine counts for nothing at once.

No object is ever written twice: a renewal writes the next one, then looks whether the one before is still
there. Who found that expired removed it, and looked again after that: either it saw the next one and
withdrew, or the holder misses the one before and knows that its claim is lost. So a holder that slept past
the expiry (a suspended laptop) and renews in the very moment in which another takes over does not end up
beside it.

The limit of the method: what a sleeper does between waking up and asking, as it must before it publishes, is
not guarded.
"""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from agesearch.errors import ConflictError, InputError, first_line

EXPIRY_S = 60.0
_RENEW_S = 10.0
_ATTEMPTS = 4

#: Looks at the claims of others at most, where each finds expired ones; the last comes after their removal.
_LOOKS = 3
_MAX_CLAIM_BYTES = 4096


@dataclass(frozen=True)
class _Claim:
    path: str
    age_s: float
    owner: dict[str, Any]

    @property
    def is_live(self) -> bool:
        return self.age_s < EXPIRY_S and not _has_ended(self.owner)


class _Held:
    """The claim of this run in ``folder``: the object that holds it now, and whether it was lost."""

    def __init__(self, filesystem: pafs.FileSystem, folder: str) -> None:
        self._filesystem = filesystem
        self._stem = f"{folder}/{uuid.uuid4().hex}"
        self._renewals = 0
        self._renewing = threading.Lock()
        self.lost = False

    @property
    def path(self) -> str:
        return f"{self._stem}-{self._renewals}.json"

    def owns(self, path: str) -> bool:
        """Whether a claim is this run's, of whichever renewal."""
        return path.startswith(f"{self._stem}-")

    def write(self) -> None:
        """Write the next object."""
        self._renewals += 1
        _write(self._filesystem, self.path)

    def renew(self) -> bool:
        """Write the next object in place of this one; False where somebody had removed this one."""
        with self._renewing:
            before, number = self.path, self._renewals
            try:
                self.write()
                self.lost = self.lost or not self._exists(before)
            except OSError:
                _withdraw(self._filesystem, self.path)  # it may be there all the same
                self._renewals = number
                raise
            _withdraw(self._filesystem, self.path if self.lost else before)
            return not self.lost

    def is_lost(self) -> bool:
        """Whether another run has taken over; asks the store."""
        with self._renewing:
            return self.lost or not self._exists(self.path)

    def withdraw(self) -> None:
        with self._renewing:
            _withdraw(self._filesystem, self.path)

    def _exists(self, path: str) -> bool:
        return bool(self._filesystem.get_file_info(path).type != pafs.FileType.NotFound)


@contextmanager
def claimed(filesystem: pafs.FileSystem, folder: str, what: str) -> Iterator[Callable[[], None]]:
    """Hold the claim on ``folder`` for the length of the block; ``ConflictError`` where another run has it.

    The claim is renewed by a thread. The block gets a function to call before it changes what others read: it
    raises where the claim was lost. A store that cannot be written is an ``InputError``.
    """
    held = _Held(filesystem, folder)
    try:
        _acquire(filesystem, folder, held, what)
    except OSError as error:
        raise InputError(f"{what} cannot be written: {first_line(error)}") from error
    ended = threading.Event()
    renewer = threading.Thread(target=_keep_renewing, args=(held, ended), daemon=True)
    renewer.start()

    def check() -> None:
        if held.is_lost():
            raise ConflictError(f"{what} was taken by another run while this one slept: run it again.")

    try:
        yield check
    finally:
        ended.set()
        renewer.join()
        held.withdraw()


def _acquire(filesystem: pafs.FileSystem, folder: str, held: _Held, what: str) -> None:
    others: list[_Claim] = []
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(random.uniform(0.2, 1.0) * attempt)  # two that met withdraw; one of them comes first
        held.write()
        others = _others(filesystem, folder, held)
        if not others and not held.is_lost():
            return
        held.withdraw()
    owner, age = (others[0].owner, others[0].age_s) if others else ({}, 0.0)
    raise ConflictError(
        f"{what} is in use by process {owner.get('pid', 'unknown')} on '{owner.get('host', 'unknown')}', "
        f"seen {age:.0f} s ago: wait for it, or stop it first. A killed run's hold ends after "
        f"{EXPIRY_S:.0f} s."
    )


def _others(filesystem: pafs.FileSystem, folder: str, held: _Held) -> list[_Claim]:
    """The live claims of others. Expired ones are removed, and then it is looked again: their holder may have
    woken up and renewed in between.
    """
    live: list[_Claim] = []
    for _ in range(_LOOKS):
        claims = _claims(filesystem, folder, held)
        live = [claim for claim in claims if claim.is_live]
        if len(live) == len(claims):
            break
        for claim in claims:
            if not claim.is_live:
                _withdraw(filesystem, claim.path)
    return live


def _keep_renewing(held: _Held, ended: threading.Event) -> None:
    while not ended.wait(_RENEW_S):
        with suppress(OSError):  # a store that does not answer: the next turn tries again
            if not held.renew():
                return


def _claims(filesystem: pafs.FileSystem, folder: str, held: _Held) -> list[_Claim]:
    """The claims of others, with their age by the store's own clock."""
    found = filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
    files = {info.path: info for info in found if info.type == pafs.FileType.File}
    now = max((info.mtime for info in files.values()), default=None)  # our own is among them
    claims = []
    for path, info in files.items():
        if path.endswith(".json") and not held.owns(path):
            age = (now - info.mtime).total_seconds()
            claims.append(_Claim(path, max(0.0, age), _read(filesystem, path)))
    return claims


def _write(filesystem: pafs.FileSystem, path: str) -> None:
    with filesystem.open_output_stream(path) as stream:
        stream.write(json.dumps(_myself()).encode())


def _read(filesystem: pafs.FileSystem, path: str) -> dict[str, Any]:
    try:
        with filesystem.open_input_stream(path) as stream:
            owner = json.loads(bytes(stream.read(_MAX_CLAIM_BYTES)))
    except (OSError, ValueError):  # withdrawn meanwhile, or torn: its age decides alone
        return {}
    return owner if isinstance(owner, dict) else {}


def _withdraw(filesystem: pafs.FileSystem, path: str) -> None:
    try:
        filesystem.delete_file(path)
    except OSError:  # gone already, or the store is out of reach: then it expires
        return


def _myself() -> dict[str, Any]:
    """Who holds a claim. ``machine`` is this boot and process namespace: there the pid means something."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "machine": machine_id()}


def machine_id() -> str:
    """This boot and process namespace, where a pid means something; empty where nothing tells (not Linux)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux: claims of ended processes wait for their expiry
        return ""


def _has_ended(owner: dict[str, Any]) -> bool:
    machine, pid = machine_id(), owner.get("pid")
    if not machine or owner.get("machine") != machine or not isinstance(pid, int):
        return False
    return not Path(f"/proc/{pid}").exists()
