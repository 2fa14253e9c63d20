"""``agesearch report``: measure what is not measured yet, and write the report of a study or of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agesearch.cli.common import AddressOption, JsonOption, err, out, print_json, shown_progress
from agesearch.cli.publish import RegistryOption

if TYPE_CHECKING:
    from agesearch.api.report import WrittenReport

_EXAMPLE = "Example: agesearch report studies/first --out first.html"
_TARGETS = (
    "A study's folder; or model folders, teachers' documents, NAME, NAME@ALIAS, NAME:VERSION of the "
    "registry. More of them stand beside the first."
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("report", rich_help_panel="Results", epilog=_EXAMPLE)(report)


def report(
    targets: Annotated[list[str], typer.Argument(metavar="STUDY|MODEL...", help=_TARGETS)],
    to: Annotated[
        str, typer.Option("--out", metavar="FILE", help="HTML file; .json and .md are written beside it.")
    ] = "report.html",
    pick: Annotated[
        str, typer.Option("--pick", metavar="knee|best|fastest|TRIAL", help="The student of a study.")
    ] = "knee",
    with_models: Annotated[
        list[str] | None,
        typer.Option(
            "--with", metavar="MODEL.onnx:MANIFEST", help="A model to stand beside, any MODEL; repeatable."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Dataset to measure on; default: where the study found it."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", help="Where the teacher is now; default: where the study found it."),
    ] = None,
    faces_from: Annotated[
        list[str] | None,
        typer.Option(
            "--faces-from",
            metavar="SOURCE",
            help="Show faces of this source, whose licence allows it; repeatable.  [default: no faces]",
        ),
    ] = None,
    no_faces: Annotated[bool, typer.Option("--no-faces", help="Show no faces.")] = False,
    figures: Annotated[
        str | None, typer.Option("--figures", metavar="DIR", help="Write a study's charts as SVG files too.")
    ] = None,
    records: Annotated[
        list[str] | None,
        typer.Option(
            "--record", metavar="FILE", help="A record of 'measure', in place of measuring; repeatable."
        ),
    ] = None,
    legal_age: Annotated[
        float, typer.Option("--legal-age", metavar="L", help="Age limit of the decisions.")
    ] = 18.0,
    challenge: Annotated[
        float | None, typer.Option("--challenge", metavar="T", help="Challenge age to tell of.")
    ] = None,
    max_fpr: Annotated[
        float | None,
        typer.Option("--max-fpr", metavar="SHARE", help="Rate that the worst cell must not pass."),
    ] = None,
    min_faces: Annotated[
        int, typer.Option("--min-faces", min=1, help="Of cells with fewer, decisions tell no rate.")
    ] = 30,
    counterfactual_persons: Annotated[
        int,
        typer.Option(
            "--counterfactual-persons", min=0, help="Persons to render and change (needs the extra synth)."
        ),
    ] = 0,
    judge: Annotated[
        bool, typer.Option("--judge", help="Judge bf16 and int8 on the validation faces, and time them.")
    ] = False,
    robustness_faces: Annotated[
        int | None,
        typer.Option("--robustness-faces", min=1, help="Faces to corrupt, at most.  [default: 200]"),
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option(
            "--skip",
            metavar="speed|validation|test|robustness|decisions",
            help="Leave this out; its section says how to fill it. Repeatable.",
        ),
    ] = None,
    registry: RegistryOption = "registry",
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the report of a study, or of models: one HTML file that opens with no network, and its facts.

    What it needs and is not there yet is measured first, and kept (a study's in its folder, models' beside
    the page), so that a second report takes seconds. A section that cannot be filled says why, and by what.
    """
    from agesearch.api.report import report as write_report

    with shown_progress() as on_progress:
        found = write_report(
            targets,
            out=to,
            pick=pick,
            with_models=with_models or (),
            data=data,
            teacher=teacher,
            faces_from=() if no_faces else faces_from or (),
            figures=figures,
            records=records or (),
            legal_age=legal_age,
            challenge=challenge,
            max_fpr=max_fpr,
            min_faces=min_faces,
            counterfactual_persons=counterfactual_persons,
            judge=judge,
            robustness_faces=robustness_faces,
            skip=skip or (),
            registry=registry,
            address=address,
            on_progress=on_progress,
        )
    if as_json:
        print_json(_as_json(found, targets[0]))
    else:
        _tell(found)


def _tell(found: WrittenReport) -> None:
    out.print(f"Report: {found.path}", highlight=False, markup=False, soft_wrap=True)
    for file in found.charts:
        out.print(f"Figure: {file}", highlight=False, markup=False, soft_wrap=True)
    for sentence in (found.headline, *found.sentences):
        err.print(f"  {sentence}", highlight=False, markup=False)
    for name, (why, fill) in found.not_filled.items():
        if fill:
            words = f"Nothing on {name}: {why.rstrip('.')}. Filled by: {fill}"
            err.print(f"  {words}", highlight=False, markup=False, style="yellow")


def _as_json(found: WrittenReport, study: str) -> dict[str, Any]:
    from agesearch.reporting.findings import read_findings
    from agesearch.reporting.summary import summary_figures
    from agesearch.search.store.records import StudyFolder
    from agesearch.storage import Location

    folder = StudyFolder(Location.of(study))
    return {
        "report": found.path,
        "figures": list(found.charts),
        "headline": found.headline,
        "headline_figures": found.figures,
        "not_filled": {name: why for name, (why, _) in found.not_filled.items()},
        **(summary_figures(read_findings(folder)) if folder.exists() else {}),
    }
