"""``agesearch calibrate``: from a model and labelled faces that chose nothing about it to a calibration.

The correction comes first, then intervals on top of it. Both are judged by persons that they were not learnt
from (five folds over persons), so coverage and widths are of held-out persons; what is then written down is
learnt from all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from agesearch.ages import FloatArray
from agesearch.data.dataset.records import Manifest, Part, Split, read_manifest
from agesearch.errors import InputError
from agesearch.machine import cores
from agesearch.measure.accuracy import AgeBin, accuracy_by_decade
from agesearch.measure.calibration.conformal import fit_intervals
from agesearch.measure.calibration.corrections import CorrectionTrial, Wanted, choose_correction
from agesearch.measure.calibration.coverage import Coverage, coverage_of
from agesearch.measure.calibration.engines import Ends, EngineCoverage, engine_coverage, other_engines
from agesearch.measure.calibration.faces import (
    MOST_FACES,
    AnsweredFaces,
    answers,
    calibration_labels,
    default_part,
    of_own_data,
)
from agesearch.measure.calibration.folds import person_folds
from agesearch.measure.intervals import Codes
from agesearch.measure.leakage import seen_by, trained_on_namesake
from agesearch.models.calibration.correction import AgeCorrection
from agesearch.models.calibration.record import (
    Calibration,
    GroupBy,
    Groups,
    Intervals,
    own_interval,
)
from agesearch.models.foreign.document import is_teacher_file
from agesearch.models.identity import model_digest, read_model_manifest
from agesearch.models.manifest import ModelManifest, folder_digest, library_versions
from agesearch.models.predict import open_predictor
from agesearch.models.runtimes.engines import DEFAULT, Engine
from agesearch.progress import Listener, silent
from agesearch.provenance import now
from agesearch.specs import Spec
from agesearch.storage import Location

DEFAULT_LEVEL = 0.8


class CalibrationSpec(Spec):
    """What a calibration is asked for; ``split`` and ``folds`` are the faces it may use (None: as
    ``default_part`` says), ``correct`` whether ages are corrected (None: ``auto`` for faces that are not of
    the dataset that trained the model, else ``off``).
    """

    level: float = DEFAULT_LEVEL
    by: GroupBy | None = None
    correct: Wanted | None = None
    split: Split | None = None
    folds: tuple[int, ...] | None = None


class CalibrationEvidence(Spec):
    """What held-out persons say: coverage of the calibrated intervals and of the model's own, of the first on
    other ``engines`` that may serve the model, the corrections that were tried, and the error by decade
    before and after the one that is used.
    """

    calibrated: Coverage
    own: Coverage
    engines: tuple[EngineCoverage, ...] = ()
    corrections: tuple[CorrectionTrial, ...] = ()
    before: tuple[AgeBin, ...] = ()
    after: tuple[AgeBin, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LearntIntervals:
    """Intervals (and the ``correction`` before them) from all faces, and what each fold says of those from
    the others.
    """

    intervals: Intervals
    held_out: HeldOutIntervals
    evidence: CalibrationEvidence
    correction: AgeCorrection | None = None


@dataclass(frozen=True)
class HeldOutIntervals:
    """Each fold's intervals, learnt from the other folds; ``folds`` and ``groups`` are those of N faces."""

    folds: Codes
    groups: Groups | None
    learnt: dict[int, Intervals]

    def ends(self, pmf: FloatArray) -> Ends:
        """The ends of each face's interval ``[N]`` in years, from PMFs ``[N, 101]``."""
        low, high = np.empty(len(pmf)), np.empty(len(pmf))
        for fold, intervals in self.learnt.items():
            own = self.folds == fold
            groups = None if self.groups is None else self.groups[own]
            low[own], high[own] = intervals.of(pmf[own], groups)
        return low, high


def calibrate(
    model: str | Location,
    dataset: str | Location,
    spec: CalibrationSpec,
    *,
    beside: bool = False,
    on_progress: Listener = silent,
) -> Calibration:
    """The calibration of a model (a folder or a document) on a dataset's faces; nothing is written.

    ``beside``: it shall stand beside the model, so that a calibration inside the model's own folder holds
    before it; else it takes that one's place. Faces that trained the model, or chose its best epoch, are
    refused, as are too few.
    """
    folder, where = Location.of(dataset), Location.of(model)
    if not 0.0 < spec.level < 1.0:
        raise InputError(f"The level is {spec.level:g}, but must lie between 0 and 1, such as 0.8.")
    data, manifest = read_manifest(folder), read_model_manifest(where)
    part = _part(spec, manifest, data)
    labels, left = calibration_labels(folder, part, spec.level, manifest, data)
    engines = other_engines(manifest)
    predictors = [
        open_predictor(where, threads=cores(), crop=data.crop, calibrated=beside, engine=engine)
        for engine in (DEFAULT, *engines)
    ]
    pmf, *others = answers(predictors, folder, labels, part, on_progress)
    faces = AnsweredFaces(pmf, labels.age.astype(np.float64), labels.persons)
    groups = None if spec.by is None else np.array(list(getattr(labels, spec.by)), dtype=object)
    wanted = spec.correct or ("off" if of_own_data(manifest, data) else "auto")
    learnt = learn(faces, dict(zip(engines, others, strict=True)), groups, spec, wanted)
    tried = learnt.evidence.corrections
    notes = (*_notes(tried, wanted, left, manifest, data), *_group_notes(groups, learnt.intervals))
    in_folder = not beside and not is_teacher_file(where)
    return Calibration(
        model_digest=folder_digest(where, corrected=False) if in_folder else model_digest(where),
        intervals=learnt.intervals,
        correction=learnt.correction,
        faces=faces.described(data, part),
        evidence=learnt.evidence.model_copy(update={"notes": notes}).model_dump(mode="json"),
        created=now(),
        versions=library_versions(),
    )


def evidence_of(calibration: Calibration) -> CalibrationEvidence:
    """What was measured for a calibration."""
    return CalibrationEvidence.model_validate(calibration.evidence)


def _part(spec: CalibrationSpec, manifest: ModelManifest, data: Manifest) -> Part:
    if spec.split is None and spec.folds is None:
        return default_part(manifest, data)
    return Part(split=spec.split, folds=spec.folds)


def learn(
    faces: AnsweredFaces,
    others: Mapping[Engine, FloatArray],
    groups: Groups | None,
    spec: CalibrationSpec,
    wanted: Wanted,
) -> LearntIntervals:
    """A correction of ages, where one is ``wanted`` and helps, and intervals on top of it, from faces as the
    model answers them in fp32; ``others`` are the PMFs ``[N, 101]`` of the same faces on other engines.

    On every engine a face has the correction and the interval that the other folds taught in fp32.
    """
    folds = person_folds(faces.persons)
    chosen = choose_correction(faces.predicted, faces.age, faces.persons, folds, wanted)
    moved = replace(faces, pmf=chosen.moved(faces.pmf))
    learnt = learn_intervals(moved, faces, groups, folds, spec)
    usual = learnt.held_out.ends(moved.pmf)
    engines = tuple(
        engine_coverage(engine, usual, learnt.held_out.ends(chosen.moved(pmf)), faces.age, faces.persons)
        for engine, pmf in others.items()
    )
    evidence = learnt.evidence.model_copy(update={"engines": engines, "corrections": chosen.tried})
    return replace(learnt, evidence=evidence, correction=chosen.correction)


def learn_intervals(
    faces: AnsweredFaces, before: AnsweredFaces, groups: Groups | None, folds: Codes, spec: CalibrationSpec
) -> LearntIntervals:
    """Intervals from all faces, and their coverage where each fold's (``[N]``) come from the others.

    ``before`` are the same faces with ages that are not corrected, ``groups`` those that ``spec.by`` asks
    for.
    """
    age = faces.age
    learnt = {}
    for fold in map(int, np.unique(folds)):
        others = folds != fold
        their = None if groups is None else groups[others]
        learnt[fold] = fit_intervals(faces.pmf[others], age[others], spec.level, spec.by, their)
    held_out = HeldOutIntervals(folds, groups, learnt)
    evidence = CalibrationEvidence(
        calibrated=coverage_of(*held_out.ends(faces.pmf), age, faces.persons),
        own=coverage_of(*own_interval(before.pmf, spec.level), age, faces.persons),
        before=tuple(accuracy_by_decade(before.predicted, age, faces.persons)),
        after=tuple(accuracy_by_decade(faces.predicted, age, faces.persons)),
    )
    return LearntIntervals(fit_intervals(faces.pmf, age, spec.level, spec.by, groups), held_out, evidence)


def _group_notes(groups: Groups | None, intervals: Intervals) -> tuple[str, ...]:
    """Which groups have no intervals of their own, though they were asked for."""
    if groups is None:
        return ()
    counts = Counter(str(name) for name in groups if name is not None)
    if not counts:
        return (f"No face says its {intervals.by}: all intervals are those of all faces.",)
    own = {cell.group for cell in intervals.cells}
    thin = [f"{name} ({count:,} faces)" for name, count in sorted(counts.items()) if name not in own]
    if not thin:
        return ()
    return (f"Too few faces for intervals of their own: {', '.join(thin)}; theirs are those of all faces.",)


def _notes(
    tried: tuple[CorrectionTrial, ...], wanted: Wanted, left: int, manifest: ModelManifest, data: Manifest
) -> tuple[str, ...]:
    notes = []
    if left:
        notes.append(f"{MOST_FACES:,} faces were drawn by their ids, {left:,} more were not needed.")
    if tried and not any(trial.helps for trial in tried):
        names = " and ".join(trial.kind for trial in tried)
        notes.append(f"No age is corrected, since it does not help held-out persons beyond noise: {names}.")
    if not tried and wanted == "off" and of_own_data(manifest, data):
        notes.append("No correction was tried: these faces are of the dataset that trained the model.")
    if not seen_by(manifest):
        notes.append("What the model was trained on is not known, so neither is whether it saw these faces.")
    if trained_on_namesake(manifest, data):
        notes.append(
            f"The model was trained on another ingest of '{data.name}', which may hold these faces: then the "
            "intervals are narrower than they should be."
        )
    if data.label_kind == "apparent":
        notes.append("The ages of these faces are what people guessed: the intervals hold such guesses.")
    return tuple(notes)
