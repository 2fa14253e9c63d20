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

from agesearch.errors import ConflictError, first_line
from agesearch.models.manifest import MANIFEST
from agesearch.search.run.published.copies import Copy, local_folder
from agesearch.search.run.published.exchange import Exchange
from agesearch.storage import Location
from agesearch.training.standing import WITHIN
from agesearch.training.stopping import REQUEST

#: How long the last files of a trial are tried to be published for.
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class WorkingTrial:
    """Where a trial trains; ``publish`` is called after each epoch."""

    folder: Location
    publish: Callable[[], None] = lambda: None


@contextmanager
def working_trial(home: Location) -> Iterator[WorkingTrial]:
    """The folder to train in: ``home`` itself, or a copy of it on this node where that lies behind a URI.

    Raises ``ConflictError`` where the trial goes on elsewhere, or its files could not be published: it is to
    be taken up again.
    """
    if home.is_local:
        yield WorkingTrial(home)
        return
    copy = Copy(_own_folder(home), home, lambda name: name not in (WITHIN, REQUEST))
    exchange = Exchange(home, copy.root)
    exchange.start()
    try:
        copy.fetch()

        def publish() -> None:
            with suppress(OSError):  # out of reach for a while: the next epoch brings it
                copy.publish(last=MANIFEST, before=exchange.check)

        yield WorkingTrial(Location.of(copy.root), publish)
        _publish_last(copy, exchange)
    finally:
        exchange.end()
        copy.delete()
        with suppress(OSError):
            copy.root.parent.rmdir()


def _publish_last(copy: Copy, exchange: Exchange) -> None:
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        try:
            copy.publish(last=MANIFEST, before=exchange.check)
            return
        except OSError as error:
            if time.monotonic() > give_up:
                raise ConflictError(
                    f"The trial could not be published to '{copy.home}': {first_line(error)}"
                ) from error
            time.sleep(1.0)


def _own_folder(home: Location) -> Path:
    """A folder for this process alone: an earlier attempt may live on. What ended ones left is removed."""
    root = local_folder(home, "trials")
    for left in root.iterdir() if root.exists() else ():
        if not (left.name.isdigit() and psutil.pid_exists(int(left.name))):
            shutil.rmtree(left, ignore_errors=True)
    return root / str(os.getpid()) / home.name  # trainers know a trial by the name of its folder
