"""``agesearch bench roll``: what clients see while a service changes its version."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from agesearch.cli.common import PLAIN, JsonOption, out, print_json, shown_progress, table

EPILOG = "Example: agesearch bench roll --seconds 120 --replicas 2"


def roll(
    seconds: Annotated[float, typer.Option("--seconds", min=10, help="Seconds of load.")] = 90.0,
    replicas: Annotated[int, typer.Option("--replicas", min=1, max=256, help="Replicas.")] = 1,
    connections: Annotated[int, typer.Option("--connections", min=1, help="Connections at once.")] = 4,
    as_json: JsonOption = False,
) -> None:
    """Promote, roll back and try a version under load; exit code 1 where a request failed."""
    from agesearch.bench.serve.rolling import measure_rolling

    with shown_progress() as listener:
        found = measure_rolling(
            seconds=seconds, replicas=replicas, connections=connections, on_progress=listener
        )
    if as_json:
        print_json({**asdict(found), "failed": found.failed})
    else:
        rows = [[row.change, f"{row.seconds:.1f}", row.outcome] for row in found.changes]
        title = f"{found.replicas} replicas, {found.connections} connections, {found.seconds:.0f} s"
        out.print(table(title, ["change", "s", "outcome"], rows))
        out.print(
            f"{found.fulfilled} requests fulfilled, {found.failed} failed; p50 {found.p50_ms:.1f} ms, p99 "
            f"{found.p99_ms:.1f} ms; first answer after {found.first_answer_s:.1f} s",
            **PLAIN,
        )
    if found.failed:
        raise typer.Exit(1)
