"""A calibration as a file of a model's folder."""

from __future__ import annotations

import hashlib

from agesearch.models.calibration.record import CALIBRATION, Calibration
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
