"""The readers of datasets, one row each. A new dataset is one file beside this one and one row here."""

from __future__ import annotations

from agesearch.data.sources import csv, folder
from agesearch.data.sources.base import Source, SourceOptions
from agesearch.errors import unknown_name

__all__ = ["SOURCES", "Source", "SourceOptions", "source_named"]

SOURCES: dict[str, Source] = {
    "csv": csv.SOURCE,
    "folder": folder.SOURCE,
}


def source_named(name: str) -> Source:
    """The row of the table; an ``InputError`` lists the known names."""
    if name not in SOURCES:
        raise unknown_name("source", name, SOURCES)
    return SOURCES[name]
