"""[ray] What is used of Ray that is not public, for as long as Ray 2.60 is what the tests run with."""

from __future__ import annotations

from contextlib import suppress


def read_environment_anew() -> None:
    """Ray's core reads the environment when Ray is imported: a program that did so before it called agesearch
    would talk without a token to processes that ask for one. Ray's own way where it turns tokens on later.
    """
    from ray import _raylet

    _raylet.Config.initialize("")  # type: ignore[attr-defined]


def name_process(words: str) -> None:
    """Show this worker as ``ray::WORDS`` to ``ps`` and on the dashboard's page of its node, until Ray names
    it by its next task. A Ray without this shows it by its own name.
    """
    with suppress(ImportError, AttributeError):
        from ray import _raylet

        _raylet.setproctitle(f"ray::{words}")  # type: ignore[attr-defined]
