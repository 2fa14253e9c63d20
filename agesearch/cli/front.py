"""``agesearch front``: the students that nobody beats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli.common import JsonOption, err, out, print_json, table

if TYPE_CHECKING:
    from agesearch.reporting.fronts import FrontRow

_LEGEND = (
    "network: architecture and input. MAE: years off on the validation faces. ms: a face on one "
    "thread, the network alone. file, memory: of the network, and of a session at its peak. speed-up: over "
    "the teacher, once 'agesearch report' has timed both."
)
#: What may be left out on a narrow terminal, the most important first.
_OPTIONAL = ("role", "run", "as", "speed-up", "params", "worst decade", "file MB", "memory MB")

#: What each figure that is known at a trial's end is.
_AT_END = {
    "MAE-C": "on a few corrupted validation faces.",
    "shift": "years that the worst change of rendered persons moves an answer, on the mean.",
    "worst decade": "MAE at the true ages where it is largest, of decades with ten validation faces.",
}
_ALIKE = "as: neighbours whose error is not told apart from this one's."
_RUNS = "run: a trial that was not timed side by side with the teacher has the search's timing."
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

    The speed-up over the teacher is known once 'agesearch report' has timed both side by side.
    """
    from agesearch.reporting.fronts import front_table

    found = front_table(study, every=every)
    rows = found.rows
    if as_json:
        print_json([row.as_json() for row in rows])
        return
    extra = ["role", "state"] if every else ["params", "file MB", "memory MB", "speed-up", "role"]
    title = f"{len(rows)} {'trials' if every else 'on the front'} of {study}"
    is_alike = not every and any(row.alike for row in rows)
    if is_alike:
        extra.insert(-1, "as")
    is_mixed = every and any(row.latency.run != rows[0].latency.run for row in rows)
    if is_mixed:
        extra.insert(0, "run")
    cells = [_cells(row, every, is_mixed, is_alike) for row in rows]
    if any(row.latency.engine != rows[0].latency.engine or row.latency.others for row in rows):
        extra.insert(0, "on")
        names = [str(row.latency.engine) for row in rows]
        cells = [[*line[:4], name, *line[4:]] for line, name in zip(cells, names, strict=True)]
    measured = list(dict.fromkeys(word for row in rows for word in row.trial.at_end))
    for at, word in enumerate(measured):
        extra.insert(at, word)
        values = [row.trial.at_end_text(word) for row in rows]
        cells = [[*line[: 4 + at], value, *line[4 + at :]] for line, value in zip(cells, values, strict=True)]
    out.print(table(title, ["trial", "network", "MAE", "ms", *extra], cells, optional=_OPTIONAL))
    told = " ".join(f"{word}: {_AT_END[word]}" for word in measured)
    legend = [_LEGEND, *([told] if told else []), *([_RUNS] if is_mixed else [])]
    for line in [*legend, *([_ALIKE] if is_alike else []), *found.notes]:
        err.print(line, highlight=False, markup=False)


def _cells(row: FrontRow, every: bool, is_mixed: bool, is_alike: bool) -> list[str]:
    from agesearch.measure.speed.footprint import megabytes
    from agesearch.reporting import tables

    trial = row.trial
    cells = [
        str(trial.number),
        trial.network,
        tables.years(trial.val_mae_years),
        tables.milliseconds(trial.latency_ms_p50),
    ]
    if every:
        reason = trial.reason or (f"above {row.broken_limits}" if row.broken_limits else "")
        state = f"{trial.state.value}: {reason}" if reason else trial.state.value
        run = [row.latency.run.value] if is_mixed else []
        return [*cells, *run, row.role, state]
    found = row.latency.times_teacher
    times = "–" if found is None else tables.ratio(found)
    taken = [megabytes(row.latency.file_bytes), megabytes(row.latency.session_bytes)]
    near = [", ".join(map(str, row.alike)) or "–"] if is_alike else []
    return [*cells, tables.millions(row.parameters), *taken, times, *near, row.role]
