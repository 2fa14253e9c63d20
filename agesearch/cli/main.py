"""``agesearch``: the map of the job, from faces to a served student."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from agesearch.cli import (
    annotate,
    bench,
    calibrate,
    cluster,
    compare,
    data,
    demo,
    deploy,
    doctor,
    evaluate,
    export,
    finetune,
    front,
    keys,
    matrix,
    measure,
    models,
    plan,
    promote,
    publish,
    query,
    refit,
    replay,
    report,
    resume,
    serve,
    status,
    stop,
    submit,
    targets,
    teach,
    teacher,
    trial,
    tune,
)
from agesearch.cli.common import err, harmless, say
from agesearch.cli.quiet import EXIT_INTERRUPTED, leave_at_once, openly, quietly
from agesearch.cli.stopping import interruptible
from agesearch.errors import AgeSearchError, first_line
from agesearch.provenance import VERSION
from agesearch.session import set_environment

_ORDER = [
    "demo",
    "doctor",
    "data",
    "teach",
    "teacher",
    "targets",
    "annotate",
    "finetune",
    "refit",
    "tune",
    "resume",
    "status",
    "stop",
    "trial",
    "replay",
    "front",
    "report",
    "evaluate",
    "measure",
    "compare",
    "matrix",
    "calibrate",
    "publish",
    "models",
    "promote",
    "rollback",
    "export",
    "serve",
    "query",
    "keys",
    "plan",
    "cluster",
    "submit",
    "jobs",
    "logs",
    "deploy",
    "undeploy",
    "deployments",
    "bench",
]


#: Columns that help in boxes needs at least.
_BOXED_COLUMNS = 80


class _Verbs(TyperGroup):
    """Lists the verbs in the order of the job: data, teachers, search, results, service; typer would put the
    groups last.
    """

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return sorted(super().list_commands(ctx), key=_ORDER.index)


app = typer.Typer(
    name="agesearch",
    cls=_Verbs,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find, prove and serve the smallest face-age model for a budget.",
    epilog="First time here? 'agesearch demo' runs the whole way in five minutes.",
)


for _verb in (
    demo,
    doctor,
    data,
    teach,
    teacher,
    targets,
    annotate,
    finetune,
    refit,
    tune,
    resume,
    status,
    stop,
    trial,
    replay,
    evaluate,
    measure,
    matrix,
    compare,
    front,
    report,
    calibrate,
    publish,
    models,
    promote,
    export,
    serve,
    query,
    keys,
    plan,
    cluster,
    submit,
    deploy,
    bench,
):
    _verb.add_to(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"agesearch {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that every verb knows; ``run`` reads ``--debug`` itself, since an error may come before
    parsing.
    """


def run() -> None:
    """Entry point: runs the verb; an expected error becomes one line on standard error and its exit code."""
    set_environment()
    if shutil.get_terminal_size().columns < _BOXED_COLUMNS:
        app.rich_markup_mode = None  # the boxes would cut off the names of options
    command = typer.main.get_command(app)
    _wrap(command, openly if "--debug" in sys.argv else quietly)
    try:
        with interruptible(leave_at_once, EXIT_INTERRUPTED):
            command()
    except AgeSearchError as error:
        _end("error", str(error), error, error.exit_code)
    except Exception as error:
        _end(
            "unexpected error", f"{type(error).__name__}: {first_line(error)} (--debug shows where)", error, 1
        )


def _wrap(command: Any, wrapped: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Run every verb of the command ``wrapped``."""
    for verb in getattr(command, "commands", {}).values():
        _wrap(verb, wrapped)
    if not hasattr(command, "commands"):
        command.callback = wrapped(command.callback)


def _end(kind: str, message: str, error: Exception, code: int) -> None:
    """Called while ``error`` is handled, which ``--debug`` lets through; a failed run names its logs."""
    if "--debug" in sys.argv:
        raise error
    err.print(f"[bold red]{kind}:[/bold red] {escape(harmless(message))}", highlight=False, soft_wrap=True)
    if code == 1:
        for note in getattr(error, "__notes__", []):
            say(note)
    sys.exit(code)


if __name__ == "__main__":
    run()
