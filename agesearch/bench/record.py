"""Records a table of learning curves for replays, without Ray: ``agesearch bench record``.

Random configurations of a space, as a study draws them, each trained to its end in this process by the
training of a study's trials, on one thread. Faces are read from their shards. Several processes with the same
``work`` folder share the configurations, each of which is one JSON file there once it is trained; one that
was cut is trained anew. So a table can be recorded over hours of a machine that has other things to do.

``epoch_s`` is the processor time of an epoch, validation and checkpoint included: on a machine that is shared
the clock on the wall tells what the others did. Latencies are timed once for all processes, the smallest
median of several rounds.
"""

from __future__ import annotations

import time
from typing import Any

from agesearch.data.dataset.records import Split, read_manifest
from agesearch.data.reading.loading import SplitFaces
from agesearch.data.reading.stored_faces import StoredFaces
from agesearch.errors import AgeSearchError, ConflictError, InputError, first_line
from agesearch.measure.speed.latency_table import LatencyTable
from agesearch.metrics import VAL_MAE_YEARS
from agesearch.models.architectures import Network
from agesearch.models.identity import read_model_manifest
from agesearch.progress import Listener, Progress, silent
from agesearch.search.replay.curve_table import CurveRow, CurveTable
from agesearch.search.sampler.sampler import StudySampler
from agesearch.search.space.limits import Fitting
from agesearch.search.space.space import Params, check_space, network_of, networks, trial_name, trial_spec
from agesearch.specs import StudySpec, TrainSpec
from agesearch.storage import Location, exclusive

_SPACE_FILE, _LATENCY_FILE = "space.json", "latency.json"
_ROUNDS = 3
_POLL_S = 5.0


def record_curves(
    space: StudySpec,
    dataset: Location,
    teacher: Location | None,
    work: Location,
    *,
    on_progress: Listener = silent,
) -> CurveTable:
    """Train the ``trials`` configurations of ``space`` that no process has trained yet; the table of those
    that are there then. One that fails has its reason in its file, and counts as left out.

    Without a ``teacher`` students learn from labels alone.
    """
    spec = check_space(space).model_copy(update={"sampler": "random", "rungs": None, "stopping": None})
    spec = spec.model_copy(update={"startup_trials": spec.trials})
    _same_space(spec, dataset, work)
    training = _Training(spec, dataset, teacher, on_progress)
    latencies = _latencies(spec, work, on_progress)
    sampler = StudySampler(spec, Fitting())
    for number in range(spec.trials):
        on_progress(Progress("Configurations", number, spec.trials))
        training.train(number, sampler.drawn(number), latencies, work)
    on_progress(Progress("Configurations", spec.trials, spec.trials))
    files = [_result(work, number) for number in range(spec.trials)]
    found = [file.read_json() for file in files if file.exists()]
    rows = tuple(_row(document) for document in found if "reason" not in document)
    return CurveTable(spec, rows, len(found) - len(rows))


class _Training:
    """What all configurations share: the faces, and a teacher's answers."""

    def __init__(
        self, spec: StudySpec, dataset: Location, teacher: Location | None, on_progress: Listener
    ) -> None:
        from agesearch.distill.targets import teacher_targets

        augment = spec.student.augment
        targets = None if teacher is None else teacher_targets(teacher, dataset, augment, on_progress)
        self._spec = spec
        self._crop = read_manifest(dataset).crop
        self._train, self._val = (
            SplitFaces(StoredFaces.of(dataset, split, targets=targets)) for split in (Split.TRAIN, Split.VAL)
        )

    def train(self, number: int, params: Params, latencies: dict[str, float], work: Location) -> None:
        """Train one configuration where no process has, or does now."""
        file = _result(work, number)
        if file.exists():
            return
        folder = work / f"{number:04d}"
        try:
            with exclusive(folder, "The configuration"):
                if file.exists():
                    return
                spec = trial_spec(self._spec, params)
                name = trial_name(number, spec.model)
                known = {"number": number, "name": name, "params": params}
                latency = latencies[str(network_of(self._spec, params))]
                file.write_json(known | {"latency_ms": latency} | self._curve(spec, folder))
        except ConflictError:  # another process trains it
            return
        folder.delete()

    def _curve(self, spec: TrainSpec, folder: Location) -> dict[str, Any]:
        from agesearch.training.run import train_student

        errors, seconds, before = list[float](), list[float](), time.process_time()

        def report(metrics: dict[str, float]) -> None:
            nonlocal before
            now = time.process_time()
            errors.append(float(metrics[VAL_MAE_YEARS]))
            seconds.append(now - before)
            before = now

        try:
            train_student(spec, self._train, self._val, folder, self._crop, report=report, resume=False)
        except AgeSearchError as error:
            return {"reason": first_line(error)}
        parameters = read_model_manifest(folder).parameters
        return {"parameters": parameters, "errors": errors, "seconds": seconds}


def _same_space(spec: StudySpec, dataset: Location, work: Location) -> None:
    """Note what a folder's configurations are drawn from; an ``InputError`` where that was something else.
    Their number may change: the first are the same.
    """
    file = work / _SPACE_FILE
    drawn = spec.model_copy(update={"trials": 1, "startup_trials": 1, "description": ""})
    now = {"space": drawn.digest(), "data": read_manifest(dataset).content_digest}
    if not file.exists():
        file.write_json(now)
    elif file.read_json() != now:
        raise InputError(
            f"'{work}' holds configurations of another space or dataset: name another --work, or remove it."
        )


def _result(work: Location, number: int) -> Location:
    return work / f"{number:04d}.json"


def _row(document: dict[str, Any]) -> CurveRow:
    listed = {name: tuple(document[name]) for name in ("errors", "seconds")}
    return CurveRow(**document | listed)


def _latencies(spec: StudySpec, work: Location, on_progress: Listener) -> dict[str, float]:
    """The latency in ms of every network, timed by the process that comes first; the others wait for it."""
    file, every = work / _LATENCY_FILE, networks(spec)
    while not file.exists():
        try:
            with exclusive(work, "The latencies"):
                if not file.exists():
                    timed = {}
                    for done, network in enumerate(every):
                        on_progress(Progress("Latency", done, len(every), note=str(network)))
                        timed[str(network)] = _latency(network)
                    file.write_json(timed)
        except ConflictError:
            time.sleep(_POLL_S)
    return dict(file.read_json())


def _latency(network: Network) -> float:
    rounds = (LatencyTable(None).latency(network.model()) for _ in range(_ROUNDS))
    return min(row.latency_ms_p50 for row in rounds)
