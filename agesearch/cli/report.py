"""``agesearch report``: measure a study's front where that is not done yet, and write its report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agesearch.cli.common import AddressOption, JsonOption, err, out, print_json, shown_progress

if TYPE_CHECKING:
    from agesearch.storage import Location

_EXAMPLE = "Example: agesearch report studies/first --out first.html"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("report", rich_help_panel="Results", epilog=_EXAMPLE)(report)


def report(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Study folder.")],
    to: Annotated[str, typer.Option("--out", metavar="FILE", help="HTML file to write.")] = "report.html",
    pick: Annotated[
        str, typer.Option("--pick", metavar="knee|best|fastest|TRIAL", help="The student to examine.")
    ] = "knee",
    data: Annotated[
        str | None,
        typer.Option("--data", help="Where the dataset is now; default: where the study found it."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", help="Where the teacher is now; default: where the study found it."),
    ] = None,
    faces_from: Annotated[
        list[str] | None,
        typer.Option("--faces-from", metavar="SOURCE", help="Show faces of this source only; repeatable."),
    ] = None,
    no_faces: Annotated[bool, typer.Option("--no-faces", help="Show no faces.")] = False,
    figures: Annotated[
        str | None, typer.Option("--figures", metavar="DIR", help="Write the charts as SVG files too.")
    ] = None,
    robustness_faces: Annotated[
        int, typer.Option("--robustness-faces", min=1, help="Validation faces to corrupt, at most.")
    ] = 500,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a study's report: one HTML file that opens with no network.

    What it needs and is not there yet is measured first (speed side by side, predictions, robustness) and
    kept in the study's folder, so that a second report takes seconds.
    """
    from agesearch.artefacts import own_page
    from agesearch.reporting.figures import write_figures
    from agesearch.reporting.report import build_report
    from agesearch.search.front.measure import measure_study
    from agesearch.search.front.measurements import MeasureSpec
    from agesearch.search.store.records import open_study

    folder, target = open_study(study), own_page(to)
    charts = None if figures is None else _folder_of_charts(figures)
    with shown_progress() as on_progress:
        measure_study(
            folder,
            pick=pick,
            spec=MeasureSpec(robustness_faces=robustness_faces),
            dataset=data,
            teacher=teacher,
            address=address,
            on_progress=on_progress,
        )
    build_report(folder, target, faces_from=[] if no_faces else faces_from)
    written = write_figures(folder, charts) if charts else []
    if as_json:
        print_json(_as_json(folder, target, written))
        return
    out.print(f"Report: {target}", highlight=False, markup=False, soft_wrap=True)
    for file in written:
        out.print(f"Figure: {file}", highlight=False, markup=False, soft_wrap=True)
    _print_summary(folder)


def _folder_of_charts(path: str) -> Location:
    from agesearch.artefacts import writable_folder
    from agesearch.storage import Location

    place = Location.of(path)
    if place.is_local:
        writable_folder(place.local(), place)
    return place


def _print_summary(folder: Any) -> None:
    from agesearch.reporting.findings import read_findings
    from agesearch.reporting.summary import summary

    for sentence in summary(read_findings(folder)):
        err.print(f"  {sentence}", highlight=False, markup=False)


def _as_json(folder: Any, target: Location, figures: list[Location]) -> dict[str, Any]:
    from agesearch.reporting.findings import read_findings
    from agesearch.reporting.summary import summary_figures

    return {
        "report": str(target),
        "figures": [str(file) for file in figures],
        **summary_figures(read_findings(folder)),
    }
