"""``agesearch export``: a model in another form, which has answered as the network does before it is there.

The files are made in a folder of their own, answer for real crops in the format's own runtime, and come to
their place only where their ages are those of the network: in fp32 of the network in torch, in int8 of the
int8 network on the engine on which it was judged when the model was published.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from agesearch.ages import expected_age
from agesearch.artefacts import own_folder, writable_folder
from agesearch.data.dataset.records import read_manifest
from agesearch.data.images.decode import RgbImage
from agesearch.deploy.export import AGE_TOLERANCE_YEARS, PMF_TOLERANCE, Parity, parity_crops, parity_of
from agesearch.deploy.formats.reading import Reading, reading_of
from agesearch.deploy.formats.subject import ExportSubject, export_subject
from agesearch.deploy.formats.table import FORMATS, Format, format_named
from agesearch.deploy.places import model_place
from agesearch.deploy.registry import DEFAULT_REGISTRY
from agesearch.errors import AgeSearchError, ConflictError, InputError, command
from agesearch.models.identity import model_digest
from agesearch.models.predictors import OnnxPredictor, Predictor, TorchPredictor
from agesearch.models.runtimes.engines import FP32, INT8, Engine
from agesearch.progress import Listener, Progress, silent
from agesearch.provenance import VERSION, installed, now
from agesearch.search.store.records import StudyFolder
from agesearch.specs import SharedRecord, Spec
from agesearch.storage import Location

#: The largest differences that are another order of the same sums, in probability and in years. In int8 such
#: a difference is a step of a whole number somewhere in the network, which is more.
_TOLERANCES = {FP32: (PMF_TOLERANCE, AGE_TOLERANCE_YEARS), INT8: (0.05, 1.0)}

#: Endings of files, by which a folder is not called.
_ENDINGS = (".onnx", ".xml", ".bin", ".tflite", ".pte", ".html", ".htm", ".json")

_STEPS = ("reading the faces", "writing", "comparing", "moving to its place")


class ExportedFile(Spec):
    """A file of an export."""

    sha256: str
    bytes: int


class ExportRecord(SharedRecord):
    """``FILE.json`` beside an exported model: what it is, how it is fed and read, and how it was checked."""

    format: str
    precision: str
    file: str = Field(description="the model; the others belong to it")
    files: dict[str, ExportedFile]
    model: dict[str, str | int | None]
    reading: Reading
    parity: dict[str, float]
    checked_in: dict[str, str] = Field(description="the runtime, and its version, that answered")
    checked_against: str
    checked_on: dict[str, str | int]
    beside_fp32: dict[str, float] | None = Field(
        None, description="int8 alone: how far its ages are from the network's in fp32, in years"
    )
    licences: dict[str, str]
    created: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Exported:
    """Where an export lies (its main file), and its record, which lies beside it as ``record_file``."""

    place: Location
    record_file: Location
    record: ExportRecord


def export_model(
    model: str,
    to: str,
    *,
    out: str | None = None,
    data: str | Location | None = None,
    precision: str = FP32,
    pick: str = "knee",
    registry: str | Location = DEFAULT_REGISTRY,
    on_progress: Listener = silent,
) -> Exported:
    """Export a model (as ``model_place`` takes it) to a format, once its answers there are proven.

    ``out`` is a new folder (None: ``NAME-FORMAT``), or a file that ends as the format's do; what an earlier
    export wrote there is replaced. ``data`` are the faces that it is checked on (None: the study's own).
    Raises ``InputError`` for what cannot be exported so, and for an extra that is not installed;
    ``AgeSearchError`` where the format answers otherwise, and then nothing is written.
    """
    chosen = format_named(to)
    chosen.check(to, precision)
    subject = export_subject(model_place(model, registry, pick), precision)
    target = _target(out, f"{subject.name}-{to}", subject.name, chosen.suffix)
    faces = _dataset(model, to, data)
    step = _steps(on_progress)
    step()
    crops = parity_crops(faces)
    network, against = _reference(subject, chosen)
    reading = reading_of(subject, network, chosen.batch)
    with tempfile.TemporaryDirectory() as made:
        file = Path(made) / target.name
        step()
        chosen.write(subject, reading, file)
        step()
        parity = _proven(subject, chosen, to, file, crops, network)
        step()
        record = _record(subject, chosen, to, file, reading, parity, against, faces)
        beside = _beside_fp32(subject, crops, network)
        return _moved(target, file, record.model_copy(update={"beside_fp32": beside}))


def _target(out: str | None, usual: str, stem: str, suffix: str) -> Location:
    """Where the model's file goes, checked before the long work."""
    place = Location.of(out or usual)
    if place.name.endswith(suffix):
        if place.is_local:
            writable_folder(place.local().parent, place)
        if place.exists() and not _record_of(place).exists():
            raise ConflictError(f"'{place}' is there and no export of ours: choose another --out.")
        return place
    if place.name.lower().endswith(_ENDINGS):
        raise InputError(f"--out is '{out}', but this format's file ends with {suffix}.")
    own_folder(
        place, "an export", [_record_of(place / f"{stem}{one.suffix}").name for one in FORMATS.values()]
    )
    return place / f"{stem}{suffix}"


def _record_of(file: Location) -> Location:
    """The record of an exported file, beside it."""
    return file.parent / f"{file.name}.json"


def _dataset(model: str, to: str, data: str | Location | None) -> Location:
    """The faces that the export is checked on."""
    if data is not None:
        return Location.of(data)
    study = StudyFolder(Location.of(model))
    if not study.exists():
        words = command("export", model, "--to", to, "--data", "FACES")
        raise InputError(
            f"'{model}' does not know its faces, and an export is checked on real ones: name a dataset with "
            f"--data, as in: {words}"
        )
    found = Location.of(study.header().dataset.path)
    if not found.exists():
        raise InputError(f"The dataset '{found}' of the study is not there: say where it is with --data.")
    return found


def _reference(subject: ExportSubject, chosen: Format) -> tuple[Predictor, str]:
    """What the export has to answer as, and what that is called; an ``InputError`` where int8 is known to
    answer worse on the engine.
    """
    size = subject.input_size
    if subject.precision == FP32:
        return TorchPredictor(subject.net(), size), "the network in torch, fp32"
    content, engine = subject.onnx(), Engine(chosen.judged_as, INT8)
    for gate in subject.manifest.precisions:
        if Engine(gate["runtime"], gate["precision"]) == engine and not gate["holds"]:
            raise InputError(f"'{subject.folder}' is not as good on {engine} as in fp32: {gate['reason']}.")
    return OnnxPredictor(content, size, engine=engine), f"its int8 network on {engine.runtime}"


def _beside_fp32(subject: ExportSubject, crops: RgbImage, network: Predictor) -> dict[str, float] | None:
    """How far the int8 network's ages are from those in fp32."""
    if subject.precision == FP32:
        return None
    usual = TorchPredictor(subject.net(), subject.input_size).pmf(crops)
    apart = np.abs(expected_age(network.pmf(crops)) - expected_age(usual))
    return {
        "age_mean_difference_years": float(apart.mean()),
        "age_max_difference_years": float(apart.max()),
    }


def _proven(
    subject: ExportSubject, chosen: Format, to: str, file: Path, crops: RgbImage, network: Predictor
) -> Parity:
    """How the written file answers; an ``AgeSearchError`` where that is not as the network does."""
    found = chosen.answer(file, crops, subject.input_size)
    parity = parity_of(network.pmf(crops), found, *_TOLERANCES[subject.precision])
    if not parity.holds:
        raise AgeSearchError(
            f"'{subject.folder}' answers otherwise as {to}: over {parity.faces} faces the ages differ by up "
            f"to {parity.age_max_difference_years:.3g} years (allowed: {parity.age_tolerance_years:g}) and "
            f"the PMFs by {parity.pmf_max_difference:.3g} (allowed: {parity.pmf_tolerance:g}). Nothing was "
            "written."
        )
    return parity


def _record(
    subject: ExportSubject,
    chosen: Format,
    to: str,
    file: Path,
    reading: Reading,
    parity: Parity,
    against: str,
    faces: Location,
) -> ExportRecord:
    manifest, data = subject.manifest, read_manifest(faces)
    return ExportRecord(
        format=to,
        precision=subject.precision,
        file=file.name,
        files={each.name: _described(each) for each in sorted(file.parent.iterdir())},
        model={
            "name": manifest.name,
            "version": manifest.version,
            "arch": manifest.model.arch,
            "digest": model_digest(subject.folder),
            "parameters": manifest.parameters,
        },
        reading=reading,
        parity=parity.as_json(),
        checked_in=chosen.versions(),
        checked_against=against,
        checked_on={"data": data.name, "data_digest": data.content_digest, "faces": parity.faces},
        licences=manifest.licences,
        created=now(),
        versions=installed(("torch", "timm", "onnx")) | {"agesearch": VERSION},
    )


def _described(file: Path) -> ExportedFile:
    content = file.read_bytes()
    return ExportedFile(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def _moved(target: Location, file: Path, record: ExportRecord) -> Exported:
    """The files at their place, the record last; where one cannot be written, none stays."""
    written = []
    try:
        for name in record.files:
            written.append(target.parent / name)
            written[-1].write_bytes((file.parent / name).read_bytes())
        written.append(_record_of(target))
        written[-1].write_json(record.model_dump(mode="json"))
    except BaseException:
        for place in written:
            place.delete()
        raise
    return Exported(target, written[-1], record)


def _steps(on_progress: Listener) -> Callable[[], None]:
    notes = iter(enumerate(_STEPS, start=1))

    def step() -> None:
        done, note = next(notes)
        on_progress(Progress("export", done, len(_STEPS), note=note))

    return step
