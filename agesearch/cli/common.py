"""What every verb shares: consoles, progress on a terminal or in plain lines, tables, and JSON output.

Results go to standard output, progress and messages to standard error, so that ``--json`` can be piped.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from agesearch.progress import Listener, Progress

#: Columns where there is no terminal to ask: wide enough that no table is cut in a pipe or a log.
_PIPE_WIDTH = 120

out = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
err = Console(stderr=True, width=None if sys.stderr.isatty() else _PIPE_WIDTH)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", help="Join the Ray cluster at this address instead of starting one here."),
]

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}

#: Seconds between plain progress lines of one stage where there is no terminal.
_PLAIN_INTERVAL_S = 5.0


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def table(title: str, columns: list[str], rows: list[list[str]], *, texts: int = 1) -> Table:
    """A table in the house style: the first ``texts`` columns left, numbers right."""
    grid = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        grid.add_column(column, justify="left" if index < texts else "right")
    for row in rows:
        grid.add_row(*map(harmless, row))
    return grid


def harmless(text: str) -> str:
    """The text without what a terminal would obey: file names and labels of a source may hold control
    characters, which are written as ``\\xHH``.
    """
    return text.translate(_CONTROLS)


@contextmanager
def shown_progress() -> Iterator[Listener]:
    """A listener that draws one bar a stage on a terminal, and writes a line now and then elsewhere."""
    if not err.is_terminal:
        yield _plain_listener()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with RichProgress(*columns, console=err) as bars:
        tasks: dict[str, Any] = {}

        def listen(update: Progress) -> None:
            if update.stage not in tasks:
                tasks[update.stage] = bars.add_task(update.stage, total=update.total, note="")
            bars.update(
                tasks[update.stage], completed=update.done, total=update.total, note=_with_failures(update)
            )

        yield listen


def _plain_listener() -> Listener:
    last: dict[str, float] = {}

    def listen(update: Progress) -> None:
        now = time.monotonic()
        finished = update.total is not None and update.done >= update.total
        if not finished and now - last.get(update.stage, -_PLAIN_INTERVAL_S) < _PLAIN_INTERVAL_S:
            return
        last[update.stage] = now
        total = f"/{update.total}" if update.total is not None else ""
        line = f"{update.stage}: {update.done}{total} {_with_failures(update)}".rstrip()
        err.print(harmless(line), highlight=False, soft_wrap=True, markup=False)

    return listen


def _with_failures(update: Progress) -> str:
    failures = f"{update.failed} failed " if update.failed else ""
    return f"{failures}{update.note}"
