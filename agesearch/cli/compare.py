"""``agesearch compare``: methods x seeds on one dataset, with intervals over faces and seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from agesearch.cli.common import AddressOption, JsonOption, err, out, print_json, shown_progress, table
from agesearch.cli.dataset_notes import tell_order
from agesearch.cli.finetune import ConcurrencyOption
from agesearch.cli.stopping import goes_on, stopped

if TYPE_CHECKING:
    from agesearch.training.comparison.records import MethodComparison

_EXAMPLE = "Example: agesearch compare search_spaces/compare/portraits.yaml --data portraits --out compared"


def add_to(app: typer.Typer) -> None:
    """Register ``compare``."""
    app.command("compare", epilog=_EXAMPLE, rich_help_panel="Results")(compare)


def compare(
    specs: Annotated[list[str], typer.Argument(metavar="SPEC...", help="Files of methods (YAML).")],
    data: Annotated[str, typer.Option("--data", help="Dataset folder or URI.")],
    out_folder: Annotated[str, typer.Option("--out", help="Folder for teachers, trainings and result.")],
    seeds: Annotated[int, typer.Option("--seeds", help="Trainings of each method.")] = 3,
    split: Annotated[str, typer.Option("--split", help="Faces to compare on: test or val.")] = "test",
    reference: Annotated[
        str | None, typer.Option("--reference", help="The method to compare with.  [default: the first]")
    ] = None,
    scale: Annotated[
        float, typer.Option("--scale", help="Multiply all epochs (below one: faces), teachers' too.")
    ] = 1.0,
    concurrency: ConcurrencyOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare methods that share backbone, budget and preprocessing: paired differences, ties called ties.

    Teachers are trained once, then methods x seeds side by side, one core each; run the same command again to
    go on with a killed run, or with more seeds. Writes result.json and comparison.svg, .html and .md. A
    training that failed ends the command with code 1.
    """
    from agesearch.data.dataset.records import Split
    from agesearch.errors import unknown_name
    from agesearch.reporting.comparisons import write_comparison
    from agesearch.training.comparison.methods import load_methods
    from agesearch.training.comparison.run import compare as run_comparison

    if split not in (Split.TEST, Split.VAL):
        raise unknown_name("split to compare on", split, (Split.TEST, Split.VAL))
    methods = load_methods(specs, reference=reference, scale=scale)
    tell_order(data)
    with (
        stopped(lambda: goes_on("Finished trainings and checkpoints", out_folder)),
        shown_progress() as on_progress,
    ):
        record = run_comparison(
            methods,
            data,
            out_folder,
            seeds=seeds,
            split=Split(split),
            concurrency=concurrency,
            address=address,
            on_progress=on_progress,
        )
    written = write_comparison(record, out_folder)
    if as_json:
        print_json(record.model_dump(mode="json"))
    else:
        _show(record)
    _tell(record, [str(place) for place in written])
    if record.failed:
        raise typer.Exit(1)


def _show(record: MethodComparison) -> None:
    from agesearch.reporting.comparisons import (
        COLUMNS,
        TEACHER_COLUMNS,
        comparison_rows,
        headlines,
        legend,
        teacher_rows,
    )

    out.print(table(f"Methods on {record.dataset_name}", COLUMNS, comparison_rows(record)))
    if record.teachers:
        out.print(table("Teachers", TEACHER_COLUMNS, teacher_rows(record)))
    for line in (*headlines(record), legend(record)):
        out.print(line, highlight=False, markup=False)


def _tell(record: MethodComparison, written: list[str]) -> None:
    for method in record.methods:
        for run in method.trainings:
            if run.failure:
                words = f"{escape(method.name)}, seed {run.seed}: {escape(run.failure)}"
                err.print(f"[bold red]failed:[/bold red] {words}", highlight=False, soft_wrap=True)
    for note in record.notes:
        err.print(f"Note: {note}", style="yellow", highlight=False, markup=False)
    err.print(f"Written: {escape(', '.join(written))}.", highlight=False, soft_wrap=True)
