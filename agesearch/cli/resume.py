"""``agesearch resume``: go on with a study that was stopped, killed, or is to have more trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli.common import AddressOption, CheckpointOption, JsonOption
from agesearch.cli.study_run import (
    ConcurrencyOption,
    ConfirmOption,
    DashboardOption,
    GpusOption,
    KeepOption,
    LogOption,
    MinutesOption,
    StallOption,
    TrialsOption,
    WorkersOption,
    watch,
)
from agesearch.search.run.watchdog import STALL_MINUTES

if TYPE_CHECKING:
    from agesearch.search.run.study import StudyResult
    from agesearch.search.store.events import EventListener


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(
        "resume", rich_help_panel="Search", epilog="Example: agesearch resume studies/first --trials 60"
    )(resume)


def resume(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Study folder.")],
    trials: TrialsOption = None,
    confirm: ConfirmOption = None,
    keep: KeepOption = None,
    minutes: MinutesOption = None,
    concurrency: ConcurrencyOption = None,
    workers_per_trial: WorkersOption = 1,
    gpus_per_trial: GpusOption = None,
    data: Annotated[str | None, typer.Option("--data", help="The dataset, where it was moved.")] = None,
    teacher: Annotated[str | None, typer.Option("--teacher", help="The teacher, where it was moved.")] = None,
    order_teacher: Annotated[
        str | None, typer.Option("--order-teacher", help="The order teacher, where it was moved.")
    ] = None,
    address: AddressOption = None,
    dashboard: DashboardOption = True,
    stall_minutes: StallOption = STALL_MINUTES,
    checkpoint_minutes: CheckpointOption = None,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a study: no finished trial is repeated, and one that was cut short goes on from its last
    checkpoint.
    """
    from agesearch.search.run.study import RunLimits, resume_study

    limits = RunLimits(
        minutes=minutes,
        concurrency=concurrency,
        workers_per_trial=workers_per_trial,
        gpus_per_trial=gpus_per_trial,
        address=address,
        dashboard=dashboard,
        stall_minutes=stall_minutes,
        checkpoint_minutes=checkpoint_minutes,
    )

    def run(listener: EventListener) -> StudyResult:
        return resume_study(
            study,
            dataset=data,
            teacher=teacher,
            order_teacher=order_teacher,
            trials=trials,
            confirm=confirm,
            keep=keep,
            limits=limits,
            on_event=listener,
        )

    watch(study, run, log=log, as_json=as_json)
