"""``agesearch data synth``: a dataset of rendered faces with exactly known ages."""

from __future__ import annotations

from typing import Annotated

import typer

from agesearch.cli.common import AddressOption, JsonOption, err, print_json, shown_progress
from agesearch.cli.dataset_notes import tell_empty_splits, tell_next


def add_to(data_app: typer.Typer) -> None:
    """Register ``synth`` in the ``data`` group."""
    data_app.command("synth", epilog="Example: agesearch data synth --count 200 --seed 1 --out faces-synth")(
        synth
    )


def synth(
    count: Annotated[int, typer.Option("--count", help="Number of faces.")],
    out: Annotated[str, typer.Option("--out", help="Dataset folder or URI to write.")],
    seed: Annotated[int, typer.Option("--seed", help="Face i depends on (seed, i) only.")] = 0,
    size: Annotated[int, typer.Option("--size", help="Side of a face in pixels.")] = 112,
    quality: Annotated[int, typer.Option("--quality", help="JPEG quality of the stored faces.")] = 92,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Faces rendered at once (default: one a core).")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Make an existing dataset anew.")] = False,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Render procedural 3-D faces, 1 to 90 years old, as a dataset with exact ages.

    Needs the optional package anny, which the package's extra 'synth' brings.

    The same seed gives the same faces on any number of workers.
    A second run with the same options does nothing.
    """
    from agesearch.data.synthetic.generate import SynthSpec, synthesize
    from agesearch.specs import parse_spec

    spec = parse_spec(
        SynthSpec, {"count": count, "seed": seed, "size": size, "jpeg_quality": quality}, "data synth"
    )
    with shown_progress() as on_progress:
        done = synthesize(
            spec, out, workers=workers, replace=replace, address=address, on_progress=on_progress
        )
    manifest = done.manifest
    tell_empty_splits(manifest.counts, "Make more faces (--count), with --replace.")
    if as_json:
        print_json({"out": out, "is_new": done.is_new, "manifest": manifest.model_dump(mode="json")})
        return
    state = "made:" if done.is_new else "is up to date, nothing to do:"
    parts = ", ".join(f"{name} {number}" for name, number in manifest.counts.items())
    err.print(
        f"{out} {state} {manifest.faces} faces ({parts}).", highlight=False, soft_wrap=True, markup=False
    )
    tell_next(out, manifest)
