"""Which parameters a trial has: conditions on others, named variants, and every choice of a space in turn.

A dimension with a condition (``when``) is sampled after those it depends on, and only where it holds. What a
condition reads is what the trial will be trained with: a parameter's value, a field's that a variant sets,
and otherwise the student's own. Pure functions of the study and of parameters; errors are found in
``agesearch.search.space.space``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Any

from agesearch.errors import InputError
from agesearch.specs import Bounds, Choices, Range, Spec, StudySpec, TrainSpec, Variants

Value = str | int | float | bool
Params = dict[str, Value]
Dimension = Choices | Range | Variants
Space = Mapping[str, Dimension]

#: A space with more choices than this is not walked through.
MAX_POINTS = 100_000


def setters(space: Space) -> dict[str, list[str]]:
    """The dimensions that set each field, a dimension's own name among the fields."""
    found: dict[str, list[str]] = {}
    for name, dimension in space.items():
        for field in sorted(fields_of(name, dimension)):
            found.setdefault(field, []).append(name)
    return found


def fields_of(name: str, dimension: Dimension) -> set[str]:
    """What a dimension decides: its own name, and the fields of its variants."""
    if not isinstance(dimension, Variants):
        return {name}
    return {name}.union(*(values for values in dimension.variants.values()))


def parents(space: Space) -> dict[str, set[str]]:
    """The dimensions that each dimension's condition reads."""
    by_field = setters(space)
    return {
        name: {parent for field in dimension.when for parent in by_field.get(field, ())}
        for name, dimension in space.items()
    }


def cycle(space: Space) -> list[str]:
    """Dimensions whose conditions lead back to the first of them; empty where there are none."""
    try:
        TopologicalSorter(parents(space)).prepare()
    except CycleError as error:
        names: list[str] = error.args[1]
        return names
    return []


def stages(space: Space) -> list[list[str]]:
    """The dimensions in the order in which they are sampled: those with one and the same condition together,
    each after all that it depends on.
    """
    level: dict[str, int] = {}
    above = parents(space)
    for name in TopologicalSorter({name: sorted(above[name]) for name in sorted(above)}).static_order():
        level[name] = max((level[parent] + 1 for parent in above[name]), default=0)
    groups: dict[tuple[int, str], list[str]] = {}
    for name in sorted(space):
        key = (level[name], repr(sorted(space[name].when.items())) if space[name].when else "")
        groups.setdefault(key, []).append(name)
    return [groups[key] for key in sorted(groups)]


def settings(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Every value that ``params`` decide: of the dimensions themselves, and of the fields of variants."""
    values: dict[str, Any] = {}
    for name, value in params.items():
        dimension = space.get(name)
        values[name] = value
        if isinstance(dimension, Variants):
            values |= dimension.variants[str(value)]
    return values


def field_values(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the student that ``params`` set."""
    switches = {name for name, dimension in space.items() if isinstance(dimension, Variants)}
    return {name: value for name, value in settings(space, params).items() if name not in switches}


def own_value(student: TrainSpec, field: str) -> Any:
    """The student's own value of a dotted field; None where it has no such field."""
    value: Any = student
    for part in field.split("."):
        value = getattr(value, part, None) if isinstance(value, Spec) else None
    return value


def setting(study: StudySpec, params: Mapping[str, Any], field: str) -> Any:
    """What a trial with ``params`` has for one field or dimension; None for one that it does not have."""
    decided = settings(study.space, params)
    return decided[field] if field in decided else own_value(study.student, field)


def holds(study: StudySpec, dimension: Dimension, params: Mapping[str, Any]) -> bool:
    """Whether a dimension's condition holds for what was sampled before it."""
    return all(admits(allowed, setting(study, params, field)) for field, allowed in dimension.when.items())


def admits(allowed: Sequence[Value] | Bounds, value: Any) -> bool:
    """Whether a value is one of those listed, or between the bounds; a bool is no number."""
    if isinstance(allowed, Bounds):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        above = allowed.above is None or value > allowed.above
        return above and (allowed.below is None or value < allowed.below)
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed)


def active(study: StudySpec, params: Mapping[str, Any]) -> list[str]:
    """The dimensions that a trial with ``params`` has, in the order in which they are sampled.

    A parameter whose condition does not hold counts as not there.
    """
    held: Params = {}
    found: list[str] = []
    for names in stages(study.space):
        if holds(study, study.space[names[0]], held):
            found += names
            held |= {name: params[name] for name in names if name in params}
    return found


def has_all(study: StudySpec, params: Mapping[str, Any]) -> bool:
    """Whether ``params`` have a value of every dimension that a trial with them has."""
    return all(name in params for name in active(study, params))


def possible(study: StudySpec, field: str) -> list[Any]:
    """The values, or ranges of values, that a field or a dimension may have in a trial."""
    own = own_value(study.student, field)
    found: list[Any] = [] if own is None and field in study.space else [own]
    for name in setters(study.space).get(field, ()):
        dimension = study.space[name]
        if isinstance(dimension, Range):
            found.append(dimension)
        elif isinstance(dimension, Variants) and field != name:
            found += [values[field] for values in dimension.variants.values() if field in values]
        else:
            found += steps(dimension)
    return found


def walk(study: StudySpec, fields: Iterable[str] | None = None) -> Iterator[Params]:
    """Every choice of the dimensions that decide ``fields`` (None: all), conditions kept, in the file's
    order.

    Of a range without steps that only conditions read, one value stands for each part that they tell apart;
    an ``InputError`` where there are too many choices.
    """
    wanted = None if fields is None else set(fields)
    names = set(study.space) if wanted is None else _deciding(study.space, wanted)
    order = [name for stage in stages(study.space) for name in stage if name in names]
    order.sort(key=lambda name: _depth(study.space, name))  # within a depth as the file has them
    for count, point in enumerate(_walked(study, order, {}, wanted)):
        if count == MAX_POINTS:
            raise InputError(f"The space has more than {MAX_POINTS} choices to walk through.")
        yield point


def endless(dimension: Dimension) -> bool:
    """Whether a dimension has values without end: a range of broken numbers without a step."""
    return (
        isinstance(dimension, Range)
        and not dimension.integer
        and dimension.step is None
        and dimension.low < dimension.high
    )


def steps(dimension: Dimension) -> Sequence[Value]:
    """All values of a dimension that has an end of them."""
    if isinstance(dimension, Choices):
        return dimension.choices
    if isinstance(dimension, Variants):
        return tuple(dimension.variants)
    if dimension.integer:
        return range(int(dimension.low), int(dimension.high) + 1, int(dimension.step or 1))
    step = dimension.step or 1.0
    count = int((dimension.high - dimension.low) / step + 1e-9) + 1
    # rounding must not lead beyond the end: Optuna takes no such value
    return [min(dimension.low + index * step, dimension.high) for index in range(count)]


def _deciding(space: Space, fields: set[str]) -> set[str]:
    """The dimensions that set these fields, and all that those depend on."""
    above = parents(space)
    left = [name for name, dimension in space.items() if fields & fields_of(name, dimension)]
    found: set[str] = set()
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += above[name]
    return found


def _depth(space: Space, name: str) -> tuple[int, int]:
    place = [names for names in stages(space) if name in names][0]
    return stages(space).index(place), list(space).index(name)


def _walked(
    study: StudySpec, names: Sequence[str], params: Params, wanted: set[str] | None
) -> Iterator[Params]:
    if not names:
        yield params
        return
    name, rest = names[0], names[1:]
    dimension = study.space[name]
    if not holds(study, dimension, params):
        yield from _walked(study, rest, params, wanted)
        return
    decides = wanted is None or bool(wanted & fields_of(name, dimension))
    for value in steps(dimension) if decides and not endless(dimension) else _parts(study.space, name):
        yield from _walked(study, rest, {**params, name: value}, wanted)


def _parts(space: Space, name: str) -> Sequence[Value]:
    """Values of a dimension, one for each part that conditions tell apart."""
    dimension = space[name]
    if not isinstance(dimension, Range):
        return steps(dimension)
    marks = {dimension.low, dimension.high}
    for other in space.values():
        allowed = other.when.get(name, ())
        bounds = (allowed.above, allowed.below) if isinstance(allowed, Bounds) else allowed
        marks |= {float(at) for at in bounds if isinstance(at, int | float)}
    ends = sorted(mark for mark in marks if dimension.low <= mark <= dimension.high)
    if dimension.integer:
        around = {whole + off for whole in map(int, ends) for off in (-1, 0, 1)}
        return sorted(whole for whole in around if dimension.low <= whole <= dimension.high)
    between = [(low + high) / 2 for low, high in pairwise(ends)]
    return sorted({*ends, *between})
