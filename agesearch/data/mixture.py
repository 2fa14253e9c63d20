"""Several datasets -> one, by a spec: which splits of each, how much each counts, and whose label is what.

Faces are copied as they are, so all parts must have been cropped by one recipe. A face's own kind of label
(real, apparent, teacher, group) goes with it, and so does its weight in training. What a part has for the
test is never trained on through another: test faces are taken first, and a photograph, whatever its box or
reader (or, with ``subjects: shared``, a person), that was taken before is left out of the later splits.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator, model_validator

from agesearch.data.dataset.counts import short_hash
from agesearch.data.dataset.disk_set import DiskMap
from agesearch.data.dataset.records import (
    SCHEMA,
    SCHEMA_VERSION,
    LabelKind,
    Manifest,
    MixturePart,
    Rejected,
    Split,
    photographs_of,
    read_manifest,
)
from agesearch.data.dataset.shards import row_batches
from agesearch.data.dataset.writer import DatasetWriter, check_output, made_already
from agesearch.data.images.recipe import crop_differences, detector_words
from agesearch.errors import InputError
from agesearch.progress import Listener, Progress, silent
from agesearch.specs import Spec, digest_of
from agesearch.storage import Location, exclusive

#: The order in which splits are filled: what is needed most untouched comes first.
_FILLED = (Split.TEST, Split.VAL, Split.TRAIN)
_STAGE = "mix"


class PartSpec(Spec):
    """One dataset of a mixture: where it is, its name in the mixture (default: its own), how much it counts,
    and which of its splits are taken. ``label_kind`` overrides what it says of its labels.
    """

    data: str
    name: str | None = None
    weight: float = Field(1.0, gt=0.0, le=1e6)
    splits: tuple[Split, ...] = (Split.TRAIN, Split.VAL, Split.TEST)
    label_kind: LabelKind | None = None

    @field_validator("label_kind")
    @classmethod
    def _one_kind(cls, kind: LabelKind | None) -> LabelKind | None:
        if kind == "mixed":
            raise ValueError("a part has one kind of label, or each face its own: leave it out")
        return kind


class MixtureSpec(Spec):
    """The datasets to mix. ``weigh``: with ``faces`` each training face counts as much as its dataset's
    weight; with ``datasets`` the weights are the datasets' shares in training, whatever their sizes.
    ``subjects``: with ``own`` equal identities of two datasets are two persons, with ``shared`` one.
    """

    name: str = "mixture"
    datasets: tuple[PartSpec, ...] = Field(min_length=1)
    weigh: Literal["faces", "datasets"] = "faces"
    subjects: Literal["own", "shared"] = "own"

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = Counter(part.name for part in self.datasets if part.name is not None)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise ValueError(f"two datasets are named '{twice[0]}'")
        return self


class _Part:
    """A part of the mixture with its manifest and the weight of each of its training faces."""

    def __init__(self, spec: PartSpec) -> None:
        self.spec = spec
        self.folder = Location.of(spec.data)
        self.manifest = read_manifest(self.folder)
        self.name = spec.name or self.manifest.name
        self.weight = spec.weight

    @property
    def trained(self) -> int:
        """Its faces that train."""
        return self.manifest.counts.get(Split.TRAIN, 0) if Split.TRAIN in self.spec.splits else 0

    @property
    def kind(self) -> LabelKind:
        """The kind of its labels; ``mixed`` where each face has its own."""
        return self.spec.label_kind or self.manifest.label_kind


def mix(
    spec: MixtureSpec, out: str | Location, *, replace: bool = False, on_progress: Listener = silent
) -> tuple[Manifest, bool]:
    """Write the mixture to ``out``; returns its manifest, and whether this run made it.

    Nothing is done where ``out`` is that mixture already. Raises ``InputError`` where a part is no dataset,
    parts were cropped by different recipes or have one name, or nothing is left; ``ConflictError`` where
    ``out`` holds another dataset (unless ``replace``).
    """
    parts = [_Part(part) for part in spec.datasets]
    _check(parts)
    target = Location.of(out)
    _refuse_itself(parts, target)
    content = digest_of([part.manifest.content_digest for part in parts])
    recipe = digest_of([SCHEMA_VERSION, spec.model_dump(mode="json")])
    if existing := made_already(target, content, recipe, replace=replace):
        return existing, False
    _weigh(parts, spec)
    on_progress(Progress(_STAGE, 0, None, note="reading the datasets"))
    with exclusive(target, "The dataset"):
        check_output(target, replace=replace)  # another run may have come in between
        writer = _writer(spec, parts, target, replace=replace)
        try:
            _fill(writer, parts, spec, on_progress)
            return writer.finish(source_digest=content, spec_digest=recipe), True
        except BaseException:
            writer.discard()
            raise


def kinds_by_split(dataset: str | Location) -> dict[str, dict[str, int]]:
    """How many faces of each split have labels of each kind."""
    manifest = read_manifest(dataset)
    counts: dict[str, Counter[str]] = {split.value: Counter() for split in Split}
    for batch in row_batches(dataset, None, ["split", "label_kind"]):
        kinds = pc.fill_null(batch["label_kind"], manifest.label_kind).to_pylist()
        for split, kind in zip(batch["split"].to_pylist(), kinds, strict=True):
            counts[split][kind] += 1
    return {split: dict(found.most_common()) for split, found in counts.items()}


def _check(parts: list[_Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        for field in ("size", "scale", "align"):
            mine, theirs = getattr(part.manifest.crop, field), getattr(first.manifest.crop, field)
            if mine != theirs:
                raise InputError(
                    f"'{part.folder}' was cropped with {field} {mine}, but '{first.folder}' with {theirs}: "
                    f"ingest one of them again, with the other's recipe."
                )
    twice = [name for name, count in Counter(part.name for part in parts).items() if count > 1]
    if twice:
        raise InputError(
            f"Two datasets of the mixture are named '{twice[0]}': give each its own, as 'name: ...'."
        )


def _refuse_itself(parts: list[_Part], target: Location) -> None:
    if any(part.folder == target for part in parts):
        raise InputError(f"'{target}' is a part of the mixture, so it cannot be its output too.")


def _weigh(parts: list[_Part], spec: MixtureSpec) -> None:
    """Set the weight of a training face of each part, so that their mean over all training faces is 1."""
    trained = sum(part.trained for part in parts)
    for part in parts:
        if spec.weigh == "datasets" and part.trained:
            part.weight = part.spec.weight / part.trained
    total = sum(part.weight * part.trained for part in parts)
    for part in parts:
        part.weight = part.weight * trained / total if total else 1.0


def _writer(spec: MixtureSpec, parts: list[_Part], target: Location, *, replace: bool) -> DatasetWriter:
    kinds = {part.kind for part in parts}
    licences = dict.fromkeys(f"{part.name}: {part.manifest.licence}" for part in parts)
    detectors = sorted({part.manifest.detector for part in parts})
    notes = [f"{part.name}: {note}" for part in parts for note in part.manifest.passed_on_notes]
    crop = parts[0].manifest.crop
    # Their crops differ by a grey level at most: what learns from them is served by the newest, the fastest.
    crop = crop.model_copy(update={"recipe": max(part.manifest.crop.recipe for part in parts)})
    if any(crop_differences(part.manifest.crop, crop, ["detector"]) for part in parts):
        crop = crop.model_copy(update={"detected_by": None})
        named = ", ".join(f"{part.name} by {detector_words(part.manifest.crop)}" for part in parts)
        notes.append(f"Its parts were cropped by different detectors: {named}.")
    return DatasetWriter(
        target,
        name=spec.name,
        label_kind=kinds.pop() if len(kinds) == 1 else "mixed",
        licence="; ".join(licences),
        crop=crop,
        detector=" / ".join(detectors),
        notes=tuple(notes),
        parts=tuple(
            MixturePart(
                name=part.name,
                content_digest=part.manifest.content_digest,
                label_kind=part.kind,
                weight=round(part.weight, 6),
                splits=tuple(split.value for split in part.spec.splits),
                augmentation=part.manifest.augmentation,
            )
            for part in parts
        ),
        replace=replace,
    )


def _fill(writer: DatasetWriter, parts: list[_Part], spec: MixtureSpec, on_progress: Listener) -> None:
    total = sum(part.manifest.counts.get(split, 0) for part in parts for split in part.spec.splits)
    sides = _Sides(writer, shared_subjects=spec.subjects == "shared")
    for split in _FILLED:
        for part in parts:
            if split not in part.spec.splits:
                continue
            for batch in row_batches(part.folder, split, SCHEMA.names):
                faces = sides.kept(_renamed(pa.Table.from_batches([batch]), part, split, spec), split)
                ids = faces["sample_id"].to_pylist()
                writer.add(faces, [f"{part.name}/{sample_id}" for sample_id in ids])
                on_progress(Progress(_STAGE, writer.faces + writer.left_out, total, writer.left_out))


class _Sides:
    """In which split each photograph (and, where subjects are shared, each person) was first; rows of a later
    split that show it again are left out.
    """

    def __init__(self, writer: DatasetWriter, *, shared_subjects: bool) -> None:
        self._writer, self._shared_subjects = writer, shared_subjects
        self._photographs, self._subjects = DiskMap(), DiskMap()

    def kept(self, faces: pa.Table, split: Split) -> pa.Table:
        """The rows that may be in the split; the others go to the writer with their reason."""
        rows = faces.select(["sample_id", "subject_id", "source"]).to_pylist()
        keep = []
        for photograph, row in zip(photographs_of(faces), rows, strict=True):
            reason = self._reason(photograph, row, split)
            keep.append(reason is None)
            if reason is not None:
                self._writer.reject([Rejected(row["sample_id"], *reason, row["source"])])
        return faces.filter(pa.array(keep, pa.bool_()))

    def _reason(self, photograph: str, row: dict[str, Any], split: Split) -> tuple[str, str] | None:
        """Why a row is left out, in short and in full; None where it is kept and remembered."""
        photo = short_hash(photograph)
        subject = row["subject_id"] if self._shared_subjects else None
        if row["sample_id"] in self._writer:
            return None  # the writer leaves the very same face out, as a duplicate
        if subject is not None and (other := self._subjects.get(short_hash(subject))) not in (None, split):
            return "subject_in_other_split", f"{subject} is in the split '{other}' of another dataset"
        if (other := self._photographs.get(photo)) not in (None, split):
            return "photo_in_other_split", f"its photograph {photograph} is in the split '{other}'"
        self._photographs.setdefault(photo, split)
        if subject is not None:
            self._subjects.setdefault(short_hash(subject), split)
        return None


def _renamed(faces: pa.Table, part: _Part, split: Split, spec: MixtureSpec) -> pa.Table:
    """The rows as the mixture keeps them: subjects apart, folds dropped, kind of label and weight set."""
    columns: dict[str, Any] = {name: faces[name] for name in SCHEMA.names}
    if spec.subjects == "own":
        columns["subject_id"] = pc.binary_join_element_wise(f"{part.name}/", faces["subject_id"], "")
    count = len(faces)
    columns["fold"] = pa.nulls(count, pa.int8())  # two datasets' folds have nothing in common
    kinds = pa.nulls(count, pa.string()) if part.spec.label_kind else faces["label_kind"]
    columns["label_kind"] = pc.fill_null(kinds, part.kind)
    weight = part.weight if split is Split.TRAIN else None
    columns["weight"] = pa.array([weight] * count, pa.float32())
    return pa.table(columns, schema=SCHEMA)
