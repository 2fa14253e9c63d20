"""``agesearch measure speed``: any models in turns on the engines of this machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from agesearch.data.dataset.records import read_manifest
from agesearch.data.images.decode import MAX_IMAGE_BYTES, BadImage, decode_photograph
from agesearch.deploy.places import measured_models
from agesearch.deploy.registry import DEFAULT_REGISTRY
from agesearch.errors import InputError, first_line
from agesearch.measure.speed.comparison import SpeedComparison, compare_speed
from agesearch.measure.speed.footprint import weighed
from agesearch.measure.speed.gate import MAX_DROP_YEARS, with_times
from agesearch.measure.speed.judge import judge
from agesearch.measure.speed.rows import Setting
from agesearch.measure.speed.served_here import keep
from agesearch.measure.speed.steps import StepRow, time_steps
from agesearch.measure.speed.subjects import Subject, subject_at, untrained_subject
from agesearch.measure.speed.timing import MIN_CALLS
from agesearch.models.runtimes.engines import RUNTIMES, TIMED_RUNTIMES, Engine, engines_here
from agesearch.progress import Listener, Progress, silent
from agesearch.specs import CropSpec
from agesearch.storage import Location


def speed_of(
    models: Sequence[str],
    *,
    settings: Sequence[Setting],
    registry: str | Location = DEFAULT_REGISTRY,
    runtimes: Sequence[str] = (),
    precisions: Sequence[str] = (),
    calls: int = MIN_CALLS,
    photo: str | None = None,
    gate_on: str | Location | None = None,
    max_drop: float = MAX_DROP_YEARS,
    on_progress: Listener = silent,
) -> SpeedComparison:
    """Time models (as ``measured_models`` takes them, or ``ARCH@SIZE``: random weights) in turns on all
    engines of these runtimes and precisions that are here, and what comes before each network, on the
    photograph in the file ``photo``.

    ``gate_on`` is a dataset on whose validation faces every engine is judged first: it may lose ``max_drop``
    years of MAE. What comes of it for a version is kept for the service on this machine. Raises
    ``InputError`` for what is no model or no image, and where none of the engines is here.
    """
    content = None if photo is None else Location.of(photo).read_bytes(MAX_IMAGE_BYTES)
    if photo is not None and content is not None:
        _check_photo(photo, content)
    crop = None if gate_on is None else read_manifest(gate_on).crop
    return speed_of_subjects(
        _subjects(models, registry, crop),
        engines_here(runtimes, precisions, TIMED_RUNTIMES),
        settings,
        calls=calls,
        photo=content,
        gate_on=None if gate_on is None else Location.of(gate_on),
        max_drop=max_drop,
        on_progress=on_progress,
    )


def _check_photo(photo: str, content: bytes) -> None:
    """Says which file is no photograph, before anything is timed."""
    try:
        decode_photograph(content)
    except BadImage as error:
        raise InputError(f"--photo is '{photo}', which is no photograph: {first_line(error)}") from error


def speed_of_subjects(
    models: Iterable[Subject],
    engines: Sequence[Engine],
    settings: Sequence[Setting],
    *,
    calls: int = MIN_CALLS,
    photo: bytes | None = None,
    gate_on: Location | None = None,
    max_drop: float = MAX_DROP_YEARS,
    only_known: bool = False,
    on_progress: Listener = silent,
) -> SpeedComparison:
    """The same of models that were found already, on these engines; ``photo`` is a file's content. With
    ``only_known`` each is timed where it is known to answer as well, and nowhere else.
    """
    subjects = []
    for subject in models:
        judged = subject if gate_on is None else _judged(subject, gate_on, engines, max_drop, on_progress)
        subjects.append(judged)
        on_progress(Progress("Reading models", len(subjects), None, note=subject.name))
    found = compare_speed(
        subjects,
        engines,
        settings,
        gates={subject.name: subject.gates for subject in subjects if subject.gates},
        steps=_steps(subjects, photo),
        weigh=weighed,
        only_known=only_known,
        calls=calls,
        on_progress=on_progress,
    )
    if gate_on is not None:
        _keep(subjects, found)
    return found


def _keep(subjects: Sequence[Subject], found: SpeedComparison) -> None:
    """For the service on this machine."""
    for subject in subjects:
        if subject.manifest is not None:
            rows = [row for row in found.rows if (row.model, row.threads) == (subject.name, 1)]
            served = [gate for gate in subject.gates if gate.runtime in RUNTIMES]
            keep(subject.manifest, with_times(served, rows))


def _judged(
    subject: Subject, data: Location, engines: Sequence[Engine], max_drop: float, on_progress: Listener
) -> Subject:
    scorer, found = judge(subject.scorer, data, engines, max_drop, on_progress)
    return replace(subject, scorer=scorer, gates=tuple(found))


def _subjects(models: Sequence[str], registry: str | Location, crop: CropSpec | None) -> Iterator[Subject]:
    """The models in the order in which they were said; a study gives several."""
    if len(set(models)) < len(models):
        raise InputError(f"One model is named twice in: {', '.join(models)}. Name each model once.")
    untrained = {name: subject for name in models if (subject := untrained_subject(name)) is not None}
    others = [name for name in models if name not in untrained]
    yield from untrained.values()
    for name, place in (measured_models(others, registry) if others else {}).items():
        yield subject_at(name, place, crop)


def _steps(subjects: Sequence[Subject], photo: bytes | None) -> dict[str, list[StepRow]]:
    """What comes before the network, once for models that are given faces alike."""
    found: dict[str, list[StepRow]] = {}
    seen = set()
    for subject in subjects:
        alike = (subject.crop, subject.scorer.input_size)
        if alike not in seen:
            seen.add(alike)
            found[subject.name] = time_steps(subject, photo)
    return found
