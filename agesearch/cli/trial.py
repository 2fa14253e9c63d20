"""``agesearch trial``: one trial of a study, all that is known of it; or trained anew to see if it agrees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli.common import JsonOption, harmless, out, print_json, say, shown_progress, table
from agesearch.errors import AgeSearchError, InputError, command

if TYPE_CHECKING:
    from agesearch.search.view.rerun import Rerun
    from agesearch.search.view.trial_details import TrialDetails

_EPOCHS_A_LINE = 10


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("trial", rich_help_panel="Search", epilog="Example: agesearch trial studies/first 7 --rerun")(
        trial
    )


def trial(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Study folder.")],
    number: Annotated[int, typer.Argument(metavar="ID", min=0, help="The trial's number.")],
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Train it anew elsewhere and compare; the study stays as it is.")
    ] = False,
    to: Annotated[
        str | None, typer.Option("--out", help="New folder for --rerun (default: STUDY-ID-rerun here).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show everything about one trial: how it ended and why, its parameters, curve, latency, files, spec and
    what its weights started from.

    --rerun trains the same spec with the same seed, data, targets and threads in this process. Exit code 1
    where the result differs.
    """
    if to is not None and not rerun:
        raise InputError("--out is the folder of --rerun: give both.")
    if rerun:
        _rerun(study, number, to, as_json)
        return
    from agesearch.search.view.trial_details import trial_details

    known = trial_details(study, number)
    if as_json:
        print_json(known.as_json())
    else:
        _print(known)


def _rerun(study: str, number: int, to: str | None, as_json: bool) -> None:
    from agesearch.search.view.rerun import rerun_trial

    with shown_progress() as listener:
        found = rerun_trial(study, number, to, on_progress=listener)
    if as_json:
        print_json(found.as_json())
    else:
        _print_rerun(found)
    failed_again = bool(found.failure) and found.record.state.value == "FAIL"
    if not found.is_identical and not failed_again:
        raise AgeSearchError(f"Trial {number} came out otherwise. {found.verdict}")


def _print_rerun(found: Rerun) -> None:
    rows = [[name, _figure(old), _figure(new)] for name, old, new in found.figures]
    state = found.record.state.value
    rows.append(["state", state, "FAIL" if found.failure else state])
    title = f"{found.record.title}, recorded and trained anew"
    out.print(table(title, ["", "recorded", "new"], rows))
    if found.failure:
        say(f"Recorded reason: {found.record.reason}\nNew failure: {found.failure}")
    say(found.verdict)
    say(f"The new run lies in {found.out}")


def _print(known: TrialDetails) -> None:
    from agesearch.cli.study_screen import STATE_STYLES, cell, clock
    from agesearch.cli.textplots import sparkline

    record, spec = known.record, known.spec
    out.print(f"{record.title} of {known.folder.root}", style="bold", highlight=False, markup=False)
    style = STATE_STYLES[record.state]
    out.print(harmless(known.state), style=style, highlight=False, markup=False)
    if known.role:
        out.print(known.role, highlight=False)
    cs5 = "-" if record.val_cs5 is None else f"{record.val_cs5:.1%}"
    error = record.val_mae_years
    if error is None and known.curve:
        error = known.curve[-1]
    facts = [
        ["validation MAE", f"{cell(error)} years{_interval(known)}"],
        ["validation CS@5", cs5],
        *([word, record.at_end_text(word, " years")] for word in record.at_end),
        ["latency", f"{cell(record.latency_ms_p50)} ms, timed {_run_words(known)}"],
        ["epochs", f"{record.epochs or len(known.curve)} of {spec.optim.epochs}"],
        ["training", f"{record.seconds:.1f} s"],
        ["started", f"{record.started} (UTC)"],
        *([["node", record.node]] if record.node else []),
        ["taken up again after a death", str(record.retries)],
        ["started from", known.lineage],
        ["spec", spec.digest()],
    ]
    if known.age is not None:
        quiet = "" if known.quiet is None else f", last heard of {clock(known.quiet)} ago"
        facts.append(["running for", f"{clock(known.age)}{quiet}"])
    if known.standing is not None:
        facts.append(["under way", known.standing.words])
    _pairs("", facts)
    _pairs("Parameters", [[name, str(value)] for name, value in sorted(record.params.items())])
    if known.curve:
        width = max(10, out.width - 2)
        blocks = sparkline(known.curve, width, ascii_only=out.options.ascii_only)
        out.print("\nValidation MAE in years by epoch", style="bold")
        out.print(f"  {blocks}", style="cyan", highlight=False)
        for start in range(0, len(known.curve), _EPOCHS_A_LINE):
            part = known.curve[start : start + _EPOCHS_A_LINE]
            out.print(f"  {start + 1:>4}  " + " ".join(f"{error:6.2f}" for error in part), highlight=False)
    _pairs(f"Files in {record.folder}", [[name, f"{size:,} bytes"] for name, size in known.files.items()])
    say(f"Train it anew and compare: {command('trial', known.folder.root, record.number, '--rerun')}")


def _interval(known: TrialDetails) -> str:
    """How sure its best error is, where it is of a subset."""
    if known.interval is None:
        return ""
    low, high = known.interval
    return f" at best (95 %: {low:.2f}-{high:.2f}, on {known.spec.val_faces:,} validation faces)"


def _run_words(known: TrialDetails) -> str:
    times = known.latency.times_teacher
    return "by the search" if times is None else f"beside the teacher: {times:.2g} x its speed"


def _pairs(title: str, rows: list[list[str]]) -> None:
    """Names and values in two columns; a value that is too long goes on in the next line."""
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    if title:
        out.print(f"\n{title}", style="bold", highlight=False, markup=False)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(Text(f"  {harmless(name)}"), Text(harmless(value)))
    out.print(grid, highlight=False)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.10g}"
