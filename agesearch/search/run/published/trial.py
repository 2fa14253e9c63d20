"""[ray] A trial of a study behind a URI trains in a folder of its node, and is published after each epoch."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from agesearch.errors import NodeFaultError, first_line
from agesearch.models.manifest import MANIFEST
from agesearch.search.run.published.copies import Copy, local_folder
from agesearch.search.run.published.exchange import Exchange
from agesearch.storage import Location, is_denied, is_full, unwritten
from agesearch.training.standing import WITHIN
from agesearch.training.stopping import REQUEST

#: How long the files of a trial are tried to be fetched, and the last of them to be published, for.
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class WorkingTrial:
    """Where a trial trains; ``publish`` is called before its first epoch and after each. ``is_shared``: all
    nodes have the folder, and what is wrong with it is no fault of one.
    """

    folder: Location
    publish: Callable[[], None] = lambda: None
    is_shared: bool = True


@contextmanager
def working_trial(home: Location) -> Iterator[WorkingTrial]:
    """The folder to train in: ``home`` itself, or a copy of it on this node where that lies behind a URI.

    Raises ``ConflictError`` where the trial goes on elsewhere, and ``NodeFaultError`` where this node cannot
    fetch or publish its files.
    """
    if home.is_local:
        yield WorkingTrial(home)
        return
    copy = Copy(_own_folder(home), home, lambda name: name not in (WITHIN, REQUEST))
    exchange = Exchange(home, copy.root)
    exchange.start()
    try:
        _until_done(copy.fetch, f"it cannot read '{home}'", copy.root)

        def publish() -> None:
            try:
                copy.publish(last=MANIFEST, before=exchange.check)
            except OSError as error:
                if is_denied(error):
                    raise NodeFaultError(f"it cannot write '{home}' ({first_line(error)})") from error
                # else out of reach for a while: the next epoch brings it

        yield WorkingTrial(Location.of(copy.root), publish, is_shared=False)
        _until_done(
            lambda: copy.publish(last=MANIFEST, before=exchange.check), f"it cannot write '{home}'", copy.root
        )
    finally:
        exchange.end()
        copy.delete()
        with suppress(OSError):
            copy.root.parent.rmdir()


def _until_done(step: Callable[[], None], fault: str, folder: Path) -> None:
    """Fetch or publish, again and again where the store is out of reach for a while."""
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        try:
            step()
            return
        except OSError as error:
            if is_full(error):
                raise unwritten(folder, error) from error
            if is_denied(error) or time.monotonic() > give_up:
                raise NodeFaultError(f"{fault} ({first_line(error)})") from error
            time.sleep(1.0)


def _own_folder(home: Location) -> Path:
    """A folder for this process alone: an earlier attempt may live on. What ended ones left is removed."""
    root = local_folder(home, "trials")
    for left in root.iterdir() if root.exists() else ():
        if not (left.name.isdigit() and psutil.pid_exists(int(left.name))):
            shutil.rmtree(left, ignore_errors=True)
    return root / str(os.getpid()) / home.name  # trainers know a trial by the name of its folder
