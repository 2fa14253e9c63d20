"""Reader of CACD2000 (Chen et al., ECCV 2014): 163,446 images of 2,000 celebrities, described by
``celebrity2000_meta.mat``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agesearch.data.dataset.records import Rejected, SourceRecord, Split
from agesearch.data.sources.base import Source, SourceOptions
from agesearch.data.sources.matlab import mat_struct, mat_text
from agesearch.data.sources.tables import entry, missing_files
from agesearch.data.sources.values import parse_whole, parse_years
from agesearch.errors import InputError
from agesearch.storage import Location

_META = "celebrity2000_meta.mat"
_STRUCT = "celebrityImageData"
_FIELDS = ("name", "age", "identity", "rank")
#: Celebrities up to these ranks of their year of birth were cleaned by hand, for validation and test.
_LAST_VAL_RANK, _LAST_TEST_RANK = 2, 5
_LARGEST = 1_000_000


def read(options: SourceOptions) -> Iterator[SourceRecord | Rejected]:
    """One record per image that the .mat file lists, in the owner's splits by rank. ``InputError`` where the
    .mat file is missing, no MATLAB file, or lacks a field.
    """
    root = options.root
    meta = root / _META
    if not meta.exists():
        raise missing_files(root, "cacd2000", [_META, "CACD2000/"])
    fields = mat_struct(meta, _STRUCT)
    _check_fields(fields, meta)
    images = options.images or _images(root)
    rows = zip(*(fields[name] for name in _FIELDS), strict=True)
    for number, (name, *labels) in enumerate(rows, 1):
        yield _entry(meta, number, images, mat_text(name), labels)


def _check_fields(fields: dict[str, Any], meta: Location) -> None:
    missing = [name for name in _FIELDS if name not in fields]
    if missing:
        raise InputError(f"'{meta}' has no field '{missing[0]}' in its struct '{_STRUCT}'.")
    if len({len(fields[name]) for name in _FIELDS}) > 1:
        raise InputError(f"'{meta}' has fields of several lengths in its struct '{_STRUCT}'.")


def _images(root: Location) -> Location:
    return root / "CACD2000" if (root / "CACD2000").is_dir() else root


def _entry(
    meta: Location, number: int, images: Location, name: str, labels: list[Any]
) -> SourceRecord | Rejected:
    def build(path: str) -> SourceRecord:
        age, identity, rank = (mat_text(label) for label in labels)
        return SourceRecord(
            path,
            "cacd2000",
            age=parse_years(age),
            subject_id=str(parse_whole(identity, "bad_identity", 1, _LARGEST)),
            split=_split(parse_whole(rank, "bad_rank", 1, _LARGEST)),
        )

    return entry(meta, number, "cacd2000", images, name, build)


def _split(rank: int) -> Split:
    if rank <= _LAST_VAL_RANK:
        return Split.VAL
    return Split.TEST if rank <= _LAST_TEST_RANK else Split.TRAIN


SOURCE = Source(
    layout=f"ROOT/{_META} and ROOT/[CACD2000/]<age>_<name>_<nnnn>.jpg",
    label_kind="real",
    licence="research only",
    identities="2,000 celebrities, from the .mat file",
    read=read,
    notes=(
        "Celebrities of rank 1-2 are val, 3-5 test, the rest train, as the owner says. Val and test were "
        "cleaned by hand; train was not, and holds wrong persons.",
        "Ages are the year a web search was made for minus the year of birth: off by a year or more.",
    ),
)
