"""A teacher that nobody here trained, as a document: an ONNX file with its manifest, an ensemble, or any
model with its calibration beside it.

Such a document (YAML or JSON) stands wherever a model folder of a teacher does. ``search_spaces/teachers``
holds examples. This module reads it; ``agesearch.models.identity`` names what it computes, and
``agesearch.models.scorers`` opens it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from agesearch.ages import MAX_AGE
from agesearch.documents import Document
from agesearch.errors import InputError
from agesearch.models.calibration.record import Calibration
from agesearch.specs import Spec, describe_validation
from agesearch.storage import Location
from agesearch.validation_messages import first_fault

#: Ensembles may hold ensembles, this deep: a document that lists itself ends here.
MAX_DEPTH = 4

_SHA256 = r"^[0-9a-f]{64}$"

Channels = float | tuple[float, float, float]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class OnnxInput(Spec):
    """What the network is fed: ``(pixel * scale - mean) / std``, pixels 0..255, ``size`` pixels a side.

    ``mean`` and ``std`` are one number, or three in the order of ``channels``. With ``dtype: uint8`` the
    pixels go in as they are.
    """

    name: str
    size: int = Field(ge=32, le=512)
    layout: Literal["nchw", "nhwc"] = "nchw"
    channels: Literal["rgb", "bgr"] = "rgb"
    dtype: Literal["float32", "float16", "uint8"] = "float32"
    scale: Finite = 1.0
    mean: Channels = 0.0
    std: Channels = 1.0

    @model_validator(mode="after")
    def _usable_numbers(self) -> Self:
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        if not (self.scale > 0 and np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            raise ValueError("scale and std must be > 0, and mean finite")
        if self.dtype == "uint8" and (self.scale != 1 or mean.any() or (std != 1).any()):
            raise ValueError("dtype uint8 takes the pixels as they are: leave out scale, mean and std")
        return self


class TeacherCrop(Spec):
    """The square that the teacher wants: ``scale`` times the longer side of the face's box.

    ``align`` says whether its faces must be turned level; without it, either will do.
    """

    scale: float = Field(ge=0.5, le=3.0)
    align: bool | None = None


class ScalarOutput(Spec):
    """One number a face (a column of ``[N, k]``, or ``[N]``): age = ``scale * number + offset`` in years.

    A number says nothing of its own uncertainty: ``spread`` is the standard deviation to assume, in years.
    """

    kind: Literal["scalar"]
    name: str
    column: int = Field(0, ge=0)
    scale: Finite = 1.0
    offset: Finite = 0.0
    spread: float = Field(ge=0.05, le=50.0)


class AgeSteps(Spec):
    """Ages in equal steps, both ends included."""

    first: Finite
    last: Finite
    step: float = Field(1.0, gt=0.0)

    @model_validator(mode="after")
    def _whole_steps(self) -> Self:
        steps = (self.last - self.first) / self.step
        if not 1 <= steps <= 1000 or not math.isclose(steps, round(steps), abs_tol=1e-6):
            raise ValueError("last must lie 1 to 1000 whole steps above first")
        return self

    @property
    def values(self) -> tuple[float, ...]:
        """All of the ages."""
        steps = round((self.last - self.first) / self.step)
        return tuple(self.first + index * self.step for index in range(steps + 1))


class _Probabilities(Spec):
    """Probabilities (with ``logits``: values before a softmax) ``[N, K]`` of K things.

    Where one output holds several heads, ``columns`` are the age's: the first, and the one behind the last,
    counted from 0. Without them the output is the age's alone.
    """

    name: str
    logits: bool = False
    columns: tuple[int, int] | None = Field(None, exclude_if=lambda columns: columns is None)

    def _check_columns(self, wanted: int, what: str) -> None:
        """Raise ``ValueError`` where ``columns`` are not ``wanted`` ones."""
        if self.columns is None:
            return
        first, end = self.columns
        if not 0 <= first < end:
            raise ValueError("columns must be [first, end) with 0 <= first < end: [9, 18] are nine")
        if end - first != wanted:
            raise ValueError(f"columns [{first}, {end}) are {end - first}, but there are {wanted} {what}")


class PmfOutput(_Probabilities):
    """Probabilities of K ages in years; see ``_Probabilities`` for ``logits`` and ``columns``."""

    kind: Literal["pmf"]
    ages: AgeSteps | tuple[Finite, ...]

    @model_validator(mode="after")
    def _ages_rise(self) -> Self:
        values = np.asarray(self.values)
        if len(values) < 2 or not (np.diff(values) > 0).all():
            raise ValueError("ages must be at least two, and rise")
        self._check_columns(len(values), "ages")
        return self

    @property
    def values(self) -> tuple[float, ...]:
        """The age of each column."""
        return self.ages.values if isinstance(self.ages, AgeSteps) else self.ages


class GroupsOutput(_Probabilities):
    """Probabilities of K age groups; see ``_Probabilities`` for ``logits`` and ``columns``.

    Each group is its first and last age in years, both included; its mass is spread evenly over them.
    """

    kind: Literal["groups"]
    groups: tuple[tuple[int, int], ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _groups_hold_ages(self) -> Self:
        if not all(0 <= low <= high <= MAX_AGE for low, high in self.groups):
            raise ValueError(f"each group must be [first, last] with 0 <= first <= last <= {MAX_AGE}")
        self._check_columns(len(self.groups), "groups")
        return self


Output = Annotated[ScalarOutput | PmfOutput | GroupsOutput, Field(discriminator="kind")]


class OnnxTeacher(Spec):
    """An ONNX file of other people: where it is, what it takes, what it says, and under which licence.

    ``file`` is a path relative to the document, an absolute one, or a URI; ``sha256`` is that of the file.
    """

    kind: Literal["onnx"]
    name: str = Field(min_length=1, max_length=80)
    file: str
    sha256: str = Field(pattern=_SHA256)
    licence: str
    source: str = ""
    input: OnnxInput
    crop: TeacherCrop
    output: Output


class Member(Spec):
    """A teacher of an ensemble (a model folder or a document, by its path) and its share."""

    teacher: str
    weight: float = Field(1.0, gt=0.0, allow_inf_nan=False)


class EnsembleTeacher(Spec):
    """Several teachers that answer together: the mixture of their age distributions by weight."""

    kind: Literal["ensemble"]
    name: str = Field(min_length=1, max_length=80)
    members: tuple[Member, ...] = Field(min_length=2, max_length=16)

    def shares(self) -> list[float]:
        """The members' weights, scaled to a sum of one."""
        total = math.fsum(member.weight for member in self.members)
        return [member.weight / total for member in self.members]


class CalibratedTeacher(Spec):
    """A model (a folder or a document, by its path relative to this one) with a calibration: what ``agesearch
    calibrate --out`` writes where the model's own folder is not ours to write to.
    """

    kind: Literal["calibrated"]
    name: str = Field(min_length=1, max_length=80)
    teacher: str
    calibration: Calibration


TeacherFile = OnnxTeacher | EnsembleTeacher | CalibratedTeacher

_KINDS = ("onnx", "ensemble", "calibrated")
_DOCUMENT: TypeAdapter[TeacherFile] = TypeAdapter(Annotated[TeacherFile, Field(discriminator="kind")])


def is_teacher_file(where: str | Location) -> bool:
    """Whether a place is a teacher's document and no model folder: it ends in .yaml, .yml or .json."""
    place = Location.of(where)
    return place.name.endswith((".yaml", ".yml", ".json")) and not place.is_dir()


def start_named(init: str) -> dict[str, str]:
    """The fields ``init`` and ``weights`` of a ``ModelSpec`` for what a command's ``--init`` names: random,
    pretrained, a weights file, a model folder or a foreign teacher's document.
    """
    if init in ("random", "pretrained"):
        return {"init": init}
    whole = is_teacher_file(init) or Path(init).expanduser().is_dir()
    return {"init": "model" if whole else "file", "weights": init}


def read_teacher_file(where: str | Location) -> TeacherFile:
    """The document, validated; an ``InputError`` names the field and the rule it breaks."""
    source = Document(str(where))
    document: Any = source.value
    if not isinstance(document, dict) or document.get("kind") not in _KINDS:
        raise InputError(
            f"'{where}' is not a teacher's manifest: its 'kind' must be onnx, ensemble or calibrated."
        )
    try:
        return _DOCUMENT.validate_python(document)
    except ValidationError as error:
        place = source.at(first_fault(error, TeacherFile, document).keys)
        raise InputError(f"{place}: {describe_validation(error, TeacherFile, document)}") from error


def beside(document: str | Location, path: str) -> Location:
    """A path that a document names: relative to the document's own folder, absolute, or a URI."""
    if "://" in path or path.startswith(("/", "~")):
        return Location.of(path)
    folder = Location.of(document).parent
    return Location.of(f"{folder.path}/{path}") if folder.is_local else folder / path


def members_of(
    where: str | Location, spec: EnsembleTeacher | CalibratedTeacher, depth: int
) -> list[Location]:
    """The places of an ensemble's members, or of the one that is calibrated; an ``InputError`` where
    documents are nested too deep.
    """
    if depth >= MAX_DEPTH:
        raise InputError(
            f"'{where}': ensembles and calibrated teachers are nested more than {MAX_DEPTH} deep; "
            "does one list itself?"
        )
    if isinstance(spec, CalibratedTeacher):
        return [beside(where, spec.teacher)]
    return [beside(where, member.teacher) for member in spec.members]
