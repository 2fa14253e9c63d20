"""``agesearch measure counterfactual``: rendered persons as they are, and with one thing changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli.common import (
    AddressOption,
    JsonOption,
    err,
    listed,
    out,
    print_json,
    say,
    shown_progress,
    table,
)
from agesearch.cli.publish import RegistryOption
from agesearch.metrics import signed

if TYPE_CHECKING:
    from agesearch.measure.counterfactual.records import Counterfactuals, ModelShifts
    from agesearch.measure.decisions.rates import Rate

_EXAMPLE = "Example: agesearch measure counterfactual teacher study --legal-age 18 --challenge 25"
_MODELS = (
    "Model folders, studies (their front), teachers' documents, or NAME, NAME@ALIAS, NAME:VERSION of the "
    "registry."
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("counterfactual", epilog=_EXAMPLE)(measure_counterfactual)


def measure_counterfactual(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help=_MODELS)],
    changes: Annotated[
        str | None, typer.Option("--changes", help="Some of the changes, with commas; default: all.")
    ] = None,
    persons: Annotated[
        int, typer.Option("--persons", min=2, max=100_000, help="Persons to render, half of them under L.")
    ] = 120,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Who they are.")] = 0,
    size: Annotated[int, typer.Option("--size", min=32, max=512, help="Side of a picture in pixels.")] = 112,
    legal_age: Annotated[
        float, typer.Option("--legal-age", metavar="L", help="Who is younger must not pass.")
    ] = 18.0,
    challenge: Annotated[
        float | None,
        typer.Option("--challenge", metavar="T", help="Pass from this estimate on.  [default: L]"),
    ] = None,
    min_persons: Annotated[
        int, typer.Option("--min-persons", min=2, help="Of fewer no figure is told.")
    ] = 20,
    out_file: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="Write the record: .json.")
    ] = None,
    registry: RegistryOption = "registry",
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Render persons as they are and with one thing changed, and tell how far each answer moves.

    Glasses, a beard, make-up, grey hair, wrinkles, expression, pose, light, camera, sex, skin tone: the mean
    shift of the predicted age with paired 95 % intervals over persons, and the share of those under L
    whose answer passes only with the change. The same seed gives the same pixels everywhere. Needs the
    package anny (the extra synth).
    """
    from agesearch.deploy.places import measured_models
    from agesearch.measure.counterfactual.faces import CounterfactualSpec
    from agesearch.measure.counterfactual.run import measure_counterfactual as run
    from agesearch.storage import Location

    if out_file is not None and not out_file.endswith(".json"):
        raise _not_json(out_file)
    spec = CounterfactualSpec(
        persons=persons,
        seed=seed,
        size=size,
        changes=listed("--changes", changes),
        legal_age=legal_age,
        challenge_age=challenge,
        min_persons=min_persons,
    )
    spec.check()
    with shown_progress() as on_progress:
        found = run(measured_models(models, registry), spec, address=address, on_progress=on_progress)
    if out_file is not None:
        Location.of(out_file).write_json(found.model_dump(mode="json"))
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _show(found)


def _not_json(name: str) -> Exception:
    from agesearch.errors import InputError

    return InputError(f"--out is '{name}', but its name must end with .json.")


def _show(found: Counterfactuals) -> None:
    for model in found.models:
        out.print(_table(found, model))
    for model in found.models:
        for note in model.notes:
            err.print(f"Note: {model.name}: {note}", style="yellow", highlight=False, markup=False)
    changes = "; ".join(f"{change.name}: {change.about}" for change in found.changes)
    say(
        f"{found.persons} rendered persons, {found.minors} of them below {found.legal_age:g}, each as is "
        f"and changed ({found.pictures:,} pictures). Brackets: paired 95 % intervals over persons. Too "
        f"few: under {found.min_persons} persons. {changes}."
    )
    say(f"{found.can_tell} {found.cannot_tell}")


def _table(found: Counterfactuals, model: ModelShifts) -> object:
    from agesearch.measure.decisions.rules import short_sides, sides

    rows = [
        [
            shift.change,
            str(shift.shift_years.faces),
            _years(shift.shift_years),
            _years(shift.minors_shift_years),
            _plain(shift.moved_years),
            _share(shift.conversion),
            _share(shift.refusal),
        ]
        for shift in model.shifts
    ]
    below, reached = short_sides(found.legal_age)
    who = sides(found.legal_age).below
    let_in, shut_out = f"{below} let in", f"{reached} shut out"
    columns = ["change", "persons", "shift", f"of {below}", "moved", let_in, shut_out]
    title = (
        f"{model.name}: years that a change moves the answer; decisions at {found.challenge_age:g} "
        f"(as is: MAE {_plain(model.mae_years)}, {_share(model.minors_pass)} of {who} pass)"
    )
    return table(title, columns, rows, optional=["moved", "persons", shut_out])


def _years(rate: Rate) -> str:
    found = rate.estimate
    return (
        "too few" if found is None else f"{signed(found.value)} ({signed(found.low)} to {signed(found.high)})"
    )


def _plain(rate: Rate) -> str:
    return "too few" if rate.estimate is None else f"{rate.estimate.value:.2f}"


def _share(rate: Rate) -> str:
    found = rate.estimate
    if found is None:
        return "too few"
    return f"{found.value:.0%} ({found.low:.0%}-{found.high:.0%})"
