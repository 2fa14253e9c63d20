"""``agesearch bench roll``: what clients see while a service changes its version."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from agesearch.cli.common import PLAIN, JsonOption, out, print_json, shown_progress, table
from agesearch.cli.promote import share_of

EPILOG = "Example: agesearch bench roll --canary 10% --replicas 2"


def roll(
    canary: Annotated[
        str, typer.Option("--canary", metavar="SHARE", help="Share of the requests that a trial gets.")
    ] = "50%",
    seconds: Annotated[float, typer.Option("--seconds", min=10, help="Longest trial, seconds.")] = 180.0,
    replicas: Annotated[int, typer.Option("--replicas", min=1, max=256, help="Replicas.")] = 1,
    connections: Annotated[int, typer.Option("--connections", min=1, help="Connections at once.")] = 4,
    as_json: JsonOption = False,
) -> None:
    """Promote, roll back, and try versions that are as good, drift, are slow or fail, each under load.

    Exit code 1 where one did not end as it must, or a request failed for it.
    """
    from agesearch.bench.serve.rolling import measure_rolling

    with shown_progress() as listener:
        found = measure_rolling(
            share=share_of(canary),
            seconds=seconds,
            replicas=replicas,
            connections=connections,
            on_progress=listener,
        )
    if as_json:
        print_json({**asdict(found), "holds": found.holds})
    else:
        rows = [
            [row.change, f"{row.seconds:.1f}", str(row.requests), str(row.failed), f"{row.p99_ms:.1f}"]
            + [row.outcome, "yes" if row.holds else "NO"]
            for row in found.changes
        ]
        title = f"{found.replicas} replicas, {found.connections} connections, canaries of {found.share:.0%}"
        columns = ["change", "s", "requests", "failed", "p99 ms", "outcome", "holds"]
        out.print(table(title, columns, rows, optional=["p99 ms"]))
        out.print(f"first answer {found.first_answer_s:.1f} s after the start", **PLAIN)
    if not found.holds:
        raise typer.Exit(1)
