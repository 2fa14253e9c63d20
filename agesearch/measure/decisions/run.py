"""``agesearch measure decisions``: models at an age limit, on the same faces, each read and judged once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from agesearch.ages import MAX_AGE
from agesearch.data.dataset.records import Manifest, Part, Split, read_manifest
from agesearch.errors import InputError
from agesearch.machine import cores
from agesearch.measure.decisions.accuracy import accuracy_of
from agesearch.measure.decisions.buffers import TARGETS, buffers
from agesearch.measure.decisions.faces import OWN_SHARE, DecisionFaces, Judge, judged_faces
from agesearch.measure.decisions.rates import Counting, cells, named_cells
from agesearch.measure.decisions.records import (
    Answers,
    AtAge,
    ChildSafety,
    CurvePoint,
    Decisions,
    FalseAdults,
    ModelDecisions,
    ThreeAnswers,
)
from agesearch.measure.decisions.rules import Mask, decisions, passes, require_ages
from agesearch.measure.intervals import Values
from agesearch.measure.leakage import calibration_notes, leak_notes
from agesearch.measure.predictions import Labels, read_labels
from agesearch.measure.speed.hardware import hardware_name
from agesearch.models.calibration.record import Calibration
from agesearch.models.identity import (
    calibration_of,
    calibrations_in,
    crop_notes,
    model_digest,
    read_model_manifest,
)
from agesearch.models.manifest import library_versions
from agesearch.models.predict import open_predictor
from agesearch.progress import Listener, Progress, silent
from agesearch.provenance import now
from agesearch.specs import Spec
from agesearch.storage import Location

#: Age limits at which all models are told: what laws ask for (arXiv 2506.10689).
LIMITS = (12.0, 15.0, 16.0, 18.0, 21.0)
_TEENS, _YOUNGER, _OLDER = (13, 17), (8, 13), (17, 23)
_BELOW, _ABOVE = 5, 20
_STAGE = "Decisions"


class DecisionSpec(Spec):
    """What is asked: the legal age, a challenge age to tell of, a target rate whose challenge age is told,
    the least faces that have a rate, and the faces (``part``).
    """

    legal_age: float
    challenge_age: float | None = None
    max_fpr: float | None = None
    min_faces: int = 30
    split: Split | None = Split.TEST
    folds: tuple[int, ...] | None = None

    @property
    def part(self) -> Part:
        """The faces that are judged."""
        return Part(split=self.split, folds=self.folds)

    def check(self) -> None:
        """Refuse ages and rates that are none, with an ``InputError``."""
        require_ages(self.legal_age, self.challenge_age)
        if self.max_fpr is not None and not 0.0 <= self.max_fpr < 1.0:
            raise InputError(
                f"--max-fpr is {self.max_fpr:g}, but must be a share from 0 to below 1: 0.05 is 5 %."
            )


@dataclass(frozen=True)
class _Asked:
    spec: DecisionSpec
    counting: Counting


def measure_decisions(
    models: Mapping[str, Location],
    dataset: str | Location,
    spec: DecisionSpec,
    *,
    on_progress: Listener = silent,
) -> Decisions:
    """Judge models (by the name to show) at an age limit, on the faces of a dataset that have an exact age.

    Of each face stay some 60 bytes and 6 a model. Raises ``InputError`` for ages and rates that are none, and
    where there are no faces on one side of the limit.
    """
    spec.check()
    folder = Location.of(dataset)
    data = read_manifest(folder)
    labels = read_labels(folder, spec.part)
    known = np.isfinite(labels.age)
    left_out = int((~known).sum())
    labels = labels.take(known)
    _check_sides(labels, folder, spec)
    judges = {
        name: Judge(open_predictor(place, threads=cores(), crop=data.crop), calibration_of(place))
        for name, place in models.items()
    }

    def heard(done: int) -> None:
        on_progress(Progress(_STAGE, done, len(labels), note="faces"))

    found = judged_faces(judges, folder, labels, part=spec.part, threads=cores(), on_batch=heard)
    asked = _Asked(spec, Counting(spec.min_faces))
    minors = int((labels.age < spec.legal_age).sum())
    return Decisions(
        legal_age=spec.legal_age,
        challenge_age=spec.challenge_age,
        max_fpr=spec.max_fpr,
        min_faces=spec.min_faces,
        dataset=folder.name,
        data_digest=data.content_digest,
        part=str(spec.part),
        minors=minors,
        adults=len(labels) - minors,
        persons=labels.persons.count,
        left_out={"without an exact age": left_out} if left_out else {},
        models=tuple(
            _of_model(name, models[name], judges[name].calibration, faces, labels, data, asked)
            for name, faces in found.items()
        ),
        hardware=hardware_name(),
        versions=library_versions(),
        created=now(),
    )


def _check_sides(labels: Labels, folder: Location, spec: DecisionSpec) -> None:
    minors = int((labels.age < spec.legal_age).sum())
    below, above = f"below {spec.legal_age:g}", f"of {spec.legal_age:g} or more"
    for count, who in ((minors, below), (len(labels) - minors, above)):
        if not count:
            raise InputError(
                f"'{folder}' has no face with an exact age {who} years in {spec.part}, and decisions have "
                "two sides: name other faces with --split, or another dataset."
            )


def _of_model(
    name: str,
    place: Location,
    calibration: Calibration | None,
    faces: DecisionFaces,
    labels: Labels,
    data: Manifest,
    asked: _Asked,
) -> ModelDecisions:
    spec, counting = asked.spec, asked.counting
    wanted = TARGETS if spec.max_fpr is None else (*TARGETS, spec.max_fpr)
    found = buffers(faces, spec.legal_age, wanted, counting)
    goal = next((one.challenge_age for one in found if one.max_fpr == spec.max_fpr), None)
    ages = {spec.legal_age: "the legal age"}
    if goal is not None:
        ages[goal] = f"the worst cell passes at most {spec.max_fpr:.3g}"
    if spec.challenge_age is not None:
        ages[spec.challenge_age] = "the challenge age"
    at = spec.challenge_age or goal or spec.legal_age
    return ModelDecisions(
        name=name,
        path=place.name,
        model_digest=model_digest(place),
        interval_kind="uncalibrated" if calibration is None else "calibrated",
        interval_level=None if calibration is None else calibration.level,
        at=tuple(_at_age(faces, age, why, asked) for age, why in sorted(ages.items())),
        buffers=tuple(found),
        curve=tuple(_curve(faces, asked)),
        false_adults=tuple(_false_adults(faces, counting)),
        child_safety=_child_safety(faces, counting),
        accuracy=accuracy_of(faces, spec.legal_age, at, counting),
        notes=tuple(_notes(place, calibration, labels, data)),
    )


def _at_age(faces: DecisionFaces, age: float, why: str, asked: _Asked) -> AtAge:
    minors = faces.age < asked.spec.legal_age
    passing = passes(faces.predicted, age) & minors
    error = (faces.predicted - faces.age)[passing]
    three = decisions(faces.low, faces.high, age)
    everyone = np.ones(len(faces), dtype=bool)

    def answers(of: Mask) -> Answers:
        share = asked.counting.share
        return Answers(
            passed=share(three["pass"], of, faces.persons),
            refused=share(three["refuse"], of, faces.persons),
            unsure=share(three["unsure"], of, faces.persons),
        )

    return AtAge(
        challenge_age=age,
        why=why,
        cells=tuple(cells(faces, asked.spec.legal_age, age, asked.counting)),
        three=ThreeAnswers(minors=answers(minors), adults=answers(~minors), everyone=answers(everyone)),
        worst_pass_error_years=round(float(error.max()), 2) if len(error) else None,
    )


def _curve(faces: DecisionFaces, asked: _Asked) -> Iterator[CurvePoint]:
    legal, counting = asked.spec.legal_age, asked.counting
    minors = faces.age < legal
    young = faces.take(minors)
    worst = [cell.faces for cell in named_cells(young, legal) if cell.faces.sum() >= max(counting.least, 1)]
    first, last = max(0, int(legal) - _BELOW), min(MAX_AGE, int(legal) + _ABOVE)
    for age in sorted({*map(float, range(first, last + 1)), float(legal)}):
        passing, passing_young = passes(faces.predicted, age), passes(young.predicted, age)
        yield CurvePoint(
            challenge_age=age,
            fpr=counting.share(passing, minors, faces.persons),
            fnr=counting.share(~passing, ~minors, faces.persons),
            worst_fpr=max((float(passing_young[cell].mean()) for cell in worst), default=None),
        )


def _false_adults(faces: DecisionFaces, counting: Counting) -> Iterator[FalseAdults]:
    for limit in LIMITS:
        taken = counting.share(passes(faces.predicted, limit), faces.age < limit, faces.persons)
        yield FalseAdults(limit=limit, taken_for_older=taken)


def _child_safety(faces: DecisionFaces, counting: Counting) -> ChildSafety:
    def within(ages: Values, span: tuple[int, int]) -> Mask:
        return np.asarray((ages >= span[0]) & (ages < span[1]))

    taken = within(faces.predicted, _TEENS)
    right, younger, older = (
        counting.share(taken, within(faces.age, span), faces.persons) for span in (_TEENS, _YOUNGER, _OLDER)
    )
    return ChildSafety(right=right, younger=younger, older=older)


def _notes(place: Location, calibration: Calibration | None, labels: Labels, data: Manifest) -> Iterator[str]:
    yield from leak_notes(read_model_manifest(place), data, labels)
    yield from crop_notes(place, data.crop, "its answers may be poor", "The model")
    if calibration is None:
        yield (
            f"Its intervals are the middle {OWN_SHARE:.0%} of its own belief, which nobody has checked: its "
            "three answers promise nothing until it is calibrated."
        )
    yield from calibration_notes(calibrations_in(place), data, labels)
