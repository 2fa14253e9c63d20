"""A study at a smaller budget: the same space, networks and losses, with fewer epochs on fewer faces."""

from __future__ import annotations

from typing import Any

from agesearch.search.space.conditions import Dimension, possible
from agesearch.specs import Choices, OrderTrainSpec, Range, StudySpec, TeacherPlace, TrainSpec, Variants
from agesearch.training.protocols.recipes import check_scale, scaled, smaller

_EPOCHS = "optim.epochs"
_STEPS = "optim.decay_every"
_WARM_UP = "optim.warmup_epochs"
_FACES = "share_of_faces"


def scaled_study(spec: StudySpec, scale: float) -> StudySpec:
    """The study with ``scale`` times the epochs, of trials and of teachers, one at least; then with fewer of
    the training faces.

    Stairs and warm-up shrink with the epochs, and so does the first rung. The number of trials stays.
    """
    check_scale(scale)
    if scale == 1.0:
        return spec
    longest = max(_most(value) for value in possible(spec, _EPOCHS))
    share = min(1.0, longest * scale)
    changes: dict[str, Any] = {
        "student": scaled(spec.student, scale).with_values({_FACES: spec.student.share_of_faces * share}),
        "space": {name: _shrunk_dimension(name, dim, scale, share) for name, dim in spec.space.items()},
        "teachers": spec.teachers.model_copy(
            update={
                name: _shrunk_teacher(teacher, scale)
                for name, teacher in (("age", spec.teachers.age), ("order", spec.teachers.order))
            }
        ),
    }
    if spec.rungs is not None:
        first = max(1, round(spec.rungs.first_epoch * scale))
        changes["rungs"] = spec.rungs.model_copy(update={"first_epoch": first})
    return spec.model_copy(update=changes)


def _most(value: Any) -> float:
    return value.high if isinstance(value, Range) else float(value)


def _shrunk_teacher(teacher: TrainSpec | OrderTrainSpec | TeacherPlace | str | None, scale: float) -> Any:
    if isinstance(teacher, TrainSpec):
        return smaller(teacher, scale)
    return smaller(teacher, scale) if isinstance(teacher, OrderTrainSpec) else teacher


def _shrunk_dimension(name: str, dimension: Dimension, scale: float, share: float) -> Dimension:
    """A dimension whose values of what is counted in epochs shrink; equal ones become one."""
    if isinstance(dimension, Variants):
        variants = {
            variant: {field: _shrunk_value(field, value, scale, share) for field, value in values.items()}
            for variant, values in dimension.variants.items()
        }
        return dimension.model_copy(update={"variants": variants})
    if isinstance(dimension, Choices):
        values = dict.fromkeys(_shrunk_value(name, value, scale, share) for value in dimension.choices)
        return dimension.model_copy(update={"choices": tuple(values)})
    ends = {end: _shrunk_value(name, getattr(dimension, end), scale, share) for end in ("low", "high")}
    if name in (_EPOCHS, _STEPS) and dimension.step is not None:
        ends["step"] = max(1.0, float(round(dimension.step * scale)))
    return dimension.model_copy(update=ends)


def _shrunk_value(field: str, value: Any, scale: float, share: float) -> Any:
    if field in (_EPOCHS, _STEPS):
        return max(1, round(value * scale))
    if field == _WARM_UP:
        return value * scale
    return value * share if field == _FACES else value
