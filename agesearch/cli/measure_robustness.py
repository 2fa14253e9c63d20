"""``agesearch measure robustness``: models on corrupted faces, side by side on the same pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli.common import (
    AddressOption,
    JsonOption,
    listed,
    out,
    print_json,
    say,
    shown_progress,
    table,
)
from agesearch.cli.publish import RegistryOption

if TYPE_CHECKING:
    from agesearch.measure.robustness.record import Robustness
    from agesearch.measure.robustness.scores import Ratio

_EXAMPLE = "Example: agesearch measure robustness teacher study --data faces --faces 200"
_MODELS = (
    "Model folders, teachers' documents, studies (their front and their teacher), NAME, NAME@ALIAS, "
    "NAME:VERSION of the registry."
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("robustness", epilog=_EXAMPLE)(measure_robustness)


def measure_robustness(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help=_MODELS)],
    data: Annotated[str, typer.Option("--data", help="Dataset folder or URI.")],
    corruption_set: Annotated[
        str,
        typer.Option("--set", metavar="hendrycks|lfwc", help="15 + 4 corruptions, or the 13 of LFW+C."),
    ] = "hendrycks",
    corruptions: Annotated[
        str | None, typer.Option("--corruptions", help="Some of the set, with commas; default: all.")
    ] = None,
    severities: Annotated[
        str, typer.Option("--severities", help="Strengths 1 to 5, with commas.")
    ] = "1,2,3,4,5",
    split: Annotated[str, typer.Option("--split", metavar="train|val|test", help="Faces to test.")] = "test",
    faces: Annotated[
        int | None,
        typer.Option("--faces", min=1, help="Faces at most, the same every time; default: all."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference", metavar="MODEL", help="Whose errors the others are beside; default: teacher."
        ),
    ] = None,
    registry: RegistryOption = "registry",
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Corrupt each face once and let all models score it: MAE-C, mCE, relative mCE, with 95 % intervals.

    That a model resists better or worse than the reference is said only where the paired interval of their
    errors under corruption says so.
    """
    from agesearch.deploy.robustness import robustness_of
    from agesearch.measure.protocols import split_named

    with shown_progress() as on_progress:
        found = robustness_of(
            models,
            data,
            registry=registry,
            corruption_set=corruption_set,
            corruptions=listed("--corruptions", corruptions),
            severities=_numbers(severities),
            split=split_named(split),
            faces=faces,
            reference=reference,
            address=address,
            on_progress=on_progress,
        )
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _show(found)


def _numbers(written: str) -> tuple[int, ...]:
    from agesearch.errors import InputError

    try:
        return tuple(int(name) for name in listed("--severities", written))
    except ValueError:
        raise InputError(
            f"--severities is '{written}', but must be numbers from 1 to 5 with commas."
        ) from None


def _show(found: Robustness) -> None:
    out.print(_models_table(found))
    out.print(_categories_table(found))
    out.print(_corruptions_table(found))
    for sentence in found.sentences:
        out.print(sentence, highlight=False, markup=False, soft_wrap=True)
    for note in found.notes:
        say(f"Note: {note}")
    for model in found.models:
        for note in model.notes:
            say(f"Note: {model.name}: {note}")
    say(
        f"{found.about}. MAE-C: MAE over {_counted(found.averaged)}. CE, mCE: "
        f"it beside {found.reference}'s; relative: what corruption adds to the clean error, likewise. "
        f"95 % intervals, bootstrap over {found.scores[0].mae_c_years.basis}."
    )


def _models_table(found: Robustness) -> object:
    rows = [
        [
            one.name,
            f"{one.clean_mae_years.value:.2f}",
            f"{one.mae_c_years.value:.2f}",
            f"{one.mae_c_years.low:.2f}–{one.mae_c_years.high:.2f}",
            _ratio(one.mce),
            _ratio(one.relative_mce),
            "reference" if one.against is None else one.against.resists,
        ]
        for one in found.scores
    ]
    columns = ["model", "clean", "MAE-C", "interval", "mCE", "relative mCE", "resists"]
    title = f"{found.set} on {found.dataset}, {found.split}: MAE in years"
    return table(title, columns, rows, optional=["relative mCE", "mCE"])


def _categories_table(found: Robustness) -> object:
    categories = list(found.scores[0].categories)
    rows = [
        [one.name, *(f"{one.categories[category].value:.2f}" for category in categories)]
        for one in found.scores
    ]
    return table("By category, MAE in years", ["model", *categories], rows)


def _corruptions_table(found: Robustness) -> object:
    """A row for each model and corruption: its curve over the severities."""
    rows = [
        [row.corruption, one.name, *(f"{value:.2f}" for value in row.curve), f"{row.ce:.2f}"]
        for place in range(len(found.scores[0].corruptions))
        for one in found.scores
        for row in [one.corruptions[place]]
    ]
    steps = [f"severity {severity}" for severity in found.severities]
    ends = range(len(found.scores) - 1, len(rows), len(found.scores)) if len(found.scores) > 1 else ()
    return table("MAE in years by severity", ["corruption", "model", *steps, "CE"], rows, sections=list(ends))


def _counted(corruptions: tuple[str, ...]) -> str:
    return f"{len(corruptions)} corruption{'s' * (len(corruptions) != 1)}"


def _ratio(ratio: Ratio | None) -> str:
    return "-" if ratio is None else f"{ratio.value:.2f} ({ratio.low:.2f}–{ratio.high:.2f})"
