"""``agesearch matrix``: one model a dataset, each tested on every dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from agesearch.cli.common import AddressOption, JsonOption, err, out, print_json, shown_progress, table
from agesearch.cli.dataset_notes import tell_order
from agesearch.cli.finetune import ConcurrencyOption, SetOption
from agesearch.cli.publish import RegistryOption
from agesearch.cli.stopping import goes_on, stopped

if TYPE_CHECKING:
    from agesearch.specs import TrainSpec
    from agesearch.training.protocols.matrix import Matrix

_EXAMPLE = "Example: agesearch matrix --data agedb --data utkface --arch mobilenetv3_small_100 --out across"


def add_to(app: typer.Typer) -> None:
    """Register ``matrix``."""
    app.command("matrix", epilog=_EXAMPLE, rich_help_panel="Results")(matrix)


def matrix(
    data: Annotated[list[str], typer.Option("--data", help="Dataset folder or URI; give two or more.")],
    out_folder: Annotated[str, typer.Option("--out", help="Folder for models, result and heat map.")],
    arch: Annotated[str | None, typer.Option("--arch", help="Architecture to train on each dataset.")] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", help="Instead: a trained model for each --data, in the same order."),
    ] = None,
    init: Annotated[
        str, typer.Option("--init", help="random, pretrained (timm's hub), or a file or model to start from.")
    ] = "random",
    input_size: Annotated[int, typer.Option("--input-size", help="Input side in pixels.")] = 96,
    epochs: Annotated[int, typer.Option("--epochs", help="Passes over the training faces.")] = 24,
    changes: SetOption = None,
    concurrency: ConcurrencyOption = None,
    registry: RegistryOption = "registry",
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train one network a dataset and test each on every dataset: a table, result.json and a heat map.

    Models train side by side, one core each; run the same command again to go on with a killed run. A
    training that failed ends the command with code 1.
    """
    from agesearch.deploy.registry import model_folder
    from agesearch.reporting.matrices import matrix_rows, write_matrix
    from agesearch.training.protocols.matrix import train_matrix
    from agesearch.training.protocols.recipes import parse_changes

    network = {"model.input_size": input_size, "optim.epochs": epochs, **_init(init)}
    spec = None if arch is None else _spec(arch, network | parse_changes(changes or []))
    folders = [model_folder(model, registry) for model in models or []]
    tell_order(*data)
    with (
        stopped(lambda: goes_on("Finished networks and checkpoints", out_folder)),
        shown_progress() as on_progress,
    ):
        record = train_matrix(
            data,
            out_folder,
            spec=spec,
            models=folders,
            concurrency=concurrency,
            address=address,
            on_progress=on_progress,
        )
    written = write_matrix(record, out_folder)
    if as_json:
        print_json(record.model_dump(mode="json"))
    else:
        columns = ["trained on", "tested on", "MAE, years (95 %)", "CS@5", "bias", "over"]
        out.print(table("Across datasets", columns, matrix_rows(record)))
        _tell(record, [str(place) for place in written])
    if record.failed:
        raise typer.Exit(1)


def _spec(arch: str, values: dict[str, Any]) -> TrainSpec:
    from agesearch.specs import ModelSpec, TrainSpec

    return TrainSpec(model=ModelSpec(arch=arch)).with_values(values)


def _init(init: str) -> dict[str, str]:
    from agesearch.models.foreign.document import start_named

    return {f"model.{field}": value for field, value in start_named(init).items()}


def _tell(record: Matrix, written: list[str]) -> None:
    for row in record.rows:
        if row.failure:
            words = f"[bold red]failed:[/bold red] {escape(row.trained_on)}: {escape(row.failure)}"
            err.print(words, highlight=False, soft_wrap=True)
    for note in record.notes:
        err.print(f"Note: {note}", style="yellow", highlight=False, markup=False)
    err.print(f"Written: {escape(', '.join(written))}.", highlight=False, soft_wrap=True)
