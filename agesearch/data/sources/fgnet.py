"""Reader of FG-NET (Lanitis et al., 2002): 1,002 scans of 82 persons, named ``<person>A<age>[a-z].JPG``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from agesearch.data.dataset.records import Rejected, SourceRecord
from agesearch.data.sources.base import Source, SourceOptions, check_folder, read_names
from agesearch.data.sources.values import BadLabel, parse_years

_LAYOUT = "ROOT/[images/]<person, 3 digits>A<age, 2 digits>[a-z].JPG"
_NAME = re.compile(r"^(\d{3})A(\d{1,3})([a-z]?)\.[a-z]+$", re.IGNORECASE)


def read(options: SourceOptions) -> Iterator[SourceRecord | Rejected]:
    """One record per image of ``ROOT/images``, or of the root where it has no such folder; the landmarks
    beside it (``points/``) are not read. Other names are ``bad_name``.
    """
    check_folder(options.root, "fgnet", _LAYOUT)
    images = options.root / "images"
    yield from read_names(images if images.is_dir() else options.root, "fgnet", _record)


def _record(path: str, relative: str) -> SourceRecord:
    name = relative.rsplit("/", 1)[-1]
    labels = _NAME.match(name)
    if labels is None:
        raise BadLabel("bad_name", f"'{name[:80]}' is not a person, 'A' and an age, such as 001A43a.JPG")
    return SourceRecord(path, "fgnet", age=parse_years(labels[2]), subject_id=labels[1])


SOURCE = Source(
    layout=_LAYOUT,
    label_kind="real",
    licence="research only",
    identities="82 persons, from the names of the images",
    read=read,
    notes=(
        "The protocol is leave one person out: 82 turns, each tested on one person's images. The column "
        "'split' is not the owner's.",
    ),
)
