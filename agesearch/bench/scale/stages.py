"""What each process of the measurement does: one step of the product, on the files of a folder."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from agesearch.bench.distill import decoded_faces, trainer_on, write_untrained
from agesearch.bench.scale.child import answer_parent, tell_parent
from agesearch.bench.scale.faces import write_dataset, write_photos
from agesearch.bench.scale.held import HeldShards
from agesearch.bench.scale.mixing import epoch_mixing
from agesearch.data.dataset.records import Split, read_manifest
from agesearch.data.ingest.run import IngestSpec, ingest
from agesearch.data.reading.loading import load_split
from agesearch.data.reading.stored_faces import StoredFaces
from agesearch.distill.stored_answers import age_teacher
from agesearch.distill.targets import compute
from agesearch.machine import cores
from agesearch.measure.evaluate import evaluate
from agesearch.measure.protocols import protocol_named
from agesearch.models.trained_on import trained_on
from agesearch.progress import Listener, Progress
from agesearch.session import ray_session
from agesearch.specs import CropSpec, ModelSpec, OptimSpec, TrainSpec
from agesearch.storage import Location
from agesearch.training.faces.batches import Batch, BatchSource
from agesearch.training.faces.pool import FacePool, PoolSource
from agesearch.training.faces.stream import StreamSource
from agesearch.training.loop import ALONE, Trainer, use_threads
from agesearch.training.run import make_trainer, making_threads, write_fitted
from agesearch.training.standing import followed

TEACHER = ModelSpec(arch="lcnet_035", input_size=48)
STUDENT = ModelSpec(arch="lcnet_050", input_size=96)
BATCH_SIZE = 64

#: Faces in memory that the streamed epoch is compared with: as they are stored, and decoded.
RESIDENT_FACES, DECODED_FACES = 24_576, 4096
#: Steps of a turn before the clock starts: what lies ready from the other's turn is used up.
_UNTIMED = 8
_TIMED = 40


@dataclass(frozen=True)
class Order:
    """What a stage is asked for: ``folder`` holds all files of a run of so many ``faces``."""

    stage: str
    folder: str
    faces: int
    share: float = 1.0
    turns: int = 8

    @property
    def data(self) -> Location:
        """The dataset."""
        return Location.of(self.folder) / "faces"

    @property
    def student(self) -> Location:
        """The trained student."""
        return Location.of(self.folder) / "student"

    @property
    def spec(self) -> TrainSpec:
        """The student's training: one epoch."""
        optim = OptimSpec(epochs=1, batch_size=BATCH_SIZE)
        return TrainSpec(model=STUDENT, optim=optim, share_of_faces=self.share)


Answer = dict[str, Any]


def stage_process() -> None:
    """A stage, in a process of its own: the order comes on standard input, progress and answer go out."""
    order = Order(**json.load(sys.stdin))
    answer_parent(STAGES[order.stage](order, tell_parent))


def make_shards(order: Order, tell: Listener) -> Answer:
    """Generate the faces and write them as a dataset."""
    began = time.perf_counter()
    made = write_dataset(order.data, order.faces, tell)
    return _done(made.faces, began)


def make_photos(order: Order, tell: Listener) -> Answer:
    """Generate the faces as files."""
    began = time.perf_counter()
    write_photos(Path(order.folder), order.faces, tell)
    return _done(order.faces, began)


def ingest_photos(order: Order, tell: Listener) -> Answer:
    """Ingest those files."""
    folder = Path(order.folder)
    crop = CropSpec(detector="none", size=112)
    spec = IngestSpec(source="csv", root=str(folder / "photos.csv"), images=str(folder / "photos"), crop=crop)
    with ray_session(on_progress=tell):
        began = time.perf_counter()
        made = ingest(spec, str(order.data), on_progress=tell)
    return _done(made.manifest.faces, began)


def make_targets(order: Order, tell: Listener) -> Answer:
    """A tiny teacher's answers for all faces."""
    with ray_session(on_progress=tell):
        began = time.perf_counter()
        found = compute(age_teacher(_teacher(order), order.data), order.data, None, tell)
    return _done(found.answers, began) | {"bytes": found.bytes}


def train_epoch(order: Order, tell: Listener) -> Answer:
    """One epoch of a tiny student over the faces and targets, and its model folder."""
    use_threads(cores())
    spec, data = order.spec, read_manifest(order.data)
    order.student.make_dir()
    with ray_session(on_progress=tell), followed(order.student, 1, tell):
        trainer, held = _trainer(order)
        trainer.source = clocked = _Clocked(trainer.source)
        fitted = trainer.fit(lambda _: None)
        facts = {"data_digest": data.content_digest, "trained_on": trained_on(data)}
        write_fitted(order.student, "trial", spec, data.crop, trainer.net, fitted, facts)
    return {"faces": clocked.faces, "seconds": clocked.seconds, "resident": held}


def side_by_side(order: Order, tell: Listener) -> Answer:
    """Steps on faces from the shards, on encoded faces in memory (the same work but for the reading), and on
    faces in memory that were decoded and resized before, in turns: seconds a step of each.
    """
    use_threads(cores())
    with ray_session(on_progress=tell):
        trainers = {"streamed": _trainer(order)[0], **_in_memory(order)}
        began = time.perf_counter()
        seconds: dict[str, list[float]] = {name: [] for name in trainers}
        parts = {name: _Turns(trainer.source) for name, trainer in trainers.items()}
        for turn in range(order.turns):
            for name in sorted(trainers)[:: -1 if turn % 2 else 1]:
                trainers[name].source = parts[name]
                trainers[name].train_epoch(turn)
                seconds[name].append(parts[name].seconds / parts[name].timed)
            tell(Progress("streamed beside resident", turn + 1, order.turns))
        return _done(len(trainers) * order.turns * (_UNTIMED + _TIMED) * BATCH_SIZE, began) | seconds


def evaluate_student(order: Order, tell: Listener) -> Answer:
    """The student on the test faces."""
    began = time.perf_counter()
    found = evaluate({"student": order.student}, order.data, protocol_named("standard"), on_progress=tell)
    return _done(found.record.faces, began)


def mixed_epochs(order: Order, tell: Listener) -> Answer:
    """How well the epochs of the training are mixed."""
    began = time.perf_counter()
    tell(Progress("mixing", 0, 1))
    found = epoch_mixing(order.data, order.spec)
    tell(Progress("mixing", 1, 1))
    return _done(order.faces, began) | {"epochs": [asdict(epoch) for epoch in found]}


#: Adding a stage is a function here and a row.
STAGES: dict[str, Callable[[Order, Listener], Answer]] = {
    "shards": make_shards,
    "photos": make_photos,
    "ingest": ingest_photos,
    "targets": make_targets,
    "epoch": train_epoch,
    "side by side": side_by_side,
    "evaluation": evaluate_student,
    "mixing": mixed_epochs,
}


class _Clocked:
    """A source whose ``seconds`` are those of its last epoch, from the first batch to the end of the step on
    the last one.
    """

    def __init__(self, source: BatchSource) -> None:
        self.faces, self.steps = source.faces, source.steps
        self.rank, self.world = source.rank, source.world
        self.seconds = 0.0
        self._source = source

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        """The batches of the source."""
        began = time.perf_counter()
        yield from self._source.epoch(index, start)
        self.seconds = time.perf_counter() - began


class _Turns(_Clocked):
    """A source that goes on where it was: an epoch of it is the next few batches of another, of which the
    first are not timed.
    """

    def __init__(self, source: BatchSource) -> None:
        super().__init__(source)
        self.steps, self.timed = _UNTIMED + _TIMED, _TIMED
        self.faces = self.steps * BATCH_SIZE
        self._batches = chain.from_iterable(source.epoch(index) for index in count())

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        """The next batches, whatever the epoch."""
        yield from islice(self._batches, _UNTIMED)
        began = time.perf_counter()
        yield from islice(self._batches, self.timed)
        self.seconds = time.perf_counter() - began


def _done(faces: int, began: float) -> Answer:
    return {"faces": faces, "seconds": time.perf_counter() - began}


def _teacher(order: Order) -> Location:
    place = Location.of(order.folder) / "teacher"
    return place if place.exists() else write_untrained(place, TEACHER, read_manifest(order.data))


def _target_files(order: Order) -> list[Location]:
    return compute(age_teacher(_teacher(order), order.data), order.data, None).files


def _in_memory(order: Order) -> dict[str, Trainer]:
    """Trainers on faces in memory: ``resident`` as they are stored, ``decoded`` as the network takes them."""
    files, spec = _target_files(order), order.spec.with_values({"share_of_faces": 1.0})
    columns = decoded_faces(order.data, files, Split.TRAIN, DECODED_FACES)
    held = HeldShards(StoredFaces.of(order.data, Split.TRAIN, targets=files), RESIDENT_FACES)
    sources: dict[str, BatchSource] = {
        "resident": StreamSource(held, spec, threads=making_threads(ALONE)),
        "decoded": PoolSource(FacePool([columns], spec.model.input_size), spec),
    }
    return {
        name: trainer_on(spec, source, columns, True, Location.of(order.folder) / name)
        for name, source in sources.items()
    }


def _trainer(order: Order) -> tuple[Trainer, bool]:
    """A trainer on the dataset and its targets, as a trial of a search has it; whether its faces are held."""
    train = load_split(order.data, Split.TRAIN, targets=_target_files(order))
    val = load_split(order.data, Split.VAL)
    return make_trainer(order.spec, train, val, order.student, resume=False), train.held is not None
