"""What every reader shares: the options it gets, the row of the table it stands in, paths and walks.

A reader is a generator over ``SourceRecord | Rejected``: it streams, opens no image, and tells why it leaves
a row out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow.fs as pafs

from agesearch.data.dataset.records import LabelKind, Rejected, SourceRecord, Turn
from agesearch.data.images.files import on_disk, printable
from agesearch.data.sources.values import BadLabel, clean
from agesearch.errors import InputError, unknown_name
from agesearch.storage import Location

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"}
)

_MAX_DEPTH = 32
#: The longest name and path that file systems take; a longer one fails in the system, not in a row.
_MAX_NAME_BYTES, _MAX_PATH_BYTES = 255, 2048
_BACKSLASH = re.compile(r"\\(?!x[89a-f][0-9a-f])")
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")


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
class Findings:
    """What a reader learns from the files themselves: the kind of their labels, and notes for their users."""

    label_kind: LabelKind | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A reader and what its users must know: the layout on disk, the kind of label, licence, identities.

    The first of ``variants`` is taken unless the user names another. ``turns`` gives the owner's turns
    over the folds, ``findings`` what depends on the files that are read; ``notes`` go into the manifest and
    onto the data card.
    """

    layout: str
    label_kind: LabelKind
    licence: str
    identities: str
    read: Reader
    variants: Mapping[str, Variant] = field(default_factory=dict)
    turns: Callable[[SourceOptions], tuple[Turn, ...]] = lambda _: ()
    findings: Callable[[SourceOptions], Findings] = lambda _: Findings()
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

    def document(self) -> dict[str, Any]:
        """What a user chooses by, as JSON values."""
        return {
            "layout": self.layout,
            "label_kind": self.label_kind,
            "licence": self.licence,
            "identities": self.identities,
            "variants": {
                name: {"about": variant.about, "label_kind": self.kind_of(name)}
                for name, variant in self.variants.items()
            },
            "notes": list(self.notes),
        }


def unix_path(written: str) -> str:
    """A path as annotations write it -> with ``/`` between its parts: tables made on Windows have ``\\``.

    A ``\\xHH`` stays: ``files.printable`` writes the bytes of a name that is not UTF-8 so.
    """
    return _BACKSLASH.sub("/", written)


def resolve(path: str, root: Location) -> str:
    """An image's path as a source writes it -> one that can be opened; absolute paths and URIs stay.

    ``BadLabel`` ``path_outside`` for a path of a Windows machine (``C:\\faces\\1.jpg``).
    """
    if _WINDOWS.match(path):
        raise BadLabel(
            "path_outside",
            f"'{path[:200]}' is a path of a Windows machine: write paths relative to a folder, and give that "
            "with --images",
        )
    if "://" in path or os.path.isabs(path):
        return path
    return _file_in(root, path)


def inside(path: str, root: Location) -> str:
    """An image's path as an annotation writes it, relative to ``root`` -> one that can be opened.

    ``BadLabel`` ``no_path`` for an empty one, ``path_outside`` for one that could leave ``root`` (annotations
    come from outside, and must not name other files of this machine), ``bad_path`` for one that no file
    system takes.
    """
    written = clean(path)
    if not written:
        raise BadLabel("no_path", "no image is named")
    parts = written.replace("\\", "/").split("/")
    if "://" in written or written[0] in "/\\~" or written[1:2] == ":" or ".." in parts:
        raise BadLabel("path_outside", f"'{written[:200]}' is not a path inside '{root}'")
    lengths = [len(part.encode("utf-8", "replace")) for part in (*parts, written)]
    if "\0" in written or max(lengths[:-1]) > _MAX_NAME_BYTES or lengths[-1] > _MAX_PATH_BYTES:
        raise BadLabel("bad_path", f"{written[:80]!r} cannot be a path")
    return _file_in(root, written)


def _file_in(root: Location, written: str) -> str:
    """A path in ``root``; a file whose very name has a ``\\`` comes before the folder that it could mean."""
    literal = root / written.removeprefix("./")
    if "\\" in written and literal.exists():
        return str(literal)
    return str(root / unix_path(written).removeprefix("./"))


def read_names(
    folder: Location, source: str, record_of: Callable[[str, str], SourceRecord]
) -> Iterator[SourceRecord | Rejected]:
    """Records of a dataset that writes its labels into the names of its images.

    ``record_of`` gets each image's path and its path relative to ``folder``, and raises ``BadLabel`` for a
    name it cannot use.
    """
    for item in walk_images(folder):
        if isinstance(item, Rejected):
            yield replace(item, source=source)
            continue
        try:
            yield record_of(item, Location.of(item).path[len(folder.path) + 1 :])
        except BadLabel as error:
            yield Rejected(item, error.reason, str(error), source)


def check_folder(root: Location, source: str, layout: str) -> None:
    """An ``InputError`` where ``root`` is no folder."""
    if not root.is_dir():
        raise InputError(f"'{root}' is not a folder, but the source '{source}' reads {layout}.")


def walk_images(folder: Location, depth: int = 0) -> Iterator[str | Rejected]:
    """Paths of all images under a folder by name order, depth first.

    Everything else comes as ``Rejected``: hidden entries, files without an image's suffix, folders that
    cannot be read or lie too deep, and links to folders, which are not followed since they can form loops.
    Links to files are. Names that are not UTF-8 come as ``files.printable`` writes them.
    """
    if folder.is_local:
        yield from _walk_local(folder.path, folder, depth)
    else:
        yield from _walk_remote(folder, depth)


def _walk_local(path: str, root: Location, depth: int) -> Iterator[str | Rejected]:
    try:
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        yield Rejected(_relative(path, root), "unreadable_folder", error.strerror or "it cannot be read")
        return
    for entry in entries:
        place = _relative(entry.path, root)
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            if depth >= _MAX_DEPTH:
                yield Rejected(place, "too_deep", f"it lies more than {_MAX_DEPTH} folders deep")
            else:
                yield from _walk_local(entry.path, root, depth + 1)
        elif os.path.isdir(entry.path) and not entry.name.startswith("."):
            yield Rejected(place, "linked_folder", "links to folders are not followed")
        elif on_disk(printable(entry.path)) not in (entry.path, os.fsencode(entry.path)):
            yield Rejected(place, "ambiguous_name", "another file's name is written like this one's bytes")
        else:
            yield _image_or_reason(entry.name, place)


def _walk_remote(folder: Location, depth: int) -> Iterator[str | Rejected]:
    infos = folder.filesystem.get_file_info(pafs.FileSelector(folder.path))
    for info in sorted(infos, key=lambda item: str(item.base_name)):
        name = str(info.base_name)
        place = folder / name
        if info.type != pafs.FileType.Directory or name.startswith("."):
            yield _image_or_reason(name, str(place))
        elif depth >= _MAX_DEPTH:
            yield Rejected(str(place), "too_deep", f"it lies more than {_MAX_DEPTH} folders deep")
        else:
            yield from _walk_remote(place, depth + 1)


def _image_or_reason(name: str, place: str) -> str | Rejected:
    if name.startswith("."):
        return Rejected(place, "hidden", "names that begin with a dot are not read")
    if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
        return place
    return Rejected(place, "not_an_image_name", "the name has no image suffix")


def _relative(path: str, root: Location) -> str:
    """A local path as the root was written, in valid UTF-8."""
    return printable(str(root) + path[len(root.path) :])
