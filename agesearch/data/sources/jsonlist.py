"""Objects of a long JSON list, one by one: only a piece of the file is in memory, whatever its size.

Unlike streaming parsers, which follow RFC 8259, this takes the NaN that Python's and pandas' writers put for
missing values, since published databases are written by them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

from agesearch.data.sources.tables import open_text
from agesearch.errors import InputError
from agesearch.storage import Location

_PIECE_CHARACTERS = 1_000_000
#: An entry with more is no label of a face.
_MAX_OBJECT_CHARACTERS = 1_000_000
_SPACE = " \t\r\n"


class _Window:
    """The unread part of a text, and where in the file it starts."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._passed = 0
        self.content = ""
        self.start = 0

    def more(self) -> bool:
        """Read another piece; False at the end of the file."""
        piece = self._text.read(_PIECE_CHARACTERS)
        self._passed += self.start
        self.content, self.start = self.content[self.start :] + piece, 0
        return bool(piece)

    def next_mark(self) -> str:
        """The next character that is no space, not taken; empty at the end."""
        while True:
            while self.start < len(self.content) and self.content[self.start] in _SPACE:
                self.start += 1
            if self.start < len(self.content):
                return self.content[self.start]
            if not self.more():
                return ""

    def place(self, offset: int = 0) -> str:
        """Where the window starts, in words."""
        return f"character {self._passed + self.start + offset}"


def json_objects(where: Location) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number (from 1) and content of every object of a JSON list.

    ``InputError`` where the file is no list of objects, breaks off, or has an object of more than a million
    characters; it names the character.
    """
    with open_text(where) as text:
        window = _Window(text)
        if window.next_mark() != "[":
            raise _broken(where, window, "the list of entries must begin")
        window.start += 1
        number = 0
        while (mark := window.next_mark()) != "]":
            if number:
                if mark != ",":
                    raise _broken(
                        where, window, f"after entry {number} a comma or the list's end must follow"
                    )
                window.start += 1
                mark = window.next_mark()
            if mark != "{":
                raise _broken(where, window, f"entry {number + 1} must be an object")
            number += 1
            yield number, _object(where, window, number)


def _object(where: Location, window: _Window, number: int) -> dict[str, Any]:
    decoder = json.JSONDecoder()
    while True:
        try:
            value, window.start = decoder.raw_decode(window.content, window.start)
        except json.JSONDecodeError as error:
            offset = error.pos - window.start
            if len(window.content) - window.start > _MAX_OBJECT_CHARACTERS or not window.more():
                what = f"entry {number} is broken ({error.msg})"
                raise _broken(where, window, what, offset) from error
        except (ValueError, RecursionError) as error:  # numbers of thousands of digits, endless nesting
            raise _broken(where, window, f"entry {number} cannot be read") from error
        else:
            content: dict[str, Any] = value
            return content


def _broken(where: Location, window: _Window, what: str, offset: int = 0) -> InputError:
    return InputError(f"'{where}' is not a list of entries in JSON: {window.place(offset)}: {what}.")
