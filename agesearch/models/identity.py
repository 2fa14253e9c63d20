"""What a model is, whichever form it has: a model folder, or the document of a foreign teacher or an
ensemble.

Ensembles may hold folders and documents, so both are told apart here, above them.
"""

from __future__ import annotations

from agesearch.data.images.recipe import crop_differences
from agesearch.models.foreign.document import (
    OnnxTeacher,
    is_teacher_file,
    members_of,
    read_teacher_file,
)
from agesearch.models.manifest import ModelManifest, folder_digest, read_folder_manifest
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
    return [
        note
        for member in members_of(where, spec, depth)
        for note in crop_notes(member, faces, consequence, f"The member '{member.name}'", depth + 1)
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
    shares = zip(members_of(where, spec, depth), spec.shares(), strict=True)
    parts = sorted([model_digest(member, depth + 1), f"{share:.9f}"] for member, share in shares)
    return digest_of(["ensemble", parts])


def _document_manifest(where: str | Location, depth: int) -> ModelManifest:
    """The document as the manifest of a teacher, for those who show models or ask for their crops.

    An ensemble takes the widest crop and the largest input of its members.
    """
    spec = read_teacher_file(where)
    if isinstance(spec, OnnxTeacher):
        crop = CropSpec(scale=spec.crop.scale, align=spec.crop.align is not False, size=spec.input.size)
        model = ModelSpec(arch=f"foreign {spec.name}", input_size=spec.input.size)
        files = {Location.of(spec.file).name: spec.sha256}
        licences = {spec.name: spec.licence}
        return ModelManifest(kind="teacher", model=model, crop=crop, files=files, licences=licences)
    members = [read_model_manifest(member, depth + 1) for member in members_of(where, spec, depth)]
    size = max(member.model.input_size for member in members)
    return ModelManifest(
        kind="teacher",
        model=ModelSpec(arch=f"ensemble {spec.name}", input_size=size),
        crop=max((member.crop for member in members), key=lambda crop: crop.scale),
        parameters=sum(member.parameters for member in members),
        licences={name: text for member in members for name, text in member.licences.items()},
    )
