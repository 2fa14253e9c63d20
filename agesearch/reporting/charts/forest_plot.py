"""A comparison of methods as one drawing: differences to the reference with their intervals (a forest plot),
and beside it each training's error. As a file of its own the drawing is light and prints well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from agesearch.measure.intervals import basis
from agesearch.metrics import MAE_YEARS, signed
from agesearch.reporting.charts.axes import Axis, Bands, padded, shortened
from agesearch.reporting.pages import environment
from agesearch.training.comparison.records import MethodComparison, MethodRecord

_ROW_HEIGHT = 42
_TOP, _BOTTOM = 104, 110
_NAMES, _FOREST, _WORDS, _DOTS = 14, (230, 560), 576, (760, 1022)
_WIDTH = 1038
#: Letters of a method's name, and of its teachers' below it, that fit their column.
_NAME_LETTERS, _TEACHER_LETTERS = 27, 32


@dataclass(frozen=True)
class Row:
    """A method in pixels. ``ends`` is the interval of its difference (None: the reference, or no figure)."""

    y: float
    name: str
    below: str
    mark: float | None
    ends: tuple[float, float] | None
    kind: str
    words: str
    small: str
    dots: Sequence[float]
    mean: float | None
    details: tuple[str, ...]


@dataclass(frozen=True)
class ComparisonFigure:
    """All that the template draws, in pixels."""

    title: str
    subtitle: str
    reference: str
    rows: Sequence[Row]
    forest: Axis
    dots: Axis
    note: str
    width: int
    height: float

    @property
    def top(self) -> int:
        """The upper edge of the rows."""
        return _TOP

    @property
    def bottom(self) -> float:
        """The lower edge of the rows."""
        return self.height - _BOTTOM

    @property
    def words(self) -> int:
        """Where the differences are written."""
        return _WORDS


def comparison_figure(record: MethodComparison, *, on_page: bool = False) -> str:
    """The drawing as an SVG document, ``on_page`` in the colours of the page around it; methods with the
    smallest error come first.
    """
    ordered = by_error(record)
    forest = Axis("MAE minus the reference's, years", *_ends_of_differences(ordered), *_FOREST)
    dots = Axis("MAE of each training, years", *_ends_of_errors(ordered), *_DOTS)
    rows = Bands(_TOP, _ROW_HEIGHT)
    drawn = record.resampled if len(record.seeds) == 1 else f"{record.resampled} and seeds"
    figure = ComparisonFigure(
        title=f"{len(record.methods)} methods, {trainings_words(record)}",
        subtitle=f"{record.student.model.arch} @ {record.student.model.input_size} px, "
        f"{record.student.optim.epochs} epochs on {record.train_faces:,} faces of {record.dataset_name}; "
        f"split '{record.split}', {basis(record.faces, record.persons)}",
        reference=record.reference,
        rows=[_row(method, rows.middle(place), forest, dots) for place, method in enumerate(ordered)],
        forest=forest,
        dots=dots,
        note=f"Bars: 95 % intervals over {drawn}. Blue and red: beyond the noise "
        "(Holm-corrected p < 0.05); grey: a tie.",
        width=_WIDTH,
        height=rows.edge(len(ordered)) + _BOTTOM,
    )
    return (
        environment().get_template("comparison.svg.j2").render(figure=figure, on_page=on_page).strip() + "\n"
    )


def by_error(record: MethodComparison) -> list[MethodRecord]:
    """The methods, smallest MAE first; those without a figure last."""
    return sorted(record.methods, key=lambda one: one.scores[MAE_YEARS].value if one.scores else math.inf)


def trainings_words(record: MethodComparison) -> str:
    """``3 seeds each``."""
    return f"{len(record.seeds)} seed{'' if len(record.seeds) == 1 else 's'} each"


def teachers_words(method: MethodRecord) -> str:
    """What a method learns from besides labels."""
    return " + ".join(name for name in (method.teacher, method.order) if name) or "no teacher"


def p_words(p: float) -> str:
    """``p 0.032``, ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}" if p < 0.1 else f"p {p:.2f}"


def _row(method: MethodRecord, y: float, forest: Axis, dots: Axis) -> Row:
    found = method.difference
    errors = [run.scores[MAE_YEARS] for run in method.trainings if run.scores]
    mean = method.scores[MAE_YEARS] if method.scores else None
    mark, ends, kind, words, small = None, None, "none", "no training ended", ""
    if found is not None:
        one = found.difference
        mark, ends, kind = forest.at(one.value), (forest.at(one.low), forest.at(one.high)), found.verdict
        words = f"{signed(one.value)} ({signed(one.low)} to {signed(one.high)})"
        small = f"{found.verdict}, {p_words(found.p_holm)}"
    elif mean is not None:
        mark, kind, words = forest.at(0.0), "reference", "reference"
    figures = [
        f"{mean.value:.2f} years (95 % {mean.low:.2f}–{mean.high:.2f}), sd {mean.sd:.2f}" if mean else words
    ]
    return Row(
        y=y,
        name=shortened(method.name, _NAME_LETTERS),
        below=shortened(teachers_words(method), _TEACHER_LETTERS),
        mark=mark,
        ends=ends,
        kind=kind,
        words=words,
        small=small,
        dots=[dots.at(error) for error in errors],
        mean=dots.at(mean.value) if mean else None,
        details=(method.name, method.about or teachers_words(method), *figures),
    )


def _ends_of_differences(methods: Sequence[MethodRecord]) -> tuple[float, float]:
    """Ends that hold zero and all intervals, as far left as right would mislead nobody but waste room."""
    ends = [0.0]
    for method in methods:
        if method.difference is not None:
            ends += [method.difference.difference.low, method.difference.difference.high]
    return padded(ends)


def _ends_of_errors(methods: Sequence[MethodRecord]) -> tuple[float, float]:
    errors = [run.scores[MAE_YEARS] for method in methods for run in method.trainings if run.scores]
    return padded(errors or [0.0])
