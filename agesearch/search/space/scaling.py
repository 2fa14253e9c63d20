"""A study at a smaller budget: the same space, networks and losses, with fewer epochs on fewer faces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agesearch.search.space.conditions import Dimension, possible
from agesearch.specs import (
    Choices,
    OrderTrainSpec,
    Prior,
    Range,
    StudySpec,
    TeacherPlace,
    TrainSpec,
    Variants,
    name_of_choice,
)
from agesearch.training.protocols.recipes import check_scale, fewer_faces, scaled, smaller

_EPOCHS = "optim.epochs"
_STEPS = "optim.decay_every"
_WARM_UP = "optim.warmup_epochs"
_FACES = "share_of_faces"
_EPOCH_FACES = "optim.epoch_faces"


def scaled_study(spec: StudySpec, scale: float) -> StudySpec:
    """The study with ``scale`` times the epochs, of trials and of teachers, one at least; then with fewer of
    the training faces, or of an epoch's where it has a set number of them.

    Stairs and warm-up shrink with the epochs, and so does the first rung. The number of trials stays.
    """
    check_scale(scale)
    if scale == 1.0:
        return spec
    longest = max(_most(value) for value in possible(spec, _EPOCHS))
    share = min(1.0, longest * scale)
    cut = _EPOCH_FACES if None not in possible(spec, _EPOCH_FACES) else _FACES
    changes: dict[str, Any] = {
        "student": fewer_faces(scaled(spec.student, scale), share),
        "space": {name: _shrunk_dimension(name, dim, scale, share, cut) for name, dim in spec.space.items()},
        "teachers": spec.teachers.model_copy(
            update={
                name: _shrunk_teacher(teacher, scale)
                for name, teacher in (("age", spec.teachers.age), ("order", spec.teachers.order))
            }
        ),
    }
    changes["first"] = tuple(
        {name: _shrunk_value(name, value, scale, share, cut) for name, value in values.items()}
        for values in spec.first
    )
    if spec.rungs is not None:
        first = {"first_epoch": max(1, round(spec.rungs.first_epoch * scale))}
        if spec.rungs.first_faces is not None:
            first["first_faces"] = max(1, round(spec.rungs.first_faces * scale))
        changes["rungs"] = spec.rungs.model_copy(update=first)
    return spec.model_copy(update=changes)


def _most(value: Any) -> float:
    return value.high if isinstance(value, Range) else float(value)


def _shrunk_teacher(teacher: TrainSpec | OrderTrainSpec | TeacherPlace | str | None, scale: float) -> Any:
    if isinstance(teacher, TrainSpec):
        return smaller(teacher, scale)
    return smaller(teacher, scale) if isinstance(teacher, OrderTrainSpec) else teacher


def _shrunk_dimension(name: str, dimension: Dimension, scale: float, share: float, cut: str) -> Dimension:
    """A dimension whose values of what is counted in epochs shrink, and of the field that is ``cut``; equal
    ones become one.
    """
    if isinstance(dimension, Variants):
        variants = {
            variant: {
                field: _shrunk_value(field, value, scale, share, cut) for field, value in values.items()
            }
            for variant, values in dimension.variants.items()
        }
        return dimension.model_copy(update={"variants": variants})
    if isinstance(dimension, Choices):
        now = {value: _shrunk_value(name, value, scale, share, cut) for value in dimension.choices}
        changes = {"choices": tuple(dict.fromkeys(now.values())), "prior": _moved_prior(dimension.prior, now)}
        return dimension.model_copy(update=changes)
    ends = {end: _shrunk_value(name, getattr(dimension, end), scale, share, cut) for end in ("low", "high")}
    if name in (_EPOCHS, _STEPS) and dimension.step is not None:
        ends["step"] = max(1.0, float(round(dimension.step * scale)))
    if dimension.prior is not None and dimension.prior.value is not None:
        value = _shrunk_value(name, dimension.prior.value, scale, share, cut)
        ends["prior"] = dimension.prior.model_copy(update={"value": value})
    return dimension.model_copy(update=ends)


def _moved_prior(prior: Prior | None, now: Mapping[Any, Any]) -> Prior | None:
    """A prior about choices as they are ``now``."""
    if prior is None:
        return None
    if prior.weights is None:
        return prior.model_copy(update={"value": now[prior.value]})
    names = {name_of_choice(before): name_of_choice(after) for before, after in now.items()}
    return prior.model_copy(update={"weights": {names[name]: w for name, w in prior.weights.items()}})


def _shrunk_value(field: str, value: Any, scale: float, share: float, cut: str) -> Any:
    if field in (_EPOCHS, _STEPS):
        return max(1, round(value * scale))
    if field == _WARM_UP:
        return value * scale
    if field != cut or value is None:
        return value
    return max(2, round(value * share)) if field == _EPOCH_FACES else value * share
