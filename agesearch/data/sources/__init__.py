"""The readers of datasets, one row each. A new dataset is one file beside this one and one row here."""

from __future__ import annotations

from agesearch.data.sources import (
    adience,
    afad,
    agedb,
    appa_real,
    cacd2000,
    csv,
    fairface,
    fgnet,
    folder,
    imdb_clean,
    imdb_wiki,
    lfw_plus,
    morph2,
    paplham,
    utkface,
    vggface2,
)
from agesearch.data.sources.base import Source, SourceOptions
from agesearch.errors import unknown_name

__all__ = ["SOURCES", "Source", "SourceOptions", "source_named"]

SOURCES: dict[str, Source] = {
    "csv": csv.SOURCE,
    "folder": folder.SOURCE,
    "adience": adience.SOURCE,
    "afad": afad.SOURCE,
    "agedb": agedb.SOURCE,
    "appa-real": appa_real.SOURCE,
    "cacd2000": cacd2000.SOURCE,
    "fairface": fairface.SOURCE,
    "fgnet": fgnet.SOURCE,
    "imdb-clean": imdb_clean.SOURCE,
    "imdb-wiki": imdb_wiki.SOURCE,
    "lfw+": lfw_plus.SOURCE,
    "morph2": morph2.SOURCE,
    "paplham": paplham.SOURCE,
    "utkface": utkface.SOURCE,
    "vggface2": vggface2.SOURCE,
}


def source_named(name: str) -> Source:
    """The row of the table; an ``InputError`` lists the known names."""
    if name not in SOURCES:
        raise unknown_name("source", name, SOURCES)
    return SOURCES[name]
