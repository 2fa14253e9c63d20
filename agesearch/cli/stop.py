"""``agesearch stop``: ask a running study to stop, from another terminal or another host."""

from __future__ import annotations

from typing import Annotated

import typer

from agesearch.cli.common import JsonOption, print_json, say, shown_progress
from agesearch.cli.submit import ClusterOption
from agesearch.errors import AgeSearchError, command
from agesearch.progress import Progress


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("stop", rich_help_panel="Search", epilog="Example: agesearch stop studies/first")(stop)


def stop(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="Study folder; with --address a job or the study of one.")
    ],
    address: ClusterOption = None,
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
    With --address a job of that cluster is ended, its study first: nothing finished is lost.
    """
    if address is not None:
        _stop_job(study, address, at_once, wait, as_json)
        return
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


def _stop_job(name: str, address: str, at_once: bool, wait: float, as_json: bool) -> None:
    from agesearch.remote.jobs import Jobs
    from agesearch.remote.stopping import stop_job

    cluster = Jobs(address)
    job = cluster.find(name)
    was_over = job.is_over
    if not was_over:
        with shown_progress() as on_progress:
            on_progress(Progress(f"Waiting until {job.id} has stopped", 0, 1))
            job = stop_job(cluster, job, wait, at_once=at_once)
    if as_json:
        print_json({"job": job.id, "study": job.study, "asked": not was_over, "stopped": job.is_over})
    if not job.is_over and wait > 0:
        raise AgeSearchError(f"{job.id} has not stopped within {wait:g} s: wait longer, or use --now.")
    say(f"{job.id}: {job.state}" if job.is_over else f"Asked {job.id} to stop.")
    if job.study and job.is_over:
        say(f"Go on with: {command('submit', 'resume', job.study, '--address', cluster.address)}")
