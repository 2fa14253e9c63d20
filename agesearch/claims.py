"""A lock for object stores, which have none: claims, one object a run, renewed while the run lives.

Who wants the folder writes a claim of its own, then lists the claims; who sees another live one withdraws. A
store whose listing shows every finished write (Amazon S3 since 2020, and the servers that follow it) thus
never has two holders: of two runs, the one that lists later sees both claims. Both may withdraw, never both
stay, so no conditional write is needed, which pyarrow does not offer.

A claim expires when it was not renewed for ``EXPIRY_S``; ages are differences of times that the store itself
wrote, so clocks need not agree. One whose process has ended on this machine counts for nothing at once. The
limit of the method: a holder that sleeps for longer than the expiry (a suspended laptop) and wakes up has
lost its claim. It finds out when it asks before it publishes; what happens in between is not guarded.
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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from agesearch.errors import ConflictError, InputError, first_line

EXPIRY_S = 60.0
_RENEW_S = 10.0
_ATTEMPTS = 4
_MAX_CLAIM_BYTES = 4096


@dataclass(frozen=True)
class _Claim:
    path: str
    age_s: float
    owner: dict[str, Any]

    @property
    def is_live(self) -> bool:
        return self.age_s < EXPIRY_S and not _has_ended(self.owner)


@contextmanager
def claimed(filesystem: pafs.FileSystem, folder: str, what: str) -> Iterator[Callable[[], None]]:
    """Hold the claim on ``folder`` for the length of the block; ``ConflictError`` where another run has it.

    The claim is renewed by a thread. The block gets a function to call before it changes what others read: it
    raises where the claim was lost. A store that cannot be written is an ``InputError``.
    """
    path = f"{folder}/{uuid.uuid4().hex}.json"
    try:
        _acquire(filesystem, folder, path, what)
    except OSError as error:
        raise InputError(f"{what} cannot be written: {first_line(error)}") from error
    ended, lost = threading.Event(), threading.Event()
    renewer = threading.Thread(target=_renew, args=(filesystem, folder, path, ended, lost), daemon=True)
    renewer.start()

    def check() -> None:
        if lost.is_set() or filesystem.get_file_info(path).type == pafs.FileType.NotFound:
            raise ConflictError(f"{what} was taken by another run while this one slept: run it again.")

    try:
        yield check
    finally:
        ended.set()
        renewer.join()
        _withdraw(filesystem, path)


def _acquire(filesystem: pafs.FileSystem, folder: str, path: str, what: str) -> None:
    others: list[_Claim] = []
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(random.uniform(0.2, 1.0) * attempt)  # two that met withdraw; one of them comes first
        _write(filesystem, path)
        claims = _claims(filesystem, folder, path)
        for claim in claims:
            if not claim.is_live:
                _withdraw(filesystem, claim.path)
        others = [claim for claim in claims if claim.is_live]
        if not others:
            return
        _withdraw(filesystem, path)
    owner = others[0].owner
    raise ConflictError(
        f"{what} is in use by process {owner.get('pid', 'unknown')} on '{owner.get('host', 'unknown')}', "
        f"seen {others[0].age_s:.0f} s ago: wait for it, or stop it first. A killed run's hold ends after "
        f"{EXPIRY_S:.0f} s."
    )


def _renew(
    filesystem: pafs.FileSystem, folder: str, path: str, ended: threading.Event, lost: threading.Event
) -> None:
    while not ended.wait(_RENEW_S):
        try:
            if filesystem.get_file_info(path).type == pafs.FileType.NotFound:
                lost.set()  # it had expired, and who came then removed it
                return
            _write(filesystem, path)
        except OSError:  # a store that does not answer: the next turn tries again
            continue


def _claims(filesystem: pafs.FileSystem, folder: str, own: str) -> list[_Claim]:
    """The claims of others, with their age by the store's own clock."""
    found = filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
    files = {info.path: info for info in found if info.type == pafs.FileType.File}
    now = filesystem.get_file_info(own).mtime
    claims = []
    for path, info in files.items():
        if path != own and path.endswith(".json"):
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
