"""``agesearch promote`` and ``rollback``: change the version that a running service answers with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli.common import PLAIN, JsonOption, out, print_json, say, shown_progress
from agesearch.cli.publish import RegistryOption, registry_words
from agesearch.errors import InputError, command

if TYPE_CHECKING:
    from agesearch.serving.rollout.promotion import Change

_PROMOTE = "Example: agesearch promote ages 2 --canary 10%"
_ROLLBACK = "Example: agesearch rollback ages"

AliasOption = Annotated[str, typer.Option("--alias", help="The alias that moves.")]
WhyOption = Annotated[str, typer.Option("--why", metavar="TEXT", help="A reason, for the alias's history.")]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the services.")]


def add_to(app: typer.Typer) -> None:
    """Register both commands."""
    app.command("promote", rich_help_panel="Service", epilog=_PROMOTE)(promote)
    app.command("rollback", rich_help_panel="Service", epilog=_ROLLBACK)(rollback)


def promote(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Number of the version.")],
    canary: Annotated[
        str | None,
        typer.Option("--canary", metavar="SHARE", help="Try it on that share of the requests, as 10%."),
    ] = None,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Ask it besides (all, or the --canary share); nobody is told.")
    ] = False,
    minutes: Annotated[
        float, typer.Option("--minutes", min=0.01, max=100_000, help="Longest trial; undecided: no change.")
    ] = 60.0,
    alias: AliasOption = "champion",
    why: WhyOption = "",
    no_wait: NoWaitOption = False,
    registry: RegistryOption = "registry",
    json_output: JsonOption = False,
) -> None:
    """Point an alias at a version; services that follow it change under load, without a failed request.

    With --canary or --shadow a running service first tries the version beside the other one, and promotes it
    or goes back by itself: by errors, slow requests and drift of the answers. Exit code 1 where it went back.
    """
    from agesearch.deploy.registry import Registry
    from agesearch.serving.rollout.models import require_opens
    from agesearch.serving.rollout.promotion import Trial
    from agesearch.serving.rollout.promotion import promote as promoted

    trial = None
    if canary is not None or shadow:
        trial = Trial(1.0 if canary is None else share_of(canary), shadow, minutes)
    with shown_progress() as on_progress:
        change = promoted(
            Registry(registry),
            name,
            version,
            alias,
            trial=trial,
            why=why,
            wait=not no_wait,
            check=require_opens,
            on_progress=on_progress,
        )
    _tell(change, json_output)
    if not json_output:
        words = [] if alias == "champion" else ["--alias", alias]
        say(f"Back: {command('rollback', name, *words, *registry_words(registry))}")


def rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.")],
    alias: AliasOption = "champion",
    why: WhyOption = "",
    no_wait: NoWaitOption = False,
    registry: RegistryOption = "registry",
    json_output: JsonOption = False,
) -> None:
    """Break off a trial, or go back to the version before the last change; services follow."""
    from agesearch.deploy.registry import Registry
    from agesearch.serving.rollout.models import require_opens
    from agesearch.serving.rollout.promotion import rollback as rolled_back

    with shown_progress() as on_progress:
        change = rolled_back(
            Registry(registry),
            name,
            alias,
            why=why,
            wait=not no_wait,
            check=require_opens,
            on_progress=on_progress,
        )
    _tell(change, json_output)


def share_of(text: str) -> float:
    """``10%`` or ``0.1`` as a share above 0 and below 1; an ``InputError`` for anything else."""
    digits = text.strip().removesuffix("%")
    try:
        share = float(digits) / (100.0 if text.strip().endswith("%") else 1.0)
    except ValueError:
        share = float("nan")
    if not 0.0 < share < 1.0:
        raise InputError(
            f"--canary is '{text[:40]}', but must be a share above 0% and below 100%, such as 10%."
        )
    return share


def _tell(change: Change, json_output: bool) -> None:
    if json_output:
        print_json(change.as_json())
        return
    before, after = change.before or "nothing", change.version or "nothing"
    if before == after:
        line = f"{change.alias} points to {after} as before: {change.why}."
    else:
        because = f": {change.why}" if change.why else "."
        line = f"{change.alias} pointed to {before} and now points to {after}{because}"
    out.print(line, **PLAIN)
    if change.services:
        out.print(f"Services that follow it: {', '.join(change.services)}", **PLAIN)
    else:
        out.print("No running service follows it: nothing else changes.", **PLAIN)
