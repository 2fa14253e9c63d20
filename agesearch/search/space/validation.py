"""What can be wrong with a study's space, found before anything runs: each fault with its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, get_args

import numpy as np
from pydantic import BaseModel

from agesearch.errors import InputError, unknown_name
from agesearch.models.architectures import ARCHITECTURES
from agesearch.search.space.conditions import (
    Dimension,
    Params,
    Value,
    admits,
    cycle,
    endless,
    field_values,
    holds,
    possible,
    setters,
    settings,
    stages,
    steps,
    walk,
)
from agesearch.specs import Bounds, Choices, OrderTrainSpec, Range, StudySpec, TrainSpec, Variants
from agesearch.storage import Location

ARCH = "model.arch"
INPUT_SIZE = "model.input_size"
_EPOCH_FACES = "optim.epoch_faces"

#: The keys of a document that lead to a fault, and what is wrong there.
Fault = tuple[tuple[str, ...], str]

#: So many trials are drawn and validated whole: fields may exclude each other.
_DRAWN = 32


def field_names(kind: type[BaseModel] = TrainSpec, prefix: str = "") -> dict[str, type]:
    """Dotted field -> its type, for every single-valued field of ``TrainSpec``: what a space may name."""
    names: dict[str, type] = {}
    for name, field in kind.model_fields.items():
        annotation = _without_none(field.annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            names |= field_names(annotation, f"{prefix}{name}.")
        else:
            names[f"{prefix}{name}"] = annotation if isinstance(annotation, type) else str
    return names


def _without_none(annotation: Any) -> Any:
    """``int`` of ``int | None``: what a value of the field is."""
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    return kinds[0] if len(kinds) == 1 else annotation


def faults(study: StudySpec) -> Iterator[Fault]:
    """Each fault with the place of the document it belongs to; the later ones build on the earlier."""
    if study.student.model.arch not in ARCHITECTURES:
        yield ("student", "model", "arch"), _unknown_arch(study.student.model.arch)
    yield from _dimension_faults(study)
    yield from _condition_faults(study)
    yield from _grid_faults(study)
    yield from _size_faults(study)
    yield from _combination_faults(study)
    yield from _rung_faults(study)
    yield from _teacher_faults(study)
    for arch, file in study.weights.items():
        if arch not in ARCHITECTURES:
            yield ("weights", arch), _unknown_arch(arch)
        elif not Location.of(file).exists():
            yield ("weights", arch), f"There is no weights file '{file}' for '{arch}'."


def _dimension_faults(study: StudySpec) -> Iterator[Fault]:
    known = field_names()
    for name, dimension in study.space.items():
        if isinstance(dimension, Variants):
            yield from _variant_faults(study.student, name, dimension, known)
        elif name not in known:
            yield ("space", name), str(unknown_name("field of TrainSpec", name, known))
        else:
            message = _value_fault(study.student, name, known[name], dimension)
            if message:
                yield ("space", name), message
    views = study.student.augment.views
    for field, names in setters(study.space).items():
        if len(names) > 1:
            yield ("space", names[1]), f"'{field}' is set by '{names[0]}' already: one dimension a field."
        if field.startswith("augment.") and (views or field == "augment.views"):
            yield (
                ("space", names[0]),
                f"'{field}' cannot be searched with fixed views (augment.views): the teacher's answers are "
                "computed once, for the views of the student.",
            )


def _variant_faults(
    student: TrainSpec, name: str, dimension: Variants, known: Mapping[str, type]
) -> Iterator[Fault]:
    if name in known or "." in name:
        yield ("space", name), f"Variants need a name of their own, and '{name}' names a field."
    for variant, values in dimension.variants.items():
        place = ("space", name, "variants", variant)
        for field, value in values.items():
            if field not in known:
                yield (*place, field), str(unknown_name("field of TrainSpec", field, known))
                return
            if field == ARCH and value not in ARCHITECTURES:
                yield (*place, field), _unknown_arch(str(value))
        fault = _refused(student, dict(values))
        if fault:
            yield place, f"'{variant}': {fault}"


def _value_fault(student: TrainSpec, field: str, kind: type, dimension: Choices | Range) -> str | None:
    if isinstance(dimension, Choices):
        if len({(value, type(value)) for value in dimension.choices}) < len(dimension.choices):
            return f"'{field}' names a choice twice: {', '.join(map(str, dimension.choices))}."
        values: Sequence[Value] = dimension.choices
    else:
        fault = _range_fault(field, kind, dimension)
        if fault:
            return fault
        values = [_typed(dimension, dimension.low), _typed(dimension, dimension.high)]
    for value in values:
        if field == ARCH and value not in ARCHITECTURES:
            return _unknown_arch(str(value))
        fault = _refused(student, {field: value})
        if fault:
            return fault
    return None


def _refused(student: TrainSpec, values: dict[str, Any]) -> str | None:
    """Why the student cannot have these values; None where it can."""
    try:
        student.with_values(values)
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


def _condition_faults(study: StudySpec) -> Iterator[Fault]:
    """Conditions on what there is not, that lead back to themselves, or that never hold."""
    known = {*field_names(), *study.space}
    for name, dimension in study.space.items():
        for field in dimension.when:
            if field not in known:
                yield ("space", name, "when", field), str(unknown_name("parent", field, known))
    loop = cycle(study.space)
    if loop:
        way = " -> ".join(f"'{name}'" for name in reversed(loop))
        yield ("space", loop[0], "when"), f"The conditions lead back to where they began: {way}."
        return
    for name, dimension in study.space.items():
        for field, allowed in dimension.when.items():
            taken = possible(study, field)
            if not any(_reachable(allowed, one) for one in taken):
                stated = ", ".join(_shown(one) for one in taken)
                yield (
                    ("space", name, "when", field),
                    f"'{name}' is never there: its condition wants '{field}' {_stated(allowed)}, "
                    f"but it is {stated}.",
                )


def _reachable(allowed: Sequence[Value] | Bounds, value: Any) -> bool:
    if not isinstance(value, Range):
        return admits(allowed, value)
    if not isinstance(allowed, Bounds):
        return any(isinstance(one, int | float) and value.low <= one <= value.high for one in allowed)
    above = allowed.above is None or value.high > allowed.above
    return above and (allowed.below is None or value.low < allowed.below)


def _shown(value: Any) -> str:
    return f"{value.low:g} to {value.high:g}" if isinstance(value, Range) else str(value)


def _stated(allowed: Sequence[Value] | Bounds) -> str:
    if not isinstance(allowed, Bounds):
        return "to be " + " or ".join(map(str, allowed))
    bounds = {"above": allowed.above, "below": allowed.below}
    return " and ".join(f"{name} {bound:g}" for name, bound in bounds.items() if bound is not None)


def _grid_faults(study: StudySpec) -> Iterator[Fault]:
    if study.sampler != "grid":
        return
    for name, dimension in study.space.items():
        if endless(dimension):
            yield ("space", name), f"A grid has no end with '{name}': give it a step, or choices."
            return
    points = sum(1 for _ in walk(study))
    if study.trials > points:
        yield ("trials",), f"'trials' is {study.trials}, but the grid has {points} points: try each once."


def _size_faults(study: StudySpec) -> Iterator[Fault]:
    """Architectures that get inputs too small for them."""
    if cycle(study.space):
        return
    model, by_field = study.student.model, setters(study.space)
    for params in walk(study, (ARCH, INPUT_SIZE)):
        decided = settings(study.space, params)
        arch, size = str(decided.get(ARCH, model.arch)), int(decided.get(INPUT_SIZE, model.input_size))
        needed = ARCHITECTURES[arch].min_size if arch in ARCHITECTURES else 0
        if size < needed:
            place = ("space", by_field[ARCH][0]) if ARCH in by_field else ("student", "model", "arch")
            if isinstance(study.space.get(place[-1]), Variants):
                place = (*place, "variants", str(params[place[-1]]))
            yield place, f"'{arch}' needs inputs of at least {needed} px, but the study goes down to {size}."
            return


def _combination_faults(study: StudySpec) -> Iterator[Fault]:
    """Trials drawn at random that are no valid ``TrainSpec``, though each value alone is one."""
    rng = np.random.default_rng(study.seed % 2**32)
    for _ in range(_DRAWN):
        params = random_params(study, rng)
        fault = _refused(study.student, field_values(study.space, params))
        if fault:
            yield ("space",), f"Values that exclude each other, {params}: {fault}"
            return


def random_params(study: StudySpec, rng: np.random.Generator) -> Params:
    """A point of the space drawn evenly, conditions kept."""
    params: Params = {}
    for names in stages(study.space):
        if holds(study, study.space[names[0]], params):
            params |= {name: _drawn(study.space[name], rng) for name in names}
    return params


def _drawn(dimension: Dimension, rng: np.random.Generator) -> Value:
    if isinstance(dimension, Range) and endless(dimension):
        if dimension.log:
            return float(np.exp(rng.uniform(np.log(dimension.low), np.log(dimension.high))))
        return float(rng.uniform(dimension.low, dimension.high))
    values = steps(dimension)
    return values[int(rng.integers(len(values)))]


def _rung_faults(study: StudySpec) -> Iterator[Fault]:
    if study.rungs is not None and study.rungs.unit == "faces" and None in possible(study, _EPOCH_FACES):
        yield (
            ("rungs", "unit"),
            "rungs count faces, but no epoch has a set number of them: give student.optim.epoch_faces, or "
            "count epochs.",
        )


def _teacher_faults(study: StudySpec) -> Iterator[Fault]:
    for name, teacher in (("age", study.teachers.age), ("order", study.teachers.order)):
        if not isinstance(teacher, TrainSpec | OrderTrainSpec):
            continue
        row = ARCHITECTURES.get(teacher.model.arch)
        if row is None:
            yield ("teachers", name, "model", "arch"), _unknown_arch(teacher.model.arch)
        elif teacher.model.input_size < row.min_size:
            yield (
                ("teachers", name, "model", "input_size"),
                f"'{teacher.model.arch}' needs inputs of at least {row.min_size} px.",
            )


def _unknown_arch(name: str) -> str:
    return str(unknown_name("architecture", name, ARCHITECTURES))
