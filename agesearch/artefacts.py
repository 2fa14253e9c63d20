"""What lies at a place: each kind of artefact is known by one file in its folder, and who is given another
kind than was asked for hears what it is, and where it belongs.

``own_folder`` is what every ``--out`` goes through: nothing is written into a folder that holds something
else, nor (``own_page``) over a file that is no report. ``run.json`` says what a run of several steps was
asked to do, so that the same command goes on with it and another is refused.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agesearch.documents import load_yaml
from agesearch.errors import ConflictError, InputError, command
from agesearch.provenance import without_places
from agesearch.storage import Location

#: The file that makes a folder an artefact of its kind.
DATASET_MARK = "dataset.json"
MODEL_MARK = "manifest.json"
ORDER_MARK = "order.json"
STUDY_MARK = "study.yaml"
#: What a run of several steps was asked to do.
RUN = "run.json"

_DOCUMENTS = (".yaml", ".yml", ".json")
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
_VERSIONS = "versions"
_PAGE_START_BYTES = 256

#: The digest of the weights that a run starts from, in its ``run.json``.
_WEIGHTS_DIGEST = "weights_digest"

#: What lies in a folder and is nobody's work: our lock, and what desktops leave.
_NOTHING = {".lock", ".DS_Store", "desktop.ini", "Thumbs.db"}

#: How a file ends that was being written when its process was killed.
_UNFINISHED = ".tmp"


@dataclass(frozen=True)
class Artefact:
    """A kind of artefact: what messages call it, where verbs take it, and the words that make one."""

    name: str
    given: str
    made: tuple[str, ...] = ()


DATASET = Artefact(
    "a dataset", "with --data", ("data", "ingest", "csv", "FACES.csv", "--images", "PHOTOS", "--out", "faces")
)
MODEL = Artefact(
    "a model",
    "with --teacher, or as MODEL",
    ("teach", "--data", "faces", "--arch", "resnet18", "--out", "teacher"),
)
ORDER_TEACHER = Artefact(
    "an order teacher",
    "with --order-teacher",
    ("teach", "--kind", "order", "--data", "faces", "--arch", "resnet18", "--out", "order-teacher"),
)
STUDY = Artefact(
    "a study", "as STUDY", ("tune", "SPACE.yaml", "--data", "faces", "--teacher", "teacher", "--out", "study")
)
REGISTRY = Artefact("a registry", "with --registry")
TEACHER_DOCUMENT = Artefact("a foreign teacher or an ensemble", "with --teacher")
SEARCH_SPACE = Artefact("a search space", "as SPACE.yaml")
MIXTURE = Artefact("a mixture", "as SPEC.yaml of 'agesearch data mix'")
TABLE = Artefact("a table of labels", "to 'agesearch data ingest csv', which makes a dataset of it")

#: An order teacher's folder has no model's manifest; a study's holds models, but is none itself.
_MARKS = {DATASET_MARK: DATASET, ORDER_MARK: ORDER_TEACHER, STUDY_MARK: STUDY, MODEL_MARK: MODEL}


def artefact_at(place: Location) -> Artefact | None:
    """What lies at a place; None for nothing, and for what is none of ours."""
    if not place.is_dir():
        return _file_kind(place) if place.exists() else None
    found = next((kind for mark, kind in _MARKS.items() if (place / mark).exists()), None)
    if found is None and any((child / _VERSIONS).is_dir() for child in place.children()):
        return REGISTRY
    return found


def not_one(place: Location, wanted: Artefact, mark: str) -> InputError:
    """The error for a place that was to hold ``wanted``, whose folders have the file ``mark``, and does not:
    it says what is there instead and where that is given, or how a wanted one is made.
    """
    found = artefact_at(place)
    if found is not None and found is not wanted:
        return InputError(f"'{place}' is not {wanted.name}: it is {found.name}. Give that {found.given}.")
    if not place.exists():
        state = f"is not {wanted.name}: it has no {mark}, for nothing is there"
    elif place.is_dir():
        state = f"is not {wanted.name}: it has no {mark}"
    else:
        state = f"is not {wanted.name}: it is some file"
    return InputError(f"'{place}' {state}. Make one with: {command(*wanted.made)}")


def own_folder(out: Location, what: str, marks: Collection[str]) -> set[str]:
    """The names in ``out``; none where it is new or empty.

    ``marks`` are names of which one at least lies in every folder that holds ``what`` ("a study"); without
    any, ``out`` has to be new. An ``InputError`` says that ``out`` is a file, a ``ConflictError`` that it
    holds something else.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"'{out}' is a file, but --out must be a folder for {what}.")
    found = {child.name for child in out.children()} - _NOTHING
    names = {name for name in found if not name.endswith(_UNFINISHED)}
    if names and names.isdisjoint(marks):
        why = f"and not {what}" if marks else f"but {what} needs a folder of its own"
        raise ConflictError(
            f"'{out}' holds {_described(out, names)}, {why}: choose another --out, or empty it."
        )
    return names


def own_page(path: str) -> Location:
    """The HTML file to write to, checked before the long work starts.

    An ``InputError`` says where it cannot be written, a ``ConflictError`` that a file is there which is no
    page.
    """
    place = Location.of(path)
    if not place.is_local:
        return place
    local = place.local()
    if local.is_dir():
        raise InputError(f"'{place}' is a folder: name the file to write, as in '{place / 'report.html'}'.")
    writable_folder(local.parent, place)
    if local.is_file() and local.stat().st_size:
        with open(local, "rb") as handle:
            start = handle.read(_PAGE_START_BYTES).lstrip().lower()
        if not start.startswith((b"<!doctype html", b"<html")):
            raise ConflictError(f"'{place}' is a file that is no page, and stays as it is: name another.")
    return place


def writable_folder(folder: Path, place: Location) -> None:
    """Make the folder that ``place`` is to be written in; an ``InputError`` where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"'{place}' cannot be written: '{folder}': {error.strerror}.") from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"'{place}' cannot be written: no permission in '{folder}'.")


def own_run(out: Location, what: str, identity: dict[str, Any]) -> set[str]:
    """The names in the folder of a run that ``identity`` describes; none where it is new.

    A ``ConflictError`` says where ``out`` holds something else, or ``what`` ("a teacher") with another
    identity.
    """
    names = own_folder(out, what, (RUN,))
    if names and not _same(identity, (out / RUN).read_json()):
        raise ConflictError(
            f"'{out}' holds {what} with other settings or data, or what another command began (see its "
            f"{RUN}): choose another --out, or remove it."
        )
    return names


def begin_run(out: Location, identity: dict[str, Any]) -> None:
    """Write what a run was asked to do. Files are named, wherever they lie: the folder may be given away."""
    (out / RUN).write_json(without_places(identity))


def with_weights(identity: dict[str, Any], digest: str) -> dict[str, Any]:
    """The identity of a run that starts from weights with this digest (none: it starts from none)."""
    return identity | {_WEIGHTS_DIGEST: digest} if digest else identity


def _same(identity: dict[str, Any], written: Any) -> bool:
    """Runs that were begun before digests were kept are known by the names of their files."""
    asked, known = without_places(identity), without_places(written)
    if not isinstance(known, dict):
        return False
    if _WEIGHTS_DIGEST in asked:
        known.setdefault(_WEIGHTS_DIGEST, asked[_WEIGHTS_DIGEST])
    return bool(asked == known)


def _described(out: Location, names: Collection[str]) -> str:
    found = artefact_at(out)
    if found is not None:
        return found.name
    return "what another command has begun" if RUN in names else f"other things (such as '{min(names)}')"


def _file_kind(place: Location) -> Artefact | None:
    name = place.name.lower()
    if name.endswith(_TABLES):
        return TABLE
    if not name.endswith(_DOCUMENTS):
        return None
    try:
        document = load_yaml(str(place))
    except InputError:
        return None
    keys = set(document) if isinstance(document, dict) else set()
    if document and "kind" in keys and keys & {"file", "members", "teacher"}:
        return TEACHER_DOCUMENT
    if {"space", "student"} <= keys:
        return SEARCH_SPACE
    return MIXTURE if "datasets" in keys else None
