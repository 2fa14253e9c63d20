"""``agesearch data check``: does a dataset's split hold?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli.common import PLAIN, JsonOption, err, out, print_json, shown_progress, table
from agesearch.cli.dataset_notes import tell_order

if TYPE_CHECKING:
    from agesearch.data.audit.check import CheckRecord

_EXAMPLE = "Example: agesearch data check faces/photos --model runs/models/student"
_SHOWN = 10


def add_to(app: typer.Typer) -> None:
    """Register ``check`` in the group ``data``."""
    app.command("check", epilog=_EXAMPLE)(check)


def check(
    dataset: Annotated[str, typer.Argument(help="Dataset folder or URI.")],
    model: Annotated[
        str | None, typer.Option("--model", help="Model folder: list the faces it disagrees with most.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify that no subject and no photograph is in two splits; list odd labels and missing ages.

    Exit code 1 where something leaks. The findings go to check.json in the dataset, for the data card.
    """
    from agesearch.data.audit.check import check_dataset, read_check

    ages_of = None
    if model is not None:
        from agesearch.distill.stored_answers import crop_notes_of
        from agesearch.models.predict import age_predictor

        ages_of = age_predictor(model, dataset)
        for note in crop_notes_of(dataset, teacher=model):
            err.print(f"Note: {note}", **PLAIN)
    with shown_progress() as on_progress:
        record = check_dataset(dataset, ages_of=ages_of, model=model, on_progress=on_progress)
    if as_json:
        print_json(record.model_dump(mode="json"))
    else:
        _tell(record)
        kept = (
            "the findings are in check.json" if read_check(dataset) == record else "the folder is read-only"
        )
        err.print(f"{record.faces} faces checked; {kept}.", **PLAIN)
    tell_order(dataset)
    if record.verdict == "leaks":
        raise typer.Exit(1)


def _tell(record: CheckRecord) -> None:
    for leak in record.leaks:
        out.print(f"leak      {leak}", **PLAIN)
    for warning in record.warnings:
        out.print(f"warning   {warning}", **PLAIN)
    if record.copies:
        rows = [
            [str(copies.size), str(copies.distance), f"{copies.similarity:.3f}", face.place, face.sample_id]
            for copies in record.copies[:_SHOWN]
            for face in copies.faces[:2]
        ]
        out.print(
            table("one photograph, two splits", ["faces", "bits", "similarity", "place", "sample"], rows)
        )
    if record.suspects:
        rows = [
            [suspect.kind.replace("_", " "), suspect.detail, suspect.faces[0].sample_id]
            for suspect in record.suspects[:_SHOWN]
        ]
        out.print(table("labels worth a look", ["kind", "why", "sample"], rows))
    exclusive = {True: "yes", False: "NO", None: "cannot be told"}[record.subject_exclusive]
    out.print(f"subject-exclusive  {exclusive}", **PLAIN)
    out.print(f"same-split copies  {record.counts['photographs_within']} photographs", **PLAIN)
    if record.ages.largest is not None:
        share = f"{record.ages.largest_share:.0%} of the labelled faces"
        out.print(f"largest decade     {record.ages.largest} ({share})", **PLAIN)
    out.print(f"verdict            {record.verdict}", **PLAIN)
