"""Reader of Adience (Eidinger 2014): faces from Flickr albums in eight age groups and five folds.

``ROOT/fold_{0..4}_data.txt`` name the faces, ``fold_frontal_*`` the nearly frontal ones (also found in
``folds/`` or ``annotations/``). ``ROOT/faces/<user>/coarse_tilt_aligned_face.<face>.<image>`` are loose
crops, ``ROOT/aligned/<user>/landmark_aligned_face.<face>.<image>`` the same faces aligned by landmarks.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from agesearch.ages import ADIENCE_GROUPS
from agesearch.data.dataset.records import Rejected, SourceRecord, Split, Turn
from agesearch.data.sources.base import Source, SourceOptions, Variant
from agesearch.data.sources.tables import entry, find, missing_files, named_rows
from agesearch.data.sources.values import BadLabel, clean, parse_age, parse_sex
from agesearch.errors import InputError
from agesearch.storage import Location

_NAME = "adience"
_FOLDS = range(5)
#: Variant -> what the tables begin with, the folder of images, what the images' names begin with.
_FACES, _ALIGNED = ("faces", "coarse_tilt_aligned_face"), ("aligned", "landmark_aligned_face")
_FORMS = {
    "full": ("fold_", *_FACES),
    "frontal": ("fold_frontal_", *_FACES),
    "full-aligned": ("fold_", *_ALIGNED),
    "frontal-aligned": ("fold_frontal_", *_ALIGNED),
}
_TABLE_FOLDERS = ("", "folds/", "annotations/")
_NAMING = ("user_id", "face_id", "original_image")
_COLUMNS = (*_NAMING, "age", "gender")
_GROUPS = tuple((float(low), float(high)) for low, high in ADIENCE_GROUPS)
#: How the owner's files write the third group; the paper writes 8-13.
_SAME_GROUP = {(8.0, 12.0): (8.0, 13.0)}


def read(options: SourceOptions) -> Iterator[SourceRecord | Rejected]:
    """One record per row of the five tables; labels other than the eight groups are ``single_age``,
    ``other_age_group`` or ``no_age``. ``InputError`` where a table or the variant's images are missing.
    """
    start, folder, prefix = _FORMS[options.variant or next(iter(_FORMS))]
    names = {fold: f"{start}{fold}_data.txt" for fold in _FOLDS}
    tables = {
        fold: find(options.root, (place + name for place in _TABLE_FOLDERS)) for fold, name in names.items()
    }
    lacking = [names[fold] for fold, table in tables.items() if table is None]
    if lacking:
        raise missing_files(options.root, _NAME, lacking)
    images = _images(options, folder)
    for fold, table in tables.items():
        if table is not None:
            for line, row in named_rows(table, _COLUMNS, delimiter="\t", quote=None):
                build = partial(_record, row, fold, unlabelled=options.unlabelled)
                yield entry(table, line, _NAME, images, _image(row, prefix), build, row)


def turns(_: SourceOptions) -> tuple[Turn, ...]:
    """Five turns: each fold tests once, the next one validates, the other three train."""
    turns = []
    for test in _FOLDS:
        val = (test + 1) % len(_FOLDS)
        train = tuple(fold for fold in _FOLDS if fold not in (test, val))
        turns.append(Turn(name=f"fold {test}", train=train, val=(val,), test=(test,)))
    return tuple(turns)


def _images(options: SourceOptions, folder: str) -> Location:
    base = options.images or options.root
    if (base / folder).exists():
        return base / folder
    other = next(name for name, _ in (_FACES, _ALIGNED) if name != folder)
    if (base / other).exists():
        chosen = options.variant or next(iter(_FORMS))
        wanted = chosen.removesuffix("-aligned") if folder == "aligned" else f"{chosen}-aligned"
        raise InputError(f"'{base}' has the images '{other}/', not '{folder}/': give --variant {wanted}.")
    return options.images or base / folder


def _image(row: dict[str, str], prefix: str) -> str:
    user, face, image = (row[name] for name in _NAMING)
    return f"{user}/{prefix}.{face}.{image}" if user and face and image else ""


def _record(row: dict[str, str], fold: int, path: str, *, unlabelled: bool) -> SourceRecord:
    low, high = _group(row["age"], unlabelled=unlabelled)
    return SourceRecord(
        path,
        _NAME,
        age_low=low,
        age_high=high,
        subject_id=row["user_id"],
        sex=parse_sex(row["gender"].replace("u", "")),
        split=_first_turn(fold),
        fold=fold,
    )


def _first_turn(fold: int) -> Split:
    """The split of a fold in the first turn."""
    return {0: Split.TEST, 1: Split.VAL}.get(fold, Split.TRAIN)


def _group(written: str, *, unlabelled: bool) -> tuple[float | None, float | None]:
    """Both ends of one of the eight groups; ``BadLabel`` for the set's other labels."""
    if unlabelled and not clean(written):
        return None, None
    age, low, high = parse_age(written, (*_GROUPS, *_SAME_GROUP))
    if age is not None or low is None or high is None:
        raise BadLabel("single_age", f"{age:g} is one age, not one of the eight age groups")
    ends = _SAME_GROUP.get((low, high), (low, high))
    if ends not in _GROUPS:
        raise BadLabel("other_age_group", f"{written} is not one of the eight age groups")
    return ends


SOURCE = Source(
    layout="ROOT/fold_{0..4}_data.txt (fold_frontal_*), ROOT/faces/<user>/*.jpg or ROOT/aligned/<user>/*.jpg",
    label_kind="group",
    licence="research only",
    identities="Flickr users",
    read=read,
    variants={
        "full": Variant("all faces, the loose crops of faces/"),
        "frontal": Variant("nearly frontal faces, the loose crops of faces/"),
        "full-aligned": Variant("all faces, aligned by landmarks"),
        "frontal-aligned": Variant("nearly frontal faces, aligned by landmarks"),
    },
    turns=turns,
    notes=(
        "Five turns: fold k tests, fold k + 1 validates, three train. The column split holds the first.",
        "The subject is the Flickr user whose album it is; an album can show several people.",
        "The label (8, 12) of the files is the paper's group 8-13.",
    ),
)
