"""What a teacher costs a student's epoch: ``agesearch bench distill``.

The same student trains on the same faces and views without a teacher, with targets that were computed
before, and with the teacher asked in each step; epochs of the three take turns, so that whatever else the
machine does meets all of them. A second measurement computes the targets of N and of 4 N faces, each in a
process of its own, and tells their peak memory. Weights are random: they change no cost.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agesearch.data.dataset.arrays import NUMBERS, decode_column, numbers
from agesearch.data.dataset.records import SCHEMA, Manifest, Split, read_manifest
from agesearch.data.dataset.shards import row_batches, shard_names
from agesearch.data.dataset.writer import DatasetWriter
from agesearch.data.reading.teacher_outputs import StoredAnswers
from agesearch.distill.stored_answers import age_teacher
from agesearch.distill.targets import compute
from agesearch.distill.task import DistillTask
from agesearch.errors import AgeSearchError, InputError
from agesearch.machine import cores
from agesearch.models.folder import write_model
from agesearch.models.manifest import ModelManifest
from agesearch.models.predictors import OnnxPredictor, Predictor, TorchPredictor
from agesearch.models.prepare import Images, resized
from agesearch.models.tracing import onnx_bytes
from agesearch.models.zoo import build
from agesearch.progress import Listener, Progress, silent
from agesearch.specs import AugmentSpec, ModelSpec, OptimSpec, TrainSpec
from agesearch.storage import Location, exclusive
from agesearch.training.faces.batches import Batch, BatchSource
from agesearch.training.faces.pool import FacePool, PoolSource
from agesearch.training.loop import Trainer, use_threads

STUDENT = ModelSpec(arch="mobilenetv3_small_100", input_size=96)
TEACHER = ModelSpec(arch="seresnet50", input_size=224)
#: Computes targets fast, so that much memory would show soon.
_QUICK = ModelSpec(arch="lcnet_050", input_size=48)

#: The kinds of epoch: without a teacher, faces drawn anew or fixed views; with stored or live answers.
FRESH, PLAIN, CACHED, ONLINE = "no teacher, new draws", "no teacher", "cached targets", "teacher online"

_PEAK_CALL = "from agesearch.bench.distill import peak_process; peak_process()"


@dataclass(frozen=True)
class Epochs:
    """Seconds of each epoch by its kind, in turns; the runtime of the teacher that was the faster.

    ``drawing_ms_a_face`` is what a fixed view costs when it is shown for the first time, in the first
    ``views`` epochs of a training; the epochs timed here are later ones.
    """

    faces: int
    views: int
    threads: int
    runtime: str
    teacher_ms_a_face: Mapping[str, float]
    drawing_ms_a_face: float
    seconds: Mapping[str, list[float]]

    @property
    def student(self) -> str:
        """The student's name and input."""
        return f"{STUDENT.arch} at {STUDENT.input_size} px"

    @property
    def teacher(self) -> str:
        """The name, input and runtime of the teacher that was asked in each step."""
        return f"{TEACHER.arch} at {TEACHER.input_size} px ({self.runtime})"

    def all_ratios(self) -> dict[str, list[float]]:
        """What is asked of the cached targets, turn by turn."""
        return {
            f"{CACHED} / {PLAIN}": self.ratios(CACHED, PLAIN),
            f"{CACHED} / {FRESH}": self.ratios(CACHED, FRESH),
            f"{ONLINE} / {CACHED}": self.ratios(ONLINE, CACHED),
        }

    def summary(self) -> dict[str, float]:
        """The median of each ratio."""
        return {name: statistics.median(values) for name, values in self.all_ratios().items()}

    def ratios(self, kind: str, base: str = PLAIN) -> list[float]:
        """Each turn's seconds of ``kind`` over those of ``base``."""
        return [a / b for a, b in zip(self.seconds[kind], self.seconds[base], strict=False)]


@dataclass(frozen=True)
class Peak:
    """The peak memory of a process that computed the targets of so many faces."""

    faces: int
    views: int
    peak_mib: float
    seconds: float


def measure_epochs(
    dataset: Location,
    *,
    faces: int = 256,
    views: int = 4,
    turns: int = 9,
    online_turns: int = 3,
    on_progress: Listener = silent,
) -> Epochs:
    """Time a student's epochs on the training faces of a dataset: without, with stored, with live answers.

    The kinds take turns in an order that changes; the teacher is asked in the first ``online_turns`` only.
    """
    threads = cores()
    use_threads(threads)
    with tempfile.TemporaryDirectory(prefix="agesearch-bench-distill-") as folder:
        place = Location.of(folder)
        on_progress(Progress("teacher", 0, None, note=f"building {TEACHER.arch} at {TEACHER.input_size} px"))
        small = _faces_of(dataset, place / "faces", faces)
        teachers = _runtimes(threads)
        speed = {name: _ms_a_face(teacher) for name, teacher in teachers.items()}
        runtime = min(speed, key=speed.__getitem__)
        spec = TrainSpec(model=STUDENT, augment=AugmentSpec(views=views), optim=OptimSpec(epochs=10_000))
        quick = write_untrained(place / "quick", _QUICK, read_manifest(small))
        files = compute(age_teacher(quick, small), small, spec.augment, on_progress).files
        kinds = _kinds(spec, decoded_faces(small, files), teachers[runtime], place)
        drawing = _draw_views(kinds, spec.augment.views)
        seconds = _take_turns(kinds, turns, online_turns, on_progress)
    return Epochs(faces, views, threads, runtime, speed, 1e3 * drawing / faces, seconds)


def measure_memory(faces: int = 2000, views: int = 2, on_progress: Listener = silent) -> list[Peak]:
    """The peak memory of computing targets for ``faces`` faces, and for four times as many."""
    from agesearch.data.reading.demo_pack import demo_pack

    found = []
    for number, count in enumerate((faces, 4 * faces)):
        on_progress(Progress("memory", number, 2, note=f"{count} faces"))
        with tempfile.TemporaryDirectory(prefix="agesearch-bench-distill-") as folder:
            place = Location.of(folder)
            data = _faces_of(demo_pack(), place / "faces", count)
            quick = write_untrained(place / "quick", _QUICK, read_manifest(data))
            order = {"teacher": str(quick), "data": str(data), "views": views}
            done = subprocess.run(
                [sys.executable, "-c", _PEAK_CALL],
                input=json.dumps(order),
                capture_output=True,
                text=True,
                check=False,
            )
        lines = done.stdout.strip().splitlines()
        if done.returncode or not lines:
            raise AgeSearchError(f"The measurement's process failed: {done.stderr.strip()[-300:]}")
        answer = json.loads(lines[-1])
        found.append(Peak(count, views, answer["peak_mib"], answer["seconds"]))
    on_progress(Progress("memory", 2, 2))
    return found


def peak_process() -> None:
    """Compute targets in a process of its own: the order comes on standard input, its peak goes out."""
    order = json.load(sys.stdin)
    began = time.perf_counter()
    augment = AugmentSpec(views=order["views"])
    compute(age_teacher(order["teacher"], order["data"]), order["data"], augment, here=True)
    print(json.dumps({"peak_mib": _peak_mib(), "seconds": time.perf_counter() - began}))


def write_untrained(folder: Location, model: ModelSpec, data: Manifest) -> Location:
    """A teacher that knows nothing: its targets cost a trial what a good one's cost."""
    net = build(model)
    manifest = ModelManifest(kind="teacher", model=model, crop=data.crop, parameters=net.parameter_count)
    write_model(folder, net.state_dict(), manifest)
    return folder


class _Online:
    """A source that asks the teacher in each step: it sees a view of the stored crop, the student the same
    one resized.
    """

    def __init__(self, source: PoolSource, teacher: Predictor, input_size: int) -> None:
        self.faces, self.steps = source.faces, source.steps
        self.rank, self.world = source.rank, source.world
        self._source, self._teacher, self._size = source, teacher, input_size

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``index`` from step ``start`` on."""
        for batch in self._source.epoch(index, start):
            answers = self._teacher.pmf(batch.images)
            yield replace(batch, images=resized(batch.images, self._size), teacher_pmf=answers)


def _kinds(
    spec: TrainSpec, columns: Mapping[str, npt.NDArray[Any]], teacher: Predictor, place: Location
) -> dict[str, Trainer]:
    """A trainer for each kind of epoch; all with the same network, faces and batches."""
    bare = {name: column for name, column in columns.items() if name != "teacher_pmf"}
    stored_size = bare["image"].shape[1]
    whole = spec.with_values({"model.input_size": stored_size})
    fresh = spec.with_values({"augment.views": 0})
    online = _Online(PoolSource(FacePool([bare], stored_size), whole), teacher, spec.model.input_size)
    sources: dict[str, BatchSource] = {
        FRESH: PoolSource(FacePool([bare], spec.model.input_size), fresh),
        PLAIN: PoolSource(FacePool([bare], spec.model.input_size), spec),
        CACHED: PoolSource(FacePool([columns], spec.model.input_size), spec),
        ONLINE: online,
    }
    return {
        kind: trainer_on(spec, source, bare, kind in (CACHED, ONLINE), place / kind)
        for kind, source in sources.items()
    }


def trainer_on(
    spec: TrainSpec,
    source: BatchSource,
    columns: Mapping[str, npt.NDArray[Any]],
    has_teacher: bool,
    out: Location,
) -> Trainer:
    """A trainer on batches of ``source``, which validates on the faces ``columns``."""
    net = build(spec.model)
    task = DistillTask(net, spec.distill, has_labels=True, has_teacher=has_teacher)
    return Trainer(net, task, source, FacePool([columns], spec.model.input_size), spec, out, resume=False)


def _draw_views(trainers: Mapping[str, Trainer], views: int) -> float:
    """Show every view once, as the first epochs of a training do; the seconds of the last kind's a view."""
    seconds = 0.0
    for kind in (FRESH, PLAIN, CACHED):
        began = time.perf_counter()
        for view in range(views):
            deque(trainers[kind].source.epoch(view), maxlen=0)
        seconds = (time.perf_counter() - began) / views
    return seconds


def _take_turns(
    trainers: Mapping[str, Trainer], turns: int, online_turns: int, on_progress: Listener
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {kind: [] for kind in trainers}
    names = list(trainers)
    for kind in names[:-1]:  # the libraries make their plans
        trainers[kind].train_epoch(0)
    steps, done = (len(names) - 1) * turns + online_turns, 0
    for turn in range(turns):
        shift = turn % len(names)
        for kind in (*names[shift:], *names[:shift]):
            if kind == ONLINE and turn >= online_turns:
                continue
            on_progress(Progress("epochs", done, steps, note=kind))
            began = time.perf_counter()
            trainers[kind].train_epoch(turn + 1)
            seconds[kind].append(time.perf_counter() - began)
            done += 1
    on_progress(Progress("epochs", steps, steps))
    return seconds


def _runtimes(threads: int) -> dict[str, Predictor]:
    """The teacher in both runtimes."""
    net = build(TEACHER).eval()
    return {
        "ONNX Runtime": OnnxPredictor(onnx_bytes(net, TEACHER.input_size), TEACHER.input_size, threads),
        "torch": TorchPredictor(net, TEACHER.input_size),
    }


def _ms_a_face(teacher: Predictor, faces: int = 32) -> float:
    images: Images = np.zeros((faces, TEACHER.input_size, TEACHER.input_size, 3), np.uint8)
    teacher.pmf(images[:4])
    began = time.perf_counter()
    teacher.pmf(images)
    return 1e3 * (time.perf_counter() - began) / faces


def decoded_faces(
    dataset: Location, files: list[Location], part: Split | None = None, most: int | None = None
) -> dict[str, npt.NDArray[Any]]:
    """The first ``most`` faces of a dataset's part (None: all), decoded, with their answers of ``files``, one
    a view, as one block in memory.
    """
    size, faces = read_manifest(dataset).crop.size, 0
    parts: list[dict[str, npt.NDArray[Any]]] = []
    stored = [StoredAnswers(file, "pmf") for file in files]
    for shard in shard_names(dataset):
        if most is not None and faces >= most:
            break
        for batch in row_batches(dataset, part, ["sample_id", "image", *NUMBERS], shards=[shard]):
            table = pa.Table.from_batches([batch]).slice(0, None if most is None else max(0, most - faces))
            faces += len(table)
            ids = np.array(table["sample_id"].to_pylist(), dtype=str)
            found: dict[str, npt.NDArray[Any]] = {"sample_id": ids}
            found |= {"image": decode_column(table["image"], size)}
            found |= {name: numbers(table[name]) for name in NUMBERS}
            found["teacher_pmf"] = np.stack([answers.of(shard, ids) for answers in stored], axis=1)
            if len(table):
                parts.append(found)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _faces_of(dataset: Location, out: Location, count: int) -> Location:
    """A dataset of ``count`` training faces of another, each again under a new name where it has too few."""
    manifest = read_manifest(dataset)
    if not manifest.counts.get(Split.TRAIN):
        raise InputError(f"'{dataset}' has no training faces to measure with.")
    with exclusive(out, "The dataset"):
        writer = DatasetWriter(
            out, name="bench", label_kind="synthetic", licence="", crop=manifest.crop, detector="none"
        )
        turn = 0
        while writer.faces < count:
            for batch in row_batches(dataset, Split.TRAIN, SCHEMA.names):
                some = pa.Table.from_batches([batch]).slice(0, count - writer.faces)
                names = [f"{turn}-{name}" for name in some["sample_id"].to_pylist()]
                place = SCHEMA.get_field_index("sample_id")
                writer.add(some.set_column(place, SCHEMA.field(place), pa.array(names)))
            turn += 1
        writer.finish()
    return out


def _peak_mib() -> float:
    """The most memory this process had at once; not ``ru_maxrss``, which a child inherits."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AgeSearchError("This system does not tell the peak memory of a process.")
