"""How callers name a place, and results that are places themselves: one step's result is the next one's
input.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

#: A folder or file: a path, a URI such as ``s3://bucket/key``, or what an earlier step returned.
Place = str | os.PathLike[str]


class Kept:
    """A result that lies at ``path`` (or URI), and can be given wherever a place is asked for."""

    path: str

    def __fspath__(self) -> str:
        return self.path


def text_of(place: Place | None) -> str | None:
    """The place as text."""
    return None if place is None else os.fspath(place)


def listed(places: Place | Sequence[Place]) -> list[str]:
    """One place, or several, as a list of text."""
    return [os.fspath(place) for place in ([places] if isinstance(places, str | os.PathLike) else places)]
