"""``agesearch refit``: a network's last layer solved for on labelled faces, all else left as it is.

A linear probe (Kumar et al. 2022): features of several views of each face are computed once, and one line on
them is found by ridge regression. It is shrunk towards the layer that was there, whose slope and offset are
free, so that with few faces the answer is that of the old layer, calibrated. Held-out persons choose the
ridge, and whether the last map is pooled evenly; nested cross-validation says how good
the result is, and gives it its intervals, though it has seen all of the faces.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agesearch.artefacts import begin_run, own_run, with_weights
from agesearch.data.dataset.records import Manifest, Part, read_manifest
from agesearch.errors import InputError, command
from agesearch.machine import cores
from agesearch.measure.accuracy import accuracy_by_decade
from agesearch.measure.calibration.conformal import least_faces
from agesearch.measure.calibration.faces import AnsweredFaces
from agesearch.measure.calibration.folds import FOLDS, person_folds
from agesearch.measure.intervals import Persons, Values, estimate
from agesearch.measure.predictions import Labels
from agesearch.metrics import CV_MAE_YEARS
from agesearch.models.architectures import ARCHITECTURES, WIDE, evenly_pooled, poolings_of
from agesearch.models.backbones.xception import CROP_SCALE, side_seeing
from agesearch.models.calibration.files import write_into
from agesearch.models.folder import write_model
from agesearch.models.foreign.document import is_teacher_file
from agesearch.models.foreign.start import ScalarHead, foreign_start
from agesearch.models.heads.table import build_head
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import ModelManifest, folder_digest
from agesearch.models.trained_on import trained_on
from agesearch.models.weights import check_start, start_licences, weights_digest
from agesearch.models.zoo import AgeNet, build
from agesearch.progress import Listener, Progress, silent
from agesearch.specs import ModelSpec
from agesearch.storage import Location, exclusive
from agesearch.training.curve import write_answers
from agesearch.training.loop import use_threads
from agesearch.training.refit.faces import teaching_faces
from agesearch.training.refit.features import few_at_once, old_answers, see
from agesearch.training.refit.pruning import narrowed
from agesearch.training.refit.record import (
    HELD_OUT,
    LEVEL,
    RECORD,
    RefitRecord,
    calibrated_by_folds,
    gaussians,
)
from agesearch.training.refit.ridge import Candidate, Chosen, choose
from agesearch.training.run import started_from, with_start

#: More faces make a line of some hundred features no better; features of so many stay in memory.
MOST_FACES = 20_000
#: Faces that channels are chosen on: the places on them are thousands.
_PRUNED_ON = 128
_PIXELS_SEEN = "Its channels were chosen on faces that are held out here, too, without looking at ages."
_STAGE, _WHAT = "Refit", "a refitted model"


@dataclass(frozen=True)
class Refitted:
    """A refitted model: where it lies, its manifest, and how it was made."""

    place: Location
    manifest: ModelManifest
    record: RefitRecord


def starting_network(place: str | Location) -> ModelSpec:
    """The network of a model folder, or the one of ours that holds a foreign teacher's: what a refit starts
    from. An ``InputError`` says why there is none.
    """
    where = str(place)
    if not is_teacher_file(where):
        known = read_model_manifest(where).model
        return known.model_copy(update={"init": "model", "weights": where, "inherit": "none", "dropout": 0.0})
    seen = foreign_start(where)[0].input.size
    model = ModelSpec(arch="xception_tiny", input_size=side_seeing(seen), init="model", weights=where)
    try:
        build(model)
    except InputError as error:
        words = ("calibrate", where, "--data", "FACES", "--out", "calibrated.json")
        raise InputError(
            f"The last layer of '{where}' cannot be refitted: no architecture of ours holds its network "
            f"({error}) What can be learnt of it is a correction of its ages: {command(*words)}"
        ) from error
    return model


def refit(
    model: ModelSpec,
    dataset: str | Location,
    out: str | Location,
    *,
    part: Part,
    on_progress: Listener = silent,
) -> Refitted:
    """Refit the last layer of the network that ``model`` starts (``init``, ``weights``) on the faces of a
    part that have an exact age, and leave a model folder with calibrated intervals in ``out``.

    Its head is a softmax over a Gaussian about the line's answer. Run again with the same arguments, it
    returns a finished model as it is. ``InputError``: too few faces or persons, crops that the network was
    not made for; ``ConflictError``: ``out`` holds something else.
    """
    folder, target = Location.of(dataset), Location.of(out)
    data = read_manifest(folder)
    asked = {"refit": model.identity(), "data": data.content_digest, "part": str(part)}
    identity = with_weights(asked, weights_digest(model))
    if HELD_OUT not in own_run(target, _WHAT, identity):
        check_start(model)
        _check_crop(model, data, folder)
        labels, left = _faces(folder, part)
        with exclusive(target, "The refit"):
            own_run(target, _WHAT, identity)
            begin_run(target, identity)
            _write(model, folder, data, part, labels, left, target, on_progress)
    manifest = read_model_manifest(target)
    return Refitted(target, manifest, RefitRecord.model_validate(manifest.provenance[RECORD]))


def _write(
    model: ModelSpec,
    dataset: Location,
    data: Manifest,
    part: Part,
    labels: Labels,
    left: int,
    out: Location,
    on_progress: Listener,
) -> None:
    use_threads(cores())
    net = _started(model, dataset, part, labels)
    folds, age = person_folds(labels.persons), labels.age.astype(np.float64)

    def heard(done: int) -> None:
        on_progress(Progress(_STAGE, done, len(labels), note="faces"))

    seen = see(net, dataset, part, labels, folds, heard)
    pooled = seen.features.swapaxes(0, 1)
    told = [old_answers(net, features) if net.loaded.head else (None, None) for features in pooled]
    candidates = [
        Candidate(features, sums, _moving(direction))
        for features, sums, (_, direction) in zip(pooled, seen.sums, told, strict=True)
    ]
    before = told[0][0]
    chosen, archs = choose(candidates, age, folds), poolings_of(model.arch)
    record = _record(chosen, archs, before, age, labels.persons, part, left)
    if _wide(model) is not None:
        record = record.model_copy(update={"notes": (*record.notes, _PIXELS_SEEN)})
    spec = model.model_copy(update={"arch": archs[chosen.candidate], "head": "softmax"})
    _new_head(net, spec, chosen, record.spread_years)
    manifest = ModelManifest(
        kind="teacher",
        model=spec,
        crop=data.crop,
        metrics={CV_MAE_YEARS: record.mae_years.value},
        intervals={CV_MAE_YEARS: (record.mae_years.low, record.mae_years.high)},
        parameters=net.parameter_count,
        data_digest=data.content_digest,
        trained_on=with_start(trained_on(data, part, Part(folds=())), model),
        licences=start_licences(model),
        provenance=started_from(net, model) | {RECORD: record.model_dump(mode="json")},
    )
    write_model(out, net.state_dict(), manifest)
    if _may_calibrate(labels):
        said = AnsweredFaces(gaussians(chosen.held_out, record.spread_years), age, labels.persons)
        write_into(out, calibrated_by_folds(folder_digest(out, corrected=False), data, part, said, said))
    ids, answers = [str(name) for name in labels.sample_id], chosen.held_out.astype(np.float32)
    write_answers(out, ids, list(labels.subject_id), labels.age, answers, HELD_OUT)  # last: it is finished


def _started(model: ModelSpec, dataset: Location, part: Part, labels: Labels) -> AgeNet:
    """The network with the weights that it starts from; a narrower one is pruned to its channels on some
    faces.
    """
    wide = _wide(model)
    if wide is None:
        return build(model).eval()
    drawn = np.random.default_rng(0).permutation(len(labels))[:_PRUNED_ON]
    seen = few_at_once(dataset, part, labels.take(np.sort(drawn)))
    return narrowed(build(wide).eval(), model.arch, (crops for _, crops in seen))


def _wide(model: ModelSpec) -> ModelSpec | None:
    """The network that a narrower one is pruned from; None where it starts from one of its own width."""
    if ARCHITECTURES[model.arch].kept == 1.0 or model.init != "model":
        return None
    place = str(model.weights)
    if not is_teacher_file(place):
        arch = read_model_manifest(place).model.arch
        if evenly_pooled(arch) == evenly_pooled(model.arch):
            return None
    return model.model_copy(update={"arch": WIDE})


def _faces(dataset: Location, part: Part) -> tuple[Labels, int]:
    """The faces that teach, and how many more there were."""
    found = teaching_faces(dataset, part, "the refit of a last layer", of_teachers=True)
    left = max(0, len(found) - MOST_FACES)
    if left:
        drawn = np.random.default_rng(0).permutation(len(found))[:MOST_FACES]
        found = found.take(np.sort(drawn))
    return found, left


def _check_crop(model: ModelSpec, data: Manifest, dataset: Location) -> None:
    """An ``InputError`` where a foreign network would see another part of the face than it was made for."""
    if model.init != "model" or not is_teacher_file(str(model.weights)) or data.crop.detector == "none":
        return
    wanted = CROP_SCALE * foreign_start(str(model.weights))[0].crop.scale
    if not math.isclose(data.crop.scale, wanted, rel_tol=1e-3):
        raise InputError(
            f"'{model.weights}' looks at the middle of crops of {wanted:g} x the face's box, but those of "
            f"'{dataset}' are {data.crop.scale:g} x: ingest it again with --scale {wanted:g}."
        )


def _moving(direction: Values | None) -> Values | None:
    """How a network's own answers move with its features ``[F]``; None where they do not, or it has none."""
    return direction if direction is not None and np.abs(direction).max() > 0.0 else None


def _record(
    chosen: Chosen,
    archs: Sequence[str],
    before: Values | None,
    age: Values,
    persons: Persons,
    part: Part,
    left: int,
) -> RefitRecord:
    error = np.abs(chosen.held_out - age)
    was = None if before is None else np.abs(before - age)
    change = None if was is None else estimate(error - was, persons)
    notes = []
    if left:
        notes.append(f"{MOST_FACES:,} faces were drawn by a seed, {left:,} more were not needed.")
    if change is not None and change.high >= 0.0:
        notes.append("Held-out persons do not show beyond noise that it is better than before.")
    return RefitRecord(
        part=part,
        faces=len(age),
        persons=persons.count,
        features=len(chosen.line.weight),
        ridge=chosen.ridge,
        tried=chosen.tried,
        ridges=tuple(ridge for _, ridge in chosen.of_folds),
        poolings=tuple(zip(archs, chosen.candidates, strict=True)),
        pooled=tuple(archs[at] for at, _ in chosen.of_folds),
        mae_years=estimate(error, persons),
        before_years=None if was is None else estimate(was, persons),
        change_years=change,
        decades=tuple(accuracy_by_decade(chosen.held_out, age, persons)),
        spread_years=round(max(1.0, math.sqrt(float((error**2).mean()))), 2),
        notes=tuple(notes),
    )


def _new_head(net: AgeNet, spec: ModelSpec, chosen: Chosen, spread: float) -> None:
    import torch

    line = ScalarHead(chosen.line.weight.astype(np.float32), chosen.line.bias, spread)
    net.head = build_head(spec, len(line.weight))
    tensors = zip(("linear.weight", "linear.bias"), line.softmax(), strict=True)
    net.head.load_state_dict({name: torch.from_numpy(value) for name, value in tensors})


def _may_calibrate(labels: Labels) -> bool:
    """Whether intervals can be learnt: enough faces, and none whose age a teacher gave."""
    enough = len(labels) >= math.ceil(least_faces(LEVEL) * FOLDS / (FOLDS - 1)) + 1
    return enough and not (labels.label_kind == "teacher").any()
