"""Reader of FairFace (Karkkainen & Joo, WACV 2021): 97,698 faces in nine age groups, two tables of labels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from agesearch.ages import MAX_AGE
from agesearch.data.dataset.records import Rejected, SourceRecord, Split
from agesearch.data.sources.base import Source, SourceOptions
from agesearch.data.sources.tables import entry, find, missing_files, named_rows
from agesearch.data.sources.values import BadLabel, parse_age, parse_sex
from agesearch.errors import InputError
from agesearch.storage import Location

_TABLES = {Split.TRAIN: "fairface_label_train.csv", Split.VAL: "fairface_label_val.csv"}
_COLUMNS = ("file", "age", "gender", "race")
_CROPS = ("fairface-img-margin025-trainval", "fairface-img-margin125-trainval")
#: The ends of the nine groups in years; the last is written "more than 70".
_GROUPS = (
    (0.0, 2.0),
    (3.0, 9.0),
    *((float(decade), decade + 9.0) for decade in range(10, 70, 10)),
    (70.0, float(MAX_AGE)),
)


def read(options: SourceOptions) -> Iterator[SourceRecord | Rejected]:
    """One record per row of both tables, in the owner's splits; an age that is none of the nine groups is
    ``bad_age``. ``InputError`` where a table or the images are missing, or both sizes of crop are there.
    """
    root = options.root
    if find(root, _TABLES.values()) is None or not all((root / name).exists() for name in _TABLES.values()):
        raise missing_files(root, "fairface", [*_TABLES.values(), "train/", "val/"])
    images = options.images or _images(root)
    for split, name in _TABLES.items():
        for line, row in named_rows(root / name, _COLUMNS):
            build = partial(_record, row=row, split=split)
            yield entry(root / name, line, "fairface", images, row["file"], build, row)


def _images(root: Location) -> Location:
    """The folder that ``train/`` and ``val/`` are in: the root, or that of the one size of crop there."""
    if (root / "train").is_dir() or (root / "val").is_dir():
        return root
    there = [root / name for name in _CROPS if (root / name).is_dir()]
    if len(there) > 1:
        raise InputError(f"'{root}' has the crops of both sizes: give one of {_CROPS} with --images.")
    return there[0] if there else root


def _record(path: str, row: dict[str, str], split: Split) -> SourceRecord:
    _, low, high = parse_age(row["age"], _GROUPS)
    if (low, high) not in _GROUPS:
        raise BadLabel("bad_age", f"'{row['age'][:40]}' is not one of the nine groups")
    return SourceRecord(
        path,
        "fairface",
        age_low=low,
        age_high=high,
        sex=parse_sex(row["gender"]),
        ethnicity=row["race"].lower().replace("_", " ") or None,
        split=split,
    )


SOURCE = Source(
    layout="ROOT/fairface_label_{train,val}.csv, ROOT/[fairface-img-margin025-trainval/]{train,val}/<n>.jpg",
    label_kind="group",
    licence="CC BY 4.0",
    identities="none",
    read=read,
    notes=(
        "The owner publishes train and val only, kept as they are: there is no test split, and published "
        "figures are measured on val. Choose models on a part of train before you compare with them.",
        "Identities are unknown, so the splits are not known to be subject-exclusive.",
        "Crops with padding 0.25 and 1.25 show the same faces: ingest one of them.",
    ),
)
