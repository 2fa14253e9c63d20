"""``agesearch teach``: train a teacher on a dataset's labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from agesearch.cli.common import (
    AddressOption,
    CheckpointOption,
    EpochFacesOption,
    JsonOption,
    ValFacesOption,
    err,
    out,
    print_json,
    shown_progress,
)
from agesearch.cli.dataset_notes import tell_order
from agesearch.cli.stopping import stopped
from agesearch.metrics import (
    VAL_CS5,
    VAL_EXACT_MATCH,
    VAL_KENDALL_TAU,
    VAL_MAE_MEDIAN_YEARS,
    VAL_MAE_YEARS,
    VAL_PROBE_MAE_YEARS,
    VAL_TOP1,
)

if TYPE_CHECKING:
    from agesearch.api.teach import Teacher

_EXAMPLE = "Example: agesearch teach --data faces --arch mobilenetv3_large_100 --out teacher"


def add_to(app: typer.Typer) -> None:
    """Register ``teach``."""
    app.command("teach", epilog=_EXAMPLE, rich_help_panel="Teachers")(teach)


def teach(
    data: Annotated[str, typer.Option("--data", help="Dataset folder or URI.")],
    arch: Annotated[str, typer.Option("--arch", help="Architecture, such as resnet18 or mobilenetv2_100.")],
    out_folder: Annotated[str, typer.Option("--out", help="Folder to write the teacher to.")],
    init: Annotated[
        str, typer.Option("--init", help="random, pretrained (timm's hub), or a file or model to start from.")
    ] = "random",
    input_size: Annotated[int, typer.Option("--input-size", help="Input side in pixels.")] = 112,
    epochs: Annotated[int, typer.Option("--epochs", help="Passes over the training faces.")] = 24,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Faces a step.")] = 32,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Highest rate of AdamW.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option("--weight-decay", help="Decay of AdamW.")] = 0.02,
    label_sigma: Annotated[
        float, typer.Option("--label-sigma", help="Width of the label distribution in years.")
    ] = 2.0,
    augment: Annotated[float, typer.Option("--augment", help="Augmentation strength; 0 for none.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of weights, order and augmentation.")] = 0,
    kind: Annotated[
        Literal["age", "order"],
        typer.Option("--kind", help="age: distributions of ages; order: sorts sequences of faces by age."),
    ] = "age",
    length: Annotated[int, typer.Option("--length", help="Of --kind order: faces of a sequence.")] = 8,
    gap: Annotated[float, typer.Option("--gap", help="Of --kind order: least years between its ages.")] = 1.0,
    order_loss: Annotated[
        str, typer.Option("--order-loss", help="Of --kind order: softsort, sinkhorn or listmle.")
    ] = "softsort",
    temperature: Annotated[
        float, typer.Option("--temperature", help="Of --kind order: that of the relaxed permutation.")
    ] = 1.0,
    workers: Annotated[int, typer.Option("--workers", help="Processes that train together.")] = 1,
    epoch_faces: EpochFacesOption = None,
    val_faces: ValFacesOption = None,
    checkpoint_minutes: CheckpointOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a teacher on the ages of a dataset, by label distribution learning, or to sort faces by age.

    A teacher of the student's own architecture makes a born-again student (Furlanello 2018): give --arch its
    name.

    The best epoch on the validation faces is kept. Ctrl-C writes a checkpoint, in the middle of an epoch too.
    Run the same command again to go on after that or after a kill; a finished one is left as it is.
    """
    from agesearch.api.teach import teach as run_teach

    tell_order(data)
    with stopped(lambda: _kept(out_folder, epochs)), shown_progress() as on_progress:
        taught = run_teach(
            data=data,
            arch=arch,
            out=out_folder,
            init=init,
            input_size=input_size,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            label_sigma=label_sigma,
            augment=augment,
            seed=seed,
            kind=kind,
            length=length,
            gap=gap,
            order_loss=order_loss,
            temperature=temperature,
            workers=workers,
            epoch_faces=epoch_faces,
            val_faces=val_faces,
            checkpoint_minutes=checkpoint_minutes,
            address=address,
            on_progress=on_progress,
        )
    if as_json:
        print_json(taught.manifest.model_dump(mode="json"))
        return
    if kind == "order":
        _tell_order(taught, length)
    else:
        _tell(taught)
    _warn(taught.metrics)
    err.print(f"Written to {escape(out_folder)}.", highlight=False, soft_wrap=True)


def _tell_order(taught: Teacher, length: int) -> None:
    found, model = taught.metrics, taught.manifest.model
    out.print(
        f"Order teacher {model.arch} at {model.input_size} px: "
        f"Kendall tau [bold]{found[VAL_KENDALL_TAU]:.3f}[/bold], {found[VAL_EXACT_MATCH]:.1%} of the "
        f"validation sequences of {length} without a fault; linear probe "
        f"{found[VAL_PROBE_MAE_YEARS]:.2f} years off.",
        highlight=False,
        soft_wrap=True,
    )


def _tell(taught: Teacher) -> None:
    found, model = taught.metrics, taught.manifest.model
    if VAL_MAE_YEARS in found:
        good = (
            f"val MAE [bold]{found[VAL_MAE_YEARS]:.2f}[/bold] years, {found[VAL_CS5]:.0%} within 5 years "
            f"(always the median: {found[VAL_MAE_MEDIAN_YEARS]:.2f} years)"
        )
    else:
        good = f"[bold]{found[VAL_TOP1]:.1%}[/bold] of the validation faces in the right age group"
    out.print(f"Teacher {model.arch} at {model.input_size} px: {good}.", highlight=False, soft_wrap=True)


def _warn(metrics: Mapping[str, float]) -> None:
    from agesearch.training.collapse import collapse

    fault = collapse(metrics)
    if fault:
        err.print(f"Warning: {fault}", style="yellow", highlight=False, markup=False, soft_wrap=True)


def _kept(folder: str, epochs: int) -> str:
    """What a training that was stopped leaves, and how to go on."""
    from agesearch.storage import Location
    from agesearch.training.checkpoint import epochs_saved

    done = epochs_saved(Location.of(folder))
    if done is None:
        return f"There is no checkpoint in '{folder}' yet: the same command starts anew."
    return f"{done:g} of {epochs} epochs are kept in '{folder}': the same command goes on after them."
