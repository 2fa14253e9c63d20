"""``agesearch export``: a model in the form that a phone, a board or a browser runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agesearch.cli.calibrate import PickOption
from agesearch.cli.common import PLAIN, JsonOption, err, out, print_json, shown_progress
from agesearch.cli.publish import RegistryOption

if TYPE_CHECKING:
    from agesearch.deploy.formats.run import Exported

_EXAMPLE = "Example: agesearch export ages --to web --data faces --out page"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("export", rich_help_panel="Results", epilog=_EXAMPLE)(export)


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Model folder, study, or NAME of the registry.")
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="onnx|openvino|web|litert|executorch", help="The format.")
    ],
    out_place: Annotated[
        str | None,
        typer.Option(
            "--out", help="New folder, or a file that ends as the format's do. Default: NAME-FORMAT."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Dataset whose faces it is checked on; default: the study's own."),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision", metavar="fp32|int8", help="int8: where the version has it; not all formats."
        ),
    ] = "fp32",
    pick: PickOption = "knee",
    registry: RegistryOption = "registry",
    as_json: JsonOption = False,
) -> None:
    """Write a model as ONNX, OpenVINO IR, LiteRT or ExecuTorch, or as one offline web page.

    Real faces are answered in the format's own runtime first; where the ages are not those of the network,
    nothing is written. FILE.json beside it says how to feed it and how to read its answer. The web page
    finds the face and estimates its age in the browser, and no picture leaves that.
    """
    from agesearch.deploy.formats.run import export_model

    with shown_progress() as on_progress:
        found = export_model(
            model,
            to,
            out=out_place,
            data=data,
            precision=precision,
            pick=pick,
            registry=registry,
            on_progress=on_progress,
        )
    if as_json:
        print_json(document(found))
    else:
        _tell(found)


def document(found: Exported) -> dict[str, Any]:
    """The record, and where it and the model lie."""
    places = {"place": str(found.place), "record_file": str(found.record_file)}
    return places | found.record.model_dump(mode="json")


def _tell(found: Exported) -> None:
    record, parity = found.record, found.record.parity
    runtime = " ".join(f"{name} {version}" for name, version in record.checked_in.items())
    err.print(
        f"Checked in {runtime} on {record.checked_on['faces']} faces of {record.checked_on['data']}, against "
        f"{record.checked_against}: ages differ by {parity['age_max_difference_years']:.2g} years at most "
        f"(allowed: {parity['age_tolerance_years']:g}), probabilities by {parity['pmf_max_difference']:.2g} "
        f"(allowed: {parity['pmf_tolerance']:g}).",
        **PLAIN,
    )
    beside = record.beside_fp32
    if beside is not None:
        err.print(
            f"In int8 ages are {beside['age_mean_difference_years']:.2g} years from fp32's on average, "
            f"{beside['age_max_difference_years']:.2g} at most.",
            **PLAIN,
        )
    err.print(f"How to feed it and read its answer: {found.record_file}", **PLAIN)
    size = sum(file.bytes for file in record.files.values())
    out.print(f"Exported: {found.place} ({size:,} bytes)", **PLAIN)
