"""``agesearch doctor``: what is wrong, or will be, with this machine or a cluster, before work meets it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from agesearch.cli.common import AddressOption, JsonOption, out, print_json, shown_progress
from agesearch.errors import AgeSearchError

if TYPE_CHECKING:
    from agesearch.cluster.facts import MachineFacts

_MARKS = {"good": "[green]ok   [/]", "note": "[yellow]note [/]", "fault": "[red]fault[/]"}


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(
        "doctor",
        rich_help_panel="Start here",
        epilog="Example: agesearch doctor s3://bucket/faces --address 10.0.0.1:6399",
    )(doctor)


def doctor(
    places: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PLACE]...", help="Folders or URIs that work will read or write."),
    ] = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for what is wrong with this machine, or with every node of a cluster.

    Versions, memory, disks, /dev/shm, Ray's token, GPUs, open ports, the wheels of OpenCV, and whether each
    node can read and write the places given. A probe is written into each folder and removed again. Exit code
    1 where there is a fault.
    """
    from agesearch.cluster.checkup import check_cluster, check_machine
    from agesearch.cluster.facts import machine_facts
    from agesearch.session import ray_session

    here = machine_facts(places or [])
    findings = check_machine(here)
    nodes: dict[str, MachineFacts] = {}
    if address is not None:
        with shown_progress() as on_progress, ray_session(address, on_progress=on_progress):
            here = machine_facts(places or [])
            on_nodes, nodes = check_cluster(here, places or [])
        findings += on_nodes
    faults = sum(finding.level == "fault" for finding in findings)
    if as_json:
        machines = {"this machine": here} | nodes
        print_json(
            {
                "faults": faults,
                "findings": [asdict(finding) for finding in findings],
                "machines": {name: facts.as_json() for name, facts in machines.items()},
            }
        )
    else:
        machine = None
        for finding in findings:
            if finding.machine != machine:
                machine = finding.machine
                out.print(f"[bold]{escape(machine)}[/]", highlight=False)
            told = f"  {_MARKS[finding.level]} {escape(finding.about)}: {escape(finding.says)}"
            out.print(told, highlight=False, soft_wrap=True)
            if finding.remedy:
                out.print(f"          {escape(finding.remedy)}", highlight=False, soft_wrap=True)
    if faults:
        raise AgeSearchError(f"{faults} {'fault' if faults == 1 else 'faults'} found: each says what to do.")
