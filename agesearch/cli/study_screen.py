"""Draws how a study stands, within a terminal's size: what ``tune`` shows live and ``status`` prints.

Lines are laid out here and not by ``rich`` tables, which shrink the figures where a name is long. No figure
is cut: what tells of the whole study goes on in a next line, the name of a network is shortened in a trial's
line, and a column or figure that does not fit is left out, the least important first.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from agesearch.cli.common import harmless
from agesearch.cli.textplots import scatter, sparkline, thinned
from agesearch.metrics import or_nan
from agesearch.search.store.events import Confirming
from agesearch.search.store.records import State, TrialRecord
from agesearch.search.view.progress import RunningTrial, StudyProgress

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

_MAX_NAME = 44
_MIN_NAME = 24

#: The spaces inside a part of a line: no sign before them, and no dot after.
_INSIDE = re.compile(r"(?<![,;:·]) (?![·(])")

#: An architecture is shortened to so many characters before a figure is left out of a line.
_MIN_ARCH = 12


@dataclass(frozen=True)
class Column:
    """A column of figures: those of the lowest ``rank`` are left out first where the lines are too short."""

    name: str
    width: int
    rank: int


_FRONT = (Column("val MAE", 9, 4), Column("ms", 8, 3))
_RUNNING = (Column("epoch", 8, 3), Column("val MAE", 9, 4), Column("age", 8, 0))


@dataclass(frozen=True)
class Screen:
    """A study's progress drawn in a terminal's lines, all but the last, where the cursor stands; or, where it
    is not ``live``, in as many lines as it takes.
    """

    progress: StudyProgress
    live: bool = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = console.height - 1 if self.live else None
        yield draw(self.progress, options.max_width, height, ascii_only=options.ascii_only)


def draw(
    progress: StudyProgress, width: int, height: int | None = None, *, ascii_only: bool = False
) -> RenderableType:
    """The progress in at most ``height`` lines of ``width`` columns: what matters most stays when lines are
    scarce.
    """
    head = [Text(line, style="bold") for line in wrapped(headline(progress), width)]
    if progress.stopping:
        head += [Text(line, style="bold yellow") for line in wrapped(progress.stopping, width)]
    head += [Text(line) for text in summary(progress) for line in wrapped(text, width)]
    head = head[:height]
    room = 10_000 if height is None else height - len(head)
    rows = _running_rows(progress, room)
    running = _running(progress.running, rows, width, ascii_only)
    running += _under_way(progress.running, rows, width)[: max(0, (room - len(running)) // 3)]
    room -= len(running)
    notes = _notes(progress, width)[: max(0, room - 4)]
    room -= len(notes)
    front = _front(progress, room, width, ascii_only)
    room -= len(front)
    last = [Text(trial_line(record, width), style=STATE_STYLES[record.state]) for record in progress.last]
    last = last[-min(_LAST, room) :] if room > 0 else []
    blocks = [block for block in (head + notes, front, running, last) if block]
    airy = room - len(last) >= len(blocks) - 1
    lines = [
        line for block in blocks for line in ([Text(), *block] if airy and block is not blocks[0] else block)
    ]
    for line in lines:
        line.plain = fitted(line.plain, width, ascii_only)
        line.no_wrap, line.overflow = True, "crop"
    return Group(*lines)


def headline(progress: StudyProgress) -> str:
    """How far the study is, the time it took, and an honest guess of the time left."""
    finished = progress.counts.finished
    line = f"{finished} of {progress.total} trials"
    if progress.pace.seconds:
        line += f", {clock(progress.pace.seconds)} so far"
    if progress.confirming is not None:
        return f"{line}; {_confirming(progress.confirming)}"
    if finished >= progress.total:
        return line
    left = progress.seconds_left
    if left is not None:
        line += f", about {clock(left)} left (by {_count(progress.pace.finished, 'trial')})"
    elif progress.running:
        line += ", time left is known once a trial ends"
    elif not finished:
        line += ", its first trials are being started"
    if progress.limit is not None and (left is None or progress.limit < left):
        line += f"; its time is up in {clock(max(0.0, progress.limit))}"
    return line


def _confirming(stands: Confirming) -> str:
    line = f"confirming: {stands.finished} of {_count(stands.trainings, 'training')} over"
    line += f", {stands.epoch:,} of {stands.epochs:,} epochs"
    if stands.seconds_left is None or stands.finished >= stands.trainings:
        return line
    return f"{line}, about {clock(stands.seconds_left)} left"


def summary(progress: StudyProgress) -> list[str]:
    """Counts by state; epochs spent and saved, and trials an hour; what early stopping may have cost."""
    counts = progress.counts
    parts = [
        f"{counts.states[State.COMPLETE]} complete",
        f"{counts.states[State.PRUNED]} pruned",
        f"{counts.states[State.FAIL]} failed",
        f"{len(progress.running)} running",
    ]
    if progress.paused:
        parts.append(f"{len(progress.paused)} paused")
    if progress.waiting:
        parts.append(f"{progress.waiting} to be taken up again")
    spent = f"{progress.epochs:,} epochs spent"
    if counts.saved:
        spent += f", stopping saved {counts.saved / counts.budget:.0%} of {counts.budget:,}"
    rate = progress.pace.trials_per_hour
    lines = [" · ".join(parts), spent + (f" · {rate:,.0f} trials an hour" if rate else "")]
    early = progress.loss_budget
    return lines if early is None else [*lines, early.words]


def reasons(progress: StudyProgress) -> list[tuple[str, str]]:
    """Why trials were pruned or failed, with how many there are of each, and the style of the line."""
    words = {State.PRUNED: "pruned", State.FAIL: "failed"}
    ranked = progress.counts.reasons.most_common()
    lines = [
        (f"{count} {words.get(state, state.value)}: {harmless(reason)}", STATE_STYLES[state])
        for (state, reason), count in ranked[:_REASONS]
    ]
    rest = ranked[_REASONS:]
    if rest:
        trials = sum(count for _, count in rest)
        lines.append((f"{trials} for {_count(len(rest), 'other reason')}", ""))
    return lines


def trial_line(record: TrialRecord, width: int = 10_000) -> str:
    """A trial that ended, in one line of at most ``width`` characters; see ``_ended`` for its figures."""
    for figures in _ended(record):
        room = width - len(f"trial {record.number} ") - len(figures)
        if room >= len(_suffix(record)) + _MIN_ARCH:
            break
    line = f"trial {record.number} {network_name(record, max(1, room))}{figures}"
    return f"{line}: {record.reason}" if record.reason else line


def _ended(record: TrialRecord) -> list[str]:
    """How a trial ended, with its figures and then with fewer and fewer of them."""
    state = f": {record.state.value}"
    if record.state is State.FAIL:
        return [f"{state} after epoch {record.epochs}"]
    error, latency = f"MAE {cell(record.val_mae_years)} years", f"{cell(record.latency_ms_p50)} ms"
    parts = [state, error, latency, f"{record.seconds:.0f} s"]
    return [", ".join(parts[:count]) for count in range(len(parts), 0, -1)]


def network_name(record: TrialRecord, width: int) -> str:
    """Architecture and input of a trial in so many characters: what is shortened is the architecture."""
    arch, suffix = harmless(record.arch or record.name), _suffix(record)
    if len(arch) + len(suffix) <= width:
        return arch + suffix
    return fitted(arch, max(1, width - len(suffix)), False) + suffix


def _suffix(record: TrialRecord) -> str:
    return f" at {record.input_size} px" if record.arch else ""


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most ``width`` characters, broken after a sign between its parts, or between
    words where a part is longer than a line.
    """
    text, width = harmless(text), max(1, width)
    parts = _INSIDE.sub("\xa0", text)
    if max(map(len, parts.split(" "))) > width:
        parts = text
    return [line.replace("\xa0", " ") for line in textwrap.wrap(parts, width, break_on_hyphens=False)] or [""]


def cell(value: float | None) -> str:
    """A figure with two digits, or a dash."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.2f}"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _notes(progress: StudyProgress, width: int) -> list[Text]:
    lines = [Text(f"  {line}", style=style) for line, style in reasons(progress)]
    if progress.dashboard:
        shown = f"Dashboard: {progress.dashboard} (its token: ray get-auth-token)"
        lines += [Text(line, style="dim") for line in wrapped(shown, width)]
    return lines


def _running_rows(progress: StudyProgress, room: int) -> int:
    return min(len(progress.running), max(1, (room - 2) // 3)) if room >= 4 else 0


def _front(progress: StudyProgress, room: int, width: int, ascii_only: bool) -> list[Text]:
    """The front as a table with its title, a scatter plot beside it where there is room."""
    rows = min(len(progress.front), room - 2)
    if rows < 1:
        return []
    wide = width >= _WIDE
    cells = [
        (record, [cell(record.val_mae_years), cell(record.latency_ms_p50)])
        for record in thinned(progress.front, rows)
    ]
    title = _title("Front so far", len(progress.front), rows)
    table = [title, *_table(_FRONT, cells, min(width, _FRONT_WIDTH) if wide else width)]
    if not wide:
        return table
    best = [(or_nan(record.latency_ms_p50), or_nan(record.val_mae_years)) for record in progress.front]
    height = min(room, max(_PLOT_HEIGHT, len(table)))
    space = width - _FRONT_WIDTH - 3
    plot = scatter(progress.points, best, space, height, ascii_only=ascii_only)
    lines = [*table, *(Text() for _ in plot[len(table) :])]
    blank = " " * (_FRONT_WIDTH + 3)
    return [
        Text.assemble(line, blank[line.cell_len :], drawn)
        for line, drawn in zip(lines, [*plot, *[""] * len(lines)], strict=False)
    ]


def _running(trials: Sequence[RunningTrial], rows: int, width: int, ascii_only: bool) -> list[Text]:
    """The running trials as a table with their curves, all on one scale."""
    if rows < 1:
        return []
    shown = trials[:rows]
    known = [error for trial in shown for error in trial.curve if math.isfinite(error)]
    low, high = min(known, default=None), max(known, default=None)
    cells = [
        (
            trial.record,
            [
                f"{trial.epochs_done:.2f}".rstrip("0").rstrip(".") + f"/{trial.epochs}",
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


def _under_way(trials: Sequence[RunningTrial], rows: int, width: int) -> list[Text]:
    """Where the long epochs of the trials shown stand, in words, and which node runs which."""
    told = [trial.words for trial in trials[:rows] if trial.words]
    nodes = {trial.node for trial in trials if trial.node}
    if len(nodes) > 1:  # one machine is the one in front of which they sit
        ran = (
            (node, [str(trial.record.number) for trial in trials if trial.node == node])
            for node in sorted(nodes)
        )
        told.append("; ".join(f"{node}: trial {', '.join(numbers)}" for node, numbers in ran))
    return [Text(f"  {line}", style="dim") for words in told for line in wrapped(words, width - 2)]


def _quiet(trial: RunningTrial) -> str:
    """That a trial has not been heard of for long, if so."""
    if trial.quiet is None or not trial.epoch:
        return ""
    long = trial.quiet > max(_QUIET_S, 3 * trial.age / trial.epoch)
    return f" no sign of life for {clock(trial.quiet)}" if long else ""


def _table(columns: Sequence[Column], rows: list[tuple[TrialRecord, list[str]]], width: int) -> list[Text]:
    """Number, network and figures of trials, one line each, under a line of names."""
    kept = list(columns)
    longest = min(_MAX_NAME, max(len("network"), *(len(record.network) for record, _ in rows)))
    while len(kept) > 1 and _name_room(kept, width) < min(longest, _MIN_NAME):
        kept.remove(min(kept, key=lambda column: column.rank))
    name_width = max(1, min(longest, _name_room(kept, width)))
    places = [columns.index(column) for column in kept]

    def line(number: str, name: str, figures: Sequence[str]) -> str:
        shown = [f"{figures[place]:>{column.width}}" for place, column in zip(places, kept, strict=True)]
        return f"{number:>5} {name:<{name_width}}{''.join(shown)}"

    head = line("trial", "network"[:name_width], [column.name for column in columns])
    lines = (line(str(record.number), network_name(record, name_width), cells) for record, cells in rows)
    return [Text(head, style="dim"), *map(Text, lines)]


def _name_room(columns: Sequence[Column], width: int) -> int:
    return width - 6 - sum(column.width for column in columns)


def fitted(text: str, width: int, ascii_only: bool) -> str:
    """The text in at most ``width`` characters, with a sign where it is cut."""
    text = harmless(text)
    if ascii_only:
        text = text.replace("·", ",").encode("ascii", "replace").decode()
    if len(text) <= width:
        return text
    return text[: width - 1] + ("~" if ascii_only else "…")


def _title(name: str, count: int, rows: int) -> Text:
    return Text(f"{name}: {rows} of {count}" if rows < count else f"{name}: {count}", style="bold")


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
