"""``agesearch measure decisions``: models at an age limit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli.common import JsonOption, err, lines_table, out, print_json, shown_progress
from agesearch.cli.publish import RegistryOption

if TYPE_CHECKING:
    from agesearch.measure.decisions.records import Decisions
    from agesearch.storage import Location

_EXAMPLE = "Example: agesearch measure decisions teacher --data faces --legal-age 18 --challenge 25"
_MODELS = (
    "Model folders, studies (their front), teachers' documents, or NAME, NAME@ALIAS, NAME:VERSION of the "
    "registry."
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("decisions", epilog=_EXAMPLE)(measure_decisions)


def measure_decisions(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help=_MODELS)],
    data: Annotated[str, typer.Option("--data", help="Dataset folder or URI.")],
    legal_age: Annotated[
        float, typer.Option("--legal-age", metavar="L", help="Who is younger must not pass.")
    ],
    challenge: Annotated[
        float | None,
        typer.Option("--challenge", metavar="T", help="Pass from this estimate on.  [default: L]"),
    ] = None,
    max_fpr: Annotated[
        float | None,
        typer.Option("--max-fpr", metavar="SHARE", help="Find the T whose worst cell passes no more."),
    ] = None,
    min_faces: Annotated[int, typer.Option("--min-faces", min=1, help="Cells with fewer have no rate.")] = 30,
    split: Annotated[
        str, typer.Option("--split", metavar="train|val|test|all", help="The faces that are judged.")
    ] = "test",
    folds: Annotated[
        list[int] | None, typer.Option("--fold", help="Faces of this fold only; repeatable.")
    ] = None,
    out_file: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="Write the page: .html, or the record: .json.")
    ] = None,
    registry: RegistryOption = "registry",
    as_json: JsonOption = False,
) -> None:
    """Tell who passes an age limit: who is too young and passes, who is old enough and refused.

    Rates with intervals by age, sex and group; the challenge age that a target rate needs, and the buffer
    that it costs; false adults of all ages; three answers (pass, refuse, unsure) by calibrated intervals;
    errors as NIST asks for them. A face passes if and only if its estimate is at least the challenge age.
    """
    from agesearch.deploy.places import measured_models
    from agesearch.measure.decisions.run import DecisionSpec
    from agesearch.measure.decisions.run import measure_decisions as run_decisions
    from agesearch.measure.protocols import split_named

    target = None if out_file is None else _target(out_file)
    spec = DecisionSpec(
        legal_age=legal_age,
        challenge_age=challenge,
        max_fpr=max_fpr,
        min_faces=min_faces,
        split=None if split == "all" else split_named(split),
        folds=tuple(folds) if folds else None,
    )
    with shown_progress() as on_progress:
        found = run_decisions(measured_models(models, registry), data, spec, on_progress=on_progress)
    if target is not None:
        _write(found, target)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _show(found)


def _target(name: str) -> Location:
    from agesearch.artefacts import own_page
    from agesearch.errors import InputError
    from agesearch.storage import Location

    if name.endswith(".html"):
        return own_page(name)
    if not name.endswith(".json"):
        raise InputError(f"--out is '{name}', but its name must end with .html or .json.")
    return Location.of(name)


def _write(record: Decisions, target: Location) -> None:
    from agesearch.reporting.decisions.page import write_decisions

    if target.name.endswith(".html"):
        write_decisions(record, target)
    else:
        target.write_json(record.model_dump(mode="json"))


def _show(record: Decisions) -> None:
    from agesearch.measure.decisions.rules import sides
    from agesearch.measure.intervals import basis
    from agesearch.reporting.decisions.tables import decision_tables

    for model in record.models:
        for lines in decision_tables(record, model):
            title = f"{model.name}: {lines.title}" if len(record.models) > 1 else lines.title
            out.print(lines_table(replace(lines, title=title)))
        for note in model.notes:
            words = f"Note: {model.name}: {note}" if len(record.models) > 1 else f"Note: {note}"
            err.print(words, style="yellow", highlight=False, markup=False)
    for why, count in record.left_out.items():
        err.print(f"Note: {count:,} faces left out: {why}.", style="yellow", highlight=False, markup=False)
    faces, (below, reached) = basis(record.minors + record.adults, record.persons), sides(record.legal_age)
    err.print(
        f"{faces} of {record.dataset}, {record.part}: {record.minors:,} {below}, {record.adults:,} {reached}"
        f". Brackets: 95 % intervals over persons. Too few: under {record.min_faces} faces. T*: the smallest "
        "challenge age at which no cell passes more.",
        highlight=False,
        markup=False,
    )
