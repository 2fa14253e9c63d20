"""What can go wrong, in three kinds, each with the exit code the command line ends with.

A message is one line: what is wrong, where, what was expected, what to do. ``AgeSearchError`` itself is a run
that failed (exit code 1); ``InputError`` is a wrong input and ``ConflictError`` something already in use
(both 2).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from difflib import get_close_matches


class AgeSearchError(Exception):
    """A run that could not finish although its input was sound."""

    exit_code = 1


class StorageFullError(AgeSearchError):
    """A disk or quota is full: nothing more can be written, whatever is tried next."""


class NodeFaultError(AgeSearchError):
    """A machine of a cluster cannot do some work that another may be able to do."""


class InputError(AgeSearchError):
    """An input (path, option, file content, name) that cannot be used."""

    exit_code = 2


class ConflictError(InputError):
    """A name, port or folder that something else already uses."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says that is not blank, or its kind where it says nothing."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def command(*words: object) -> str:
    """A command of agesearch as a message suggests it: every word quoted for a shell, so it can be pasted.

    Messages write it without quotation marks of their own around it ("go on with: agesearch resume 'my
    study'"), since two kinds of quotes on one line cannot be told apart.

    >>> command("resume", "runs/my study")
    "agesearch resume 'runs/my study'"
    """
    return shlex.join(["agesearch", *map(str, words)])


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that a table does not have: it lists the known ones and guesses what was meant."""
    names = sorted(known)
    guess = get_close_matches(name, names, n=1)
    hint = f" Did you mean '{guess[0]}'?" if guess else ""
    return InputError(f"Unknown {kind} '{name}'; the known ones are: {', '.join(names)}.{hint}")
