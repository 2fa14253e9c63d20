"""``agesearch bench chaos``: a study that is killed again and again."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli.common import JsonOption, out, print_json, shown_progress, table

if TYPE_CHECKING:
    from agesearch.bench.chaos.run import Chaos

EPILOG = "Example: agesearch bench chaos --kills 20 --trials 30"


def chaos(
    kills: Annotated[int, typer.Option("--kills", min=1, help="Workers, nodes and drivers to kill.")] = 20,
    trials: Annotated[int, typer.Option("--trials", min=2, help="Short trials to run.")] = 30,
    epochs: Annotated[int, typer.Option("--epochs", min=2, help="Epochs of a trial.")] = 6,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the study and of the moments.")] = 0,
    nodes: Annotated[bool, typer.Option(help="Run on a cluster of three nodes and kill nodes too.")] = True,
    pretend: Annotated[bool, typer.Option("--pretend", help="Let trials sleep instead of train.")] = False,
    rungs: Annotated[bool, typer.Option("--rungs", help="Stop and pause trials at rungs.")] = False,
    reference: Annotated[bool, typer.Option(help="Compare with an undisturbed study of the seed.")] = True,
    keep: Annotated[str | None, typer.Option("--keep", help="Leave the study in this new folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Kill a study's workers, nodes and driver again and again, and check that nothing is lost."""
    from pathlib import Path

    from agesearch.bench.chaos.run import run_chaos
    from agesearch.errors import AgeSearchError

    with shown_progress() as listener:
        found = run_chaos(
            kills=kills,
            trials=trials,
            epochs=epochs,
            seed=seed,
            nodes=nodes,
            pretend=pretend,
            rungs=rungs,
            reference=reference,
            folder=None if keep is None else Path(keep),
            on_progress=listener,
        )
    if as_json:
        print_json(asdict(found))
    else:
        _tell_chaos(found)
    if found.faults:
        raise AgeSearchError(f"{len(found.faults)} things were lost or differ: {found.faults[0]}.")


def _tell_chaos(found: Chaos) -> None:
    shown = {True: "yes", False: "no", None: "not compared"}
    rows = [
        ["kills", ", ".join(f"{count} {kind}" for kind, count in found.kills.items())],
        ["trials", ", ".join(f"{count} {state}" for state, count in found.states.items() if count)],
        ["trials paused", str(found.pauses)],
        ["trials taken up again after a death", str(found.retries)],
        ["epochs begun", str(found.epochs)],
        ["epochs begun more than once", str(found.lost)],
        ["most epochs that one kill cost", str(found.worst)],
        ["processes left behind", str(found.left)],
        ["the same as undisturbed", shown[found.matches]],
        ["seconds", f"{found.seconds:.0f}"],
    ]
    out.print(table("A study that was killed again and again", ["", "measured"], rows))
    for fault in found.faults:
        out.print(fault, highlight=False, markup=False)
