"""Models on corrupted faces, scored side by side on the same pixels.

Corruption costs more than a small network, so each face is corrupted once and every model scores it: M models
cost one pass. The work is cut into Ray tasks of some faces under one corruption; crops travel encoded, a few
tasks ahead of the cores, so that memory does not grow with the faces, and answers come back in the order in
which the work was cut, so that sums over them are the same whoever did it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from agesearch.ages import age_spread, expected_age
from agesearch.cluster.nodes import cpus_now
from agesearch.data.images.crop import decode_crop
from agesearch.errors import InputError
from agesearch.measure.accuracy import mae_estimate
from agesearch.measure.labelled_faces import LabelledFaces
from agesearch.measure.predictions import Labels, encoded_batches
from agesearch.measure.robustness.corruptions import REPORT_CORRUPTIONS, REPORT_SEVERITIES, Image
from agesearch.measure.robustness.protocol import SETS, CorruptionLevel, corrupted
from agesearch.measure.robustness.scores import RobustnessRow, Tally
from agesearch.models.predictors import OnnxPredictor, Predictor
from agesearch.models.prepare import resized
from agesearch.models.scorers import Scorer
from agesearch.progress import Listener, Progress, silent
from agesearch.session import in_order
from agesearch.storage import Location

#: Faces a task takes: seconds of work under one corruption, and few enough to keep a small set's cores busy.
_TASK_FACES = 64
#: Tasks under way for each core: one at work, the others waiting behind a slow first one.
_AHEAD = 3
_STAGE = "Robustness"


@dataclass(frozen=True)
class Chunk:
    """Some faces: their indices ``[n]``, ids, and crops as they are stored."""

    at: npt.NDArray[np.int64]
    sample_id: list[str]
    crops: Sequence[bytes]


class PredictedAges(NamedTuple):
    """Predicted ages and the spreads of their PMFs in years, ``float32 [faces]`` each."""

    age: npt.NDArray[np.float32]
    spread: npt.NDArray[np.float32]


class Scored(NamedTuple):
    """What models say of a chunk under some levels: ``answers`` ``float32 [2, levels, models, n]``, ages and
    spreads.
    """

    chunk: Chunk
    levels: list[CorruptionLevel]
    answers: npt.NDArray[np.float32]


def robustness(
    models: Mapping[str, Scorer],
    faces: LabelledFaces,
    corruptions: Sequence[str] = REPORT_CORRUPTIONS,
    severities: Sequence[int] = REPORT_SEVERITIES,
    on_progress: Listener = silent,
) -> list[RobustnessRow]:
    """Rows for each model on the clean faces and under each of Hendrycks's corruptions and severity.

    An unknown corruption or severity is an ``InputError``, and so are no faces. Needs a running Ray.
    """
    levels = SETS["hendrycks"].levels(corruptions, severities)
    if not len(faces):
        raise InputError("Robustness is measured on faces with true ages, but there are none.")
    found = score(models, faces, levels, on_progress)
    return [_row(model, level, found[level][model].age, faces) for level in levels for model in models]


def _row(model: str, level: CorruptionLevel, predicted: npt.ArrayLike, faces: LabelledFaces) -> RobustnessRow:
    return RobustnessRow.of(model, level, mae_estimate(predicted, faces.age, faces.persons))


def score(
    models: Mapping[str, Scorer],
    faces: LabelledFaces,
    levels: Sequence[CorruptionLevel],
    on_progress: Listener = silent,
    *,
    stage: str = _STAGE,
) -> dict[CorruptionLevel, dict[str, PredictedAges]]:
    """What every model predicts for every face in every level.

    Progress counts corrupted faces. Needs a running Ray; each task takes one CPU.
    """
    room = np.empty((2, len(levels), len(models), len(faces)), dtype=np.float32)
    place = {level: index for index, level in enumerate(levels)}
    for done in _scored(_held(faces), models, levels, len(faces), on_progress, stage):
        where = [place[level] for level in done.levels]
        room[:, where, :, done.chunk.at[0] : done.chunk.at[-1] + 1] = done.answers
    return {
        level: {name: PredictedAges(*room[:, index, number]) for number, name in enumerate(models)}
        for index, level in enumerate(levels)
    }


def tally_errors(
    models: Mapping[str, Scorer],
    dataset: str | Location,
    labels: Labels,
    levels: Sequence[CorruptionLevel],
    *,
    part: Any = None,
    on_progress: Listener = silent,
) -> Tally:
    """Absolute errors in years of every model on every face of ``labels`` (all with an age) in every level,
    summed by person. ``part`` of the dataset must hold these faces. Needs a running Ray.
    """
    tally = Tally(labels.persons, len(levels), len(models))
    place = {level: index for index, level in enumerate(levels)}
    batches = encoded_batches(dataset, labels, part=part, rows=_TASK_FACES)
    chunks = (Chunk(at, labels.sample_id[at].tolist(), crops) for at, crops in batches)
    for done in _scored(chunks, models, levels, len(labels), on_progress, _STAGE):
        wrong = np.abs(done.answers[0].astype(np.float64) - labels.age[done.chunk.at])
        tally.add(done.chunk.at, [place[level] for level in done.levels], wrong)
    return tally


def _held(faces: LabelledFaces) -> Iterator[Chunk]:
    for start in range(0, len(faces), _TASK_FACES):
        part = slice(start, min(start + _TASK_FACES, len(faces)))
        yield Chunk(np.arange(part.start, part.stop), faces.sample_id[part], faces.crops[part])


def _scored(
    chunks: Iterable[Chunk],
    models: Mapping[str, Scorer],
    levels: Sequence[CorruptionLevel],
    faces: int,
    on_progress: Listener,
    stage: str,
) -> Iterator[Scored]:
    """Answers in the order of chunks and levels, while the next ones are worked on."""
    done, total = 0, faces * len(levels)
    on_progress(Progress(stage, 0, total))
    for found in _in_flight(chunks, models, levels):
        yield found
        done += len(found.chunk.at) * len(found.levels)
        on_progress(Progress(stage, done, total, note=str(found.levels[-1])))


def _in_flight(
    chunks: Iterable[Chunk], models: Mapping[str, Scorer], levels: Sequence[CorruptionLevel]
) -> Iterator[Scored]:
    import ray  # here, since Ray reads the settings of ``ray_session`` when it is first imported

    shared = [ray.put(model) for model in models.values()]
    task = ray.remote(num_cpus=1)(_score_part)
    groups = [list(group) for _, group in groupby(levels, key=lambda level: level.corruption)]

    def tasks() -> Iterator[tuple[Any, tuple[Chunk, list[CorruptionLevel]]]]:
        for chunk in chunks:
            sent = [ray.put(chunk)]  # in a list, so that a process fetches and decodes it once for many tasks
            for group in groups:
                yield task.remote(sent, group, shared), (chunk, group)

    for (chunk, group), found in in_order(tasks(), lambda: _AHEAD * cpus_now()):
        yield Scored(chunk, group, found)


def _score_part(
    sent: Sequence[Any], levels: Sequence[CorruptionLevel], models: Sequence[Any]
) -> npt.NDArray[np.float32]:
    """One task: corrupt each face of a chunk once a level, then let every model score it."""
    cv2.setNumThreads(1)
    predictors = [_opened(model) for model in models]
    (faces,) = map(_decoded, sent)
    found = np.empty((2, len(levels), len(models), len(faces)), dtype=np.float32)
    for row, level in enumerate(levels):
        found[:, row] = answers(predictors, [corrupted(face, level, name) for face, name in faces])
    return found


@lru_cache(maxsize=2)
def _decoded(chunk: Any) -> list[tuple[Image, str]]:
    """The pixels and ids of a chunk in the object store."""
    import ray

    found: Chunk = ray.get(chunk)
    return list(zip(map(decode_crop, found.crops), found.sample_id, strict=True))


@lru_cache(maxsize=64)
def _opened(model: Any) -> Predictor:
    """A model in the object store, opened once a process."""
    import ray

    scorer: Scorer = ray.get(model)
    return scorer.open()


def answers(predictors: Sequence[Predictor], images: Sequence[Image]) -> npt.NDArray[np.float32]:
    """Ages and spreads in years ``float32 [2, models, n]``; faces are resized once for all networks of a
    side.
    """
    sized: dict[int, Image] = {}
    found = []
    for predictor in predictors:
        shown: Image | Sequence[Image] = images
        if isinstance(predictor, OnnxPredictor):
            if predictor.input_size not in sized:
                sized[predictor.input_size] = resized(images, predictor.input_size)
            shown = sized[predictor.input_size]
        pmf = predictor.pmf(shown)
        found.append(np.stack([expected_age(pmf), age_spread(pmf)]))
    return np.stack(found, axis=1)
