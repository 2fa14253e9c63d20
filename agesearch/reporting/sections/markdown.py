"""Text and tables as Markdown shows them."""

from __future__ import annotations

from collections.abc import Sequence


def piped(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table, line by line."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(plain(cell) for cell in line)} |" for line in lines]


def plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{letter}" if letter in "\\|<>*_`[]" else letter for letter in text)
