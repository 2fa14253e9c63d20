"""``agesearch stop``: ask a running study to stop, from another terminal or another host."""

from __future__ import annotations

from typing import Annotated

import typer

from agesearch.cli.common import JsonOption, print_json, say, shown_progress
from agesearch.errors import AgeSearchError
from agesearch.progress import Progress


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("stop", rich_help_panel="Search", epilog="Example: agesearch stop studies/first")(stop)


def stop(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Study folder.")],
    at_once: Annotated[
        bool, typer.Option("--now", help="Do not wait: each running trial goes on from its last checkpoint.")
    ] = False,
    wait: Annotated[
        float, typer.Option("--wait", min=0.0, help="Seconds to wait until it has stopped; 0: do not wait.")
    ] = 600.0,
    as_json: JsonOption = False,
) -> None:
    """Ask a running study to stop: running trials write a checkpoint, in the middle of an epoch too, and
    'agesearch resume' takes them up.

    The request is a file in the study's folder, so it reaches the driver from any host that sees the folder.
    """
    from agesearch.search.run.driver import ask_to_stop, wait_until_stopped
    from agesearch.search.view.status import study_status

    found = study_status(study)
    folder = found.folder.root
    driver = ask_to_stop(folder, at_once=at_once)
    if driver is not None:
        say(f"Asked {driver.words} to stop{' now' if at_once else ' with checkpoints of what runs'}.")
    stopped = driver is None
    if driver is not None and wait > 0:
        with shown_progress() as on_progress:
            on_progress(Progress("Waiting until it has stopped", 0, 1))
            stopped = wait_until_stopped(folder, driver, wait)
    found = study_status(study)
    if as_json:
        print_json({"study": str(folder), "asked": driver is not None, "stopped": stopped})
    if stopped:
        say(found.holder)
        if found.how_to_go_on:
            say(f"Go on with: {found.how_to_go_on}")
    elif wait > 0:
        raise AgeSearchError(
            f"{found.holder} It has not stopped within {wait:g} s: wait longer, or use --now."
        )
