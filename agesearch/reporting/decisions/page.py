"""Decisions as one HTML page that opens without a network: a chart and all tables for each model."""

from __future__ import annotations

from agesearch.measure.decisions.records import Decisions
from agesearch.measure.intervals import basis
from agesearch.reporting.charts.decision_chart import decision_chart
from agesearch.reporting.decisions.tables import decision_tables
from agesearch.reporting.pages import environment
from agesearch.storage import Location


def write_decisions(record: Decisions, file: Location) -> None:
    """Write the page of a record."""
    file.write_text(decisions_page(record))


def decisions_page(record: Decisions) -> str:
    """The page of a record as HTML."""
    models = [
        (
            model,
            decision_chart(model, record.legal_age, record.max_fpr, number),
            list(decision_tables(record, model)),
        )
        for number, model in enumerate(record.models, 1)
    ]
    faces = basis(record.minors + record.adults, record.persons)
    template = environment().get_template("decisions.html.j2")
    return template.render(record=record, models=models, basis=faces)
