"""How much worse models get when faces are corrupted, scored side by side on the same pixels.

The protocol is Hendrycks & Dietterich's (2019) with the mean absolute error in years in place of the error
rate. Corruption costs more than a small network, so each face is corrupted once and every model scores it:
M models cost one pass. The work is cut into Ray tasks of some hundred faces under one corruption.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from agesearch.ages import age_spread, expected_age
from agesearch.errors import InputError
from agesearch.measure.accuracy import mae_estimate
from agesearch.measure.corruptions import (
    CLEAN,
    REPORT_CORRUPTIONS,
    REPORT_SEVERITIES,
    Image,
    RobustnessRow,
    check_corruption,
    corrupt,
)
from agesearch.measure.labelled_faces import LabelledFaces
from agesearch.models.predictors import Predictor
from agesearch.models.scorers import Scorer
from agesearch.progress import Listener, Progress, silent

#: Faces a task takes: seconds of work, against the tenths of a second that opening the models costs.
_TASK_FACES = 256


class CorruptionLevel(NamedTuple):
    """One corruption at one severity; ``clean`` has severity 0."""

    corruption: str
    severity: int


class PredictedAges(NamedTuple):
    """Predicted ages and the spreads of their PMFs in years, ``float32 [faces]`` each."""

    age: npt.NDArray[np.float32]
    spread: npt.NDArray[np.float32]


def robustness(
    models: Mapping[str, Scorer],
    faces: LabelledFaces,
    corruptions: Sequence[str] = REPORT_CORRUPTIONS,
    severities: Sequence[int] = REPORT_SEVERITIES,
    on_progress: Listener = silent,
) -> list[RobustnessRow]:
    """Rows for each model on the clean faces and under each corruption and severity.

    An unknown corruption or severity is an ``InputError``, and so are no faces. Needs a running Ray.
    """
    levels = [
        CorruptionLevel(CLEAN, 0),
        *(CorruptionLevel(name, severity) for name in corruptions for severity in severities),
    ]
    for level in levels[1:]:
        check_corruption(*level)
    if not len(faces):
        raise InputError("Robustness is measured on faces with true ages, but there are none.")
    found = score(models, faces, levels, on_progress)
    return [_row(model, level, found[level][model].age, faces) for level in levels for model in models]


def _row(model: str, level: CorruptionLevel, predicted: npt.ArrayLike, faces: LabelledFaces) -> RobustnessRow:
    estimate = mae_estimate(predicted, faces.age, faces.persons)
    return RobustnessRow(
        model=model,
        corruption=level.corruption,
        severity=level.severity,
        mae_years=estimate.value,
        mae_low=estimate.low,
        mae_high=estimate.high,
        faces=estimate.faces,
        persons=estimate.persons,
    )


def score(
    models: Mapping[str, Scorer],
    faces: LabelledFaces,
    levels: Sequence[CorruptionLevel],
    on_progress: Listener = silent,
    *,
    stage: str = "Robustness",
) -> dict[CorruptionLevel, dict[str, PredictedAges]]:
    """What every model predicts for every face in every level.

    Progress counts corrupted faces. Needs a running Ray; each task takes one CPU.
    """
    import ray  # here, since Ray reads the settings of ``ray_session`` when it is first imported

    shared = {name: ray.put(model) for name, model in models.items()}
    parts = _parts(len(faces), levels)
    starts = {start for _, start in parts}
    pixels = {start: ray.put(faces.images[start : start + _TASK_FACES]) for start in starts}
    found: dict[tuple[CorruptionLevel, int], dict[str, PredictedAges]] = {}
    done, total = 0, len(faces) * len(levels)
    on_progress(Progress(stage, 0, total))
    for (level, start), scores in _in_flight(parts, pixels, faces.sample_id, shared):
        found[level, start] = scores
        done += len(next(iter(scores.values())).age) if scores else 0
        on_progress(Progress(stage, done, total, note=f"{level.corruption} {level.severity or ''}".strip()))
    return {level: {name: _joined(found, parts, level, name) for name in models} for level in levels}


def _parts(faces: int, levels: Sequence[CorruptionLevel]) -> list[tuple[CorruptionLevel, int]]:
    return [(level, start) for level in levels for start in range(0, faces, _TASK_FACES)]


def _in_flight(
    parts: Sequence[tuple[CorruptionLevel, int]],
    pixels: Mapping[int, Any],
    sample_ids: Sequence[str],
    models: Mapping[str, Any],
) -> Iterator[tuple[tuple[CorruptionLevel, int], dict[str, PredictedAges]]]:
    """Results as they come, with two tasks a CPU under way so that a long list does not flood the cluster."""
    import ray

    task = ray.remote(num_cpus=1)(_score_part)
    limit = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
    waiting: dict[Any, tuple[CorruptionLevel, int]] = {}
    for level, start in parts:
        if len(waiting) >= limit:
            yield _next(waiting)
        ids = list(sample_ids[start : start + _TASK_FACES])
        waiting[task.remote(pixels[start], ids, level, list(models), *models.values())] = (level, start)
    while waiting:
        yield _next(waiting)


def _next(
    waiting: dict[Any, tuple[CorruptionLevel, int]],
) -> tuple[tuple[CorruptionLevel, int], dict[str, PredictedAges]]:
    import ray

    (ready, *_), _ = ray.wait(list(waiting), num_returns=1)
    return waiting.pop(ready), ray.get(ready)


def _score_part(
    images: Image, sample_ids: Sequence[str], level: CorruptionLevel, names: Sequence[str], *models: Scorer
) -> dict[str, PredictedAges]:
    """One task: corrupt each face once, then let every model score it."""
    if level.corruption != CLEAN:
        corrupted = [
            corrupt(image, level.corruption, level.severity, sample_id)
            for image, sample_id in zip(images, sample_ids, strict=True)
        ]
        images = np.stack(corrupted)
    return {name: _predict(model.open(), images) for name, model in zip(names, models, strict=True)}


def _predict(predictor: Predictor, images: Image) -> PredictedAges:
    pmf = predictor.pmf(images)
    return PredictedAges(expected_age(pmf), age_spread(pmf))


def _joined(
    found: Mapping[tuple[CorruptionLevel, int], Mapping[str, PredictedAges]],
    parts: Sequence[tuple[CorruptionLevel, int]],
    level: CorruptionLevel,
    name: str,
) -> PredictedAges:
    pieces = [found[part][name] for part in parts if part[0] == level]
    return PredictedAges(np.concatenate([p.age for p in pieces]), np.concatenate([p.spread for p in pieces]))
