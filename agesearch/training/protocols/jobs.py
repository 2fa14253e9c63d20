"""[ray] Many trainings side by side on Ray: the turns of a protocol, or one network a dataset.

Each ``ModelJob`` has a folder of its own, and holds one core. It trains a model folder, going on from its
checkpoint, and then writes what the model says of each test, ``tests/<name>.parquet``. What is there already
is not done again; a job that fails says why, and the others go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from agesearch.data.dataset.records import Part, read_manifest
from agesearch.data.images.recipe import crop_differences
from agesearch.data.reading.loading import load_split
from agesearch.errors import AgeSearchError, first_line
from agesearch.measure.predictions import Answers, Labels, Predictions, predict_faces
from agesearch.models.foreign.document import is_teacher_file
from agesearch.models.identity import model_digest, read_model_manifest
from agesearch.models.manifest import MANIFEST
from agesearch.models.predict import Runtime, open_predictor
from agesearch.models.trained_on import trained_on
from agesearch.progress import Listener, Progress
from agesearch.specs import CropSpec, TrainSpec, digest_of
from agesearch.storage import Location
from agesearch.training.curve import read_curve
from agesearch.training.preflight import Plan
from agesearch.training.standing import standing_now
from agesearch.training.stopping import request_stop, withdraw_stop

TESTS = "tests"

_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string()),
        pa.field("predicted", pa.float32()),
        pa.field("spread", pa.float32()),
        pa.field("group", pa.int8()),
    ]
)
#: Where a Parquet file says which model and faces its rows are of.
_KEY = b"agesearch.test"
_POLL_S = 0.5
#: Seconds that running trainings have to write their checkpoints after Ctrl-C; a second one does not wait.
_STOP_S = 30.0


@dataclass(frozen=True)
class Test:
    """Faces to be predicted: ``labels`` of a ``part`` of a dataset (None: of all of it)."""

    __test__ = False  # no test of pytest's

    dataset: Location
    part: Part | None
    labels: Labels

    def key(self, model: str) -> str:
        """Names the predictions of one model (by its digest) for these very faces."""
        return digest_of([model, self.labels.sample_id.digest()])


@dataclass(frozen=True)
class Training:
    """What a network is trained on, and how.

    ``targets`` and ``features`` are a teacher's and an order teacher's answers for these faces, one file a
    view (``agesearch.distill.targets``), ``teacher_digest`` says whose.
    """

    spec: TrainSpec
    dataset: Location
    train: Part
    val: Part
    crop: CropSpec
    data_digest: str
    targets: tuple[Location, ...] | None = None
    features: tuple[Location, ...] | None = None
    teacher_digest: str | None = None

    @property
    def faces(self) -> object:
        """Names the faces that it reads, with their targets: trainings of equal ones share them."""
        return self.dataset, self.train, self.val, self.targets, self.features


@dataclass(frozen=True)
class ModelJob:
    """One model in ``model``, trained there first if ``training`` says how, and its tests by their names."""

    name: str
    out: Location
    model: Location
    training: Training | None
    tests: Mapping[str, Test] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """The epochs it trains."""
        return self.training.spec.optim.epochs if self.training else 0

    @property
    def trained(self) -> bool:
        """Whether its model is finished."""
        if is_teacher_file(self.model):
            return True
        if not (self.model / MANIFEST).exists():
            return False
        return not self.training or read_model_manifest(self.model).spec_digest == self.training.spec.digest()

    @property
    def finished(self) -> bool:
        """Whether nothing of it is left to do."""
        return self.trained and all(self.predictions(name) is not None for name in self.tests)

    def file(self, name: str) -> Location:
        """Where the predictions of a test lie."""
        return self.out / TESTS / f"{name}.parquet"

    def predictions(self, name: str) -> Predictions | None:
        """A test's faces with the model's predictions; None where there are none of this model and faces."""
        test, file = self.tests[name], self.file(name)
        if not file.exists():
            return None
        table = file.read_table()
        key = (table.schema.metadata or {}).get(_KEY, b"").decode()
        if key != test.key(model_digest(self.model)) or table.num_rows != len(test.labels):
            return None
        return Predictions.answered(
            test.labels, Answers(*(table.column(name).to_numpy() for name in Answers._fields))
        )


def run_jobs(jobs: Sequence[ModelJob], slots: Plan, on_progress: Listener) -> dict[str, str]:
    """Do what is left of the jobs, ``slots.concurrency`` at once; returns why some failed, by their names.

    Ray must be running. A job's faces are decoded when a place is free for it, so that only those of running
    jobs are held; neighbours that train on the same faces share them. A job whose process dies is taken up
    once more. On Ctrl-C running trainings write their checkpoints first.
    """
    import ray

    left = deque(job for job in jobs if not job.finished)
    progress = _JobsProgress(jobs, left, on_progress)
    work = ray.remote(num_cpus=slots.cpus_per_trial, num_gpus=slots.gpus_per_trial, max_retries=0)(_work)
    room = slots.room()
    running: dict[Any, ModelJob] = {}
    died: set[str] = set()
    shared = _Faces()
    with _stopped_in_order(running):
        while left or running:
            while left and len(running) < room.now(len(running)):
                job = left.popleft()
                if job.training is not None:
                    withdraw_stop(job.model)
                try:
                    running[work.remote(job, *shared.of(job, running.values()))] = job
                except AgeSearchError as error:
                    progress.over(job, first_line(error))
            if running:
                done, _ = ray.wait(list(running), timeout=_POLL_S)
                for ref in done:
                    job = running.pop(ref)
                    try:
                        progress.over(job, ray.get(ref))
                    except ray.exceptions.RayError as error:
                        # Ray's own retries have no end where memory runs out
                        if job.name in died:
                            progress.over(job, f"its process died twice: {first_line(error)}")
                        else:
                            died.add(job.name)
                            left.append(job)
            progress.tell(running.values())
    return progress.failures


@contextmanager
def _stopped_in_order(running: Mapping[Any, ModelJob]) -> Iterator[None]:
    """Where Ctrl-C ends the block, running trainings write a checkpoint first."""
    import ray

    try:
        yield
    except KeyboardInterrupt:
        for job in running.values():
            if job.training is not None and not job.trained:
                request_stop(job.model)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=_STOP_S)
        raise


def _faces(job: ModelJob) -> tuple[Any, Any]:
    """A job's training and validation faces in the object store."""
    if job.training is None or job.trained:
        return None, None
    training = job.training
    train = load_split(training.dataset, training.train, targets=training.targets, features=training.features)
    return train, load_split(training.dataset, training.val)


class _Faces:
    """The decoded faces of running jobs, each once."""

    def __init__(self) -> None:
        self._held: dict[object, tuple[Any, Any]] = {}

    def of(self, job: ModelJob, running: Iterable[ModelJob]) -> tuple[Any, Any]:
        """A job's faces; those that neither it nor a running job needs are let go."""
        if job.training is None or job.trained:
            return _faces(job)
        needed = {other.training.faces for other in (job, *running) if other.training}
        self._held = {key: faces for key, faces in self._held.items() if key in needed}
        if job.training.faces not in self._held:
            self._held[job.training.faces] = _faces(job)
        return self._held[job.training.faces]


def _work(job: ModelJob, train: Any, val: Any) -> str:
    """One job, in a worker process; returns why it failed, or nothing."""
    try:
        if job.training is not None and train is not None:
            _train(job.training, job.model, train, val)
        _predict(job)
    except AgeSearchError as error:
        return first_line(error)
    except Exception as error:  # memory, storage, a fault of a library: the others go on
        return f"{type(error).__name__}: {first_line(error)}"
    return ""


def _train(training: Training, out: Location, train: Any, val: Any) -> None:
    from agesearch.training.run import train_student

    seen = trained_on(read_manifest(training.dataset), training.train, training.val)
    train_student(
        training.spec,
        train,
        val,
        out,
        training.crop,
        data_digest=training.data_digest,
        trained_on=seen,
        teacher_digest=training.teacher_digest,
    )


def _predict(job: ModelJob) -> None:
    runtime: Runtime = "onnx" if is_teacher_file(job.model) else "torch"
    crops = [read_manifest(test.dataset).crop for test in job.tests.values()]
    alike = not any(crop_differences(crop, crops[0], ("scale", "align", "size")) for crop in crops)
    predictor = open_predictor(job.model, runtime, crop=crops[0] if crops and alike else None)
    digest = model_digest(job.model)
    for name, test in job.tests.items():
        if job.predictions(name) is not None:
            continue
        found = predict_faces({name: predictor}, test.dataset, test.labels, part=test.part)[name]
        answers = {name: getattr(found, name) for name in Answers._fields}
        table = pa.table({"sample_id": found.sample_id.to_arrow(), **answers}, schema=_SCHEMA)
        job.file(name).write_table(table.replace_schema_metadata({_KEY: test.key(digest).encode()}))


class _JobsProgress:
    """Where all jobs stand, in epochs; one that is over counts with all of its own."""

    def __init__(self, jobs: Sequence[ModelJob], left: Collection[ModelJob], on_progress: Listener) -> None:
        self.failures: dict[str, str] = {}
        self._jobs = len(jobs)
        self._total = sum(job.epochs + 1 for job in jobs)  # one more for its tests
        waiting = {job.name for job in left}
        self._over = {job.name: job.epochs + 1 for job in jobs if job.name not in waiting}
        self._on_progress = on_progress

    def over(self, job: ModelJob, failure: str) -> None:
        """A job ended, with a reason where it failed."""
        self._over[job.name] = job.epochs + 1
        if failure:
            self.failures[job.name] = failure

    def tell(self, running: Iterable[ModelJob]) -> None:
        """Where the jobs that are running now stand, by their curves."""
        training = [job for job in running if job.training]
        epochs = (min(len(read_curve(job.model)), job.epochs) for job in training)
        done = sum(self._over.values()) + sum(epochs)
        stands = {job.name: standing_now(job.model) for job in training}
        long = [f"{name}: {found.words}" for name, found in stands.items() if found and found.is_long]
        note = "; ".join([f"{len(self._over)} of {self._jobs} over", *long[:1]])
        self._on_progress(Progress("training", done, self._total, failed=len(self.failures), note=note))
