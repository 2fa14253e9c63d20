"""``agesearch calibrate``: honest intervals, and a correction of ages where that helps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agesearch.cli.common import JsonOption, err, out, print_json, shown_progress, table
from agesearch.cli.publish import RegistryOption
from agesearch.metrics import signed

if TYPE_CHECKING:
    from agesearch.deploy.calibration import Calibrated
    from agesearch.measure.calibration.run import CalibrationEvidence

_EXAMPLE = "Example: agesearch calibrate teacher --data faces"

PickOption = Annotated[
    str, typer.Option("--pick", metavar="knee|best|fastest|TRIAL", help="Which trial of a study.")
]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("calibrate", rich_help_panel="Results", epilog=_EXAMPLE)(calibrate)


def calibrate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Model folder, study, NAME of the registry, or a foreign teacher's YAML."
        ),
    ],
    data: Annotated[str, typer.Option("--data", help="Dataset folder or URI.")],
    level: Annotated[
        float, typer.Option("--level", metavar="SHARE", help="Share of true ages to be inside.")
    ] = 0.8,
    by: Annotated[
        Literal["sex", "ethnicity", "source"] | None,
        typer.Option("--by", help="Intervals for each of these groups that has faces enough."),
    ] = None,
    correct: Annotated[
        Literal["auto", "off", "affine", "isotonic"] | None,
        typer.Option(
            "--correct",
            help="Correct ages, where that helps beyond noise.  [default: auto; off on the data of the "
            "model's training]",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="train|val|test",
            help="Faces to learn from.  [default: train; test on the data of the model's training]",
        ),
    ] = None,
    folds: Annotated[
        list[int] | None, typer.Option("--fold", help="Faces of this fold only; repeatable.")
    ] = None,
    out_file: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE", help="Keep it beside the model, as a document: .json."),
    ] = None,
    pick: PickOption = "knee",
    registry: RegistryOption = "registry",
    as_json: JsonOption = False,
) -> None:
    """Learn intervals that hold the true age as often as they say, and a correction of ages where it helps.

    The faces must have chosen nothing about the model: those that trained it or chose its best epoch are
    refused. What is told of the result is of persons it was not learnt from (five folds). It becomes a file
    of a model folder; of a published version, which never changes, a new version; of foreign teachers, a
    document (--out) that stands wherever a teacher does.
    """
    from agesearch.deploy.calibration import calibrate_model
    from agesearch.deploy.places import model_place
    from agesearch.measure.calibration.run import CalibrationSpec
    from agesearch.measure.protocols import split_named

    spec = CalibrationSpec(
        level=level,
        by=by,
        correct=correct,
        split=None if split is None else split_named(split),
        folds=tuple(folds) if folds else None,
    )
    with shown_progress() as on_progress:
        place = model_place(model, registry, pick)
        found = calibrate_model(place, data, spec, out=out_file, registry=registry, on_progress=on_progress)
    if as_json:
        print_json(_document(found))
    else:
        _tell(found)


def _document(found: Calibrated) -> dict[str, Any]:
    return {
        "file": str(found.place),
        "version": found.version.label if found.version else None,
        "aliases": list(found.moved),
        "calibration": found.calibration.model_dump(mode="json"),
    }


def _tell(found: Calibrated) -> None:
    from agesearch.measure.calibration.run import evidence_of
    from agesearch.measure.intervals import basis

    evidence, learnt = evidence_of(found.calibration), found.calibration.faces
    out.print(_coverage(evidence, found.calibration.level))
    if evidence.engines:
        out.print(_engines(evidence))
    if evidence.corrections:
        out.print(_corrections(found, evidence))
    for note in evidence.notes:
        err.print(f"Note: {note}", style="yellow", highlight=False, markup=False)
    err.print(
        f"Learnt from {basis(learnt.faces, learnt.persons)} of {learnt.data}, {learnt.part}; the tables tell "
        "of persons that it was not learnt from (five folds). Brackets: 95 % intervals.",
        highlight=False,
        markup=False,
    )
    where = f"{found.version.label}, in {found.place}" if found.version else str(found.place)
    names = "names" if len(found.moved) == 1 else "name"
    aliases = f"; {' and '.join(found.moved)} now {names} it" if found.moved else ""
    out.print(f"Calibrated: {where}{aliases}", highlight=False, markup=False, soft_wrap=True)


def _coverage(evidence: CalibrationEvidence, level: float) -> Any:
    own = {row.first: row for row in evidence.own.decades}
    rows = [_row("all", evidence.calibrated, evidence.own)]
    rows += [_row(f"{row.first}-{row.last}", row, own[row.first]) for row in evidence.calibrated.decades]
    columns = ["true age", "faces", "inside", "width, years", "its own belief", "width, years "]
    title = f"True ages inside intervals that say {level:.0%}"
    return table(title, columns, rows, sections=[0], optional=["width, years ", "its own belief"])


def _row(name: str, row: Any, own: Any) -> list[str]:
    found = row.coverage
    return [
        name,
        f"{found.faces:,}",
        f"{found.value:.0%} ({found.low:.0%}-{found.high:.0%})",
        f"{row.width_years:.1f}",
        f"{own.coverage.value:.0%}",
        f"{own.width_years:.1f}",
    ]


def _engines(evidence: CalibrationEvidence) -> Any:
    rows = []
    for one in evidence.engines:
        share, found = one.coverage, one.difference
        less = [signed(100 * end, 1) for end in (found.value, found.low, found.high)]
        rows.append(
            [
                str(one.engine),
                f"{share.value:.0%} ({share.low:.0%}-{share.high:.0%})",
                f"{less[0]} ({less[1]} to {less[2]})",
                f"{one.width_years:.1f}",
            ]
        )
    columns = ["engine", "inside", "less fp32's, points", "width, years"]
    return table("The same intervals on other engines that may serve it", columns, rows)


def _corrections(found: Calibrated, evidence: CalibrationEvidence) -> Any:
    used = found.calibration.correction
    rows = []
    for one in evidence.corrections:
        change = one.difference_years
        state = "used" if used is not None and used.kind == one.kind else "helps" if one.helps else "refused"
        rows.append(
            [
                one.kind,
                f"{one.before_mae_years.value:.2f} -> {one.after_mae_years.value:.2f}",
                f"{signed(change.value)} ({signed(change.low)} to {signed(change.high)})",
                f"{signed(one.before_bias_years)} -> {signed(one.after_bias_years)}",
                state,
            ]
        )
    return table("Corrections of ages", ["kind", "MAE, years", "change", "bias, years", ""], rows)
