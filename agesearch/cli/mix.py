"""``agesearch data mix``: several datasets become one, by a spec."""

from __future__ import annotations

from typing import Annotated

import typer

from agesearch.cli.common import PLAIN, JsonOption, err, print_json, shown_progress
from agesearch.cli.dataset_notes import tell_empty_splits, tell_next

_EXAMPLE = "Example: agesearch data mix mixture.yaml --out faces-mixed"


def add_to(app: typer.Typer) -> None:
    """Register ``mix`` in the group ``data``."""
    app.command("mix", epilog=_EXAMPLE)(mix)


def mix(
    spec_file: Annotated[str, typer.Argument(metavar="SPEC.yaml", help="The datasets and their weights.")],
    out_folder: Annotated[str, typer.Option("--out", help="Dataset folder or URI to write.")],
    replace: Annotated[bool, typer.Option("--replace", help="Make an existing dataset anew.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Mix datasets into one, each face with its own kind of label and its weight in training.

    The spec lists the datasets: `datasets: [{data: faces/a, weight: 2}, {data: faces/b, splits: [train]}]`.
    Test faces are taken first; a photograph that was taken before is left out of the later splits.
    """
    from agesearch.data.mixture import MixtureSpec, kinds_by_split
    from agesearch.data.mixture import mix as run_mix
    from agesearch.specs import load_spec

    spec = load_spec(MixtureSpec, spec_file)
    with shown_progress() as on_progress:
        manifest, is_new = run_mix(spec, out_folder, replace=replace, on_progress=on_progress)
    kinds = kinds_by_split(out_folder)
    tell_empty_splits(manifest.counts, "Give it faces of one of the datasets ('splits: [train, val, test]').")
    if as_json:
        document = {"out": out_folder, "is_new": is_new, "manifest": manifest.model_dump(mode="json")}
        print_json(document | {"label_kinds": kinds})
        return
    state = "made:" if is_new else "is up to date, nothing to do:"
    err.print(f"{out_folder} {state} {manifest.faces} faces of {len(spec.datasets)} datasets.", **PLAIN)
    for split, found in kinds.items():
        shown = ", ".join(f"{kind} {count}" for kind, count in found.items()) or "no faces"
        err.print(f"{split}: {shown}", **PLAIN)
        if split != "train" and len(found) > 1:
            err.print(
                f"  An error over all of '{split}' mixes {len(found)} kinds of label: take it from one "
                f"dataset only ('splits: [train]' for the others), or read the figures by kind.",
                **PLAIN,
            )
    if manifest.left_out:
        shown = ", ".join(f"{reason} {count}" for reason, count in manifest.left_out.items())
        err.print(f"Left out, see quarantine.parquet: {shown}.", **PLAIN)
    tell_next(out_folder, manifest)
