"""Look over a source before any work: count its records, digest them, see whether its images exist.

The digest covers what the reader yields (labels, subjects, paths relative to the images) and the size of
every image file, so it neither opens an image nor changes when the source is moved or copied. The stamp is
that of the times at which the files were written: while it stays, nothing has to be looked at again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, TypeVar

from agesearch.data.dataset.records import Rejected, SourceRecord
from agesearch.data.images.files import file_stamps, path_within
from agesearch.data.sources import Source, SourceOptions
from agesearch.errors import InputError
from agesearch.progress import Listener, Progress, silent

_Item = TypeVar("_Item")
_AT_ONCE = 1024
_STAGE = "survey"


@dataclass(frozen=True)
class Entry:
    """One row of a source: what the reader yields, and the image file as it lies there.

    ``key`` is the digest of the record's fields, its path ``within`` the images and the file's size: equal
    keys are the same work. ``size`` is in bytes, ``modified`` in nanoseconds; both None without a file.
    """

    item: SourceRecord | Rejected
    key: bytes
    within: str
    size: int | None = None
    modified: int | None = None


@dataclass(frozen=True)
class Survey:
    """What a source holds: usable ``records``, rows its reader ``rejected``, whether every label is an age
    group, whether no record has a label, the digest, and the stamp.
    """

    records: int
    rejected: int
    only_groups: bool
    unlabelled: bool
    digest: str
    stamp: str


def survey(
    source: Source,
    options: SourceOptions,
    keep: Callable[[Entry], None] | None = None,
    on_progress: Listener = silent,
) -> Survey:
    """Read the source once, and give every entry to ``keep``. An ``InputError`` where it has no usable record
    or none of its images exists.
    """
    digest, stamp = hashlib.sha256(), hashlib.sha256()
    records = rejected = missing = groups = unlabelled = 0
    example = ""
    for entry in entries(source, options):
        item = entry.item
        if (records + rejected) % _AT_ONCE == 0:
            on_progress(Progress(_STAGE, records, None, rejected, "reading labels"))
        if isinstance(item, Rejected):
            rejected += 1
            example = example or f"{item.path}: {item.reason} ({item.detail})"
        else:
            records += 1
            missing += entry.size is None
            groups += item.age is None and item.age_low is not None
            unlabelled += item.age is None and item.age_low is None
            example = item.path if entry.size is None and missing == 1 else example
        digest.update(entry.key)
        stamp.update(f"{entry.modified}".encode())
        if keep is not None:
            keep(entry)
    _check(options, records, rejected, missing, example)
    on_progress(Progress(_STAGE, records, records, rejected))
    return Survey(
        records,
        rejected,
        groups == records,
        unlabelled == records,
        digest.hexdigest()[:16],
        stamp.hexdigest()[:16],
    )


def entries(source: Source, options: SourceOptions) -> Iterator[Entry]:
    """The source's rows in its order, with their keys; files are asked for their size, not opened."""
    base = options.image_root.path
    for items in in_chunks(source.read(options), _AT_ONCE):
        stamps = file_stamps([item.path for item in items if isinstance(item, SourceRecord)])
        for item in items:
            within = path_within(item.path, base)
            fields = asdict(item) | {"path": within}
            if isinstance(item, Rejected):
                fields.pop("detail")
                yield Entry(item, _key(fields), within)
            else:
                size, modified = next(stamps) or (None, None)
                yield Entry(item, _key(fields | {"bytes": size}), within, size, modified)


def _key(fields: dict[str, Any]) -> bytes:
    text = json.dumps(fields, sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def in_chunks(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Lists of up to ``size`` items."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


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
