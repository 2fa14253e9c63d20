"""``agesearch measure``: what is to be known of models besides their error, one verb each."""

from __future__ import annotations

import typer

from agesearch.cli import measure_counterfactual, measure_decisions, measure_robustness, measure_speed


def add_to(app: typer.Typer) -> None:
    """Register the ``measure`` group."""
    about = "Measure models: speed on every runtime, robustness, decisions, changed faces."
    group = typer.Typer(no_args_is_help=True, help=about)
    for verb in (measure_speed, measure_robustness, measure_decisions, measure_counterfactual):
        verb.add_to(group)
    app.add_typer(group, name="measure", rich_help_panel="Results")
