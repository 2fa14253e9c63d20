"""``agesearch data augment``: new faces without labels, made of the faces of a dataset."""

from __future__ import annotations

from typing import Annotated

import typer

from agesearch.cli.common import PLAIN, JsonOption, err, print_json, shown_progress
from agesearch.cli.dataset_notes import tell_next, tell_order

_EXAMPLE = "Example: agesearch data augment faces --views 4 --mixup 8 --cutmix 4 --out faces-augmented"


def add_to(app: typer.Typer) -> None:
    """Register ``augment`` in the group ``data``."""
    app.command("augment", epilog=_EXAMPLE)(augment)


def augment(
    data: Annotated[str, typer.Argument(metavar="DATASET", help="Dataset folder or URI.")],
    out_folder: Annotated[str, typer.Option("--out", help="Dataset folder or URI to write.")],
    views: Annotated[int, typer.Option("--views", help="Jittered views of each face.")] = 4,
    mixup: Annotated[int, typer.Option("--mixup", help="Blends of each face with another.")] = 4,
    cutmix: Annotated[
        int, typer.Option("--cutmix", help="Pictures of each face with a rectangle of another.")
    ] = 4,
    policy: Annotated[
        str, typer.Option("--policy", metavar="default|greco", help="How faces are jittered.")
    ] = "default",
    strength: Annotated[float, typer.Option("--strength", help="How much they are jittered, 0 to 3.")] = 1.0,
    split: Annotated[
        str, typer.Option("--split", metavar="train|val|test|all", help="Faces to make them of.")
    ] = "train",
    folds: Annotated[
        list[int] | None, typer.Option("--fold", help="Faces of this fold only; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of all that is drawn.")] = 0,
    replace: Annotated[bool, typer.Option("--replace", help="Make an existing dataset anew.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make new faces without labels of a dataset's: jittered views, blends of two (mixup), cut and pasted
    ones (cutmix).

    A teacher can label any pixels: give them ages with 'annotate', join them with the faces that they were
    made of with 'data mix', and train a student on the teacher's answers for all of them. No pixel of a face
    outside the chosen split and folds gets in. A second run does nothing.
    """
    from agesearch.api.augment import augment as run_augment

    with shown_progress() as on_progress:
        made = run_augment(
            data,
            out=out_folder,
            views=views,
            mixup=mixup,
            cutmix=cutmix,
            policy=policy,
            strength=strength,
            split=split,
            folds=folds,
            seed=seed,
            replace=replace,
            on_progress=on_progress,
        )
    manifest = made.manifest
    if as_json:
        print_json({"out": out_folder, "is_new": made.is_new, "manifest": manifest.model_dump(mode="json")})
        return
    state = "made:" if made.is_new else "is up to date, nothing to do:"
    of = manifest.augmentation.made_of if manifest.augmentation else 0
    words = f"{manifest.faces:,} faces without labels, made of {of:,} faces of '{data}'."
    err.print(f"{out_folder} {state} {words}", **PLAIN)
    tell_order(data)
    tell_next(out_folder, manifest)
