"""``agesearch targets``: a teacher's answers for a dataset, computed once for all students."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agesearch.cli.common import AddressOption, JsonOption, err, out, print_json, shown_progress, table
from agesearch.cli.dataset_notes import tell_order
from agesearch.cli.stopping import goes_on, stopped

if TYPE_CHECKING:
    from agesearch.distill.target_store import Stored
    from agesearch.distill.targets import Computed

CalibrationOption = Annotated[
    str | None,
    typer.Option(
        "--calibration", metavar="FILE", help="The teacher's calibration (see 'agesearch calibrate')."
    ),
]

_EXAMPLE = "Example: agesearch targets --teacher teacher --data faces --views 8"


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("targets", rich_help_panel="Teachers", epilog=_EXAMPLE)(targets)


def targets(
    data: Annotated[str, typer.Option("--data", help="Dataset folder or URI.")],
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", help="Model folder, or the YAML of a foreign teacher or an ensemble."),
    ] = None,
    calibration: CalibrationOption = None,
    order: Annotated[
        str | None, typer.Option("--order", help="An order teacher: its features are stored too.")
    ] = None,
    views: Annotated[
        int,
        typer.Option(
            "--views", min=0, max=1000, help="Augmented views of each face (0: the faces as they are)."
        ),
    ] = 0,
    policy: Annotated[
        Literal["default", "greco"], typer.Option("--policy", help="How the views are drawn.")
    ] = "default",
    strength: Annotated[
        float, typer.Option("--strength", min=0.0, max=3.0, help="How far the views are from the face.")
    ] = 1.0,
    view_seed: Annotated[int, typer.Option("--view-seed", help="Seed of the views.")] = 0,
    listed: Annotated[
        bool, typer.Option("--list", help="List what is stored for the dataset, and compute nothing.")
    ] = False,
    remove: Annotated[
        str | None, typer.Option("--remove", metavar="DIGEST", help="Remove what is stored of this teacher.")
    ] = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store what a teacher says of every face, so that no student has to ask it again.

    'tune' does this by itself; here it can be done before, on another machine, or for many views. Run again,
    it computes what is missing. A student sees exactly the pixels of the view that its teacher saw: give its
    training the same augment.views, policy, strength and view_seed.
    """
    from agesearch.distill.stored_answers import age_teacher, crop_notes_of, order_teacher
    from agesearch.distill.target_store import remove_targets, stored_targets
    from agesearch.distill.targets import compute
    from agesearch.errors import InputError
    from agesearch.models.identity import calibrated_teacher
    from agesearch.session import ray_session
    from agesearch.specs import AugmentSpec, parse_spec

    if remove is not None:
        remove_targets(data, remove)
    if listed or remove is not None:
        _tell_stored(stored_targets(data), as_json)
        return
    if teacher is None and order is None:
        raise InputError("Nothing to compute: give a --teacher, an --order teacher, or --list.")
    if calibration is not None:
        if teacher is None:
            raise InputError("--calibration is a teacher's: name it with --teacher.")
        teacher = str(calibrated_teacher(teacher, calibration))
    augment = parse_spec(
        AugmentSpec,
        {"views": views, "policy": policy, "strength": strength, "view_seed": view_seed},
        "the options of the views",
    )
    tell_order(data)
    notes = crop_notes_of(data, teacher, order)
    for note in notes:
        err.print(f"Note: {note}", highlight=False, markup=False, soft_wrap=True)
    found = {}
    with (
        stopped(lambda: goes_on("The answers so far", data)),
        shown_progress() as on_progress,
        ray_session(address, on_progress=on_progress) if address else nullcontext(),
    ):
        if teacher is not None:
            found["teacher"] = compute(age_teacher(teacher, data), data, augment, on_progress)
        if order is not None:
            found["order"] = compute(order_teacher(order), data, augment, on_progress)
    if as_json:
        print_json({name: _document(computed) for name, computed in found.items()} | {"notes": notes})
        return
    for name, computed in found.items():
        out.print(
            table("Order features" if name == "order" else "Teacher targets", ["", ""], _rows(computed))
        )


def _document(found: Computed) -> dict[str, Any]:
    return {
        "files": [str(file) for file in found.files],
        "bytes": found.bytes,
        "faces": found.faces,
        "computed": found.answers,
        "seconds": round(found.seconds, 3),
        "faces_per_s": round(found.answers / found.seconds, 2) if found.answers else None,
    }


def _rows(found: Computed) -> list[list[str]]:
    speed = f"{found.answers / found.seconds:,.1f} faces/s, {found.seconds:,.1f} s" if found.answers else "–"
    return [
        ["faces x views", f"{found.faces:,} x {len(found.files)}"],
        ["computed now", f"{found.answers:,}" if found.answers else "nothing: all were stored"],
        ["speed", speed],
        ["size", f"{found.bytes / 1e6:,.2f} MB"],
        ["where", str(found.files[0].parent)],
    ]


def _tell_stored(found: list[Stored], as_json: bool) -> None:
    if as_json:
        print_json([row.document() for row in found])
        return
    rows = [
        [
            row.digest,
            row.teacher,
            row.answers,
            row.drawn,
            str(len(row.files)),
            f"{row.bytes / 1e6:,.2f}",
            row.state,
        ]
        for row in found
    ]
    columns = ["digest", "teacher", "answers", "view", "files", "MB", "state"]
    out.print(table(f"{len(found)} sets of targets", columns, rows, optional=["files", "MB", "view"]))
