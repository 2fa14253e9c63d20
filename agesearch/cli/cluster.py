"""``agesearch cluster``: a cluster on this machine that stays until it is ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli.common import JsonOption, out, print_json, say, shown_progress, table
from agesearch.errors import AgeSearchError, InputError
from agesearch.progress import Progress

if TYPE_CHECKING:
    from agesearch.remote.local import LocalCluster

#: Other kinds of clusters are described by files, which other programs read.
_KINDS = {
    "local": "",
    "vm": "Ray's cluster launcher starts machines of a cloud or reached by SSH: see cluster/README.md.",
    "kubernetes": "kubectl and KubeRay start it: see cluster/README.md.",
}

app = typer.Typer(no_args_is_help=True, help="Start, look at and end a cluster on this machine.")

KindOption = Annotated[str, typer.Option("--kind", help="Where it is: 'local', this machine.")]


def add_to(root: typer.Typer) -> None:
    """Register the group."""
    root.add_typer(app, name="cluster", rich_help_panel="Cluster")


@app.command(epilog="Example: agesearch cluster up --workers 2")
def up(
    kind: KindOption = "local",
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Nodes beside the head, which then offers no CPU itself.")
    ] = 1,
    cpus: Annotated[
        int | None,
        typer.Option("--cpus", min=1, help="CPUs of all nodes together (default: all cores)."),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="The port of '--address'.")] = 6399,
    dashboard_port: Annotated[
        int,
        typer.Option("--dashboard-port", min=1, max=65535, help="The dashboard's, which takes jobs."),
    ] = 8265,
    as_json: JsonOption = False,
) -> None:
    """Start a head and workers on this machine, with token authentication and the dashboard on loopback.

    They stay when this command ends. 'tune --address' and the like join them; 'submit' hands them work.
    """
    from agesearch.remote.local import start_cluster

    _require_local(kind)
    with shown_progress() as on_progress:
        on_progress(Progress("Starting the cluster", 0, 1))
        cluster = start_cluster(workers=workers, cpus=cpus, port=port, dashboard_port=dashboard_port)
        on_progress(Progress("Starting the cluster", 1, 1))
    _show(cluster, as_json)
    say("Its dashboard asks for the token that 'ray get-auth-token' prints. End it: agesearch cluster down")


@app.command(epilog="Example: agesearch cluster status --json")
def status(kind: KindOption = "local", as_json: JsonOption = False) -> None:
    """Show the cluster that was started here: its addresses, and which of its nodes run.

    Exit code 1 where its head does not run, or there is none.
    """
    from agesearch.remote.local import local_cluster

    _require_local(kind)
    cluster = local_cluster()
    if cluster is None:
        if as_json:
            print_json({"up": False, "nodes": []})
        raise AgeSearchError("No cluster was started here: start one with: agesearch cluster up")
    _show(cluster, as_json)
    if not cluster.is_up:
        raise AgeSearchError(
            f"Its head does not run any more (logs: {cluster.folder}): agesearch cluster down, then up again."
        )


@app.command(epilog="Example: agesearch cluster down")
def down(kind: KindOption = "local", as_json: JsonOption = False) -> None:
    """End the cluster that was started here: its own processes, and no other Ray's.

    A study that runs on it is cut: 'agesearch stop' it first.
    """
    from agesearch.remote.local import end_cluster

    _require_local(kind)
    cluster = end_cluster()
    if as_json:
        print_json({"ended": cluster is not None, "address": cluster.address if cluster else None})
    say("No cluster was started here." if cluster is None else f"Ended the cluster at {cluster.address}.")


def _require_local(kind: str) -> None:
    if kind not in _KINDS:
        raise InputError(f"--kind '{kind}' is none of {', '.join(_KINDS)}.")
    if kind != "local":
        raise InputError(f"--kind {kind} is not started by agesearch. {_KINDS[kind]}")


def _show(cluster: LocalCluster, as_json: bool) -> None:
    if as_json:
        print_json(cluster.as_json())
        return
    rows = [
        [node.name, node.address, str(node.cpus), "up" if node.is_up else "down"] for node in cluster.nodes
    ]
    out.print(table("Cluster", ["node", "address", "CPUs", "state"], rows), highlight=False)
    out.print(f"Join it: --address {cluster.address}   Jobs and dashboard: {cluster.dashboard_url}")
