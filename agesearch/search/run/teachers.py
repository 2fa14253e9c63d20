"""The teachers of a study: those named, or those that its spec describes, trained into
``STUDY/teachers/``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from agesearch.errors import InputError, unknown_name
from agesearch.machine import cores
from agesearch.models.foreign.document import start_named
from agesearch.models.identity import calibrated_teacher, model_digest, read_model_manifest
from agesearch.progress import Listener, Progress
from agesearch.search.space.conditions import possible, setting, walk
from agesearch.search.space.validation import ARCH
from agesearch.search.store.events import EventListener, Note
from agesearch.search.store.records import StudyFolder, StudyInput
from agesearch.specs import OrderTrainSpec, Range, StudySpec, TeacherPlace, TrainSpec
from agesearch.storage import Location
from agesearch.training.collapse import collapse

TEACHERS_FOLDER = "teachers"
AGE, ORDER = "age", "order"

_STAGE = "distill.hint_stage"
_INIT = "model.init"

#: Losses towards an order teacher's features.
_FROM_ORDER = ("distill.hint_weight",)


@dataclass(frozen=True)
class Teachers:
    """Where a study's teachers lie, or will once they are trained; ``order`` is None where it has none."""

    age: Location
    order: Location | None
    untrained: tuple[tuple[str, TrainSpec | OrderTrainSpec], ...] = ()

    def trained(
        self, dataset: Location, on_event: EventListener, address: str | None = None
    ) -> tuple[StudyInput, StudyInput | None]:
        """The teachers with their digests, after training those that are not there yet.

        A killed training goes on where it stopped, and a finished one is taken as it is.
        """
        for name, spec in self.untrained:
            listener = _named(f"{name} teacher", on_event)
            if isinstance(spec, TrainSpec):
                from agesearch.training.teach import teach

                teach(spec, dataset, self.age, address=address, on_progress=listener)
            elif self.order is not None:
                from agesearch.training.teach_order import teach_order

                teach_order(spec, dataset, self.order, threads=cores(), on_progress=listener)
        fault = collapse(read_model_manifest(self.age).metrics)
        if fault:
            on_event(Note(fault))
        age = StudyInput(path=str(self.age), content_digest=model_digest(self.age))
        return age, order_source(self.order)


def order_source(place: Location | None) -> StudyInput | None:
    """An order teacher with its digest."""
    if place is None:
        return None
    from agesearch.models.order_net import order_digest

    return StudyInput(path=str(place), content_digest=order_digest(place))


def _place(named: Any) -> Location | None:
    """Where a teacher lies that is named by its place; None where it is described, or there is none."""
    return Location.of(named) if isinstance(named, str | os.PathLike | Location) and str(named) else None


def chosen_teachers(
    spec: StudySpec, folder: StudyFolder, age: str | Location | None, order: str | Location | None
) -> Teachers:
    """The teachers of a study: those given, else those of its spec.

    ``InputError`` where one is missing, or is no such teacher.
    """
    untrained: list[tuple[str, TrainSpec | OrderTrainSpec]] = []
    places: dict[str, Location | None] = {}
    for name, given, planned in ((AGE, age, spec.teachers.age), (ORDER, order, spec.teachers.order)):
        if given is None and isinstance(planned, TrainSpec | OrderTrainSpec):
            untrained.append((name, planned))
            places[name] = folder.root / TEACHERS_FOLDER / name
        elif given is None and isinstance(planned, TeacherPlace):
            places[name] = calibrated_teacher(planned.path, planned.calibration)
        else:
            places[name] = _place(given) or _place(planned)
    check_stages(spec)
    _check_starts(spec, [planned for _, planned in untrained])
    trained_here = {name for name, _ in untrained}
    age_place, order_place = places[AGE], places[ORDER]
    if age_place is None:
        raise InputError(
            "The study has no teacher: name one with --teacher, or describe one under 'teachers: {age: ...}' "
            "in the YAML."
        )
    if AGE not in trained_here:
        read_model_manifest(age_place)
    if order_place is None and _learns_from_order(spec):
        raise InputError(
            "Students of this study learn from an order teacher (distill.hint_weight): name one with "
            "--order-teacher, or describe one under 'teachers: {order: ...}' in the YAML."
        )
    if order_place is not None and ORDER not in trained_here:
        from agesearch.models.order_net import read_order_manifest

        read_order_manifest(order_place)
    return Teachers(age_place, order_place, tuple(untrained))


def check_stages(spec: StudySpec) -> None:
    """An ``InputError`` where a trial's hints would be for a stage that its network does not have."""
    if not _learns_from_order(spec):
        return
    from agesearch.distill.hints import known_stages

    for params in walk(spec, (ARCH, _STAGE)):
        arch, stage = str(setting(spec, params, ARCH)), str(setting(spec, params, _STAGE))
        if stage not in known_stages(arch):
            raise unknown_name(f"stage of {arch} ({_STAGE})", stage, known_stages(arch))


def own_teacher(folder: StudyFolder, name: str, source: StudyInput) -> str | None:
    """Where a teacher of the study's own lies now, where the study was moved with it; None where it was
    not.
    """
    own = folder.root / TEACHERS_FOLDER / name
    moved = not Location.of(source.path).exists() and own.exists()
    return str(own) if moved else None


def _check_starts(spec: StudySpec, teachers: Sequence[TrainSpec | OrderTrainSpec]) -> None:
    """An ``InputError`` where a teacher's or a trial's first weights cannot be had: else each would FAIL."""
    starts = {teacher.model for teacher in teachers}
    for params in walk(spec, (ARCH, _INIT)):
        arch = str(setting(spec, params, ARCH))
        given = spec.weights.get(arch)
        chosen = start_named(given) if given else {"init": str(setting(spec, params, _INIT))}
        starts.add(spec.student.model.model_copy(update={"arch": arch, **chosen}))
    for start in sorted(starts, key=lambda model: model.arch):
        if start.init != "random":
            from agesearch.models.weights import check_start

            check_start(start)


def _learns_from_order(spec: StudySpec) -> bool:
    """Whether any trial may have a loss towards an order teacher's features."""
    for field in _FROM_ORDER:
        for value in possible(spec, field):
            most = value.high if isinstance(value, Range) else value
            if isinstance(most, int | float) and most > 0:
                return True
    return False


def _named(stage: str, on_event: EventListener) -> Listener:
    def listen(progress: Progress) -> None:
        if progress.stage != "training":  # what comes before: it is no part of the epochs
            note = f"{progress.stage}, {progress.note}" if progress.note else progress.stage
            progress = Progress(stage, 0, note=note)
        on_event(replace(progress, stage=stage))

    return listen
