"""``agesearch bench scale``: every stage on as many faces as are asked for."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli.common import JsonOption, out, print_json, shown_progress, table

if TYPE_CHECKING:
    from agesearch.bench.scale.run import Scale

EPILOG = "Example: agesearch bench scale --faces 100000 --share 0.2"


def scale(
    faces: Annotated[int, typer.Option("--faces", help="Faces to generate.")] = 20_000,
    share: Annotated[
        float, typer.Option("--share", help="Share of the training faces that the epoch trains on.")
    ] = 1.0,
    ingest: Annotated[
        bool, typer.Option("--ingest", help="Write photographs and ingest them, instead of shards.")
    ] = False,
    turns: Annotated[
        int,
        typer.Option("--turns", min=0, help="Turns of training from shards and from memory; 0: none."),
    ] = 8,
    keep: Annotated[str | None, typer.Option("--keep", help="Leave all files in this new folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Speed and memory of shards, targets, an epoch and an evaluation, on generated faces."""
    from agesearch.bench.scale.run import measure_scale

    with shown_progress() as listener:
        found = measure_scale(
            faces, share=share, with_ingest=ingest, turns=turns, keep=keep, on_progress=listener
        )
    if as_json:
        print_json(asdict(found) | {"ratio": found.ratio})
        return
    _tell(found)


def _tell(found: Scale) -> None:
    rows = [
        [
            row.stage,
            f"{row.faces:,}",
            f"{row.seconds:.1f}",
            f"{row.faces_per_s:,.0f}",
            f"{row.peak_mib:,.0f}",
            "" if row.above_mib is None else f"{row.above_mib:+,.0f}",
            f"{row.object_store_mib:,.0f}",
        ]
        for row in found.stages
    ]
    above = f"above {found.base_faces:,} faces"
    columns = ["stage", "faces", "seconds", "faces/s", "peak, MiB", above, "object store"]
    part = "" if found.share == 1.0 else f"; the epoch is {found.share:.3g} of the training faces"
    out.print(table(f"{found.faces:,} faces, {found.cores} cores{part}", columns, rows))
    out.print(table("", ["", "measured"], _lines(found)))


def _lines(found: Scale) -> list[list[str]]:
    from agesearch.bench.scale.run import median

    lines = []
    for memory, turns in (
        ("encoded faces in memory", found.streamed_over_resident),
        ("faces decoded and resized before", found.streamed_over_decoded),
    ):
        measured = "not measured: all fit in memory, or no turns"
        if turns:
            spread = f"{min(turns):.3f} to {max(turns):.3f}, {len(turns)} turns"
            measured = f"{median(turns):.3f}  ({spread})"
        lines.append([f"throughput of training from shards / from {memory}", measured])
    for epoch in found.mixing:
        persons = f"persons in {epoch.faces:,} faces of epoch {epoch.epoch + 1} / of a perfect shuffle"
        lines.append([persons, f"{epoch.persons:,.0f} / {epoch.shuffled:,.0f} = {epoch.ratio:.3f}"])
        if epoch.same_place is not None:
            lines.append(["faces at the place of the epoch before", f"{epoch.same_place:.2%}"])
    lines += [[f"disk: {name}, MiB", f"{size:,.0f}"] for name, size in found.disk_mib.items()]
    lines.append(["load of the machine before", f"{found.load_before:.2f}"])
    return lines
