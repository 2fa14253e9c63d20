"""``agesearch bench serve``: the service beside a bare server with the same model."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli.common import JsonOption, out, print_json, shown_progress, table
from agesearch.cli.publish import RegistryOption
from agesearch.errors import InputError

if TYPE_CHECKING:
    from agesearch.bench.serve.faults.run import FaultsBench
    from agesearch.bench.serve.overload import OverloadRow
    from agesearch.bench.serve.run import ServeBench

EPILOG = "Example: agesearch bench serve --turns 3 --overload 60"


def serve(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="NAME, NAME@ALIAS or NAME:VERSION; none: untrained."),
    ] = None,
    registry: RegistryOption = "registry",
    seconds: Annotated[float, typer.Option("--seconds", min=0.5, help="Seconds of a turn.")] = 5.0,
    turns: Annotated[int, typer.Option("--turns", min=1, help="Times that the servers take turns.")] = 3,
    connections: Annotated[int, typer.Option("--connections", min=1, help="Connections at once.")] = 8,
    replicas: Annotated[
        int, typer.Option("--replicas", min=1, max=256, help="Replicas, and workers of the bare server.")
    ] = 2,
    overload: Annotated[
        float, typer.Option("--overload", min=0, help="Seconds of five times what it can; 0: none.")
    ] = 0.0,
    faults: Annotated[
        bool,
        typer.Option(
            "--faults", help="Drills instead: overload, slow clients, kills, hostile requests, memory."
        ),
    ] = False,
    soak: Annotated[
        float, typer.Option("--soak", min=0, help="Seconds of steady load among the drills; 0: none.")
    ] = 0.0,
    rate: Annotated[
        float, typer.Option("--rate", min=0, help="Requests a second of the soak; 0: as many as fit.")
    ] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Requests a second, CPU a request, latencies and steps of the service, beside uvicorn alone.

    With --faults what its clients see while it is drilled; exit code 1 where that is more than they may.
    """
    if soak and not faults:
        raise InputError("--soak is one of the drills: give --faults, too.")
    if rate and not soak:
        raise InputError("--rate is that of the soak: give --soak, too.")
    if faults:
        _drill(model, registry, overload or 60.0, replicas, (soak, rate), as_json)
        return
    from agesearch.bench.serve.run import measure_service
    from agesearch.deploy.registry import resolve

    folder = None if model is None else str(resolve(registry, model))
    with shown_progress() as listener:
        found = measure_service(
            folder,
            seconds=seconds,
            turns=turns,
            connections=connections,
            replicas=(1, replicas) if replicas > 1 else (1,),
            overload_s=overload,
            on_progress=listener,
        )
    if as_json:
        print_json(asdict(found))
        return
    _tell(found)


def _drill(
    model: str | None,
    registry: str,
    seconds: float,
    replicas: int,
    soak: tuple[float, float],
    as_json: bool,
) -> None:
    from agesearch.bench.serve.faults.run import measure_faults
    from agesearch.deploy.registry import resolve

    folder = None if model is None else str(resolve(registry, model))
    with shown_progress() as listener:
        found = measure_faults(
            folder,
            seconds=seconds,
            replicas=replicas,
            soak_s=soak[0],
            soak_rate=soak[1],
            on_progress=listener,
        )
    if as_json:
        print_json(found.as_json())
    else:
        _tell_faults(found)
    if not found.holds:
        raise typer.Exit(1)


def _tell_faults(found: FaultsBench) -> None:
    rows = [
        [
            one.drill,
            one.figure,
            f"{one.measured:.{0 if one.measured == int(one.measured) else 1}f} {one.unit}".strip(),
            "" if one.most is None else f"at most {one.most:g} {one.unit}".strip(),
            {True: "yes", False: "NO", None: ""}[one.holds],
        ]
        for one in found.findings
    ]
    title = f"{found.model}, {found.replicas} replicas"
    out.print(table(title, ["drill", "figure", "measured", "goal", "holds"], rows))


def _tell(found: ServeBench) -> None:
    rows = [
        [
            row.case,
            row.server,
            f"{row.requests_per_s:.0f}",
            f"{row.cpu_ms:.2f}",
            f"{row.p50_ms:.1f}",
            f"{row.p99_ms:.1f}",
            f"{row.failed}",
        ]
        for row in found.rows
    ]
    columns = ["image", "server", "requests/s", "CPU ms", "p50 ms", "p99 ms", "failed"]
    title = f"{found.model}, {found.connections} connections, medians of {found.turns} turns"
    out.print(table(title, columns, rows))
    for case, ratios in found.ratios.items():
        words = (
            f"{case}: {ratios['requests_per_s']:.2f} x the requests/s of the bare server, "
            f"{ratios['requests_per_cpu_s']:.2f} x those of a CPU second, {ratios['p99']:.2f} x its p99"
        )
        out.print(words, highlight=False)
    steps = ", ".join(f"{name.removesuffix('_ms')} {value:.2f}" for name, value in found.steps_ms.items())
    out.print(f"Steps of a photograph, ms: {steps}", highlight=False)
    if found.overload is not None:
        _tell_overload(found.overload)


def _tell_overload(row: OverloadRow) -> None:
    rows = [
        ["sent, requests/s", f"{row.rate:.0f}"],
        ["fulfilled, requests/s", f"{row.fulfilled_per_s:.0f}"],
        ["fulfilled, p99 ms", f"{row.fulfilled_p99_ms:.0f}"],
        ["refused", f"{row.refused}"],
        ["refused, p99 ms", f"{row.refused_p99_ms:.0f}"],
        ["refused without Retry-After", f"{row.without_retry_after}"],
        ["connections that broke", f"{row.broken}"],
        ["p99 ms, 5 s later", f"{row.p99_ms_5s_later:.0f}"],
    ]
    out.print(table(f"Five times what it can, for {row.seconds:g} s", ["", "measured"], rows))
