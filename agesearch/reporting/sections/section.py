"""A section of a report as plain data: what HTML, Markdown and JSON all tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agesearch.measure.robustness.strip import Strip
from agesearch.reporting.charts.plots import Chart
from agesearch.reporting.evaluations import Lines
from agesearch.reporting.importance import Importance
from agesearch.reporting.tables import TextTable
from agesearch.search.front.measurements import FaceRow


@dataclass(frozen=True)
class Table:
    """A table of a section: ``hue`` colours its shades, ``marked`` is the first cell of the row that stands
    out, ``wide`` shrinks it on paper.
    """

    title: str
    table: TextTable
    hue: str = "blue"
    sortable: bool = False
    marked: str | None = None
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A part of a report under its heading. ``missing`` says why there is nothing, and ``fill`` is the
    command that fills it. ``pair`` are charts that stand side by side, ``strip_names`` the models
    of the strip as the report calls them. ``figures`` are the numbers behind
    the words, for programs.
    """

    id: str
    title: str
    short: str
    sentences: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    pair: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    lines: Sequence[Lines] = ()
    more: Sequence[Lines] = ()
    bars: Sequence[Importance] = ()
    strip: Strip | None = None
    strip_names: Sequence[str] = ()
    faces: Sequence[tuple[str, Sequence[FaceRow]]] = ()
    facts: Sequence[tuple[str, str]] = ()
    code: Sequence[tuple[str, str]] = ()
    folded: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    missing: str = ""
    fill: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The section for programs: words, tables as text, figures."""
        tables = [
            {
                "title": one.title,
                "groups": [list(group) for group in one.table.groups],
                "columns": list(one.table.columns),
                "rows": [[cell.text for cell in row] for row in one.table.rows],
            }
            for one in self.tables
        ]
        tables += [
            {
                "title": one.title,
                "columns": list(one.columns),
                "rows": [list(row) for rows in one.sections for row in rows],
            }
            for one in (*self.lines, *self.more)
        ]
        found: dict[str, Any] = {
            "title": self.title,
            "sentences": list(self.sentences),
            "tables": tables,
            "facts": dict(self.facts),
            "notes": list(self.notes),
            "figures": self.figures,
            "missing": self.missing or None,
            "filled_by": self.fill or None,
        }
        return {name: value for name, value in found.items() if value not in ([], {}, None)}
