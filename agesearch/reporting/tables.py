"""The report's tables as text, from records: numbers with their units and digits, ready to be drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agesearch.measure.accuracy import AgeBin
from agesearch.measure.intervals import Estimate
from agesearch.measure.robustness.corruptions import CLEAN
from agesearch.measure.robustness.scores import RobustnessRow
from agesearch.measure.speed.rows import SpeedRow
from agesearch.metrics import signed
from agesearch.models.runtimes.engines import DEFAULT, Engine
from agesearch.search.front.measurements import MeasuredPredictions
from agesearch.search.store.records import State, TrialRecord, title_of
from agesearch.search.view.progress import reason_group

#: What the figures of memory are.
MEMORY_NOTE = (
    "File: the network as it is loaded. Memory: by how much that of a fresh process rises at its peak while "
    "it opens the network and runs one face on one thread."
)


@dataclass(frozen=True)
class Cell:
    """One cell: its text, what it sorts by, and a shade 0..1 where colour carries meaning."""

    text: str
    order: float | str = ""
    shade: float | None = None

    @property
    def is_text(self) -> bool:
        """Whether it holds words rather than a figure."""
        return isinstance(self.order, str)


@dataclass(frozen=True)
class TextTable:
    """Rows of cells under column names; ``groups`` are headings over so many columns each."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    groups: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class Failure:
    """Trials that ended alike without a result."""

    state: str
    reason: str
    trials: list[int]


def years(value: float | None) -> str:
    """``6.12``; a dash for none."""
    return "–" if value is None else f"{value:.2f}"


def milliseconds(value: float | None) -> str:
    """Three significant digits: ``0.874``, ``12.3``, ``288``."""
    return "–" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def starred(value: float | None, is_searched: bool) -> str:
    """Milliseconds, with a star where the search timed them and no run beside the teacher."""
    return f"{milliseconds(value)} *" if is_searched and value is not None else milliseconds(value)


def ratio(value: float) -> str:
    """``38 ×``, ``2.4 ×``."""
    return f"{value:.0f} ×" if value >= 10 else f"{value:.1f} ×"


def millions(parameters: int | None) -> str:
    """Parameters in millions: ``1.52 M``."""
    return "–" if not parameters else f"{parameters / 1e6:.2f} M"


def megabytes(count: int | None) -> str:
    """Bytes in millions with three digits: ``4.22``; a dash for none."""
    return "–" if count is None else f"{count / 1e6:.3g}"


def sizes(file_bytes: int | None, session_bytes: int | None) -> list[str]:
    """What a network takes besides time, as lines of a point's details; none where nobody has looked."""
    found = [] if file_bytes is None else [f"{megabytes(file_bytes)} MB on disk"]
    return found + ([] if session_bytes is None else [f"{megabytes(session_bytes)} MB of memory at its peak"])


def interval(estimate: Estimate) -> str:
    """``6.12 (5.71–6.55)`` in years."""
    return f"{estimate.value:.2f} ({estimate.low:.2f}–{estimate.high:.2f})"


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def words(name: str) -> str:
    """A name of the code as people read it: ``gaussian_noise`` -> ``gaussian noise``."""
    return name.replace("_", " ")


def value_text(value: object) -> str:
    """A searched value: floats with three significant digits, a dash for none."""
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def role(trial: TrialRecord, front: Sequence[TrialRecord], pick: int | None, knee: int | None) -> str:
    """What a trial is to the front: ``picked, knee``, ``best``, ``fastest``, ``front`` or nothing."""
    names = []
    if trial.number == pick:
        names.append("picked")
    if trial.number == knee:
        names.append("knee")
    if front and trial.number == front[-1].number:
        names.append("best")
    if front and trial.number == front[0].number:
        names.append("fastest")
    if not names and any(trial.number == other.number for other in front):
        names.append("front")
    return ", ".join(names)


@dataclass(frozen=True)
class TrialTold:
    """What a table says of a trial besides its record: its ``role`` on the front, its network's size,
    whether it was timed by the search alone, and which limits of the study it breaks.
    """

    role: str = ""
    parameters: int | None = None
    file_bytes: int | None = None
    session_bytes: int | None = None
    timed_alone: bool = False
    broken: str = ""


def trials_table(records: Sequence[TrialRecord], told: Mapping[int, TrialTold]) -> TextTable:
    """Every trial with its outcome and its searched values; latencies that the search alone has timed have a
    star. What any trial was measured by at its end has columns of its own.
    """
    searched = sorted(
        {name for record in records for name in record.params} - {"model.arch", "model.input_size"}
    )
    measured = list(dict.fromkeys(word for record in records for word in record.at_end))
    broken = ["above its limit"] if any(told[record.number].broken for record in records) else []
    columns = ["trial", "state", "role", "architecture", "input, px", "parameters", "val MAE, years"]
    columns += [f"{word}, years" for word in measured] + broken
    columns += ["latency, ms", "file, MB", "memory, MB", "epochs", "time"]
    rows = []
    for record in records:
        of = told[record.number]
        row = [
            Cell(str(record.number), record.number),
            Cell(record.state.value.lower()),
            Cell(of.role),
            Cell(record.arch),
            Cell(str(record.input_size), record.input_size),
            Cell(millions(of.parameters), of.parameters or -1),
            Cell(years(record.val_mae_years), last(record.val_mae_years)),
            *(Cell(record.at_end_text(word), last(record.at_end.get(word))) for word in measured),
            *(Cell(of.broken or "–") for _ in broken),
            Cell(starred(record.latency_ms_p50, of.timed_alone), last(record.latency_ms_p50)),
            *(Cell(megabytes(size), last(size)) for size in (of.file_bytes, of.session_bytes)),
            Cell(str(record.epochs), record.epochs),
            Cell(duration(record.seconds), record.seconds),
        ]
        rows.append(row + [_parameter(record.params.get(name)) for name in searched])
    return TextTable([*columns, *(words(name.split(".")[-1]) for name in searched)], rows)


def failures(records: Sequence[TrialRecord]) -> list[Failure]:
    """PRUNED and FAILed trials by kind of reason, the most frequent first."""
    found: dict[tuple[str, str], list[int]] = {}
    for record in records:
        if record.state in (State.PRUNED, State.FAIL):
            key = (record.state.value, reason_group(record.reason) or "no reason recorded")
            found.setdefault(key, []).append(record.number)
    rows = [Failure(state, reason, trials) for (state, reason), trials in found.items()]
    return sorted(rows, key=lambda row: (-len(row.trials), row.state, row.reason))


def decades_table(teacher: MeasuredPredictions, student: MeasuredPredictions) -> TextTable:
    """MAE with intervals and signed bias by decade of true age, teacher beside student.

    Where persons are known, a column says how many there are.
    """
    left, right = _decades(teacher), _decades(student)
    counted = ["faces"] if teacher.persons.count is None else ["faces", "persons"]
    columns = ["true age", *counted, *("MAE, years", "bias, years") * 2]
    worst = max(1e-9, *(row.mae_years.value for row in (*left.values(), *right.values())))
    rows = []
    for first in sorted(set(left) | set(right)):
        some = left.get(first) or right[first]
        counts = [getattr(some.mae_years, name) or some.mae_years.faces for name in counted]
        cells = [Cell(f"{some.first}–{some.last}", first), *(Cell(f"{count:,}", count) for count in counts)]
        for bins in (left, right):
            cells += _bin_cells(bins.get(first), worst)
        rows.append(cells)
    return TextTable(columns, rows, [("", 1 + len(counted)), ("teacher", 2), ("student", 2)])


def robustness_table(rows: Sequence[RobustnessRow], teacher: str, student: str) -> TextTable:
    """MAE by corruption and severity for both models, with what the corruption added, in years."""
    found = {(row.model, row.corruption, row.severity): row for row in rows}
    clean = {model: found[model, CLEAN, 0].mae_years for model in (teacher, student)}
    cells = sorted({(row.corruption, row.severity) for row in rows if row.corruption != CLEAN})
    severities = sorted({severity for _, severity in cells})
    worst = max((found[m, c, s].mae_years - clean[m] for m in clean for c, s in cells), default=1.0)
    columns = ["corruption", *(str(severity) for severity in severities), *(str(s) for s in severities)]
    groups = [("", 1), ("teacher, severity", len(severities)), ("student, severity", len(severities))]
    table = [
        [Cell("none (clean)")]
        + [Cell(years(clean[model]), clean[model], 0.0) for model in (teacher, student) for _ in severities]
    ]
    for corruption in dict.fromkeys(row.corruption for row in rows if row.corruption != CLEAN):
        line = [Cell(words(corruption))]
        for model in (teacher, student):
            for severity in severities:
                error = found[model, corruption, severity].mae_years
                added = error - clean[model]
                line.append(Cell(f"{error:.2f} ({signed(added)})", error, max(0.0, added / max(worst, 1e-9))))
        table.append(line)
    return TextTable(columns, table, groups)


def mean_corrupted(rows: Sequence[RobustnessRow], model: str) -> float:
    """MAE averaged over all corruptions and severities (MAE-C), in years."""
    errors = [row.mae_years for row in rows if row.model == model and row.corruption != CLEAN]
    return sum(errors) / len(errors)


def on_engine(engine: Engine) -> str:
    """`` on openvino int8``, to follow a time; nothing for the usual engine."""
    return "" if engine == DEFAULT else f" on {engine}"


def speed_table(rows: Sequence[SpeedRow], reference: str) -> TextTable:
    """The side-by-side timings, with the ratio to the reference model under the same setting."""
    base = {(row.threads, row.batch): row.latency_ms_p50 for row in rows if row.model == reference}
    columns = ["model", "threads", "batch", "p50, ms a call", "p95, ms a call", "faces a second"]
    columns += ["against teacher", "calls"]
    table = []
    for row in rows:
        times = (
            base[row.threads, row.batch] / row.latency_ms_p50 if (row.threads, row.batch) in base else None
        )
        table.append(
            [
                Cell(f"{title_of(row.model)}{on_engine(row.engine)}"),
                Cell(str(row.threads), row.threads),
                Cell(str(row.batch), row.batch),
                Cell(milliseconds(row.latency_ms_p50), row.latency_ms_p50),
                Cell(milliseconds(row.latency_ms_p95), row.latency_ms_p95),
                Cell(f"{row.images_per_s:,.0f}", row.images_per_s),
                Cell("–" if times is None else ratio(times), times or 0.0),
                Cell(str(row.calls), row.calls),
            ]
        )
    return TextTable(columns, table)


def _decades(predictions: MeasuredPredictions) -> dict[int, AgeBin]:
    return {row.first: row for row in predictions.by_decade()}


def _bin_cells(row: AgeBin | None, worst: float) -> list[Cell]:
    if row is None:
        return [Cell("–", -1.0), Cell("–", -1.0)]
    error = row.mae_years
    text = interval(error) if error.faces > 1 else years(error.value)
    return [Cell(text, error.value, error.value / worst), Cell(signed(row.bias_years), row.bias_years)]


def _parameter(value: object) -> Cell:
    order = value if isinstance(value, int | float) else "" if value is None else str(value)
    return Cell(value_text(value), order)


def last(value: float | None) -> float:
    """What sorts behind every number."""
    return 1e12 if value is None else value
