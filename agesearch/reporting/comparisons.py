"""A comparison of methods as files and tables: the drawing as SVG, a self-contained page that holds it, the
figures, what each method is and what the figures do not say, and the tables as Markdown for a README.
"""

from __future__ import annotations

import statistics

from markupsafe import Markup

from agesearch.measure.intervals import basis
from agesearch.metrics import BIAS_YEARS, CS5, MAE_YEARS, VAL_KENDALL_TAU, VAL_PROBE_MAE_YEARS, signed
from agesearch.reporting.charts.forest_plot import by_error, comparison_figure, p_words, teachers_words
from agesearch.reporting.pages import environment
from agesearch.reporting.sections.markdown import piped, plain
from agesearch.reporting.tables import duration, value_text
from agesearch.storage import Location
from agesearch.training.comparison.records import MethodComparison, MethodRecord, TeacherRecord

SVG, PAGE, MARKDOWN = "comparison.svg", "comparison.html", "comparison.md"

COLUMNS = ["method", "MAE ± sd", "95 %", "minus reference", "95 %", "p (Holm)", "", "CS@5", "bias", "train"]
TEACHER_COLUMNS = ["teacher", "network", "", "MAE, years", "95 %", "trained in"]


def write_comparison(record: MethodComparison, folder: str | Location) -> list[Location]:
    """Write the comparison as ``comparison.svg``, ``.html`` and ``.md`` into a folder; returns all three."""
    place = Location.of(folder)
    figure = comparison_figure(record)
    page = (
        environment()
        .get_template("comparison.html.j2")
        .render(
            record=record,
            figure=Markup(
                comparison_figure(record, on_page=True)
            ),  # our own template's, which escapes all names
            columns=COLUMNS,
            rows=comparison_rows(record),
            methods=[_described(method) for method in record.methods],
            teacher_columns=TEACHER_COLUMNS,
            teachers=teacher_rows(record),
            headlines=headlines(record),
        )
    )
    files = {SVG: figure, PAGE: page, MARKDOWN: _markdown(record)}
    for name, text in files.items():
        (place / name).write_text(text)
    return [place / name for name in files]


def comparison_rows(record: MethodComparison) -> list[list[str]]:
    """A row of words a method, smallest error first: see ``COLUMNS``."""
    return [[method.name, *_figures(method), _seconds(method.seconds)] for method in by_error(record)]


def teacher_rows(record: MethodComparison) -> list[list[str]]:
    """A row of words a teacher: see ``TEACHER_COLUMNS``."""
    return [
        [
            teacher.name,
            teacher.about or "–",
            "gives ages" if teacher.kind == "age" else "sorts by age",
            *_quality(teacher),
            _seconds(teacher.seconds) if teacher.trained else "given",
        ]
        for teacher in record.teachers
    ]


def headlines(record: MethodComparison) -> list[str]:
    """What was found, in a sentence or a few: which methods differ from the reference, and which are ties."""
    sentences = []
    for word in ("better", "worse"):
        found = [
            f"{method.name} ({signed(method.difference.difference.value)} years, "
            f"{signed(method.difference.difference.low)} to {signed(method.difference.difference.high)})"
            for method in by_error(record)
            if method.difference and method.difference.verdict == word
        ]
        if found:
            sentences.append(f"{word.capitalize()} than {record.reference}: {', '.join(found)}.")
    ties = [one.name for one in by_error(record) if one.difference and one.difference.verdict == "tie"]
    if ties:
        sentences.append(f"Tied with {record.reference}: {', '.join(ties)}.")
    seen = resolution(record)
    if seen is not None:
        sentences.append(
            f"Half the median interval is {seen:.1f} years: smaller differences are ties here, which does "
            "not mean that the methods are equal."
        )
    return sentences


def legend(record: MethodComparison) -> str:
    """What the figures are, in a few lines."""
    count = len(record.seeds)
    over = (
        f"mean and sd over {count} trainings; intervals hold for other {record.resampled} and other seeds"
        if count > 1
        else f"one training each; intervals hold for other {record.resampled}, not for other seeds"
    )
    return (
        f"MAE in years on {basis(record.faces, record.persons)} ({record.split}), "
        f"{over}{record.median.of_subsample}. p: "
        f"sign flips over {record.resampled}, Holm-corrected. A tie: faces, seeds and the number of methods "
        f"cannot tell it from luck. Always answering the training median: {record.median.value:.2f} years."
    )


def resolution(record: MethodComparison) -> float | None:
    """Half the width of the differences' intervals in years (their median): what this comparison can see."""
    found = [method.difference.difference for method in record.methods if method.difference]
    return statistics.median((one.high - one.low) / 2 for one in found) if found else None


def _markdown(record: MethodComparison) -> str:
    """The sentences and the tables, to be pasted or linked."""
    lines = [*(plain(line) for line in headlines(record)), "", *piped(COLUMNS, comparison_rows(record))]
    if record.teachers:
        lines += ["", *piped(TEACHER_COLUMNS, teacher_rows(record))]
    return "\n".join([*lines, "", plain(legend(record))]) + "\n"


def _figures(method: MethodRecord) -> list[str]:
    if not method.scores:
        return ["–", "", "", "", "", "failed", "", ""]
    error = method.scores[MAE_YEARS]
    several = sum(bool(run.scores) for run in method.trainings) > 1
    spread = f" ± {error.sd:.2f}" if several else ""
    cells = [f"{error.value:.2f}{spread}", f"{error.low:.2f}–{error.high:.2f}"]
    found = method.difference
    if found is None:
        cells += ["", "", "", "reference"]
    else:
        one = found.difference
        cells += [signed(one.value), f"{signed(one.low)} to {signed(one.high)}"]
        cells += [p_words(found.p_holm).removeprefix("p "), found.verdict]
    return [*cells, f"{method.scores[CS5].value:.0%}", signed(method.scores[BIAS_YEARS].value)]


def _quality(teacher: TeacherRecord) -> list[str]:
    if teacher.failure:
        return ["failed", teacher.failure]
    if teacher.mae_years is not None:
        error = teacher.mae_years
        return [f"{error.value:.2f}", f"{error.low:.2f}–{error.high:.2f}"]
    sentences = []
    if VAL_KENDALL_TAU in teacher.metrics:
        sentences.append(f"tau {teacher.metrics[VAL_KENDALL_TAU]:.2f}")
    if VAL_PROBE_MAE_YEARS in teacher.metrics:
        sentences.append(f"probe {teacher.metrics[VAL_PROBE_MAE_YEARS]:.2f} (val)")
    return [", ".join(sentences) or "–", ""]


def _described(method: MethodRecord) -> tuple[str, str, str, str]:
    """Name, what it is, what it learns from, and what it changes in the student."""
    values = ", ".join(f"{name} {value_text(value)}" for name, value in method.values.items())
    return method.name, method.about, teachers_words(method), values or "–"


def _seconds(seconds: float | None) -> str:
    return "–" if seconds is None else duration(seconds)
