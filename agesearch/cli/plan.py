"""``agesearch plan``: what a study takes on a cluster of some size, before it is paid for."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import Annotated

import typer

from agesearch.cli.common import JsonOption, out, print_json, say, table
from agesearch.errors import InputError


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(
        "plan",
        rich_help_panel="Cluster",
        epilog="Example: agesearch plan search_spaces/quick.yaml --nodes 10 --trial-s 600",
    )(plan_study)


def plan_study(
    space: Annotated[str, typer.Argument(metavar="SPACE.yaml", help="What to search.")],
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Nodes that train.")],
    cpus: Annotated[int, typer.Option("--cpus", min=1, help="CPUs of a node, one a trial.")] = 8,
    gpus: Annotated[int, typer.Option("--gpus", min=0, help="GPUs of all nodes together.")] = 0,
    gpus_per_trial: Annotated[
        float, typer.Option("--gpus-per-trial", help="Share of a GPU that a trial takes.")
    ] = 0.25,
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, help="Finished trials (default: as SPACE.yaml says).")
    ] = None,
    trial_s: Annotated[
        float | None, typer.Option("--trial-s", help="Seconds of a trial of all its epochs on such a slot.")
    ] = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="STUDY", help="Take them from a study on such slots.")
    ] = None,
    price: Annotated[float, typer.Option("--price", min=0.0, help="What an hour of a node costs.")] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Say what a study takes on so many nodes: hours, cost, bytes, and what saturates first.

    On paper, from unit costs that were measured (cluster/scaling.md). Early stopping is not counted on.
    """
    from agesearch.search.space.cost import bytes_kept, cost_of
    from agesearch.search.space.space import load_space

    spec = load_space(space)
    seconds = _seconds(trial_s, like, spec.student.optim.epochs)
    if gpus and not 0 < gpus_per_trial <= 1:
        raise InputError(
            f"--gpus-per-trial {gpus_per_trial} is no share of a GPU: it is above 0, and at most 1."
        )
    slots = min(int(gpus / gpus_per_trial), nodes * cpus) if gpus else None
    found = cost_of(
        trials or spec.trials, seconds, nodes=nodes, slots_per_node=cpus, slots=slots, keep=spec.keep
    )
    if as_json:
        print_json({**asdict(found), "limit": found.limit.name, "price": found.node_hours * price})
        return
    rows = [
        ["trials at once", f"{min(found.slots, found.trials):,} of {found.slots:,} slots"],
        ["time, hours", f"{found.hours:.2f}"],
        ["node-hours", f"{found.node_hours:,.1f}"],
        *([["price", f"{found.node_hours * price:,.2f}"]] if price else []),
        ["results, GB", _gigabytes(found.result_bytes, bytes_kept(found.trials, "front"))],
        *([one.name, f"{one.use:.1%} full"] for one in found.shared),
    ]
    title = f"{found.trials:,} trials of {found.trial_s:.0f} s on {nodes:,} nodes"
    out.print(table(title, ["", "on paper"], rows), highlight=False)
    verb = "saturates" if found.limit.use >= 1 else "would saturate first"
    say(f"{found.limit.name} {verb}; what helps: {found.limit.remedy}.")


def _gigabytes(kept: int, at_least: int) -> str:
    """What a study's results take, and what they would with the weights of its front only."""
    saved = "" if at_least >= kept else f" ({at_least / 1e9:.2f} with 'keep: front')"
    return f"{kept / 1e9:.2f}{saved}"


def _seconds(trial_s: float | None, like: str | None, epochs: int) -> float:
    """Seconds of a whole trial: as given, or the median pace of a study's COMPLETE ones."""
    if trial_s is not None:
        if not trial_s > 0:
            raise InputError(f"--trial-s {trial_s:g}: a trial takes more than no time.")
        return trial_s
    if like is None:
        raise InputError(
            "How long does a trial take? Give --trial-s SECONDS, or --like STUDY, one that ran on such slots."
        )
    from agesearch.search.store.records import State, open_study

    paces = [
        record.seconds / record.epochs
        for record in open_study(like).trials()
        if record.state is State.COMPLETE and record.epochs and record.seconds
    ]
    if not paces:
        raise InputError(f"'{like}' has no COMPLETE trial whose seconds are known: give --trial-s.")
    return statistics.median(paces) * epochs
