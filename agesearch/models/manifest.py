"""A model folder: ``manifest.json``, ``weights.safetensors``, later ``model.onnx`` and ``calibration.json``.

A teacher, a study's trial and a registry version all are such folders. Every file's SHA-256 stands in the
manifest, and loading checks it. This module needs no torch; ``agesearch.models.folder`` reads and writes the
networks themselves.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import Field, model_validator

from agesearch.artefacts import MODEL, MODEL_MARK, ORDER_MARK, not_one
from agesearch.errors import InputError, command
from agesearch.models.calibration.record import CALIBRATION, Calibration
from agesearch.models.runtimes.engines import DEFAULT, INT8, Engine
from agesearch.models.trained_on import TrainedOn
from agesearch.provenance import installed
from agesearch.specs import CropSpec, ModelSpec, SharedRecord, TrainSpec, digest_of, parse_spec
from agesearch.storage import Location

MANIFEST = MODEL_MARK
WEIGHTS = "weights.safetensors"
ONNX = "model.onnx"
#: The same network in int8, where that was found to be as good.
INT8_ONNX = "model.int8.onnx"
#: The manifest of an order teacher (``agesearch.models.order_net``), which is no model of ages.
ORDER_MANIFEST = ORDER_MARK

#: The largest weights file that is read: a VGG-16 with its ImageNet classifier has 0.55 GB.
MAX_WEIGHTS_BYTES = 2 * 1024**3

#: Fields that manifests once had.
_DROPPED = frozenset({"thresholds"})

ModelKind = Literal["teacher", "trial", "version"]


class ModelManifest(SharedRecord):
    """What a model is, how it was made, how good and fast it is, and the digest of each of its files."""

    kind: ModelKind
    model: ModelSpec
    crop: CropSpec = Field(description="how faces must be cropped for this model")
    metrics: dict[str, float] = Field(default_factory=dict)
    train: TrainSpec | None = None
    parameters: int = 0
    data_digest: str = ""
    trained_on: tuple[TrainedOn, ...] = Field(
        (), description="the faces it has seen, also through the model whose weights it started from"
    )
    spec_digest: str = ""
    teacher_digest: str | None = None
    created: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict, description="SHA-256 of each file by its name")
    name: str | None = Field(None, description="the registry name of a published version")
    version: int | None = None
    intervals: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="95 % intervals of metrics"
    )
    speed: list[dict[str, Any]] = Field(default_factory=list, description="speed rows, as measured")
    precisions: list[dict[str, Any]] = Field(
        default_factory=list, description="how it answers on other engines than ONNX Runtime in fp32"
    )
    robustness: list[dict[str, Any]] = Field(default_factory=list)
    licences: dict[str, str] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _without_dropped(cls, document: Any) -> Any:
        """Manifests of older models hold fields that nothing reads any more."""
        if not isinstance(document, dict):
            return document
        return {name: value for name, value in document.items() if name not in _DROPPED}

    @property
    def latency_ms(self) -> float | None:
        """The median time in ms for one face on one thread, as measured; None where nobody has."""
        for row in self.speed:
            if (row.get("threads"), row.get("batch")) == (1, 1):
                return float(row["latency_ms_p50"])
        return None

    @property
    def allowed(self) -> set[Engine]:
        """The engines on which the model is known to answer as well as it was trained to, and can run."""
        held = (Engine(row["runtime"], row["precision"]) for row in self.precisions if row["holds"])
        return {DEFAULT, *(each for each in held if each.precision != INT8 or INT8_ONNX in self.files)}

    def best_engine(self, hardware: str, threads: int = 1) -> Engine:
        """The fastest of them for one face on this hardware, all timed in one run; the usual one where they
        were not timed there with so many threads.
        """
        timed = {
            engine: row["latency_ms_p50"]
            for row in self.precisions
            if (row["threads"], row["hardware"]) == (threads, hardware)
            and (engine := Engine(row["runtime"], row["precision"])) in self.allowed
        }
        return min(timed, key=lambda engine: timed[engine], default=DEFAULT)


def read_folder_manifest(folder: str | Location) -> ModelManifest:
    """The manifest of a model folder; an ``InputError`` says where none is, or what is wrong with it."""
    where = Location.of(folder)
    if not (where / MANIFEST).exists():
        raise not_one(where, MODEL, MANIFEST)
    return parse_spec(ModelManifest, (where / MANIFEST).read_json(), str(where / MANIFEST))


def read_checked(folder: str | Location, name: str, *, manifest: ModelManifest | None = None) -> bytes:
    """A file of a model folder, its SHA-256 checked against the manifest; a mismatch is an ``InputError``."""
    where = Location.of(folder)
    known = (manifest or read_folder_manifest(where)).files
    if name not in known:
        raise InputError(f"The model '{where}' has no file '{name}' in its manifest.")
    if name == WEIGHTS and where.name.isdigit() and not (where / name).exists():
        study = where.parent.parent
        raise InputError(
            f"'{where}' has no {name}: a study that is told to keep those of its front ('--keep front') "
            f"removes others'. Train the trial again with: "
            f"{command('trial', study, int(where.name), '--rerun')}"
        )
    return read_known(where / name, known[name], MANIFEST)


def read_known(file: Location, digest: str | None, record: str) -> bytes:
    """A weights file, its SHA-256 checked against ``digest``, which the file ``record`` holds; a mismatch is
    an ``InputError``.
    """
    content = file.read_bytes(MAX_WEIGHTS_BYTES)
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError(f"'{file}' is damaged: its SHA-256 is not the one in {record}.")
    return content


def folder_calibration(folder: str | Location, manifest: ModelManifest | None = None) -> Calibration | None:
    """The calibration of a model folder, its SHA-256 checked; None where it has none."""
    where = Location.of(folder)
    known = manifest or read_folder_manifest(where)
    if CALIBRATION not in known.files:
        return None
    place = f"'{where / CALIBRATION}'"
    try:
        document = json.loads(read_checked(where, CALIBRATION, manifest=known))
    except ValueError as error:
        raise InputError(f"{place} is not JSON: {error}.") from error
    found = parse_spec(Calibration, document, place)
    if found.model_digest != _network_digest(known):
        raise InputError(f"{place} is of another network than the folder's: calibrate this one again.")
    return found


def folder_digest(folder: str | Location, *, corrected: bool = True) -> str:
    """16 hex digits that name what it computes: its architecture, input size, pixels, head, crop, weights,
    and the age correction of its calibration (not ``corrected``: without that).
    """
    manifest = read_folder_manifest(folder)
    own = _network_digest(manifest)
    return corrected_digest(own, folder_calibration(folder, manifest) if corrected else None)


def _network_digest(manifest: ModelManifest) -> str:
    model: dict[str, Any] = {"arch": manifest.model.arch, "input_size": manifest.model.input_size}
    if manifest.model.head != "softmax":  # the one head there was at first: its models keep their names
        model |= {"head": manifest.model.head, "groups": manifest.model.groups}
    if manifest.model.head == "clipped":  # of the other heads, the weights tell the width
        model["head_sigma"] = manifest.model.head_sigma
    if manifest.model.pixels != "imagenet":
        model["pixels"] = manifest.model.pixels
    return digest_of([model, manifest.crop.model_dump(mode="json"), manifest.files.get(WEIGHTS, "")])


def corrected_digest(model: str, calibration: Calibration | None) -> str:
    """The digest of a model with a calibration: the model's own where no age is corrected."""
    if calibration is None or calibration.correction is None:
        return model
    return digest_of(["calibrated", model, calibration.correction.model_dump(mode="json")])


def library_versions() -> dict[str, str]:
    """The versions of the libraries that decide what a network computes."""
    return installed(("agesearch", "numpy", "timm", "torch"))
