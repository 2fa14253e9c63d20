"""What a model is, whichever form it has: a model folder, or the document of a foreign teacher, an ensemble
or a calibrated model.

Ensembles may hold folders and documents, so both are told apart here, above them.
"""

from __future__ import annotations

from agesearch.data.images.recipe import crop_differences
from agesearch.errors import InputError, command
from agesearch.models.calibration.record import Calibration
from agesearch.models.foreign.document import (
    CalibratedTeacher,
    EnsembleTeacher,
    OnnxTeacher,
    is_teacher_file,
    members_of,
    read_teacher_file,
)
from agesearch.models.manifest import (
    ModelManifest,
    corrected_digest,
    folder_calibration,
    folder_digest,
    read_folder_manifest,
)
from agesearch.specs import CropSpec, ModelSpec, digest_of
from agesearch.storage import Location


def read_model_manifest(where: str | Location, depth: int = 0) -> ModelManifest:
    """The manifest of a model folder, or a teacher's document told as one; an ``InputError`` says what is
    wrong with it. ``depth`` is how many ensembles it lies in.
    """
    return _document_manifest(where, depth) if is_teacher_file(where) else read_folder_manifest(where)


def model_digest(where: str | Location, depth: int = 0) -> str:
    """16 hex digits that name what a model computes; ``depth`` is how many ensembles it lies in."""
    return _document_digest(where, depth) if is_teacher_file(where) else folder_digest(where)


def calibration_of(where: str | Location) -> Calibration | None:
    """The calibration of a model folder, or of the document of a calibrated model; None where there is none.

    An ensemble has none of its own: calibrate it, whatever its members are.
    """
    if not is_teacher_file(where):
        return folder_calibration(where)
    spec = read_teacher_file(where)
    return spec.calibration if isinstance(spec, CalibratedTeacher) else None


def calibrations_in(where: str | Location, depth: int = 0) -> list[Calibration]:
    """All calibrations that have a say in a model's answers: its own, and those of the models inside it."""
    if not is_teacher_file(where):
        own = folder_calibration(where)
        return [] if own is None else [own]
    spec = read_teacher_file(where)
    if isinstance(spec, OnnxTeacher):
        return []
    inner = [one for member in members_of(where, spec, depth) for one in calibrations_in(member, depth + 1)]
    return [spec.calibration, *inner] if isinstance(spec, CalibratedTeacher) else inner


def calibrated_teacher(teacher: str | Location, calibration: str | Location | None) -> Location:
    """The place of a teacher with its calibration: the document that ``agesearch calibrate --out`` wrote,
    once it is sure that it is this ``teacher``'s; without a ``calibration``, the teacher itself.

    A document that calibrates another model, and what is no such document, are an ``InputError``.
    """
    if calibration is None:
        return Location.of(teacher)
    place = Location.of(calibration)
    spec = read_teacher_file(place) if is_teacher_file(place) and place.exists() else None
    if not isinstance(spec, CalibratedTeacher):
        words = ("calibrate", teacher, "--data", "FACES", "--out", "calibrated.json")
        raise InputError(f"'{place}' is no calibration of a teacher: make one with: {command(*words)}")
    found = model_digest(teacher)
    if spec.calibration.model_digest != found:
        raise InputError(
            f"'{place}' calibrates the model {spec.calibration.model_digest}, but '{teacher}' is {found}: "
            "calibrate that one."
        )
    calibrated_digest(place, spec)
    return place


def crop_notes(
    where: str | Location, faces: CropSpec, consequence: str, who: str = "The teacher", depth: int = 0
) -> list[str]:
    """Where faces are not cropped as a model wants them, a sentence each: scale, alignment, or detector.

    ``faces`` is the recipe of the dataset that the model meets, ``consequence`` what may come of it. Of an
    ensemble, every member is looked at. A foreign teacher's scale is no matter: wider crops are cut.
    """
    if not is_teacher_file(where):
        return folder_notes(read_folder_manifest(where).crop, faces, consequence, who)
    spec = read_teacher_file(where)
    if isinstance(spec, OnnxTeacher):
        if spec.crop.align is not (not faces.align):
            return []
        words = "not aligned, the dataset's are" if faces.align else "aligned, the dataset's are not"
        return [f"The teacher '{spec.name}' wants crops that are {words}: {consequence}."]
    names = isinstance(spec, EnsembleTeacher)
    return [
        note
        for member in members_of(where, spec, depth)
        for note in crop_notes(
            member, faces, consequence, f"The member '{member.name}'" if names else who, depth + 1
        )
    ]


def folder_notes(learned: CropSpec, faces: CropSpec, consequence: str, who: str) -> list[str]:
    """The same for the recipe of the faces that a network of ours learned from."""
    return [
        f"{who} was trained on crops with {found.field} {found.theirs}, the dataset has {found.ours}: "
        f"{consequence}."
        for found in crop_differences(learned, faces, ("scale", "align", "detector"))
    ]


def _document_digest(where: str | Location, depth: int) -> str:
    """16 hex digits that name what the teacher computes: its network, input, crop and output, not its name.

    An ensemble's covers its members' digests and shares. Files are not read: they are checked when opened.
    """
    spec = read_teacher_file(where)
    if isinstance(spec, OnnxTeacher):
        document = spec.model_dump(mode="json", include={"kind", "sha256", "input", "crop", "output"})
        return digest_of(document)
    if isinstance(spec, CalibratedTeacher):
        return corrected_digest(calibrated_digest(where, spec, depth), spec.calibration)
    shares = zip(members_of(where, spec, depth), spec.shares(), strict=True)
    parts = sorted([model_digest(member, depth + 1), f"{share:.9f}"] for member, share in shares)
    return digest_of(["ensemble", parts])


def calibrated_digest(where: str | Location, spec: CalibratedTeacher, depth: int = 0) -> str:
    """The digest of the model that a document calibrates; an ``InputError`` where it is another one now."""
    [model] = members_of(where, spec, depth)
    found = model_digest(model, depth + 1)
    if found != spec.calibration.model_digest:
        raise InputError(
            f"'{where}' calibrates the model {spec.calibration.model_digest}, but '{model}' is {found}: "
            "calibrate it again, or correct 'teacher'."
        )
    return found


def _document_manifest(where: str | Location, depth: int) -> ModelManifest:
    """The document as the manifest of a teacher, for those who show models or ask for their crops.

    An ensemble takes the widest crop and the largest input of its members; a calibrated model stays itself,
    under its own name.
    """
    spec = read_teacher_file(where)
    if isinstance(spec, OnnxTeacher):
        crop = CropSpec(scale=spec.crop.scale, align=spec.crop.align is not False, size=spec.input.size)
        model = ModelSpec(arch=f"foreign {spec.name}", input_size=spec.input.size)
        files = {Location.of(spec.file).name: spec.sha256}
        licences = {spec.name: spec.licence}
        return ModelManifest(kind="teacher", model=model, crop=crop, files=files, licences=licences)
    members = [read_model_manifest(member, depth + 1) for member in members_of(where, spec, depth)]
    if isinstance(spec, CalibratedTeacher):
        return members[0].model_copy(update={"files": {}, "name": None, "version": None})
    size = max(member.model.input_size for member in members)
    return ModelManifest(
        kind="teacher",
        model=ModelSpec(arch=f"ensemble {spec.name}", input_size=size),
        crop=max((member.crop for member in members), key=lambda crop: crop.scale),
        parameters=sum(member.parameters for member in members),
        licences={name: text for member in members for name, text in member.licences.items()},
    )
