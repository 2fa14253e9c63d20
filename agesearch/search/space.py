"""A search space as data: which fields of a ``TrainSpec`` a study varies, and between which values.

The YAML of a study names fields by their dotted path (``model.arch``, ``optim.learning_rate``). Everything is
checked before anything runs: each field exists, each value is one the field accepts, each architecture is in
the zoo. An error names the file and the line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from agesearch.errors import InputError, unknown_name
from agesearch.models.zoo import ARCHITECTURES
from agesearch.specs import Choices, ModelSpec, Range, StudySpec, TrainSpec, describe_validation, load_yaml
from agesearch.storage import Location

Value = str | int | float | bool
Params = dict[str, Value]
Dimension = Choices | Range

ARCH = "model.arch"
INPUT_SIZE = "model.input_size"

#: More networks than this would take longer to time than most searches take to run.
MAX_NETWORKS = 400


def load_space(where: str | os.PathLike[str]) -> StudySpec:
    """The study described by a YAML file, fully checked; an ``InputError`` names the file and the line."""
    path = os.fspath(where)
    document = load_yaml(path)
    marks = _Marks(Location.of(path).read_text(), path)
    if not isinstance(document, dict):
        raise InputError(
            f"'{path}' must hold a mapping with 'student' and 'space', but holds {document!r:.40}."
        )
    try:
        study = StudySpec.model_validate(_sorted_dimensions(document, marks))
    except ValidationError as error:
        place = marks.at(error.errors(include_url=False)[0]["loc"])
        raise InputError(f"{place}: {describe_validation(error)}") from error
    for key, message in _faults(study):
        raise InputError(f"{marks.at(key)}: {message}")
    return study


def check_space(study: StudySpec) -> StudySpec:
    """The same study, or an ``InputError`` for its first fault (for studies that come from no file)."""
    for key, message in _faults(study):
        raise InputError(f"{'.'.join(key)}: {message}")
    return study


def field_names(kind: type[BaseModel] = TrainSpec, prefix: str = "") -> dict[str, type]:
    """Dotted field -> its type, for every single-valued field of ``TrainSpec``: what a space may name."""
    names: dict[str, type] = {}
    for name, field in kind.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            names |= field_names(annotation, f"{prefix}{name}.")
        else:
            names[f"{prefix}{name}"] = annotation if isinstance(annotation, type) else str
    return names


def trial_spec(study: StudySpec, params: Mapping[str, Value]) -> TrainSpec:
    """What one trial trains: the study's student with ``params`` in place, and its architecture's weights.

    Every trial has the student's seed, so that two trials differ by their parameters alone.
    """
    values: dict[str, Any] = dict(params)
    arch = str(values.get(ARCH, study.student.model.arch))
    if arch in study.weights:
        values |= {"model.init": "file", "model.weights": study.weights[arch]}
    return study.student.with_values(values)


def networks(study: StudySpec) -> list[ModelSpec]:
    """Every (architecture, input size) the study can suggest: those whose latency must be known."""
    archs = _values(study, ARCH, study.student.model.arch)
    sizes = _values(study, INPUT_SIZE, study.student.model.input_size)
    if len(archs) * len(sizes) > MAX_NETWORKS:
        raise InputError(
            f"The space has {len(archs)} architectures x {len(sizes)} input sizes = "
            f"{len(archs) * len(sizes)} networks to time, more than {MAX_NETWORKS}: "
            f"give '{INPUT_SIZE}' a step, or choices."
        )
    return [ModelSpec(arch=str(arch), input_size=int(size)) for arch, size in product(archs, sizes)]


def optuna_distributions(space: Mapping[str, Dimension]) -> dict[str, Any]:
    """The space as Optuna's distributions, by field, in the order of their names."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    made: dict[str, Any] = {}
    for field in sorted(space):
        dimension = space[field]
        if isinstance(dimension, Choices):
            made[field] = CategoricalDistribution(dimension.choices)
        elif dimension.integer:
            step = int(dimension.step or 1)
            made[field] = IntDistribution(int(dimension.low), int(dimension.high), dimension.log, step)
        else:
            made[field] = FloatDistribution(dimension.low, dimension.high, dimension.log, dimension.step)
    return made


def trial_name(number: int, model: ModelSpec) -> str:
    """How people and dashboards know a trial: ``0007-mobilenetv3_small_075-96px``."""
    return f"{number:04d}-{model.arch}-{model.input_size}px"


def _values(study: StudySpec, field: str, fixed: Value) -> Sequence[Value]:
    dimension = study.space.get(field)
    if dimension is None:
        return [fixed]
    if isinstance(dimension, Choices):
        return dimension.choices
    return range(int(dimension.low), int(dimension.high) + 1, int(dimension.step or 1))


def _faults(study: StudySpec) -> Iterable[tuple[tuple[str, ...], str]]:
    """Each fault with the place of the document it belongs to."""
    known = field_names()
    if study.student.model.arch not in ARCHITECTURES:
        where = ("student", "model", "arch")
        yield where, str(unknown_name("architecture", study.student.model.arch, ARCHITECTURES))
    for field, dimension in study.space.items():
        if field not in known:
            yield ("space", field), str(unknown_name("field of TrainSpec", field, known))
        else:
            message = _dimension_fault(study.student, field, known[field], dimension)
            if message:
                yield ("space", field), message
    yield from _size_faults(study)
    for arch, file in study.weights.items():
        if arch not in ARCHITECTURES:
            yield ("weights", arch), str(unknown_name("architecture", arch, ARCHITECTURES))
        elif not Location.of(file).exists():
            yield ("weights", arch), f"There is no weights file '{file}' for '{arch}'."


def _size_faults(study: StudySpec) -> Iterable[tuple[tuple[str, ...], str]]:
    """Architectures that the space's smallest input is too small for."""
    sizes = _values(study, INPUT_SIZE, study.student.model.input_size)
    smallest = min(int(size) for size in sizes)
    for arch in _values(study, ARCH, study.student.model.arch):
        needed = ARCHITECTURES[str(arch)].min_size if arch in ARCHITECTURES else 0
        if smallest < needed:
            place = ("space", ARCH) if ARCH in study.space else ("student", "model", "arch")
            yield (
                place,
                f"'{arch}' needs inputs of at least {needed} px, but the study goes down to {smallest}.",
            )


def _dimension_fault(student: TrainSpec, field: str, kind: type, dimension: Dimension) -> str | None:
    if isinstance(dimension, Choices):
        if len(set(dimension.choices)) < len(dimension.choices):
            return f"'{field}' names a choice twice: {', '.join(map(str, dimension.choices))}."
        values: Sequence[Value] = dimension.choices
    else:
        fault = _range_fault(field, kind, dimension)
        if fault:
            return fault
        values = [_typed(dimension, dimension.low), _typed(dimension, dimension.high)]
    for value in values:
        if field == ARCH and value not in ARCHITECTURES:
            return str(unknown_name("architecture", str(value), ARCHITECTURES))
        try:
            student.with_values({field: value})
        except InputError as error:
            return str(error).removeprefix("TrainSpec: ")
    return None


def _range_fault(field: str, kind: type, dimension: Range) -> str | None:
    if not issubclass(kind, int | float) or kind is bool:
        return f"'{field}' takes names, not numbers: give it 'choices', not 'low' and 'high'."
    if issubclass(kind, int) and not dimension.integer:
        return f"'{field}' takes whole numbers: add 'integer: true' to its range."
    numbers = (dimension.low, dimension.high, dimension.step or 1.0)
    if dimension.integer and any(number != int(number) for number in numbers):
        return f"'{field}' has 'integer: true', so low, high and step must be whole numbers."
    return None


def _typed(dimension: Range, number: float) -> Value:
    return int(number) if dimension.integer else number


def _sorted_dimensions(document: dict[str, Any], marks: _Marks) -> dict[str, Any]:
    """The document with each dimension parsed by its own kind, so that an error speaks of that kind alone."""
    space = document.get("space")
    if not isinstance(space, dict):
        return document
    parsed: dict[str, Dimension] = {}
    for field, entry in space.items():
        place = marks.at(("space", str(field)))
        if not isinstance(entry, dict) or not ("choices" in entry) ^ ("low" in entry or "high" in entry):
            raise InputError(
                f"{place}: '{field}' must be {{choices: [...]}} or {{low: a, high: b}} (with log, step, "
                f"integer), but is {entry!r:.60}."
            )
        kind: type[Dimension] = Choices if "choices" in entry else Range
        try:
            parsed[str(field)] = kind.model_validate(entry)
        except ValidationError as error:
            raise InputError(f"{place}: '{field}': {describe_validation(error)}") from error
    return document | {"space": parsed}


class _Marks:
    """Where each key of a YAML document stands."""

    def __init__(self, text: str, path: str) -> None:
        self._root = yaml.compose(text, Loader=yaml.SafeLoader)
        self._path = path

    def at(self, keys: Sequence[str | int]) -> str:
        """``'file' line 12``: the line of the deepest part of ``keys`` that the document has."""
        node, line = self._root, 1
        for key in keys:
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            found = [(name, value) for name, value in pairs if name.value == str(key)]
            if found:
                name, node = found[0]
                line = name.start_mark.line + 1
        return f"'{self._path}' line {line}"
