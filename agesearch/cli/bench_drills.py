"""``agesearch bench drills``: a study on several hosts, and what befalls them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from agesearch.cli.common import PLAIN, JsonOption, out, print_json, shown_progress, table
from agesearch.errors import AgeSearchError, unknown_name

EPILOG = "Example: agesearch bench drills --only 'host killed'"


def drills(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="A drill by its name; may be given again (default: all)."),
    ] = None,
    trials: Annotated[int, typer.Option("--trials", min=4, help="Trials of each study.")] = 12,
    as_json: JsonOption = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
) -> None:
    """Kill, stop and add hosts under a study that shares nothing with them but an S3 server, and check that
    every trial ends and no finished one is trained again. Needs root: hosts are namespaces of this machine.
    """
    from agesearch.bench.drills.run import NAMES, run_drills

    names = tuple(only or NAMES)
    for name in names:
        if name not in NAMES:
            raise unknown_name("drill", name, NAMES)
    with shown_progress() as listener:
        found = run_drills(names, trials=trials, on_progress=listener)
    columns = ["drill", "what happened", "trials", "epochs repeated", "s"]
    rows = [
        [
            drill.name,
            "; ".join(drill.faults) or drill.said,
            f"{drill.complete} of {drill.trials}",
            str(drill.repeated),
            f"{drill.seconds:.0f}",
        ]
        for drill in found
    ]
    if as_json:
        print_json([asdict(drill) for drill in found])
    elif as_markdown:
        for cells in (columns, ["---"] * len(columns), *rows):
            out.print(f"| {' | '.join(cells)} |", **PLAIN)
    else:
        out.print(table("A study on several hosts", columns, rows), highlight=False)
    faults = [f"{drill.name}: {fault}" for drill in found for fault in drill.faults]
    if faults:
        raise AgeSearchError(f"{len(faults)} things were lost: {faults[0]}.")
