"""``agesearch tune``: search for the students that nobody beats in error and latency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agesearch.cli.common import (
    AddressOption,
    CheckpointOption,
    EpochFacesOption,
    JsonOption,
    ValFacesOption,
)
from agesearch.cli.dataset_notes import tell_order
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
from agesearch.errors import InputError, command
from agesearch.search.run.watchdog import STALL_MINUTES

if TYPE_CHECKING:
    from agesearch.search.run.study import StudyResult
    from agesearch.search.store.events import EventListener


def add_to(app: typer.Typer) -> None:
    """Register ``tune``."""
    app.command(
        "tune",
        rich_help_panel="Search",
        epilog="Example: agesearch tune search_spaces/quick.yaml --data faces --teacher teacher --out study",
    )(tune)


def tune(
    space: Annotated[str | None, typer.Argument(metavar="SPACE.yaml", help="What to search.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Dataset with train and val faces.")] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher",
            help="Model folder, or the YAML of a foreign teacher or an ensemble; before those of SPACE.yaml.",
        ),
    ] = None,
    order_teacher: Annotated[
        str | None, typer.Option("--order-teacher", help="Folder of an order teacher, for hints.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like", metavar="STUDY", help="Begin with the best configurations of an earlier study."
        ),
    ] = None,
    to: Annotated[str | None, typer.Option("--out", help="New folder for the study.")] = None,
    resume: Annotated[str | None, typer.Option("--resume", hidden=True)] = None,
    trials: TrialsOption = None,
    minutes: MinutesOption = None,
    concurrency: ConcurrencyOption = None,
    workers_per_trial: WorkersOption = 1,
    gpus_per_trial: GpusOption = None,
    address: AddressOption = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the suggestions.")] = None,
    scale: Annotated[
        float | None,
        typer.Option("--scale", help="Train for this share of the epochs; below one epoch, of the faces."),
    ] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option("--max-latency-ms", help="Train no network that takes longer a face.")
    ] = None,
    max_params: Annotated[
        int | None, typer.Option("--max-params", help="Train no network with more parameters.")
    ] = None,
    max_bytes: Annotated[
        int | None, typer.Option("--max-bytes", help="Train no network whose file has more bytes.")
    ] = None,
    max_memory_mb: Annotated[
        float | None,
        typer.Option(
            "--max-memory-mb", help="Train no network whose session takes more memory, in 10^6 bytes."
        ),
    ] = None,
    max_mae_years: Annotated[
        float | None, typer.Option("--max-mae-years", help="Keep students of a larger error off the front.")
    ] = None,
    max_mae_c_years: Annotated[
        float | None, typer.Option("--max-mae-c-years", help="The same for the error on corrupted faces.")
    ] = None,
    max_shift_years: Annotated[
        float | None,
        typer.Option("--max-shift-years", help="The same for what changes of rendered persons move."),
    ] = None,
    max_worst_decade_mae_years: Annotated[
        float | None,
        typer.Option(
            "--max-worst-decade-mae-years", help="The same for the error in the worst decade of age."
        ),
    ] = None,
    epoch_faces: EpochFacesOption = None,
    val_faces: ValFacesOption = None,
    rungs: Annotated[
        bool | None,
        typer.Option(
            "--rungs/--no-rungs",
            help="Stop trials early at fixed rungs, or none (default: as SPACE.yaml says, by its evidence).",
        ),
    ] = None,
    confirm: ConfirmOption = None,
    keep: KeepOption = None,
    dashboard: DashboardOption = True,
    stall_minutes: StallOption = STALL_MINUTES,
    checkpoint_minutes: CheckpointOption = None,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search for small students: train many under a spec, keep those that no other beats in error and
    latency.

    On large sets: --epoch-faces, --val-faces and 'rungs: {unit: faces, first_faces: N}' in SPACE.yaml.

    Teachers that SPACE.yaml describes are trained first. Latency is measured before anything trains. Ctrl-C
    lets running trials write a checkpoint, a second one stops at once; 'agesearch resume' goes on after that,
    or after any kind of kill, and repeats no finished trial.
    """
    from agesearch.api.study import asked_study
    from agesearch.search.run.study import RunLimits, run_study

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
    if resume is not None:
        words = [("--data", data), ("--teacher", teacher), ("--order-teacher", order_teacher)]
        raise _moved(resume, [*words, ("--trials", trials), ("--minutes", minutes)])
    file, dataset, folder = _required({"SPACE.yaml": space, "--data": data, "--out": to})
    study, factor = asked_study(
        file,
        scale=scale,
        rungs=rungs,
        confirm=confirm,
        keep=keep,
        trials=trials,
        seed=seed,
        max_latency_ms=max_latency_ms,
        max_params=max_params,
        max_bytes=max_bytes,
        max_memory_mb=max_memory_mb,
        max_mae_years=max_mae_years,
        max_mae_c_years=max_mae_c_years,
        max_shift_years=max_shift_years,
        max_worst_decade_mae_years=max_worst_decade_mae_years,
        epoch_faces=epoch_faces,
        val_faces=val_faces,
    )

    tell_order(dataset)

    def run(listener: EventListener) -> StudyResult:
        return run_study(
            study,
            dataset,
            teacher,
            folder,
            order_teacher=order_teacher,
            like=like,
            scale=factor,
            limits=limits,
            on_event=listener,
        )

    watch(folder, run, log=log, as_json=as_json)


def _moved(study: str, given: list[tuple[str, Any]]) -> InputError:
    """The error for ``tune --resume``, which is a verb of its own: what to type instead."""
    options = [word for option, value in given if value is not None for word in (option, value)]
    return InputError(
        f"'tune --resume' is the verb 'resume': go on with: {command('resume', study, *options)}"
    )


def _required(given: dict[str, str | None]) -> list[str]:
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise InputError(
            f"Missing {', '.join(missing)}: a study needs {', '.join(given)}. To go on with one that was "
            "begun, use 'agesearch resume'."
        )
    return [str(value) for value in given.values()]
