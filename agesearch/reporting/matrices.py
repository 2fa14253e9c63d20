"""A cross-dataset matrix as files: the heat map as SVG, and a small page that holds it, its notes and the
settings.
"""

from __future__ import annotations

from markupsafe import Markup

from agesearch.metrics import BIAS_YEARS, CS5, MAE_YEARS, signed
from agesearch.reporting.charts.heat_map import matrix_figure
from agesearch.reporting.pages import environment
from agesearch.storage import Location
from agesearch.training.protocols.matrix import Matrix


def write_matrix(record: Matrix, folder: str | Location) -> list[Location]:
    """Write ``matrix.svg`` and ``matrix.html`` (self-contained) into a folder; returns both."""
    place = Location.of(folder)
    figure = matrix_svg(record)
    template = environment().get_template("matrix.html.j2")
    page = template.render(
        record=record,
        figure=Markup(matrix_svg(record, on_page=True)),  # our own template's, which escapes all names
        rows=matrix_rows(record),
        drawn=resampled(record),
    )
    (place / "matrix.svg").write_text(figure)
    (place / "matrix.html").write_text(page)
    return [place / "matrix.svg", place / "matrix.html"]


def matrix_svg(record: Matrix, *, on_page: bool = False) -> str:
    """The heat map of the errors in years; see ``matrix_figure``."""
    model = "models as given" if record.spec is None else _described(record)
    return matrix_figure(
        [row.trained_on for row in record.rows],
        list(record.columns),
        record.values(MAE_YEARS),
        note=f"{model}; 95 % bootstrap intervals over {resampled(record)}",
        on_page=on_page,
    )


def resampled(record: Matrix) -> str:
    """What the intervals' bootstrap draws: faces, persons, or both where datasets differ."""
    kinds = {kind.resampled for row in record.rows for kind in row.tests.values()}
    return " or ".join(sorted(kinds)) or "faces"


def matrix_rows(record: Matrix) -> list[list[str]]:
    """One row of words a model and test: both names, MAE with its interval, CS@5, bias, faces and persons."""
    rows = []
    for row in record.rows:
        for name in record.columns:
            scores = row.tests[name].scores if name in row.tests else {}
            if MAE_YEARS not in scores:
                rows.append([row.trained_on, name, row.failure or "–", "", "", ""])
                continue
            error = scores[MAE_YEARS]
            rows.append(
                [
                    row.trained_on,
                    name,
                    f"{error.value:.2f} ({error.low:.2f}–{error.high:.2f})",
                    f"{scores[CS5].value:.0%}",
                    signed(scores[BIAS_YEARS].value),
                    error.basis,
                ]
            )
    return rows


def _described(record: Matrix) -> str:
    spec = record.spec
    assert spec is not None  # the caller looked
    return f"{spec.model.arch} @ {spec.model.input_size} px, {spec.optim.epochs} epochs"
