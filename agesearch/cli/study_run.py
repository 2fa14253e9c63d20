"""What ``tune`` and ``resume`` share: their options, the view of a running study, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli.common import out, print_json, say, shown_progress, table
from agesearch.cli.quiet import EXIT_INTERRUPTED
from agesearch.cli.stopping import stopped
from agesearch.errors import AgeSearchError, command

if TYPE_CHECKING:
    from agesearch.measure.intervals import Estimate
    from agesearch.search.front.latencies import StudyLatencies
    from agesearch.search.run.study import StudyResult
    from agesearch.search.store.events import EventListener

TrialsOption = Annotated[int | None, typer.Option("--trials", help="Finished trials to reach.")]
ConfirmOption = Annotated[
    int | None,
    typer.Option(
        "--confirm",
        metavar="K",
        help="After the search, train the front's candidates with K other seeds each; pick by the means.",
    ),
]
KeepOption = Annotated[
    str | None,
    typer.Option(
        "--keep",
        metavar="all|front",
        help="Keep the weights of all trials (default), or of those that are at the front or near it.",
    ),
]
MinutesOption = Annotated[
    float | None,
    typer.Option(
        "--minutes",
        help="Stop after this time; running trials end PRUNED after their epoch, or keep a checkpoint.",
    ),
]
ConcurrencyOption = Annotated[
    int | None, typer.Option("--concurrency", help="Trials at once (default: one a CPU).")
]
WorkersOption = Annotated[
    int,
    typer.Option("--workers-per-trial", help="Processes that train one student together, a CPU or GPU each."),
]
GpusOption = Annotated[
    float | None,
    typer.Option("--gpus-per-trial", help="0, a share of one GPU, or one a worker (default: what fits)."),
]
DashboardOption = Annotated[bool, typer.Option(help="Start the Ray dashboard on loopback.")]
StallOption = Annotated[
    float,
    typer.Option(
        "--stall-minutes",
        help="Take a trial for hung that gives no sign of life for so long, or 20 of its slowest epochs.",
    ),
]
LogOption = Annotated[
    list[str] | None,
    typer.Option(
        "--log",
        metavar="NAME=WHERE",
        help="Also log to mlflow=URI, mlflow=FOLDER or tensorboard=FOLDER; may be given again.",
    ),
]


def watch(
    folder: str, run: Callable[[EventListener], StudyResult], *, log: list[str] | None, as_json: bool
) -> None:
    """Run a study under its view and loggers, then print its front; the exit code tells how it ended."""
    from agesearch.cli.tune_view import shown_study
    from agesearch.search.tracking.feed import tracked

    with stopped(lambda: _how_to_go_on(folder)), shown_study() as view, tracked(log or [], view) as listener:
        result = run(listener)
    _conclude(result, as_json)


def _how_to_go_on(folder: str) -> str:
    from agesearch.search.store.records import StudyFolder
    from agesearch.storage import Location

    if not StudyFolder(Location.of(folder)).exists():
        return "No trial has started; run the same command again (timings and targets are kept)."
    return f"Nothing finished is lost; go on with: {command('resume', folder)}"


def _conclude(result: StudyResult, as_json: bool) -> None:
    from agesearch.search.choice.confirmed import candidates_of
    from agesearch.search.front.latencies import study_latencies
    from agesearch.search.store.events import Outcome
    from agesearch.search.store.records import State

    latencies = study_latencies(result.folder)
    counts = {state.value: sum(record.state is state for record in result.records) for state in State}
    known = {} if result.outcome is Outcome.INTERRUPTED else _intervals(result)
    if as_json:
        print_json(
            {
                "study": str(result.folder.root),
                "outcome": result.outcome.value,
                "trials": counts,
                "front": [record.as_json() for record in result.front],
                "knee": latencies.knee.number if latencies.knee else None,
                "notes": latencies.choice_notes(),
                "confirmation": [one.as_json() for one in candidates_of(result.folder)],
                "intervals": {name: vars(found) for name, found in known.items()},
            }
        )
    else:
        _print_front(result, counts, known, latencies)
    if result.outcome is Outcome.INTERRUPTED:
        say(_how_to_go_on(str(result.folder.root)))
        raise typer.Exit(EXIT_INTERRUPTED)
    if not result.front:
        raise AgeSearchError(_why_no_front(result))


def _why_no_front(result: StudyResult) -> str:
    from agesearch.search.store.records import State

    errors = [
        record.val_mae_years
        for record in result.records
        if record.state is State.COMPLETE and record.val_mae_years is not None
    ]
    if errors:
        return (
            f"No COMPLETE trial is within the study's {result.folder.limits()}; the best error is "
            f"{min(errors):.2f} years: see all with {command('front', result.folder.root, '--all')}"
        )
    reasons = [record.reason for record in result.records if record.reason]
    why = f" The last one's reason: {reasons[-1]}." if reasons else " The time was up before one could."
    return f"No trial completed.{why}"


def _intervals(result: StudyResult) -> dict[str, Estimate]:
    """MAE with its interval of the front's trials and of the median, as far as it is known in seconds."""
    from agesearch.search.front.accuracy import front_accuracy

    if not result.front:
        return {}
    with shown_progress() as on_progress:
        return front_accuracy(result.folder, result.front, on_progress)


def _print_front(
    result: StudyResult, counts: dict[str, int], known: dict[str, Estimate], latencies: StudyLatencies
) -> None:
    from agesearch.cli.tune_view import front_row
    from agesearch.search.front.measurements import MEDIAN
    from agesearch.search.store.records import State

    if result.front:
        knee = latencies.knee.number if latencies.knee else None
        rows = []
        for record in result.front:
            role = "knee" if record.number == knee else ""
            rows.append([*_with_interval(front_row(record), known.get(record.name)), role])
        columns = ["trial", "network", "val MAE, years", "95 %", "latency, ms", "role"]
        if MEDIAN in known:
            median = known[MEDIAN]
            error = f"{median.value:.2f}"
            rows.append(["", "always the median age", error, _ends(median), "", "baseline"])
        out.print(
            table(f"Front of {result.folder.root}", columns, rows, optional=["role", "95 %"]),
            highlight=False,
        )
        if MEDIAN in known:
            say(f"95 %: intervals over the {known[MEDIAN].basis} of the validation split.")
    for line in latencies.choice_notes():
        say(line)
    words = {State.RUNNING.value: "cut short, to be taken up again", State.PAUSED.value: "paused"}
    shown = ", ".join(f"{count} {words.get(name, name)}" for name, count in counts.items() if count)
    say(f"{result.outcome.value}: {shown}")
    if result.front:
        say(f"Next: {command('report', result.folder.root, '--out', 'report.html')}")


def _with_interval(row: list[str], found: Estimate | None) -> list[str]:
    """A front's row with the interval behind its error."""
    number, network, error, latency = row
    return [number, network, error, _ends(found), latency]


def _ends(found: Estimate | None) -> str:
    return "–" if found is None else f"{found.low:.2f}–{found.high:.2f}"
