"""What every verb shares: consoles, progress on a terminal or in plain lines, tables, and JSON output.

Results go to standard output, progress and messages to standard error, so that ``--json`` can be piped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleDimensions
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from agesearch.cli.tables import PIPE_WIDTH, harmless, lines_table, table
from agesearch.errors import InputError
from agesearch.progress import Listener, Progress, spoken_every
from agesearch.session import cluster_of_job

__all__ = [
    "PLAIN",
    "AddressOption",
    "CheckpointOption",
    "EpochFacesOption",
    "JsonOption",
    "ValFacesOption",
    "err",
    "harmless",
    "lines_table",
    "out",
    "print_json",
    "say",
    "shown_progress",
    "table",
]


#: How a line is printed as it is: it may hold paths and commands to paste.
PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}


class _Terminal(Console):
    """A console that asks the terminal it writes to for its size, and no other; a pipe is wide."""

    @property
    def size(self) -> ConsoleDimensions:
        if self._width is not None or "COLUMNS" in os.environ:
            return super().size
        try:
            columns, lines = os.get_terminal_size(self.file.fileno())
        except (OSError, ValueError):
            return ConsoleDimensions(PIPE_WIDTH, 25)
        return ConsoleDimensions(columns or 80, lines or 25)

    @size.setter
    def size(self, size: tuple[int, int]) -> None:
        self._width, self._height = size


out = _Terminal()
err = _Terminal(stderr=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        callback=lambda given: given or cluster_of_job(),
        help="Join the Ray cluster at this address instead of starting one here.",
    ),
]
EpochFacesOption = Annotated[
    int | None,
    typer.Option("--epoch-faces", help="Faces of an epoch, in place of all: an epoch need be no whole pass."),
]
ValFacesOption = Annotated[
    int | None,
    typer.Option(
        "--val-faces", help="Judge epochs by so many validation faces, the same ones, with interval."
    ),
]
CheckpointOption = Annotated[
    float | None,
    typer.Option(
        "--checkpoint-minutes", help="Write a checkpoint so often, within an epoch too (default: 10)."
    ),
]

#: Seconds between plain progress lines of one stage where there is no terminal.
PLAIN_INTERVAL_S = 5.0


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False), file=out.file, flush=True)


def separated(written: str) -> tuple[str, ...]:
    """The names of a list with commas."""
    return tuple(name.strip() for name in written.split(",") if name.strip())


def listed(option: str, written: str | None) -> tuple[str, ...]:
    """The names of a list with commas, none where it was not given; ``InputError`` for one without a name."""
    names = separated(written or "")
    if written is not None and not names:
        raise InputError(f"{option} is '{written}', but must name at least one, with commas between several.")
    return names


def say(text: str) -> None:
    """One message on standard error, as it is: no markup, no control characters, wrapped by the terminal."""
    err.print(harmless(text), highlight=False, soft_wrap=True, markup=False)


@contextmanager
def shown_progress() -> Iterator[Listener]:
    """A listener that draws one bar a stage on a terminal, and writes lines elsewhere; neither is silent for
    long, whatever the stage does.
    """
    if err.is_interactive:
        with _bars() as listener:
            yield listener
        return
    lines = _PlainLines()
    with spoken_every(1.0, lines.remind):
        yield lines.listen


@contextmanager
def _bars() -> Iterator[Listener]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    # What libraries print stays out of our console: it goes where standard output and error lead.
    with RichProgress(*columns, console=err, redirect_stdout=False, redirect_stderr=False) as bars:
        tasks: dict[str, Any] = {"": bars.add_task("starting", total=None, note="")}

        def listen(update: Progress) -> None:
            if "" in tasks:
                bars.remove_task(tasks.pop(""))
            if update.stage not in tasks:
                tasks[update.stage] = bars.add_task(update.stage, total=update.total, note="")
            bars.update(
                tasks[update.stage], completed=update.done, total=update.total, note=_with_failures(update)
            )

        yield listen


def patience(quiet_s: float) -> float:
    """Seconds between lines that only say that work goes on, where it has told nothing for ``quiet_s``: 5 at
    first, 10 after a minute, 30 at most.
    """
    return min(30.0, max(PLAIN_INTERVAL_S, quiet_s / 6.0))


class _PlainLines:
    """Progress in lines: each stage when it begins, now and then, and when it ends; and where a stage tells
    nothing for long, that it goes on, ever more rarely.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._said = self._heard = clock()
        self._last: dict[str, float] = {}
        self._latest = "starting"
        self._done = False

    def listen(self, update: Progress) -> None:
        """Tell of an update, unless the stage was told of a moment ago."""
        now = self._clock()
        finished = update.total is not None and update.done >= update.total
        total = f"/{update.total}" if update.total is not None else ""
        if self._latest.partition(":")[0] != update.stage:
            self._began = now
        self._latest = f"{update.stage}: {update.done}{total} {_with_failures(update)}".rstrip()
        self._done = finished
        if not finished and now - self._last.get(update.stage, -PLAIN_INTERVAL_S) < PLAIN_INTERVAL_S:
            return
        self._last[update.stage] = self._said = self._heard = now
        say(self._latest)

    def remind(self) -> None:
        """Say what goes on, where nothing was said for long."""
        now = self._clock()
        if now - self._said < patience(now - self._heard):
            return
        self._said = now
        doing = f"{self._latest}, going on" if self._done else self._latest
        say(f"{doing} ({now - self._began:.0f} s)")


def _with_failures(update: Progress) -> str:
    failures = f"{update.failed} failed " if update.failed else ""
    return f"{failures}{update.note}"
