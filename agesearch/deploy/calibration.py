"""Where a calibration is kept: it becomes a file of the model, and no published version is ever changed.

- A model folder (a teacher, a study's trial) gets ``calibration.json``, its SHA-256 in the manifest.
- A published version is immutable: it becomes the next version, with the same network, the calibration and a
  card that tells of it; the aliases that named the old one then name the new one. One that came with the
  package goes on in the registry of one's own.
- A foreign teacher's files are not ours to write: a document beside it (``--out``) names it and holds the
  calibration, and stands wherever a teacher does. The same for any model whose folder shall stay as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agesearch.deploy.card import calibrated_card
from agesearch.deploy.integrity import SUMS, file_digest
from agesearch.deploy.registry import CARD, DEFAULT_REGISTRY, Registry, Version
from agesearch.errors import InputError, command
from agesearch.measure.calibration.run import CalibrationSpec, calibrate
from agesearch.models.calibration.files import (
    calibration_bytes,
    document_place,
    write_document,
    write_into,
)
from agesearch.models.calibration.record import CALIBRATION, Calibration
from agesearch.models.foreign.document import is_teacher_file
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import MANIFEST, MAX_WEIGHTS_BYTES, ModelManifest
from agesearch.progress import Listener, silent
from agesearch.provenance import now
from agesearch.specs import digest_of
from agesearch.storage import Location


@dataclass(frozen=True)
class Calibrated:
    """A calibration and where it is kept: a file, or a new ``version`` with the aliases that moved to it."""

    calibration: Calibration
    place: Location
    version: Version | None = None
    moved: tuple[str, ...] = field(default=())


def calibrate_model(
    model: Location,
    dataset: str | Location,
    spec: CalibrationSpec,
    *,
    out: str | None = None,
    registry: str | Location = DEFAULT_REGISTRY,
    on_progress: Listener = silent,
) -> Calibrated:
    """Calibrate the model at a place and keep the result as this module says; ``out`` names a document,
    ``registry`` where the next version of a model of the package goes.

    Whatever stands in the way of writing is an ``InputError`` before the faces are looked at.
    """
    target = None if out is None else document_place(out)
    if target is None and is_teacher_file(model):
        words = ("calibrate", model, "--data", dataset, "--out", "calibrated.json")
        raise InputError(
            f"'{model}' is a document of other people's network, which stays as it is: name the file for "
            f"its calibration with --out, as in: {command(*words)}"
        )
    manifest = read_model_manifest(model)
    found = calibrate(model, dataset, spec, beside=target is not None, on_progress=on_progress)
    if target is not None:
        return Calibrated(found, write_document(target, model, manifest, found))
    if manifest.kind == "version" and (model / SUMS).exists():
        return _next_version(model, manifest, found, registry)
    return Calibrated(found, write_into(model, found))


def _next_version(
    folder: Location, manifest: ModelManifest, calibration: Calibration, registry: str | Location
) -> Calibrated:
    """The same network as the next version of its name, with the calibration; content that is there already
    is not written again.
    """
    name, store = manifest.name or "", Registry(folder.parent.parent.parent)
    if store.of_package:
        shipped, store = store.find(f"{name}:{manifest.version}"), Registry(registry)
        store.own(shipped)
    digest = digest_of([manifest.provenance.get("content_digest"), calibration.content_digest()])
    with store.locked(name):
        version = store.with_digest(name, digest)
        if version is None:
            number = store.next_number(name)
            version = store.add(name, number, _files(folder, manifest, calibration, number, digest))
        old = f"{manifest.version or 0:04d}"
        moved = [entry.alias for entry in store.aliases(name) if entry.version == old]
        for alias in moved:
            store.move_alias(version, alias)
    return Calibrated(calibration, version.folder / CALIBRATION, version, tuple(moved))


def _files(
    folder: Location, manifest: ModelManifest, calibration: Calibration, number: int, digest: str
) -> dict[str, bytes]:
    """The files of the next version, its manifest last."""
    kept = [name for name in manifest.files if name not in (CARD, CALIBRATION)]
    files = {name: (folder / name).read_bytes(MAX_WEIGHTS_BYTES) for name in kept}
    files[CALIBRATION] = calibration_bytes(calibration)
    provenance: dict[str, Any] = manifest.provenance | {
        "content_digest": digest,
        "calibrated_from": manifest.version,
    }
    update = {"version": number, "created": now(), "provenance": provenance}
    made = manifest.model_copy(update=update)
    card = (folder / CARD).read_text() if CARD in manifest.files else ""
    files[CARD] = calibrated_card(card, manifest, made, calibration).encode("utf-8")
    update["files"] = {name: file_digest(content) for name, content in sorted(files.items())}
    files[MANIFEST] = made.model_copy(update=update).model_dump_json(indent=2).encode("utf-8")
    return files
