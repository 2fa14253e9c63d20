"""``agesearch annotate``: a teacher gives faces the ages they lack."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated, Literal

import typer

from agesearch.cli.common import AddressOption, JsonOption, err, out, print_json, shown_progress, table
from agesearch.cli.dataset_notes import tell_empty_splits
from agesearch.cli.stopping import goes_on, stopped
from agesearch.cli.targets import CalibrationOption

_EXAMPLE = "Example: agesearch annotate --teacher teacher --data unlabelled --max-spread 8 --out annotated"


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("annotate", rich_help_panel="Teachers", epilog=_EXAMPLE)(annotate)


def annotate(
    teacher: Annotated[
        str, typer.Option("--teacher", help="Model folder, or the YAML of a foreign teacher or an ensemble.")
    ],
    data: Annotated[str, typer.Option("--data", help="Dataset of faces without ages, or with some.")],
    out_folder: Annotated[str, typer.Option("--out", help="Dataset folder or URI to write.")],
    calibration: CalibrationOption = None,
    labelled: Annotated[
        Literal["keep", "replace", "leave-out"],
        typer.Option("--labelled", help="What becomes of faces that have an age or a group already."),
    ] = "keep",
    max_spread: Annotated[
        float | None,
        typer.Option("--max-spread", metavar="YEARS", help="Leave out wider answers (standard deviation)."),
    ] = None,
    min_confidence: Annotated[
        float | None,
        typer.Option(
            "--min-confidence", metavar="SHARE", help="Least mass within 5 years of the age, 0 to 1."
        ),
    ] = None,
    balance: Annotated[
        int | None,
        typer.Option("--balance", metavar="N", help="At most N training faces of each decade of age."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Which faces of a full decade stay.")] = 0,
    replace: Annotated[bool, typer.Option("--replace", help="Make an existing dataset anew.")] = False,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give faces the ages they lack, by a teacher: the result is a dataset like any other.

    Its kind of label is 'teacher' (or each face its own, where some had labels). What is not kept is in
    quarantine.parquet with its reason. The teacher's distributions lie beside it, so that 'tune' with the
    same teacher computes nothing again.
    """
    from agesearch.distill.annotate import AnnotateSpec
    from agesearch.distill.annotate import annotate as run_annotate
    from agesearch.models.identity import calibrated_teacher
    from agesearch.session import ray_session
    from agesearch.specs import parse_spec

    options = {
        "labelled": labelled,
        "max_spread": max_spread,
        "min_confidence": min_confidence,
        "per_decade": balance,
        "seed": seed,
    }
    spec = parse_spec(AnnotateSpec, options, "the options")
    with (
        stopped(lambda: goes_on("The teacher's answers so far", data)),
        shown_progress() as on_progress,
        ray_session(address, on_progress=on_progress) if address else nullcontext(),
    ):
        manifest, is_new = run_annotate(
            calibrated_teacher(teacher, calibration),
            data,
            out_folder,
            spec,
            replace=replace,
            on_progress=on_progress,
        )
    tell_empty_splits(manifest.counts, "Mix in faces that have some, with 'agesearch data mix'.")
    if as_json:
        print_json({"out": out_folder, "is_new": is_new, "manifest": manifest.model_dump(mode="json")})
        return
    state = "made" if is_new else "is up to date, nothing to do"
    err.print(f"{out_folder} {state}.", highlight=False, markup=False, soft_wrap=True)
    annotated = manifest.annotation.faces if manifest.annotation else 0
    rows = [
        ["annotated by the teacher", f"{annotated:,}"],
        ["with their own label", f"{manifest.faces - annotated:,}"],
        *([f"faces in {split}", f"{count:,}"] for split, count in manifest.counts.items()),
        *([f"left out: {reason}", f"{count:,}"] for reason, count in manifest.left_out.items()),
    ]
    out.print(table(manifest.name, ["", "faces"], rows))
