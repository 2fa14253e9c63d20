"""What a dataset is on disk: the Parquet schema, the manifest, and the records that readers yield.

Which rows of it are meant is a ``Part``; how a protocol trains and tests on them, a ``Turn``. A dataset is a
folder or URI with ``shards/*.parquet``, ``dataset.json`` and ``quarantine.parquet``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, ValidationInfo, field_serializer, field_validator, model_validator

from agesearch.artefacts import DATASET, DATASET_MARK, not_one
from agesearch.documents import newer
from agesearch.specs import CropSpec, SharedRecord, Spec, parse_spec
from agesearch.storage import Location

SCHEMA_VERSION = 3
#: The version since which rows have ``photo_digest``.
_NAMES_PHOTOGRAPHS = 3
#: What older ones lack, in words.
OLDER_PHOTOGRAPHS = (
    "it was made before photographs had a digest of their own, so two faces with boxes on one photograph are "
    "not known to be one picture; ingest it again"
)
MANIFEST = DATASET_MARK
SHARDS = "shards"
QUARANTINE = "quarantine.parquet"
#: The card for machines (``agesearch.data.audit.croissant``): of the faces that lie beside it, and goes with
#: them.
CROISSANT = "croissant.json"

#: ``mixed``: faces of several kinds, each of which tells its own in the column ``label_kind``.
LabelKind = Literal["real", "apparent", "teacher", "group", "synthetic", "none", "mixed"]

SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        # Of the photograph alone, whatever box: splits, mixtures and checks go by it. Null in older datasets.
        pa.field("photo_digest", pa.string()),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("age", pa.float32()),
        pa.field("age_std", pa.float32()),
        pa.field("age_low", pa.float32()),
        pa.field("age_high", pa.float32()),
        pa.field("subject_id", pa.string()),
        pa.field("sex", pa.string()),
        pa.field("ethnicity", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("fold", pa.int8()),
        pa.field("box", pa.list_(pa.float32())),
        pa.field("landmarks", pa.list_(pa.float32())),
        # Both are null but in a mixture: the manifest's label kind, and a weight of 1.
        pa.field("label_kind", pa.string()),
        pa.field("weight", pa.float32()),
    ]
)

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string()),
        pa.field("source", pa.string()),
    ]
)


class Split(StrEnum):
    """The parts of a dataset."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


@dataclass(frozen=True)
class SourceRecord:
    """One labelled face as a reader yields it, before the image is opened. Ages in years; ``box`` is x, y, w,
    h.
    """

    path: str
    source: str
    age: float | None = None
    age_std: float | None = None
    age_low: float | None = None
    age_high: float | None = None
    subject_id: str | None = None
    sex: str | None = None
    ethnicity: str | None = None
    split: Split | None = None
    fold: int | None = None
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Rejected:
    """Something a reader or the ingest left out: a short name for the reason, and this one's detail."""

    path: str
    reason: str
    detail: str = ""
    source: str = ""


@dataclass(frozen=True)
class Part:
    """The rows for which every given condition holds; without any, all rows.

    ``folds`` are numbers of the column ``fold``; ``subjects`` are the only ones wanted, ``without`` the ones
    not wanted (a face of an unknown subject is in neither).
    """

    split: Split | None = None
    folds: tuple[int, ...] | None = None
    subjects: tuple[str, ...] | None = None
    without: tuple[str, ...] | None = None

    @classmethod
    def of(cls, part: Split | Part | None) -> Part:
        """A part from what callers say: a split, a part, or None for all rows."""
        return part if isinstance(part, Part) else cls(split=part)

    @property
    def where(self) -> pc.Expression | None:
        """The condition on the columns; None for all rows."""
        conditions = []
        if self.split is not None:
            conditions.append(pc.field("split") == str(self.split))
        if self.folds is not None:
            conditions.append(pc.field("fold").isin(pa.array(self.folds, pa.int8())))
        if self.subjects is not None:
            conditions.append(pc.field("subject_id").isin(pa.array(self.subjects, pa.string())))
        if self.without is not None:
            conditions.append(~pc.field("subject_id").isin(pa.array(self.without, pa.string())))
            conditions.append(pc.field("subject_id").is_valid())
        whole = None
        for condition in conditions:
            whole = condition if whole is None else whole & condition
        return whole

    def __str__(self) -> str:
        conditions = []
        if self.split is not None:
            conditions.append(f"split '{self.split}'")
        if self.folds is not None:
            conditions.append(f"folds {', '.join(map(str, self.folds))}")
        if self.subjects is not None:
            conditions.append(f"{len(self.subjects)} subjects")
        if self.without is not None:
            conditions.append(f"all but {len(self.without)} subjects")
        return " of ".join(conditions) or "the whole dataset"


class Turn(Spec):
    """One training and test of a protocol: the parts that train, validate (None: it has none) and test a
    model.

    ``train`` is None where the protocol tests models that were trained on other data. A dataset's own turns
    are over its folds, and may be written as these alone: ``train=(0, 1), val=(), test=(2,)``.
    """

    name: str
    train: Part | None
    val: Part | None
    test: Part

    @field_validator("train", "val", "test", mode="before")
    @classmethod
    def _of_folds(cls, value: Any, field: ValidationInfo) -> Any:
        if isinstance(value, list | tuple):
            return Part(folds=tuple(value)) if value or field.field_name == "test" else None
        return value

    @field_serializer("train", "val", "test")
    def _as_folds(self, part: Part | None) -> Any:
        """Folds alone as a list, as manifests have them."""
        if part is None:
            return []
        return list(part.folds) if part.folds is not None and part == Part(folds=part.folds) else part

    @property
    def folds(self) -> dict[Split, tuple[int, ...]]:
        """The folds on each side."""
        sides = {Split.TRAIN: self.train, Split.VAL: self.val, Split.TEST: self.test}
        return {split: part.folds or () if part else () for split, part in sides.items()}


class Augmentation(Spec):
    """What the faces of a dataset were made of (``agesearch data augment``): ``made_of`` faces of a part of
    another dataset, whose content is ``data_digest``, and with which options.
    """

    data: str
    data_digest: str
    part: Part
    options: dict[str, str | int | float | None] = Field(default_factory=dict)
    made_of: int


class MixturePart(Spec):
    """One dataset of a mixture, as it went in; ``weight`` is that of each of its training faces."""

    name: str
    content_digest: str
    label_kind: LabelKind
    weight: float
    splits: tuple[str, ...]
    augmentation: Augmentation | None = newer(None)


class Annotation(Spec):
    """Who gave the faces of a dataset the ages they lacked (``agesearch annotate``), and by what rules.

    ``faces`` were given an age by the teacher; ``data_digest`` is the content of the dataset they came from.
    """

    teacher: str
    teacher_digest: str
    licences: dict[str, str] = Field(default_factory=dict)
    data: str
    data_digest: str
    options: dict[str, str | int | float | None] = Field(default_factory=dict)
    faces: int


class Manifest(SharedRecord):
    """``dataset.json``: what the dataset holds, how its crops were made, and what was left out and why."""

    schema_version: int = SCHEMA_VERSION
    name: str
    label_kind: LabelKind
    licence: str = "unknown"
    crop: CropSpec
    detector: str = Field("none", description="the detector that really ran, with its version")
    counts: dict[str, int] = Field(description="faces per split")
    subjects: int | None = Field(None, description="distinct subjects; None: identities unknown")
    turns: tuple[Turn, ...] = Field((), description="the owner's turns over the column 'fold'")
    notes: tuple[str, ...] = Field((), description="what users of the source must know")
    parts: tuple[MixturePart, ...] = Field((), description="the datasets that a mixture was made of")
    annotation: Annotation | None = Field(None, description="where a teacher gave faces their ages")
    augmentation: Augmentation | None = newer(None, description="where faces were made of others")
    hash_shards: int | None = Field(
        None, description="shards by ranges of the rows' hash (layout.py); None: rows in the source's order"
    )
    left_out: dict[str, int] = Field(default_factory=dict, description="quarantined rows by reason")
    source_digest: str = ""
    content_digest: str = Field("", description="digest of the sorted sample ids, labels and splits")
    spec_digest: str = ""
    created: str = ""
    versions: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _older_names(cls, document: Any) -> Any:
        """Datasets made before call their turns ``rotations``."""
        if isinstance(document, dict) and "rotations" in document:
            return {"turns" if name == "rotations" else name: value for name, value in document.items()}
        return document

    @property
    def faces(self) -> int:
        """Faces in all splits."""
        return sum(self.counts.values())

    @property
    def is_mixed(self) -> bool:
        """Whether any run of rows is a fair sample; else they lie in the order of the source."""
        return self.hash_shards is not None

    @property
    def passed_on_notes(self) -> tuple[str, ...]:
        """The notes for a dataset that is made of this one: an older one knows photographs only as far as its
        sample ids do.
        """
        return self.notes if self.knows_photographs else (*self.notes, OLDER_PHOTOGRAPHS)

    @property
    def knows_photographs(self) -> bool:
        """Whether its rows name their photograph; rendered faces are one each."""
        return self.schema_version >= _NAMES_PHOTOGRAPHS or self.label_kind == "synthetic"


def photographs_of(rows: pa.Table | pa.RecordBatch) -> list[str]:
    """What names the photograph of each row: its digest or, in older datasets, the sample id, which is the
    same where the source gave no box. Needs the columns ``sample_id`` and ``photo_digest``.
    """
    names: list[str] = pc.coalesce(rows["photo_digest"], rows["sample_id"]).to_pylist()
    return names


def read_manifest(dataset: str | Location) -> Manifest:
    """The manifest of a dataset; an ``InputError`` says where none is, or what is wrong with it."""
    folder = Location.of(dataset)
    if not (folder / MANIFEST).exists():
        raise not_one(folder, DATASET, MANIFEST)
    return parse_spec(Manifest, (folder / MANIFEST).read_json(), str(folder / MANIFEST))
