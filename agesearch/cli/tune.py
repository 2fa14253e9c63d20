"""``agesearch tune``: search for the students that nobody beats in error and latency."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agesearch.cli.common import AddressOption, JsonOption, err, out, print_json, table
from agesearch.errors import AgeSearchError, InputError

if TYPE_CHECKING:
    from agesearch.search.study import StudyResult

#: What a shell expects of a program that Ctrl-C ended.
EXIT_INTERRUPTED = 130


def add_to(app: typer.Typer) -> None:
    """Register ``tune``."""
    app.command(
        "tune",
        rich_help_panel="Search",
        epilog="Example: agesearch tune search_spaces/quick.yaml --data faces --teacher teacher --out study",
    )(tune)


def tune(
    space: Annotated[
        str | None, typer.Argument(metavar="SPACE.yaml", help="What to search; not with --resume.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="Dataset with train and val faces.")] = None,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", help="Model folder, or the YAML of a foreign teacher or an ensemble."),
    ] = None,
    to: Annotated[str | None, typer.Option("--out", help="New folder for the study.")] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="STUDY", help="Go on with this study.")
    ] = None,
    trials: Annotated[int | None, typer.Option("--trials", help="Finished trials to reach.")] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Stop after this time; running trials end PRUNED.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", help="Trials at once (default: one a CPU).")
    ] = None,
    address: AddressOption = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the suggestions.")] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option("--max-latency-ms", help="Train no network that takes longer a face.")
    ] = None,
    max_params: Annotated[
        int | None, typer.Option("--max-params", help="Train no network with more parameters.")
    ] = None,
    max_mae_years: Annotated[
        float | None, typer.Option("--max-mae-years", help="Keep students of a larger error off the front.")
    ] = None,
    rungs: Annotated[
        bool | None,
        typer.Option("--rungs/--no-rungs", help="Stop hopeless trials early (default: as SPACE.yaml says)."),
    ] = None,
    dashboard: Annotated[bool, typer.Option(help="Start the Ray dashboard on loopback.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Search for small students: train many under a spec, keep those that no other beats in error and
    latency.

    Latency is measured before anything trains. Ctrl-C stops cleanly; --resume goes on after that, or after
    any kind of kill, and repeats no finished trial.
    """
    from agesearch.cli.tune_view import shown_study
    from agesearch.search.study import Limits, resume_study, run_study

    asked = {
        "--seed": seed,
        "--max-latency-ms": max_latency_ms,
        "--max-params": max_params,
        "--max-mae-years": max_mae_years,
        "--rungs": rungs,
    }
    limits = Limits(minutes=minutes, concurrency=concurrency, address=address, dashboard=dashboard)
    with _stopped_cleanly(resume or to), shown_study() as listener:
        if resume is not None:
            _refuse("--resume", {"SPACE.yaml": space, "--out": to, **asked})
            result = resume_study(
                resume, dataset=data, teacher=teacher, trials=trials, limits=limits, on_event=listener
            )
        else:
            given = {"SPACE.yaml": space, "--data": data, "--teacher": teacher, "--out": to}
            file, dataset, model, folder = _required(given)
            study = _study_spec(file, {"--trials": trials, **asked})
            result = run_study(study, dataset, model, folder, limits=limits, on_event=listener)
    _conclude(result, as_json)


def _required(given: dict[str, str | None]) -> list[str]:
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise InputError(
            f"Missing {', '.join(missing)}: a new study needs {', '.join(given)}; an old one --resume STUDY."
        )
    return [str(value) for value in given.values()]


def _refuse(option: str, others: dict[str, Any]) -> None:
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise InputError(
            f"{', '.join(given)} cannot be changed with {option}: a study keeps its spec and its folder."
        )


def _study_spec(space: str, asked: dict[str, Any]) -> Any:
    """The file's study with what the options ask for in place: ``--max-params`` is ``max_params``."""
    from agesearch.search.space import load_space
    from agesearch.specs import RungSpec

    study = load_space(space)
    rungs = asked.pop("--rungs")
    given = {name[2:].replace("-", "_"): value for name, value in asked.items() if value is not None}
    if rungs is not None:
        given["rungs"] = ((study.rungs or RungSpec()).model_dump()) if rungs else None
    return study.with_values(given)


@contextmanager
def _stopped_cleanly(study: str | None) -> Iterator[None]:
    """A second Ctrl-C, or one during preparation, ends at once."""
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"Stopped. {_how_to_resume(study)}", highlight=False, soft_wrap=True, markup=False)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _how_to_resume(study: str | None) -> str:
    return f"Nothing finished is lost; go on with: agesearch tune --resume {study}"


def _conclude(result: StudyResult, as_json: bool) -> None:
    from agesearch.search.events import Outcome
    from agesearch.search.records import State

    counts = {state.value: sum(record.state is state for record in result.records) for state in State}
    if as_json:
        print_json(
            {
                "study": str(result.folder.root),
                "outcome": result.outcome.value,
                "trials": counts,
                "front": [record.as_json() for record in result.front],
            }
        )
    else:
        _print_front(result, counts)
    if result.outcome is Outcome.INTERRUPTED:
        err.print(_how_to_resume(str(result.folder.root)), highlight=False, soft_wrap=True, markup=False)
        raise typer.Exit(EXIT_INTERRUPTED)
    if not result.front:
        raise AgeSearchError(_why_no_front(result))


def _why_no_front(result: StudyResult) -> str:
    from agesearch.search.records import State

    errors = [
        record.val_mae_years
        for record in result.records
        if record.state is State.COMPLETE and record.val_mae_years is not None
    ]
    if errors:
        return f"No COMPLETE trial is within the study's max_mae_years; the best has {min(errors):.2f}."
    reasons = [record.reason for record in result.records if record.reason]
    why = f" The last one's reason: {reasons[-1]}." if reasons else " The time was up before one could."
    return f"No trial completed.{why}"


def _print_front(result: StudyResult, counts: dict[str, int]) -> None:
    from agesearch.cli.tune_view import front_row
    from agesearch.search.records import State, knee_of

    knee = knee_of(result.front).number if result.front else None
    rows = [[*front_row(record), "knee" if record.number == knee else ""] for record in result.front]
    columns = ["trial", "architecture", "px", "val MAE, years", "latency, ms", ""]
    out.print(table(f"Front of {result.folder.root}", columns, rows), highlight=False)
    words = {State.RUNNING.value: "cut short, to be taken up again"}
    told = ", ".join(f"{count} {words.get(name, name)}" for name, count in counts.items() if count)
    err.print(f"{result.outcome.value}: {told}", highlight=False, soft_wrap=True, markup=False)
    if result.front:
        err.print(
            f"Next: agesearch report {result.folder.root} --out report.html", highlight=False, soft_wrap=True
        )
