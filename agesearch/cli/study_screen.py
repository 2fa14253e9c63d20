"""Draws how a study stands, within a terminal's size: what ``tune`` shows live and ``status`` prints.

Lines are laid out here and not by ``rich`` tables, which shrink the figures where a name is long: a name is
cut, a column that does not fit is left out, and a line never wraps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from agesearch.cli.common import harmless
from agesearch.cli.textplots import scatter, sparkline, thinned
from agesearch.search.store.records import State, TrialRecord
from agesearch.search.view.progress import Running, Standing

STATE_STYLES = {
    State.COMPLETE: "green",
    State.PRUNED: "yellow",
    State.FAIL: "red",
    State.RUNNING: "",
    State.PAUSED: "cyan",
}

#: Columns from which a scatter plot stands beside the front; how wide the front is then, and the plot high.
_WIDE = 100
_FRONT_WIDTH = 56
_PLOT_HEIGHT = 12

#: Reasons told in lines of their own; the rest is counted.
_REASONS = 4

#: Lines of trials that ended last, where there is room.
_LAST = 3

#: A running trial is said to be quiet after this many seconds and three of its epochs without a sign of life.
_QUIET_S = 30.0

_MAX_NAME = 40
_MIN_NAME = 14


@dataclass(frozen=True)
class Column:
    """A column of figures: those of the lowest ``rank`` are left out first where the lines are too short."""

    name: str
    width: int
    rank: int
    left: bool = False


_FRONT = (Column("px", 5, 1), Column("val MAE", 9, 4), Column("ms", 7, 3))
_RUNNING = (Column("px", 5, 1), Column("epoch", 8, 3), Column("val MAE", 9, 4), Column("age", 8, 0))


@dataclass(frozen=True)
class Screen:
    """A standing drawn in a terminal's lines, all but the last, where the cursor stands; or, where it is not
    ``live``, in as many lines as it takes.
    """

    standing: Standing
    live: bool = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = console.height - 1 if self.live else None
        yield draw(self.standing, options.max_width, height, ascii_only=options.ascii_only)


def draw(
    standing: Standing, width: int, height: int | None = None, *, ascii_only: bool = False
) -> RenderableType:
    """The standing in at most ``height`` lines of ``width`` columns: what matters most stays when lines are
    scarce.
    """
    head = [Text(headline(standing), style="bold")]
    if standing.stopping:
        head.append(Text(standing.stopping, style="bold yellow"))
    head += map(Text, summary(standing))
    room = 10_000 if height is None else height - len(head)
    running = _running(standing.running, _running_rows(standing, room), width, ascii_only)
    room -= len(running)
    notes = _notes(standing)[: max(0, room - 4)]
    room -= len(notes)
    front = _front(standing, room, width, ascii_only)
    room -= len(front)
    last = [Text(told(record), style=STATE_STYLES[record.state]) for record in standing.last]
    last = last[-min(_LAST, room) :] if room > 0 else []
    blocks = [block for block in (head + notes, front, running, last) if block]
    airy = room - len(last) >= len(blocks) - 1
    lines = [
        line for block in blocks for line in ([Text(), *block] if airy and block is not blocks[0] else block)
    ]
    for line in lines:
        line.plain = _fitted(line.plain, width, ascii_only)
        line.no_wrap, line.overflow = True, "crop"
    return Group(*lines)


def headline(standing: Standing) -> str:
    """How far the study is, the time it took, and an honest guess of the time left."""
    finished = standing.tally.finished
    line = f"{finished} of {standing.total} trials"
    if standing.pace.seconds:
        line += f", {clock(standing.pace.seconds)} so far"
    if finished >= standing.total:
        return line
    left = standing.seconds_left
    if left is not None:
        line += f", about {clock(left)} left (by {_count(standing.pace.finished, 'trial')})"
    elif standing.running:
        line += ", time left is known once a trial ends"
    if standing.limit is not None and (left is None or standing.limit < left):
        line += f"; its time is up in {clock(max(0.0, standing.limit))}"
    return line


def summary(standing: Standing) -> list[str]:
    """Counts by state; epochs spent and saved, and trials an hour."""
    tally = standing.tally
    counts = [
        f"{tally.states[State.COMPLETE]} complete",
        f"{tally.states[State.PRUNED]} pruned",
        f"{tally.states[State.FAIL]} failed",
        f"{len(standing.running)} running",
    ]
    if standing.paused:
        counts.append(f"{len(standing.paused)} paused")
    if standing.waiting:
        counts.append(f"{standing.waiting} to be taken up again")
    spent = f"{standing.epochs:,} epochs spent"
    if tally.saved:
        spent += f", rungs saved {tally.saved / tally.budget:.0%} of {tally.budget:,}"
    rate = standing.pace.trials_per_hour
    return [" · ".join(counts), spent + (f" · {rate:,.0f} trials an hour" if rate else "")]


def reasons(standing: Standing) -> list[tuple[str, str]]:
    """Why trials were pruned or failed, with how many there are of each, and the style of the line."""
    words = {State.PRUNED: "pruned", State.FAIL: "failed"}
    ranked = standing.tally.reasons.most_common()
    lines = [
        (f"{count} {words.get(state, state.value)}: {harmless(reason)}", STATE_STYLES[state])
        for (state, reason), count in ranked[:_REASONS]
    ]
    rest = ranked[_REASONS:]
    if rest:
        trials = sum(count for _, count in rest)
        lines.append((f"{trials} for {_count(len(rest), 'other reason')}", ""))
    return lines


def told(record: TrialRecord) -> str:
    """A trial that ended, in one line."""
    line = f"{record.name} {record.state.value}"
    if record.state is State.FAIL:
        return f"{line} after epoch {record.epochs}: {record.reason}"
    line += (
        f" MAE {cell(record.val_mae_years)} years, {cell(record.latency_ms_p50)} ms, {record.seconds:.0f} s"
    )
    return f"{line}: {record.reason}" if record.reason else line


def cell(value: float | None) -> str:
    """A figure with two digits, or a dash."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.2f}"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _notes(standing: Standing) -> list[Text]:
    lines = [Text(f"  {line}", style=style) for line, style in reasons(standing)]
    if standing.dashboard:
        lines.append(Text(f"Dashboard: {standing.dashboard} (its token: ray get-auth-token)", style="dim"))
    return lines


def _running_rows(standing: Standing, room: int) -> int:
    return min(len(standing.running), max(1, (room - 2) // 3)) if room >= 4 else 0


def _front(standing: Standing, room: int, width: int, ascii_only: bool) -> list[Text]:
    """The front as a table with its title, a scatter plot beside it where there is room."""
    rows = min(len(standing.front), room - 2)
    if rows < 1:
        return []
    wide = width >= _WIDE
    cells = [
        (
            f"{record.number:04d}",
            record.arch,
            [str(record.input_size), cell(record.val_mae_years), cell(record.latency_ms_p50)],
        )
        for record in thinned(standing.front, rows)
    ]
    title = _title("Front so far", len(standing.front), rows)
    table = [title, *_table(_FRONT, cells, min(width, _FRONT_WIDTH) if wide else width)]
    if not wide:
        return table
    best = [
        (record.latency_ms_p50 or math.nan, record.val_mae_years or math.nan) for record in standing.front
    ]
    height = min(room, max(_PLOT_HEIGHT, len(table)))
    space = width - _FRONT_WIDTH - 3
    plot = scatter(standing.points, best, space, height, ascii_only=ascii_only)
    lines = [*table, *(Text() for _ in plot[len(table) :])]
    blank = " " * (_FRONT_WIDTH + 3)
    return [
        Text.assemble(line, blank[line.cell_len :], drawn)
        for line, drawn in zip(lines, [*plot, *[""] * len(lines)], strict=False)
    ]


def _running(trials: Sequence[Running], rows: int, width: int, ascii_only: bool) -> list[Text]:
    """The running trials as a table with their curves, all on one scale."""
    if rows < 1:
        return []
    shown = trials[:rows]
    known = [error for trial in shown for error in trial.curve if math.isfinite(error)]
    low, high = min(known, default=None), max(known, default=None)
    cells = [
        (
            f"{trial.record.number:04d}",
            trial.record.arch,
            [
                str(trial.record.input_size),
                f"{trial.epoch}/{trial.epochs}",
                cell(trial.curve[-1] if trial.curve else None),
                clock(trial.age),
            ],
        )
        for trial in shown
    ]
    lines = [_title("Running", len(trials), rows), *_table(_RUNNING, cells, max(38, width - 12))]
    space = min(30, width - 2 - max(line.cell_len for line in lines[1:]))
    if space >= 5:
        lines[1].append("  curve")
        for line, trial in zip(lines[2:], shown, strict=True):
            curve = sparkline(trial.curve, space, low=low, high=high, ascii_only=ascii_only)
            line.append(f"  {curve}", style="cyan")
            line.append(_quiet(trial), style="yellow")
    return lines


def _quiet(trial: Running) -> str:
    """That a trial has not been heard of for long, if so."""
    if trial.quiet is None or not trial.epoch:
        return ""
    long = trial.quiet > max(_QUIET_S, 3 * trial.age / trial.epoch)
    return f" no sign of life for {clock(trial.quiet)}" if long else ""


def _table(columns: Sequence[Column], rows: list[tuple[str, str, list[str]]], width: int) -> list[Text]:
    """Number, name and figures of trials, one line each, under a line of names."""
    kept = list(columns)
    longest = min(_MAX_NAME, max(len("network"), *(len(name) for _, name, _ in rows)))
    while len(kept) > 1 and _name_room(kept, width) < min(longest, _MIN_NAME):
        kept.remove(min(kept, key=lambda column: column.rank))
    name_width = max(1, min(longest, _name_room(kept, width)))
    places = [columns.index(column) for column in kept]

    def line(number: str, name: str, figures: list[str]) -> str:
        told = [f"{figures[place]:>{column.width}}" for place, column in zip(places, kept, strict=True)]
        return f"{number:<5} {_fitted(harmless(name), name_width, False):<{name_width}}{''.join(told)}"

    head = line("trial", "network", [column.name for column in columns])
    return [Text(head, style="dim"), *(Text(line(*row)) for row in rows)]


def _name_room(columns: Sequence[Column], width: int) -> int:
    return width - 6 - sum(column.width for column in columns)


def _fitted(text: str, width: int, ascii_only: bool) -> str:
    """The text in at most ``width`` characters, with a sign where it is cut."""
    text = harmless(text)
    if ascii_only:
        text = text.replace("·", ",").encode("ascii", "replace").decode()
    if len(text) <= width:
        return text
    return text[: width - 1] + ("~" if ascii_only else "…")


def _title(name: str, count: int, rows: int) -> Text:
    told = f"{name}: {rows} of {count}" if rows < count else f"{name}: {count}"
    return Text(told, style="bold")


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
