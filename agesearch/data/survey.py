"""Look over a source before any work: count its records, digest them, and see whether its images are there.

The digest decides whether a dataset is up to date. It covers what the reader yields (labels, subjects, paths
relative to the images) and the size of every image file, so it neither opens an image nor changes when the
source is moved or copied.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TypeVar

import pyarrow.fs as pafs

from agesearch.data.records import Rejected, SourceRecord
from agesearch.data.sources import Source, SourceOptions
from agesearch.errors import InputError
from agesearch.storage import Location

_Item = TypeVar("_Item")
_AT_ONCE = 1024


@dataclass(frozen=True)
class Survey:
    """What a source holds: usable ``records``, rows its reader ``rejected``, whether every label is an age
    group, whether no record has a label, and the digest.
    """

    records: int
    rejected: int
    only_groups: bool
    unlabelled: bool
    digest: str


def survey(source: Source, options: SourceOptions) -> Survey:
    """Read the source once. An ``InputError`` where it has no usable record or none of its images exists."""
    digest = hashlib.sha256()
    records = rejected = missing = groups = unlabelled = 0
    example = ""
    base = options.image_root.path
    for items in in_chunks(source.read(options), _AT_ONCE):
        sizes = _sizes([item.path for item in items if isinstance(item, SourceRecord)])
        for item in items:
            fields = asdict(item) | {"path": Location.of(item.path).path.removeprefix(base)}
            if isinstance(item, Rejected):
                rejected += 1
                fields.pop("detail")
                example = example or f"{item.path}: {item.reason}"
            else:
                records += 1
                size = fields["bytes"] = next(sizes)
                missing += size is None
                groups += item.age is None and item.age_low is not None
                unlabelled += item.age is None and item.age_low is None
                example = item.path if size is None and missing == 1 else example
            digest.update(json.dumps(fields, sort_keys=True).encode("utf-8", "surrogatepass"))
    _check(options, records, rejected, missing, example)
    return Survey(records, rejected, groups == records, unlabelled == records, digest.hexdigest()[:16])


def in_chunks(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Lists of up to ``size`` items."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _sizes(paths: list[str]) -> Iterator[int | None]:
    """The size in bytes of each file; None where there is none."""
    places = [Location.of(path) for path in paths]
    if not places:
        return
    for info in places[0].filesystem.get_file_info([place.path for place in places]):
        yield info.size if info.type == pafs.FileType.File else None


def _check(options: SourceOptions, records: int, rejected: int, missing: int, example: str) -> None:
    if not records and not rejected:
        raise InputError(f"'{options.root}' holds not one image.")
    if not records:
        raise InputError(
            f"None of the {rejected} entries of '{options.root}' can be used, such as {example}."
        )
    if missing == records:
        raise InputError(
            f"None of the {records} images that '{options.root}' names exists, such as '{example}': "
            f"give the folder they are in with --images."
        )
