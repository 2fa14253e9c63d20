"""``agesearch demo``: the whole way in five minutes, without data or a GPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agesearch.cli.common import JsonOption, err, out, print_json, shown_progress, table
from agesearch.errors import command
from agesearch.progress import Listener

if TYPE_CHECKING:
    from agesearch.demo import DemoResult
    from agesearch.search.store.events import EventListener

_STAGES = 5


def add_to(app: typer.Typer) -> None:
    """Register ``demo``."""
    app.command("demo", rich_help_panel="Start here", epilog="Example: agesearch demo")(demo)


def demo(
    to: Annotated[str, typer.Option("--out", help="Folder for everything the demo makes.")] = "demo-run",
    as_json: JsonOption = False,
) -> None:
    """Go the whole way on the faces that come with the package: teacher, search, report, service, query.

    At most five minutes on 2 cores. A second run does only what is missing.
    """
    from agesearch.demo import run_demo

    start = time.monotonic()
    result = run_demo(to, _View())
    if as_json:
        print_json(_document(result))
    else:
        _print_summary(result, to, time.monotonic() - start)


class _View:
    """Headings and listeners on standard error."""

    def __init__(self) -> None:
        self._number = 0

    def stage(self, title: str, explanation: str) -> None:
        self._number += 1
        heading = f"[bold cyan]{self._number}/{_STAGES} {title}[/bold cyan]  {explanation}"
        err.print(heading, highlight=False, soft_wrap=True)

    @contextmanager
    def progress(self) -> Iterator[Listener]:
        with shown_progress() as listener:
            yield listener

    @contextmanager
    def study(self) -> Iterator[EventListener]:
        from agesearch.cli.tune_view import shown_study

        with shown_study() as listener:
            yield listener


def _print_summary(result: DemoResult, to: str, seconds: float) -> None:
    from agesearch.demo import MODEL_NAME
    from agesearch.search.front.measurements import MEDIAN, TEACHER

    found = result.findings
    student = found.picked
    faster = found.teacher_latency_ms / found.student_latency_ms
    rows = [["always the median", f"{found.mae(MEDIAN).value:.2f}", "", ""]]
    rows.append(["teacher", f"{found.mae(TEACHER).value:.2f}", f"{found.teacher_latency_ms:.2f}", "1.0"])
    cells = [f"{found.mae(student.name).value:.2f}", f"{found.student_latency_ms:.2f}", f"{faster:.1f}"]
    rows.append([f"student, {student.title}", *cells])
    columns = ["model", "error, years", "ms a face", "x faster"]
    out.print(table("Measured on the validation faces, one thread, side by side", columns, rows))
    answers = [
        [
            f"{answer.age:.0f}",
            f"{answer.predicted_age:.0f}",
            f"{answer.interval[0]:.0f}-{answer.interval[1]:.0f}",
        ]
        for answer in result.answers
    ]
    level = result.answers[0].interval_level if result.answers else None
    interval = "model's own range, unchecked" if level is None else f"{level:.0%} interval"
    out.print(table("The served student's answers", ["true age", "answer", interval], answers))
    lines = [
        f"Done in {seconds:.0f} s. The report: {result.report}",
        "Next:",
        f"  look at the faces     {command('data', 'inspect', f'{to}/faces', '--html', f'{to}/faces.html')}",
        f"  serve the student     {command('serve', MODEL_NAME, '--registry', f'{to}/registry')}",
        f"  your own photographs  {command('data', 'ingest', 'csv', 'your-faces.csv', '--out', 'faces')}",
    ]
    for line in lines:
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def _document(result: DemoResult) -> dict[str, Any]:
    from agesearch.metrics import LATENCY_MS_P50, VAL_MAE_YEARS
    from agesearch.search.front.measurements import MEDIAN, TEACHER

    found = result.findings
    return {
        "report": str(result.report),
        "registry": str(result.registry),
        "student": found.picked.name,
        VAL_MAE_YEARS: {
            "student": found.mae(found.picked.name).value,
            "teacher": found.mae(TEACHER).value,
            "median": found.mae(MEDIAN).value,
        },
        LATENCY_MS_P50: {"student": found.student_latency_ms, "teacher": found.teacher_latency_ms},
        "answers": [vars(answer) for answer in result.answers],
        "seconds": {name: round(value, 1) for name, value in result.seconds.items()},
    }
