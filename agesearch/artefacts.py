"""What lies at a place: each kind of artefact is known by one file in its folder, and who is given another
kind than was asked for hears what it is, and where it belongs.
"""

from __future__ import annotations

from dataclasses import dataclass

from agesearch.documents import load_yaml
from agesearch.errors import InputError, command
from agesearch.storage import Location

#: The file that makes a folder an artefact of its kind.
DATASET_MARK = "dataset.json"
MODEL_MARK = "manifest.json"
ORDER_MARK = "order.json"
STUDY_MARK = "study.yaml"

_DOCUMENTS = (".yaml", ".yml", ".json")
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
_VERSIONS = "versions"


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
    if document and "kind" in keys and keys & {"file", "members"}:
        return TEACHER_DOCUMENT
    if {"space", "student"} <= keys:
        return SEARCH_SPACE
    return MIXTURE if "datasets" in keys else None
