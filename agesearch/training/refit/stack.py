"""Several models as one: the mixture of their answers, its shares chosen by labelled faces (stacking).

The weights of least squared error that are not negative, beside a constant (Wolpert 1992; Breiman 1996), are
the same as a mixture by shares whose mean age a line corrects: a mean of answers leans to the middle. A
refitted model answers for faces that it has seen by what its cross-validation said of them; one that has seen
them otherwise is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agesearch.ages import BINS, FloatArray, expected_age
from agesearch.data.dataset.records import Manifest, Part, read_manifest
from agesearch.documents import Spec
from agesearch.errors import InputError
from agesearch.machine import cores
from agesearch.measure.calibration.faces import AnsweredFaces
from agesearch.measure.calibration.folds import person_folds
from agesearch.measure.intervals import Codes, Estimate, Values, estimate
from agesearch.measure.leakage import calibration_notes, leaks, trained_on_namesake
from agesearch.measure.predictions import Labels, crop_batches
from agesearch.models.calibration.correction import AgeCorrection, moved_to
from agesearch.models.calibration.files import document_place, seen_from, write_document
from agesearch.models.foreign.document import EnsembleTeacher, Member
from agesearch.models.foreign.to_pmf import mixture
from agesearch.models.identity import calibrations_in, model_digest, read_model_manifest
from agesearch.models.manifest import ModelManifest
from agesearch.models.predict import open_predictor
from agesearch.progress import Listener, Progress, silent
from agesearch.storage import Location
from agesearch.training.refit.faces import teaching_faces
from agesearch.training.refit.record import HELD_OUT, calibrated_by_folds, gaussians, record_of

#: A member of a smaller share is left out.
_LEAST_SHARE = 0.01
_STAGE = "Stack"


class StackedMember(Spec):
    """A member, its share of the mixture (0: left out), and its own error on the faces."""

    name: str
    share: float
    mae_years: Estimate


class StackRecord(Spec):
    """What a stack is and how good: ``mae_years`` on persons whose answers chose neither its shares nor its
    line (five folds), ``change_years`` against the best member, paired.
    """

    part: Part
    faces: int
    persons: int | None
    members: tuple[StackedMember, ...]
    best: str
    mae_years: Estimate
    change_years: Estimate
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stacked:
    """The document of a stack, the ensemble that it calibrates, and the record."""

    place: Location
    ensemble: Location
    record: StackRecord


def stack(
    members: Mapping[str, Location],
    dataset: str | Location,
    out: str,
    *,
    part: Part,
    on_progress: Listener = silent,
) -> Stacked:
    """Choose the shares of ``members``, by their names, on the labelled faces of a part, and write two
    documents: ``out``, a calibrated teacher, and beside it the ensemble that it names. ``InputError``: fewer
    than two members help, or one has seen the faces.
    """
    if len(members) < 2:
        raise InputError("A stack has two members or more, but got one: name others too.")
    place, folder = document_place(out), Location.of(dataset)
    data = read_manifest(folder)
    labels = teaching_faces(folder, part, "a stack", of_teachers=False)
    pmf, notes = _all_answers(members, folder, data, part, labels, on_progress)
    age = labels.age.astype(np.float64)
    ages = np.stack([expected_age(one) for one in pmf]).astype(np.float64)
    folds = person_folds(labels.persons)
    (shares, line), held_out = combined(ages, age), held_out_ages(ages, age, folds)
    record = _record(list(members), shares, ages, held_out, age, labels, part, notes)
    ensemble = _write_ensemble(place, members, shares)
    kept = shares > 0.0
    mixed = mixture(list(pmf[kept]), shares[kept].tolist())
    said = AnsweredFaces(moved_to(mixed, held_out), age, labels.persons)
    before = AnsweredFaces(mixed, age, labels.persons)
    calibration = calibrated_by_folds(model_digest(ensemble), data, part, said, before).model_copy(
        update={"correction": line}
    )
    write_document(place, ensemble, read_model_manifest(ensemble), calibration)
    return Stacked(place, ensemble, record)


def _all_answers(
    members: Mapping[str, Location],
    folder: Location,
    data: Manifest,
    part: Part,
    labels: Labels,
    on_progress: Listener,
) -> tuple[FloatArray, tuple[str, ...]]:
    """What each member says of the faces, PMFs ``[M, N, 101]``, and what is to be known of them."""
    notes: list[str] = []
    answers = []
    for number, (name, member) in enumerate(members.items()):

        def heard(done: int, number: int = number) -> None:
            on_progress(
                Progress(_STAGE, number * len(labels) + done, len(members) * len(labels), note="faces")
            )

        manifest = read_model_manifest(member)
        answers.append(_answers(name, member, manifest, folder, data, part, labels, heard))
        corrected = [one for one in calibrations_in(member) if one.correction is not None]
        notes += calibration_notes(corrected, data, labels, f"'{name}'")
        if trained_on_namesake(manifest, data):
            notes.append(
                f"'{name}' was trained on another ingest of '{data.name}', which may hold these faces."
            )
    return np.stack(answers), tuple(notes)


def _write_ensemble(place: Location, members: Mapping[str, Location], shares: Values) -> Location:
    """The document of the members that have a share, beside that of the stack."""
    stem = place.name.rpartition(".")[0]
    ensemble = place.parent / f"{stem}.members.json"
    named = [
        (name, Member(teacher=seen_from(ensemble, where), weight=float(share)))
        for (name, where), share in zip(members.items(), shares, strict=True)
        if share > 0.0
    ]
    if len(named) < 2:
        raise InputError(f"'{named[0][0]}' is better alone: the others add nothing to it.")
    found = EnsembleTeacher(kind="ensemble", name=stem[:80], members=tuple(one for _, one in named))
    ensemble.write_json(found.model_dump(mode="json"))
    return ensemble


def combined(ages: Values, age: Values) -> tuple[Values, AgeCorrection]:
    """Shares ``[M]`` of members that answer ``[M, N]`` years, and the line that corrects their mixture: the
    non-negative weights and the constant of least squared error from ``age`` ``[N]``. Shares sum to one; one
    below a hundredth is left out.
    """
    from scipy.optimize import nnls

    kept = np.ones(len(ages), dtype=bool)
    weights = np.zeros(len(ages))
    for _ in range(len(ages)):
        centred = ages[kept] - ages[kept].mean(axis=1, keepdims=True)
        weights[:] = 0.0
        weights[kept] = nnls(centred.T, age - age.mean())[0]
        if not weights.any():
            raise InputError("No member tells older faces from younger ones: there is nothing to stack.")
        large = weights >= _LEAST_SHARE * weights.sum()
        if (large == kept).all():
            break
        kept = large
    offset = float(age.mean() - weights @ ages.mean(axis=1))
    line = AgeCorrection(
        kind="affine", points=((0.0, offset), (100.0, offset + 100.0 * float(weights.sum())))
    )
    return weights / weights.sum(), line


def held_out_ages(ages: Values, age: Values, folds: Codes) -> Values:
    """Ages ``[N]`` by shares and a line that each fold's (``[N]``) others chose."""
    found = np.empty(len(age))
    for fold in np.unique(folds):
        own = folds == fold
        shares, line = combined(ages[:, ~own], age[~own])
        found[own] = line.ages(shares @ ages[:, own])
    return found


def _answers(
    name: str,
    member: Location,
    manifest: ModelManifest,
    folder: Location,
    data: Manifest,
    part: Part,
    labels: Labels,
    heard: Callable[[int], None],
) -> FloatArray:
    """What a member says of the faces, none of which taught the answer: PMFs ``[N, 101]``."""
    ages = _held_out(member, manifest, data, labels)
    pmf, unseen = np.empty((len(labels), BINS), dtype=np.float32), np.isnan(ages)
    if not unseen.all():
        record = record_of(manifest)
        assert record is not None
        pmf[~unseen] = gaussians(ages[~unseen], record.spread_years)
    rest = labels.take(unseen)
    known = leaks(manifest, data, rest) if len(rest) else []
    if known:
        seen = known[0].message(len(rest), f"The member '{name}'").partition(":")[0]
        raise InputError(
            f"{seen}: shares need answers to faces that it has not seen. Choose other faces, or a model of "
            "'agesearch refit', which keeps such answers."
        )
    done, rows = len(labels) - len(rest), np.flatnonzero(unseen)
    heard(done)
    if len(rest):
        predictor = open_predictor(member, threads=cores(), crop=data.crop)
        for at, crops in crop_batches(folder, rest, part=part, threads=cores()):
            pmf[rows[at]] = predictor.pmf(crops)
            done += len(at)
            heard(done)
    return pmf


def _held_out(member: Location, manifest: ModelManifest, data: Manifest, labels: Labels) -> Values:
    """The ages ``[N]`` that a refitted model's cross-validation said of faces; NaN where it said none."""
    found = np.full(len(labels), np.nan)
    if manifest.data_digest != data.content_digest or record_of(manifest) is None:
        return found
    if not (member / HELD_OUT).exists():
        return found
    table = (member / HELD_OUT).read_table(columns=["sample_id", "predicted_age"])
    said = dict(
        zip(*(table.column(name).to_pylist() for name in ("sample_id", "predicted_age")), strict=True)
    )
    for at, name in enumerate(labels.sample_id):
        found[at] = said.get(name, np.nan)
    return found


def _record(
    names: Sequence[str],
    shares: Values,
    ages: Values,
    held_out: Values,
    age: Values,
    labels: Labels,
    part: Part,
    notes: tuple[str, ...],
) -> StackRecord:
    errors = np.abs(ages - age)
    best = int(errors.mean(axis=1).argmin())
    change = np.abs(held_out - age) - errors[best]
    return StackRecord(
        part=part,
        faces=len(age),
        persons=labels.persons.count,
        members=tuple(
            StackedMember(name=name, share=float(share), mae_years=estimate(error, labels.persons))
            for name, share, error in zip(names, shares, errors, strict=True)
        ),
        best=names[best],
        mae_years=estimate(np.abs(held_out - age), labels.persons),
        change_years=estimate(change, labels.persons),
        notes=notes,
    )
