"""How honest a student's intervals are, for a study's report."""

from __future__ import annotations

from collections.abc import Iterator

from agesearch.measure.calibration.coverage import Coverage, CoverageRow
from agesearch.measure.calibration.run import evidence_of
from agesearch.models.calibration.record import Calibration
from agesearch.reporting.tables import Cell, TextTable


def coverage_table(calibration: Calibration) -> TextTable:
    """Shares of true ages inside, and widths, by decade of true age: calibrated, and of the model's own
    belief; of persons that the intervals were not learnt from.
    """
    evidence = evidence_of(calibration)
    own = {row.first: row for row in evidence.own.decades}
    rows = [_row("all", evidence.calibrated, evidence.own)]
    rows += [_row(f"{row.first}–{row.last}", row, own[row.first]) for row in evidence.calibrated.decades]
    return TextTable(
        ("age", "faces", "inside", "width, years", "inside", "width, years"),
        [list(row) for row in rows],
        (("", 2), (f"calibrated, {calibration.level:.0%}", 2), ("its own belief", 2)),
    )


def _row(name: str, calibrated: Coverage | CoverageRow, own: Coverage | CoverageRow) -> list[Cell]:
    return [
        Cell(name),
        Cell(f"{calibrated.coverage.faces:,}", calibrated.coverage.faces),
        *_cells(calibrated, own),
    ]


def _cells(*found: Coverage | CoverageRow) -> Iterator[Cell]:
    for one in found:
        share = one.coverage
        yield Cell(f"{share.value:.0%} ({share.low:.0%}–{share.high:.0%})", share.value)
        yield Cell(f"{one.width_years:.1f}", one.width_years)
