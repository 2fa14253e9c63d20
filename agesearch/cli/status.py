"""``agesearch status``: how a study stands, while it runs anywhere and after."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from agesearch.cli.common import JsonOption, out, print_json
from agesearch.cli.study_screen import draw

if TYPE_CHECKING:
    from agesearch.search.view.status import Status

#: Seconds between two looks, on a terminal and in a pipe.
_EVERY_S, _PLAIN_EVERY_S = 2.0, 5.0


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("status", rich_help_panel="Search", epilog="Example: agesearch status studies/first --watch")(
        status
    )


def status(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Study folder.")],
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it anew every two seconds until it ends.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how a study stands: trials by state with their reasons, the front, running trials with their
    curves, the epochs spent, the time left, who runs it and how to go on.

    Reads the study's records only: it works in another terminal or on another host, and after the study.
    """
    from agesearch.search.view.status import study_status

    found = study_status(study)
    if as_json:
        print_json(found.as_json())
        return
    if watch:
        found = _watch(study, found)
    out.print(_drawn(found, out.width, None, out.options.ascii_only), highlight=False)


def _watch(study: str, found: Status) -> Status:
    """The last status, once nothing runs any more or Ctrl-C was pressed."""
    from agesearch.search.view.status import study_status

    try:
        with Live(
            console=out,
            transient=True,
            auto_refresh=False,
            vertical_overflow="crop",
            redirect_stdout=False,
            redirect_stderr=False,
        ) as live:
            while found.is_running:
                if out.is_interactive:
                    live.update(_fitting(found, out), refresh=True)
                else:
                    out.print(_one_line(found), highlight=False, soft_wrap=True, markup=False)
                time.sleep(_EVERY_S if out.is_interactive else _PLAIN_EVERY_S)
                found = study_status(study)
    except KeyboardInterrupt:
        return found
    return found


def _fitting(found: Status, console: Console) -> RenderableType:
    return _drawn(found, console.width, console.height - 1, console.options.ascii_only)


def _drawn(found: Status, width: int, height: int | None, ascii_only: bool) -> RenderableType:
    lines = [f"Study {found.folder.root}", found.holder]
    if found.how_to_go_on:
        lines.append(f"Go on with: {found.how_to_go_on}")
    if found.confirming:
        lines.append(found.confirming)
    lines += found.notes_now
    # The address and the command are to be copied whole: only what is watched is cut to the screen.
    cut = height is not None
    head = [Text(line, no_wrap=cut, overflow="ellipsis" if cut else "fold") for line in lines]
    if found.progress is None:
        return Group(*head, Text("No trial has started."))
    room = None if height is None else height - len(head)
    return Group(*head, draw(found.progress, width, room, ascii_only=ascii_only))


def _one_line(found: Status) -> str:
    from agesearch.cli.study_screen import headline

    return headline(found.progress) if found.progress else found.holder
