"""``agesearch refit``: solve for a network's last layer on labelled faces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli.common import PLAIN, JsonOption, err, out, print_json, shown_progress, table
from agesearch.cli.publish import RegistryOption
from agesearch.metrics import signed

if TYPE_CHECKING:
    from agesearch.api.refit import RefittedModel
    from agesearch.measure.intervals import Estimate

_EXAMPLE = "Example: agesearch refit search_spaces/teachers/faceapi.yaml --data faces --out refitted"

LearnSplitOption = Annotated[
    str, typer.Option("--split", metavar="train|val|test|all", help="Faces to learn from.")
]
LearnFoldsOption = Annotated[
    list[int] | None, typer.Option("--fold", help="Faces of this fold only; repeatable.")
]


def add_to(app: typer.Typer) -> None:
    """Register ``refit``."""
    app.command("refit", epilog=_EXAMPLE, rich_help_panel="Teachers")(refit)


def refit(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Model folder, NAME of the registry, a foreign teacher's YAML, or ARCH@SIZE with --init.",
        ),
    ],
    data: Annotated[str, typer.Option("--data", help="Dataset folder or URI.")],
    out_folder: Annotated[str, typer.Option("--out", help="Folder to write the model to.")],
    init: Annotated[
        str | None,
        typer.Option("--init", help="Of ARCH@SIZE: pretrained (timm's hub), a file, model or teacher."),
    ] = None,
    split: LearnSplitOption = "train",
    folds: LearnFoldsOption = None,
    registry: RegistryOption = "registry",
    as_json: JsonOption = False,
) -> None:
    """Refit a network's last layer on few faces, in closed form; the rest stays as it is.

    A linear probe: features of each face, as it is, mirrored, with noise and blur, are computed once, and
    ridge regression shrinks the layer towards the one that was there. Held-out persons choose how far, and of
    xception_tiny whether the middle of its last map counts more (xception_tiny_centred). What is told of the
    result is nested cross-validation by persons, which also gives it its intervals. A foreign teacher must be
    a network that an architecture of ours holds, as face-api's is (xception_tiny); of others, 'agesearch
    calibrate' corrects the ages. xception_tiny_088@146, _075 and _050, with --init of the whole one, are
    pruned to the channels that say most of the faces; their ages play no part in that.
    """
    from agesearch.api.refit import refit as run_refit
    from agesearch.cli.dataset_notes import tell_order

    tell_order(data)
    with shown_progress() as on_progress:
        found = run_refit(
            model,
            data=data,
            out=out_folder,
            init=init,
            split=split,
            folds=folds,
            registry=registry,
            on_progress=on_progress,
        )
    if as_json:
        print_json(found.manifest.model_dump(mode="json"))
    else:
        _tell(found)


def _tell(found: RefittedModel) -> None:
    from agesearch.measure.intervals import basis

    record = found.record
    change = record.change_years
    rows = [["as it was", _mean(record.before_years)]] if record.before_years else []
    rows.append(["refitted", _mean(record.mae_years)])
    if change is not None:
        rows.append(["change", f"{signed(change.value)} ({signed(change.low)} to {signed(change.high)})"])
    rows += [
        [f"{row.first}-{row.last}", f"{_mean(row.mae_years)}, bias {signed(row.bias_years)}"]
        for row in record.decades
    ]
    title = f"Held-out persons of {basis(record.faces, record.persons)}"
    out.print(table(title, ["", "MAE, years (95 %)"], rows, sections=[len(rows) - len(record.decades) - 1]))
    tried = ", ".join(f"{ridge:g}: {error:.2f}" for ridge, error in record.tried)
    err.print(
        f"Ridge {record.ridge:g} of {record.features} features (held-out MAE by ridge: {tried}).",
        **PLAIN,
    )
    if len(record.poolings) > 1:
        errors = ", ".join(f"{arch}: {error:.2f}" for arch, error in record.poolings)
        err.print(f"Architecture {found.manifest.model.arch} ({errors}).", **PLAIN)
    for note in record.notes:
        err.print(f"Note: {note}", style="yellow", highlight=False, markup=False)
    err.print(f"Written to {found.path}.", **PLAIN)


def _mean(mean: Estimate) -> str:
    return f"{mean.value:.2f} ({mean.low:.2f}-{mean.high:.2f})"
