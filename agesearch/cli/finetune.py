"""``agesearch finetune``: train a model on by a published protocol, in all of its turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from agesearch.cli.common import (
    AddressOption,
    CheckpointOption,
    JsonOption,
    err,
    out,
    print_json,
    shown_progress,
    table,
)
from agesearch.cli.dataset_notes import tell_order
from agesearch.cli.publish import RegistryOption
from agesearch.cli.stopping import goes_on, stopped

if TYPE_CHECKING:
    from agesearch.training.protocols.finetune import Finetuning

_EXAMPLE = "Example: agesearch finetune teacher --data adience --protocol adience --out adience-teacher"

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Change a value, such as optim.learning_rate=0.001."),
]
ConcurrencyOption = Annotated[
    int | None, typer.Option("--concurrency", help="Trainings at once; default: one a core.")
]


def add_to(app: typer.Typer) -> None:
    """Register ``finetune``."""
    app.command("finetune", epilog=_EXAMPLE, rich_help_panel="Teachers")(finetune)


def finetune(
    model: Annotated[str, typer.Argument(help="Model folder, or NAME, NAME@ALIAS of the registry.")],
    data: Annotated[str, typer.Option("--data", help="Dataset folder or URI.")],
    protocol: Annotated[str, typer.Option("--protocol", help="adience, lap2016, paplham, lopo or standard.")],
    out_folder: Annotated[str, typer.Option("--out", help="Folder for the turns' models and the result.")],
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Passes over the training faces.  [default: the recipe's]")
    ] = None,
    scale: Annotated[
        float, typer.Option("--scale", help="Multiply the recipe's epochs, for a smaller budget.")
    ] = 1.0,
    changes: SetOption = None,
    concurrency: ConcurrencyOption = None,
    checkpoint_minutes: CheckpointOption = None,
    registry: RegistryOption = "registry",
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune a model in every turn of a protocol, and score the tests: mean and spread over the turns.

    'adience' and 'lap2016' follow Greco 2021. Turns train side by side, one core each, into OUT/turns; run
    the same command again to go on with a killed run. A turn that failed ends the command with code 1.
    """
    from agesearch.deploy.registry import model_folder
    from agesearch.measure.protocols import protocol_named
    from agesearch.models.identity import read_model_manifest
    from agesearch.training.protocols.finetune import finetune as run_finetune
    from agesearch.training.protocols.recipes import finetune_spec, parse_changes, recipe_for

    chosen, recipe = protocol_named(protocol), recipe_for(protocol)
    start = model_folder(model, registry)
    values: dict[str, Any] = {} if epochs is None else {"optim.epochs": epochs}
    if checkpoint_minutes is not None:
        values["compute.checkpoint_minutes"] = checkpoint_minutes
    values |= parse_changes(changes or [])
    spec = finetune_spec(recipe, start, read_model_manifest(start), values, scale)
    tell_order(data)
    with (
        stopped(lambda: goes_on("Finished turns and checkpoints", out_folder)),
        shown_progress() as on_progress,
    ):
        record = run_finetune(
            start,
            data,
            chosen,
            recipe,
            spec,
            out_folder,
            concurrency=concurrency,
            address=address,
            on_progress=on_progress,
            warn=_note,
        )
    if as_json:
        print_json(record.model_dump(mode="json"))
    else:
        _show(record, out_folder)
    if record.failed:
        raise typer.Exit(1)


def _show(record: Finetuning, folder: str) -> None:
    from agesearch.reporting.finetunings import score_columns, score_rows

    for kind in record.kinds:
        title = f"{record.protocol}: {len(kind.turns) or 1} of {len(record.turns)} turns, {kind.kind} labels"
        out.print(table(title, score_columns(kind), score_rows(record, kind)))
        _tell(f"Intervals: 95 %, bootstrap over {kind.drawn}.")
    for turn in record.turns:
        if turn.failure:
            _tell(f"[bold red]failed:[/bold red] {escape(turn.name)}: {escape(turn.failure)}")
    start = record.start
    head = "with its head" if start.head else "and a new head"
    _tell(f"Recipe: {escape(record.recipe)}.")
    _tell(f"Started from {start.tensors} tensors of {escape(start.path)} ({start.arch}), {head}.")
    for note in record.notes:
        _note(note)
    _tell(f"Written to {escape(folder)}.")


def _note(words: str) -> None:
    err.print(f"Note: {words}", style="yellow", highlight=False, markup=False)


def _tell(words: str) -> None:
    err.print(words, highlight=False, soft_wrap=True)
