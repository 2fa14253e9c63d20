"""A calibration as a file of a model's folder, or as a document beside a model that stays as it is."""

from __future__ import annotations

import hashlib
import os

from agesearch.artefacts import TEACHER_DOCUMENT, artefact_at, writable_folder
from agesearch.errors import ConflictError, InputError
from agesearch.models.calibration.record import CALIBRATION, Calibration
from agesearch.models.foreign.document import CalibratedTeacher, read_teacher_file
from agesearch.models.manifest import MANIFEST, ModelManifest, read_folder_manifest
from agesearch.storage import Location


def write_into(folder: Location, calibration: Calibration) -> Location:
    """A calibration as a file of a model's folder. Three writes, each whole: a kill between them leaves a
    model without a calibration, never a damaged one.
    """
    manifest = read_folder_manifest(folder)
    files = {name: digest for name, digest in manifest.files.items() if name != CALIBRATION}
    if len(files) < len(manifest.files):
        _write_manifest(folder, manifest, files)
    content = calibration_bytes(calibration)
    (folder / CALIBRATION).write_bytes(content)
    _write_manifest(folder, manifest, files | {CALIBRATION: hashlib.sha256(content).hexdigest()})
    return folder / CALIBRATION


def _write_manifest(folder: Location, manifest: ModelManifest, files: dict[str, str]) -> None:
    (folder / MANIFEST).write_json(manifest.model_copy(update={"files": files}).model_dump(mode="json"))


def calibration_bytes(calibration: Calibration) -> bytes:
    """The content of the file."""
    return calibration.model_dump_json(indent=2).encode("utf-8")


def document_place(out: str) -> Location:
    """Where a document shall be written; an ``InputError`` or ``ConflictError`` says why it cannot."""
    place = Location.of(out)
    if not place.name.endswith((".json", ".yaml", ".yml")):
        raise InputError(f"--out is '{out}', but its name must end with .json, .yaml or .yml.")
    if place.is_dir():
        raise InputError(
            f"'{place}' is a folder: name the file to write, as in '{place / 'calibrated.json'}'."
        )
    if place.exists() and not _is_calibration(place):
        raise ConflictError(f"'{place}' is no calibration, and stays as it is: name another --out.")
    if place.is_local:
        writable_folder(place.local().parent, place)
    return place


def _is_calibration(place: Location) -> bool:
    return artefact_at(place) is TEACHER_DOCUMENT and isinstance(read_teacher_file(place), CalibratedTeacher)


def write_document(
    place: Location, model: Location, manifest: ModelManifest, calibration: Calibration
) -> Location:
    """The document names its model as seen from its own folder, so that both can be moved together."""
    document = CalibratedTeacher(
        kind="calibrated",
        name=(manifest.name or manifest.model.arch.removeprefix("foreign ").removeprefix("ensemble "))[:80],
        teacher=seen_from(place, model),
        calibration=calibration,
    )
    place.write_json(document.model_dump(mode="json"))
    return place


def seen_from(document: Location, model: Location) -> str:
    """The place of a model as a document names it: relative to the document, so that both can be moved."""
    near = document.is_local and model.is_local
    return os.path.relpath(model.local(), document.local().parent) if near else str(model)
