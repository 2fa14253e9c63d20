"""What every reader shares: the options it gets, the row of the table it stands in, ages as written.

A reader is a generator over ``SourceRecord | Rejected``: it streams, opens no image, and tells why it leaves
a row out.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow.fs as pafs

from agesearch.ages import MAX_AGE
from agesearch.data.records import LabelKind, Rejected, Rotation, SourceRecord, Split
from agesearch.errors import unknown_name
from agesearch.storage import Location

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"}
)

_NUMBER = r"(\d+(?:\.\d+)?)"
_AGE_RANGE = re.compile(rf"^[\[(]?\s*{_NUMBER}\s*(?:-|–|—|,|;|to|\.\.)\s*{_NUMBER}\s*[\])]?$")
_OPEN_RANGE = re.compile(rf"^(?:{_NUMBER}\s*\+|(?:more than|over)\s+{_NUMBER})$", re.IGNORECASE)
_MAX_DEPTH = 32

_SPLITS = {
    **dict.fromkeys(("train", "training", "trn", "tr"), Split.TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), Split.VAL),
    **dict.fromkeys(("test", "testing", "tst", "eval"), Split.TEST),
}
_SEXES = {
    **dict.fromkeys(("m", "male", "man", "boy"), "male"),
    **dict.fromkeys(("f", "female", "woman", "girl"), "female"),
}


@dataclass(frozen=True)
class SourceOptions:
    """What the user says about a source.

    ``root`` is the path given, ``images`` where relative image paths start (None: the reader's default),
    ``columns`` the source's column for a field, ``unlabelled`` whether rows without an age are wanted,
    ``variant`` which of the source's variants (None only for a source that has none).
    """

    root: Location
    images: Location | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    unlabelled: bool = False
    variant: str | None = None

    @property
    def image_root(self) -> Location:
        """The folder that image paths are told relative to."""
        return self.images or (self.root if self.root.is_dir() else self.root.parent)


Reader = Callable[[SourceOptions], Iterator[SourceRecord | Rejected]]


@dataclass(frozen=True)
class Variant:
    """A choice that a source leaves to its user, such as which of two labels; ``label_kind`` where it
    differs.
    """

    about: str
    label_kind: LabelKind | None = None


@dataclass(frozen=True)
class Source:
    """A reader and what its users must know: the layout on disk, the kind of label, licence, identities.

    The first of ``variants`` is taken unless the user names another. ``rotations`` gives the owner's turns
    over the folds; ``notes`` go into the manifest and onto the data card.
    """

    layout: str
    label_kind: LabelKind
    licence: str
    identities: str
    read: Reader
    variants: Mapping[str, Variant] = field(default_factory=dict)
    rotations: Callable[[SourceOptions], tuple[Rotation, ...]] = lambda _: ()
    notes: tuple[str, ...] = ()

    def variant(self, name: str | None) -> str | None:
        """The variant that is meant; an unknown one is an ``InputError`` that lists the known ones."""
        if name is None:
            return next(iter(self.variants), None)
        if name not in self.variants:
            raise unknown_name("variant", name, self.variants or ("none",))
        return name

    def kind_of(self, variant: str | None) -> LabelKind:
        """The kind of label of a variant."""
        chosen = self.variants.get(variant) if variant is not None else None
        return (chosen and chosen.label_kind) or self.label_kind


class BadLabel(ValueError):  # noqa: N818 - a row's fault, counted by its reason
    """A label that cannot be used; ``reason`` is a short name for counting."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def parse_age(text: str) -> tuple[float | None, float | None, float | None]:
    """``(age, low, high)`` of an age as written: ``"37"``, ``"37.5"``, or a group ``"25-32"``, ``"(25,
    32)"``, ``"60+"`` (then ``age`` is None). ``BadLabel`` ``no_age`` for an empty one, ``bad_age`` for NaN,
    text, an age outside 0..100 or a group upside down.
    """
    written = text.strip()
    if not written or written.lower() in ("none", "null", "na", "n/a"):
        raise BadLabel("no_age", "no age is given")
    group = _AGE_RANGE.match(written)
    if group:
        return None, *age_range(float(group[1]), float(group[2]), written)
    opened = _OPEN_RANGE.match(written)
    if opened:
        return None, _valid_age(float(opened[1] or opened[2]), written), float(MAX_AGE)
    return parse_number(written), None, None


def age_range(low: float, high: float, written: str) -> tuple[float, float]:
    """Both ends of an age group in 0..100; ``BadLabel`` where it is upside down."""
    if low > high:
        raise BadLabel("bad_age", f"the range '{written[:40]}' is upside down")
    return _valid_age(low, written), _valid_age(high, written)


def parse_number(written: str) -> float:
    """One age in years, 0..100; ``BadLabel`` otherwise."""
    try:
        return _valid_age(float(written), written)
    except ValueError as error:
        if isinstance(error, BadLabel):
            raise
        raise BadLabel("bad_age", f"'{written[:40]}' is not an age") from error


def parse_split(text: str) -> Split | None:
    """The split as owners write it; None for an empty cell, ``BadLabel`` ``bad_split`` for anything else."""
    written = text.strip().lower()
    if not written:
        return None
    if written not in _SPLITS:
        raise BadLabel("bad_split", f"'{text[:40]}' is not train, val or test")
    return _SPLITS[written]


def parse_sex(text: str) -> str | None:
    """``male``, ``female``, another word as it stands, or None for an empty cell."""
    written = text.strip().lower()
    return _SEXES.get(written, written) or None


def resolve(path: str, root: Location) -> str:
    """An image's path as a source writes it -> one that can be opened; absolute paths and URIs stay."""
    return path if "://" in path or os.path.isabs(path) else str(root / path)


def walk_images(folder: Location, depth: int = 0) -> Iterator[str | Rejected]:
    """Paths of all files under a folder by name order, depth first; hidden ones are skipped.

    Links to folders are not followed, since they can form loops; they and files without an image's suffix
    come as ``Rejected``.
    """
    selector = pafs.FileSelector(folder.path)
    for info in sorted(folder.filesystem.get_file_info(selector), key=lambda item: str(item.base_name)):
        name = str(info.base_name)
        place = folder / name
        if name.startswith("."):
            continue
        if info.type == pafs.FileType.Directory:
            if depth >= _MAX_DEPTH or (folder.is_local and os.path.islink(place.path)):
                yield Rejected(str(place), "linked_folder", "links to folders are not followed")
            else:
                yield from walk_images(place, depth + 1)
        elif os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
            yield str(place)
        else:
            yield Rejected(str(place), "not_an_image_name", "the name has no image suffix")


def _valid_age(age: float, written: str) -> float:
    if not math.isfinite(age) or not 0.0 <= age <= MAX_AGE:
        raise BadLabel("bad_age", f"'{written[:40]}' is not an age in 0..{MAX_AGE}")
    return age
