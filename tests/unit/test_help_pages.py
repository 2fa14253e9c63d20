"""Every help page on a narrow terminal: nothing is cut off."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from agesearch.cli.main import app

NARROW = 60


def pages(command: Any, context: Any) -> Iterator[tuple[str, str]]:
    """The path and the help of a verb and of all below it."""
    yield context.command_path, command.get_help(context)
    for name, verb in getattr(command, "commands", {}).items():
        yield from pages(verb, command.context_class(verb, info_name=name, parent=context))


def test_no_page_is_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(NARROW))
    monkeypatch.setattr(app, "rich_markup_mode", None)
    verbs = get_command(app)
    found = dict(pages(verbs, verbs.context_class(verbs, info_name="agesearch")))
    assert len(found) > 30
    for path, page in found.items():
        wide = [line for line in page.splitlines() if len(line) > NARROW]
        assert not wide, f"{path}: {wide}"
        assert "\\[" not in page


def test_a_narrow_terminal_gets_names_of_options_whole() -> None:
    environment = os.environ | {"COLUMNS": str(NARROW)}
    command = [sys.executable, "-m", "agesearch.cli.main", "tune", "--help"]
    page = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "--workers-per-trial" in page
    assert "…" not in page
