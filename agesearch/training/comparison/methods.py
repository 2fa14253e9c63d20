"""Methods to be compared, as YAML: one student, and for each method its teachers and what it changes.

    student: {model: {arch: mobilenetv2_100}, optim: {epochs: 12}}
    teachers: {large: {model: {arch: efficientnet_lite0}}}   # to be trained, or a path
    orders: {sorter: {model: {arch: mobilenetv2_100}}}       # order teachers, likewise
    methods:
      labels: {about: labels only}
      kd: {about: "Hinton 2015", teacher: large, values: {distill.kd_weight: 1.0}}

Methods that are compared have one backbone, one budget and one preprocessing: no method may change these, and
several files must agree in them. The head belongs to a method (a paper's head is part of its idea), and so
does how fast it learns; both are shown beside its figures. Everything is checked before anything trains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import Field, field_validator

from agesearch.distill.losses import LOSSES
from agesearch.distill.order_losses import order_loss
from agesearch.documents import Document
from agesearch.errors import InputError, first_line, unknown_name
from agesearch.models.architectures import architecture
from agesearch.models.identity import calibrated_teacher, read_model_manifest
from agesearch.models.order_net import read_order_manifest
from agesearch.models.weights import check_start
from agesearch.specs import OrderTrainSpec, Scalar, Spec, TeacherPlace, TrainSpec
from agesearch.storage import Location
from agesearch.training.protocols.recipes import check_scale, smaller

#: What all methods share. A name that ends with a dot stands for all fields below it.
SHARED = (
    "model.arch",
    "model.input_size",
    "model.init",
    "model.weights",
    "model.pixels",
    "optim.epochs",
    "optim.batch_size",
    "augment.",
    "compute.",
    "share_of_faces",
    "seed",
)

Kind = Literal["teacher", "order"]
TeacherSpec = TypeVar("TeacherSpec", TrainSpec, OrderTrainSpec)


class MethodSpec(Spec):
    """A method: what it is, the teachers it learns from, and the fields of the student that it changes.

    ``teacher`` and ``order`` are a name of the file's ``teachers`` and ``orders``, a path (of a teacher also
    ``{path, calibration}``), a spec to train, or none.
    """

    about: str = ""
    teacher: TrainSpec | TeacherPlace | str | None = None
    order: OrderTrainSpec | str | None = None
    values: dict[str, Scalar | None] = Field(default_factory=dict)

    @field_validator("teacher", "order", mode="before")
    @classmethod
    def _none_is_a_word(cls, value: Any) -> Any:
        return None if value == "none" else value


class MethodsSpec(Spec):
    """A file of methods. ``reference`` is the one that the others are compared with (default: the first)."""

    description: str = ""
    reference: str | None = None
    student: TrainSpec
    teachers: dict[str, TrainSpec | TeacherPlace | str] = Field(default_factory=dict)
    orders: dict[str, OrderTrainSpec | str] = Field(default_factory=dict)
    methods: dict[str, MethodSpec] = Field(min_length=1)


@dataclass(frozen=True)
class TeacherRef:
    """A teacher: how people call it, and the spec that trains it or the place where it is (``path``: as it
    was written).
    """

    name: str
    kind: Kind
    what: TrainSpec | OrderTrainSpec | Location
    path: str = ""

    @property
    def key(self) -> str:
        """Names what it is, whatever it is called: equal ones are trained once."""
        made = str(self.what) if isinstance(self.what, Location) else self.what.digest()
        return f"{self.kind}-{made}"


@dataclass(frozen=True)
class Method:
    """A method with all that decides how it is trained, but for the seed; ``values`` are what it changes."""

    name: str
    about: str
    spec: TrainSpec
    teacher: TeacherRef | None
    order: TeacherRef | None
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Methods:
    """The methods of one comparison, in their order, the reference first; ``student`` as it was written."""

    description: str
    student: TrainSpec
    methods: tuple[Method, ...]

    @property
    def reference(self) -> Method:
        """The method that the others are compared with."""
        return self.methods[0]


def load_methods(paths: Sequence[str], *, reference: str | None = None, scale: float = 1.0) -> Methods:
    """The methods of one or more files, checked; an ``InputError`` names the file and the line at fault.

    ``scale`` multiplies the epochs of students and of the teachers that are to be trained; below one epoch,
    they train on fewer of the faces.
    """
    if not paths:
        raise InputError("A comparison needs at least one file of methods.")
    check_scale(scale)
    files = [_File(path, scale) for path in paths]
    found: dict[str, Method] = {}
    for file in files:
        file.check_alike(files[0])
        for method in file.methods():
            if method.name in found:
                raise InputError(
                    f"{file.document.at(('methods', method.name))}: another file has a method "
                    f"'{method.name}': give one of them another name."
                )
            found[method.name] = method
    if len(found) < 2:
        raise InputError(f"A comparison needs at least two methods, but there is only '{next(iter(found))}'.")
    wanted = reference or next((file.spec.reference for file in files if file.spec.reference), None)
    first = wanted or next(iter(found))
    if first not in found:
        raise unknown_name("method", first, found)
    ordered = (found.pop(first), *found.values())
    description = "; ".join(file.spec.description for file in files if file.spec.description)
    return Methods(description, smaller(files[0].spec.student, scale), ordered)


def shared_fields(spec: TrainSpec) -> dict[str, Any]:
    """The fields that all methods share, by their dotted names."""
    return {name: value for name, value in _flat(spec.model_dump(mode="json")) if _is_shared(name)}


class _File:
    """A file of methods, read; errors name the line."""

    def __init__(self, path: str, scale: float) -> None:
        self.path = path
        self.document = Document(path)
        self.spec = self.document.spec(MethodsSpec)
        self._scale = scale
        self.student = self._checked(("student",), self.spec.student)

    def methods(self) -> Iterator[Method]:
        """Its methods, each checked."""
        for name, asked in self.spec.methods.items():
            self._check_values(name, asked)
            method = Method(
                name=name,
                about=asked.about,
                spec=self.student.with_values(dict(asked.values)),
                teacher=self._source(name, "teacher", asked.teacher, self.spec.teachers),
                order=self._source(name, "order", asked.order, self.spec.orders),
                values=asked.values,
            )
            self._check_learns(method)
            self._check_targets(method)
            yield method

    def check_alike(self, other: _File) -> None:
        """Refuse a student that differs from another file's in what methods share."""
        ours, theirs = shared_fields(self.student), shared_fields(other.student)
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                raise InputError(
                    f"{self.document.at(('student', *name.split('.')))}: '{name}' is {ours.get(name)!r}, but "
                    f"{theirs.get(name)!r} in '{other.path}': methods that are compared share it."
                )

    def _check_values(self, name: str, asked: MethodSpec) -> None:
        for field, value in asked.values.items():
            at = ("methods", name, "values", field)
            if _is_shared(field):
                raise InputError(
                    f"{self.document.at(at)}: the method '{name}' changes '{field}', but methods that are "
                    "compared share backbone, budget and preprocessing: change the student's."
                )
            self._refuse(at, lambda field=field, value=value: self.student.with_values({field: value}))
        self._refuse(("methods", name, "values"), lambda: self.student.with_values(dict(asked.values)))

    def _check_learns(self, method: Method) -> None:
        """Refuse a method none of whose losses has both a weight and a target."""
        there = {"label", "age"} | ({"teacher", "relations"} if method.teacher else set())
        there |= {"features", "relations"} if method.order else set()
        if not any(loss.needs in there and loss.weight(method.spec.distill) > 0 for loss in LOSSES.values()):
            raise InputError(
                f"{self.document.at(('methods', method.name))}: the method '{method.name}' learns from "
                "nothing: every loss that it has targets for has the weight 0."
            )

    def _check_targets(self, method: Method) -> None:
        """Refuse a teacher that nothing is learnt from, and a loss that lacks its teacher."""
        asked = {field for field, value in method.values.items() if value}
        sources: dict[Kind, TeacherRef | None] = {"teacher": method.teacher, "order": method.order}
        for kind, source in sources.items():
            losses = [loss for loss in _losses(kind)]
            used = [loss for loss in losses if _weight(method.spec, loss) > 0]
            if source is not None and not used:
                raise InputError(
                    f"{self.document.at(('methods', method.name, kind))}: the method '{method.name}' has "
                    f"{_KINDS[kind]} but learns nothing from it: give one of "
                    f"{', '.join(f'distill.{loss}_weight' for loss in losses)} a weight."
                )
            other = method.order if kind == "teacher" else method.teacher
            wanting = [
                f"distill.{loss}_weight"
                for loss in used
                # relations between faces are learnt from either kind of teacher
                if f"distill.{loss}_weight" in asked and not (other and LOSSES[loss].needs == "relations")
            ]
            if source is None and wanting:
                raise InputError(
                    f"{self.document.at(('methods', method.name, 'values', wanting[0]))}: '{wanting[0]}' "
                    f"needs {_KINDS[kind]}, which the method '{method.name}' does not have."
                )

    def _source(
        self,
        method: str,
        kind: Kind,
        asked: TeacherSpec | TeacherPlace | str | None,
        named: Mapping[str, TeacherSpec | TeacherPlace | str],
    ) -> TeacherRef | None:
        if asked is None:
            return None
        at: tuple[str, ...] = ("methods", method, kind)
        name = asked if isinstance(asked, str) and asked in named else ""
        if isinstance(asked, str) and asked in named:
            at, asked = (f"{kind}s", asked), named[asked]
        if isinstance(asked, TeacherPlace):
            given = asked
            self._refuse(at, lambda: calibrated_teacher(given.path, given.calibration))
            asked = given.calibration or given.path
        if isinstance(asked, str):
            place = Location.of(asked)
            if not place.exists():
                known = f" (known names: {', '.join(named)})" if named else ""
                raise InputError(f"{self.document.at(at)}: there is no {kind} '{asked}'{known}.")
            manifest_of = read_order_manifest if kind == "order" else read_model_manifest
            self._refuse(at, lambda: manifest_of(place))
            return TeacherRef(name or place.name, kind, place, asked)
        spec = self._checked(at, asked)
        return TeacherRef(name or f"{spec.model.arch} @ {spec.model.input_size} px", kind, spec)

    def _checked(self, at: tuple[str, ...], asked: TeacherSpec) -> TeacherSpec:
        """A spec to train at its scale; names are known, and files where the jobs find them."""
        spec = smaller(asked, self._scale)
        self._refuse((*at, "model", "arch"), lambda: architecture(spec.model.arch))
        if isinstance(spec, OrderTrainSpec):
            self._refuse((*at, "order", "loss"), lambda: order_loss(spec.order.loss))
        if spec.model.init == "pretrained":
            self._refuse((*at, "model", "init"), lambda: check_start(spec.model))
        if spec.model.weights is None:
            return spec
        weights = Location.of(spec.model.weights)
        if not weights.exists():
            raise InputError(
                f"{self.document.at((*at, 'model', 'weights'))}: there is no '{spec.model.weights}'."
            )
        return spec.with_values({"model.weights": str(weights)})

    def _refuse(self, at: Sequence[str], check: Any) -> None:
        """What ``check`` finds wrong, with the line it stands on."""
        try:
            check()
        except InputError as error:
            raise InputError(f"{self.document.at(at)}: {first_line(error)}") from error


_KINDS: dict[Kind, str] = {"teacher": "a teacher", "order": "an order teacher"}


def _losses(kind: Kind) -> list[str]:
    """The losses that learn from a teacher's PMFs, or from an order teacher's features."""
    wanted = {"teacher": ("teacher", "relations"), "order": ("features", "relations")}[kind]
    return [name for name, loss in LOSSES.items() if loss.needs in wanted]


def _weight(spec: TrainSpec, loss: str) -> float:
    return LOSSES[loss].weight(spec.distill)


def _is_shared(name: str) -> bool:
    return any(name == shared or shared.endswith(".") and name.startswith(shared) for shared in SHARED)


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
