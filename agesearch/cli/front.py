"""``agesearch front``: the students that nobody beats."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agesearch.cli.common import JsonOption, out, print_json, table

_EXAMPLE = "Example: agesearch front studies/first --json"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("front", rich_help_panel="Results", epilog=_EXAMPLE)(front)


def front(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Study folder.")],
    every: Annotated[
        bool, typer.Option("--all", help="List every trial, with its state and reason.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a study's front: for any time a face may take, the student with the smallest error.

    Latency is of the network alone, one thread, one face; the speed-up over the teacher is shown where
    'agesearch report' has timed both side by side.
    """
    from agesearch.reporting.fronts import front_rows

    rows = front_rows(study, every=every)
    if as_json:
        print_json([row.as_json() for row in rows])
        return
    columns = [
        "trial",
        "role",
        "architecture",
        "px",
        "parameters",
        "val MAE, years",
        "latency, ms",
        "teacher x",
    ]
    columns += ["state", "reason"] if every else []
    title = f"{len(rows)} {'trials' if every else 'on the front'} of {study}"
    out.print(table(title, columns, [_cells(row, every) for row in rows]))


def _cells(row: Any, every: bool) -> list[str]:
    from rich.markup import escape

    from agesearch.reporting import tables

    trial = row.trial
    cells = [
        str(trial.number),
        row.role,
        trial.arch,
        str(trial.input_size),
        tables.millions(row.parameters),
        tables.years(trial.val_mae_years),
        tables.milliseconds(trial.latency_ms_p50),
        "–" if row.times_teacher is None else tables.ratio(row.times_teacher),
    ]
    return cells + ([trial.state.value, escape(trial.reason)] if every else [])
