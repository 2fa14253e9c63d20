"""``agesearch bench monitoring``: whether every panel of the dashboard has data, of a cluster at work."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from agesearch.cli.common import JsonOption, out, print_json, shown_progress, table
from agesearch.errors import AgeSearchError

EPILOG = "Example: agesearch bench monitoring --files cluster/monitoring"


def monitoring(
    files: Annotated[
        str, typer.Option("--files", metavar="FOLDER", help="Dashboard, rules and Prometheus' configuration.")
    ] = "cluster/monitoring",
    photos: Annotated[int, typer.Option("--photos", min=20, help="Photographs of the ingest.")] = 400,
    trials: Annotated[int, typer.Option("--trials", min=2, help="Trials of the study.")] = 6,
    as_json: JsonOption = False,
) -> None:
    """Start a cluster, a service and a Prometheus on this machine, ingest, search and ask, and evaluate every
    expression of the dashboard and of the rules over it.
    """
    from agesearch.bench.monitoring.run import measure_monitoring

    with shown_progress() as listener:
        found = measure_monitoring(Path(files), photos=photos, trials=trials, on_progress=listener)
    if as_json:
        print_json(asdict(found) | {"faults": found.faults})
    else:
        rows = [
            [one.where, str(one.series), _last(one.last), one.expression.strip()] for one in found.answers
        ]
        title = f"{found.targets} metrics ports over {found.seconds:.0f} s"
        out.print(table(title, ["panel or rule", "series", "last", "expression"], rows), highlight=False)
    if found.faults:
        raise AgeSearchError(f"{len(found.faults)} were not seen: {found.faults[0]}.")


def _last(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
