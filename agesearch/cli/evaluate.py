"""``agesearch evaluate``: how good models are on a dataset, by a published protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agesearch.cli.common import JsonOption, err, lines_table, out, print_json, shown_progress
from agesearch.cli.publish import RegistryOption

if TYPE_CHECKING:
    from agesearch.measure.evaluate import Evaluation

_EXAMPLE = "Example: agesearch evaluate teacher --data faces --protocol standard --split val"
_PROTOCOLS = "standard, lap2016, adience, lfw+, lopo (leave one person out, FG-NET) or paplham."


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("evaluate", rich_help_panel="Results", epilog=_EXAMPLE)(evaluate)


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="Model folders, or NAME, NAME@ALIAS, NAME:VERSION of the registry."
        ),
    ],
    data: Annotated[str, typer.Option("--data", help="Dataset folder or URI.")],
    protocol: Annotated[str, typer.Option("--protocol", help=_PROTOCOLS)] = "standard",
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="train|val|test", help="What 'standard' tests.  [default: test]"),
    ] = None,
    k: Annotated[float, typer.Option("--k", help="Years of CS@k, the share of faces within k years.")] = 5.0,
    runtime: Annotated[
        Literal["onnx", "torch"], typer.Option("--runtime", help="What runs the model.")
    ] = "onnx",
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, max=256, help="Threads; default: all cores.")
    ] = None,
    registry: RegistryOption = "registry",
    out_file: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE", help="Write the record: .json, or .csv of its figures."),
    ] = None,
    predictions: Annotated[
        str | None, typer.Option("--predictions", metavar="FILE", help="Write a row a face: .parquet.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score models on a dataset by a published protocol, with 95 % intervals; several models side by side."""
    from agesearch.deploy.registry import model_folders
    from agesearch.measure.evaluate import evaluate as run_evaluate
    from agesearch.measure.files import checked_files, write_predictions, write_record
    from agesearch.measure.protocols import protocol_named, split_named

    checked_files(out_file, predictions)
    chosen = protocol_named(protocol, split=split_named(split), k=k)
    folders = model_folders(models, registry)
    with shown_progress() as on_progress:
        found = run_evaluate(folders, data, chosen, runtime=runtime, threads=threads, on_progress=on_progress)
    if out_file is not None:
        write_record(found.record, out_file)
    if predictions is not None:
        write_predictions(found.predictions, predictions)
    if as_json:
        print_json(found.record.model_dump(mode="json"))
    else:
        _show(found.record)


def _show(record: Evaluation) -> None:
    from agesearch.reporting.evaluations import evaluation_tables, legend

    for lines in evaluation_tables(record):
        out.print(lines_table(lines))
    for model in record.models:
        out.print(
            f"{model.name}: {model.arch} @ {model.input_size} px, model {model.model_digest}; "
            f"data {record.dataset.content_digest}; {record.runtime}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    for reason, count in record.left_out.items():
        _note(f"{count:,} face{'s' if count > 1 else ''} left out: {reason}.")
    for model in record.models:
        for note in model.notes:
            _note(f"{model.name}: {note}" if len(record.models) > 1 else note)
    err.print(legend(record), highlight=False, markup=False)


def _note(words: str) -> None:
    err.print(f"Note: {words}", style="yellow", highlight=False, markup=False)
