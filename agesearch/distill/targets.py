"""What a frozen teacher says of every face of a dataset, computed once and shared by all students.

As in Fast Knowledge Distillation (Shen & Xing 2022): a teacher's answer for (face, view) is a pure function,
so it is stored beside the dataset. ``targets/<teacher digest>/plain.parquet`` has the PMFs (``sample_id``,
``pmf`` float16 [101]) of the crops as they are stored, ``<views' key>/view-003.parquet`` in the same folder
those of a fixed view (``AugmentSpec.views``). An order teacher's files have ``features`` float16 [F] instead.

Work is cut into pieces of at most ``PIECE_FACES`` faces of one shard and one view; each is stored when it is
done, so a killed run goes on where it stopped. Memory does not grow with the dataset.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from agesearch.cluster.monitoring import TARGET_ANSWERS, Recorder
from agesearch.cluster.nodes import cpus_now
from agesearch.data.dataset.arrays import decode_column
from agesearch.data.dataset.records import SHARDS, read_manifest
from agesearch.data.dataset.shards import shard_names
from agesearch.data.images.augment import augmenter_of, views_key
from agesearch.data.reading.teacher_outputs import (
    TARGETS,
    AnswersWriter,
    answered,
    answers_table,
    grouped_otherwise,
    regroup,
    stored_key,
)
from agesearch.distill.stored_answers import Answer, Teacher, age_teacher, order_teacher
from agesearch.errors import ConflictError, InputError
from agesearch.machine import cores
from agesearch.progress import Listener, Progress, repeated, silent
from agesearch.specs import AugmentSpec
from agesearch.storage import Location, exclusive

PLAIN_VIEW = "plain"

#: Up to so many answers are computed in this process: a Ray worker takes 3 s to start.
FACES_SCORED_HERE = 4096
#: Faces of one piece of work: what a kill may cost, and the unit of progress.
PIECE_FACES = 512

_DECODED_AT_ONCE = 64
_POLL_S = 1.0


@dataclass(frozen=True)
class Computed:
    """The files of a teacher's answers, one a view; ``answers`` of them were computed by this run."""

    files: list[Location]
    faces: int
    answers: int
    seconds: float

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.filesystem.get_file_info(file.path).size or 0 for file in self.files)


@dataclass(frozen=True)
class _View:
    """One file to be made; ``number`` None is the crop as it is stored."""

    file: Location
    parts: Location
    number: int | None


@dataclass(frozen=True, slots=True)
class _Piece:
    """Faces ``start`` to ``start + faces`` of a shard, as a view shows them."""

    view: _View
    shard: str
    start: int
    faces: int

    @property
    def file(self) -> Location:
        return self.view.parts / f"{self.shard}.{self.start:07d}"

    def is_whole(self) -> bool:
        """Whether its file, which is there, has an answer for each of its faces."""
        try:
            rows = pq.ParquetFile(self.file.path, filesystem=self.file.filesystem).metadata.num_rows
        except (pa.ArrowInvalid, OSError):
            return False
        return bool(rows == self.faces)


@dataclass(frozen=True)
class _Job:
    """What every piece of work needs besides the teacher."""

    dataset: Location
    crop_size: int
    augment: AugmentSpec | None
    data: str


def teacher_targets(
    teacher: str | Location,
    dataset: str | Location,
    augment: AugmentSpec | None = None,
    on_progress: Listener = silent,
) -> list[Location]:
    """The Parquet files with a teacher's PMFs for all faces of a dataset, computed where they are missing.

    One file for each of the fixed views of ``augment``; without any, the one of the stored crops. Large work
    runs on Ray. Where another run computes the same, this one waits for it and shares the result.
    """
    return compute(age_teacher(teacher, dataset), dataset, augment, on_progress).files


def order_features(
    teacher: str | Location,
    dataset: str | Location,
    augment: AugmentSpec | None = None,
    on_progress: Listener = silent,
) -> list[Location]:
    """The same for an order teacher: files with its pooled features."""
    return compute(order_teacher(teacher), dataset, augment, on_progress).files


def compute(
    teacher: Teacher,
    dataset: str | Location,
    augment: AugmentSpec | None,
    on_progress: Listener = silent,
    *,
    here: bool | None = None,
) -> Computed:
    """Store a teacher's answers for a dataset and its views; what is stored already is not computed again.

    ``here`` says whether this process computes them (True) or Ray's workers do (None: by how many they are).
    """
    folder = Location.of(dataset)
    manifest = read_manifest(folder)
    data, faces = stored_key(manifest), manifest.faces
    started = time.perf_counter()
    views = _views(folder / TARGETS / teacher.digest, augment, data)
    files = [view.file for view in views]
    figures = Recorder(dataset=folder.name)
    if all(answered(file, data, faces) for file in files):
        figures.add(TARGET_ANSWERS, faces * len(files), origin="stored")
        return Computed(files, faces, 0, 0.0)
    job = _Job(folder, manifest.crop.size, augment, data)
    with _held(files[0].parent, teacher.stage, on_progress):
        if stored_key(read_manifest(folder)) != data:
            raise ConflictError(f"'{folder}' was changed by another run meanwhile: the same command goes on.")
        for file in files:
            if grouped_otherwise(file, manifest):
                regroup(file, manifest, file, file.parent)
        missing = [view for view in views if not answered(view.file, data, faces)]
        _forget_others(files[0].parent, data)
        pieces = _pieces(job, missing, faces)
        wanted = _unfinished(pieces)
        done = sum(piece.faces for piece in pieces) - sum(piece.faces for piece in wanted)
        figures.add(TARGET_ANSWERS, done + faces * (len(files) - len(missing)), origin="stored")
        with repeated(on_progress) as listener:
            pace = _Pace(teacher.stage, faces * len(missing), done, listener)
            for piece in _answer(teacher.ready(), job, wanted, here) if wanted else ():
                pace.add(piece.faces)
                figures.add(TARGET_ANSWERS, piece.faces, origin="computed")
        for view in missing:
            _join(view, [piece for piece in pieces if piece.view is view], job, teacher)
        (files[0].parent / _parts_name(data)).delete()
    return Computed(files, faces, pace.added, time.perf_counter() - started)


def answer_piece(piece: _Piece, job: _Job, answer: Answer, column: str) -> None:
    """Compute and store one piece, a few faces in memory at a time."""
    table = (job.dataset / SHARDS / piece.shard).read_table(["sample_id", "image"])
    table = table.slice(piece.start, piece.faces)
    ids = table.column("sample_id").to_pylist()
    number = piece.view.number
    augment = None if job.augment is None or number is None else augmenter_of(job.augment, 0)
    found = []
    for start in range(0, len(ids), _DECODED_AT_ONCE):
        some = slice(start, start + _DECODED_AT_ONCE)
        crops = decode_column(table.column("image")[some], job.crop_size)
        seen = crops if augment is None else augment.each(list(crops), number or 0, ids[some])
        found.append(answer(seen))
    values = np.concatenate(found)
    if not np.isfinite(values).all():
        bad = ids[int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])]
        raise InputError(f"The teacher's answer for the face '{bad}' of '{job.dataset}' is not a number.")
    piece.file.write_table(answers_table(ids, column, values))


def _views(place: Location, augment: AugmentSpec | None, data: str) -> list[_View]:
    if augment is None or not augment.fixed_views:
        return [_View(place / f"{PLAIN_VIEW}.parquet", place / _parts_name(data) / PLAIN_VIEW, None)]
    place = place / views_key(augment)
    names = [(number, f"view-{number:03d}") for number in range(augment.fixed_views)]
    return [_View(place / f"{name}.parquet", place / _parts_name(data) / name, n) for n, name in names]


def _parts_name(data: str) -> str:
    return f".parts.{data}"


def _forget_others(place: Location, data: str) -> None:
    """Remove what killed runs left of other states of the dataset."""
    for child in place.children():
        if child.name.startswith(".parts.") and child.name != _parts_name(data):
            child.delete()


def _unfinished(pieces: Sequence[_Piece]) -> list[_Piece]:
    """The pieces that an earlier run did not finish; one listing a view, since there may be thousands."""
    stored: dict[Location, set[str]] = {}
    for piece in pieces:
        parts = piece.view.parts
        if parts not in stored:
            stored[parts] = {child.name for child in parts.children()}
    return [p for p in pieces if p.file.name not in stored[p.view.parts] or not p.is_whole()]


def _pieces(job: _Job, views: Sequence[_View], faces: int) -> list[_Piece]:
    """All pieces, view by view, in the order of the dataset's rows."""
    sizes: dict[str, int] = {}
    for name in shard_names(job.dataset):
        shard = job.dataset / SHARDS / name
        try:
            sizes[name] = pq.ParquetFile(shard.path, filesystem=shard.filesystem).metadata.num_rows
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"'{shard}' is damaged: ingest the dataset again.") from error
    if sum(sizes.values()) != faces:
        raise InputError(
            f"'{job.dataset}' is damaged: it has {sum(sizes.values())} faces, its manifest says {faces}. "
            "Ingest it again."
        )
    return [
        _Piece(view, name, start, min(PIECE_FACES, rows - start))
        for view in views
        for name, rows in sizes.items()
        for start in range(0, rows, PIECE_FACES)
    ]


def _join(view: _View, pieces: Sequence[_Piece], job: _Job, teacher: Teacher) -> None:
    """Put a view's pieces into its file, one row group a shard."""
    about: dict[str, Any] = {"teacher": teacher.name, "digest": teacher.digest, "answers": teacher.column}
    if view.number is not None and job.augment is not None:
        drawn: Mapping[str, Any] = job.augment.model_dump(
            mode="json", include={"policy", "strength", "view_seed"}
        )
        about |= {"view": view.number, **drawn}
    with AnswersWriter(view.file) as out:
        for shard, some in groupby(pieces, key=lambda piece: piece.shard):
            out.write(shard, pa.concat_tables(piece.file.read_table() for piece in some))
        out.finish(job.data, about)
    view.parts.delete()


def _answer(teacher: Teacher, job: _Job, pieces: Sequence[_Piece], here: bool | None) -> Iterator[_Piece]:
    """Compute pieces here or on Ray; yields each when it is stored."""
    if here is None:
        here = sum(piece.faces for piece in pieces) <= FACES_SCORED_HERE
    if not here:
        yield from _answered_by_workers(teacher, job, pieces)
        return
    answer = teacher.open(cores())
    for piece in pieces:
        answer_piece(piece, job, answer, teacher.column)
        yield piece


#: The teacher that a worker process has open: opening one for each piece would take as long as many faces.
_OPEN: dict[tuple[str, str], Answer] = {}


def _opened(teacher: Teacher, data: str) -> Answer:
    key = (teacher.digest, data)
    if key not in _OPEN:
        _OPEN.clear()
        _OPEN[key] = teacher.open(1)
    return _OPEN[key]


def _answered_by_workers(teacher: Teacher, job: _Job, pieces: Sequence[_Piece]) -> Iterator[_Piece]:
    from agesearch.session import ray_session

    with ray_session():
        import ray

        shared = ray.put(teacher)

        @ray.remote(num_cpus=1)
        def answer(piece: _Piece, teacher: Teacher) -> None:
            answer_piece(piece, job, _opened(teacher, job.data), teacher.column)

        waiting, left = {}, iter(pieces)
        try:
            while True:
                for piece in left:
                    waiting[answer.remote(piece, shared)] = piece
                    if len(waiting) >= 2 * cpus_now():
                        break
                if not waiting:
                    return
                finished, _ = ray.wait(list(waiting))
                for reference in finished:
                    ray.get(reference)
                    yield waiting.pop(reference)
        except ray.exceptions.RayTaskError as error:
            # The pieces under way are finished and stay. They are not cancelled: where that meets the end of
            # a task, Ray's check "Tried to complete task that was not pending" ends this process (Ray 2.60).
            ray.wait(list(waiting), num_returns=len(waiting))
            raise getattr(error, "cause", None) or error from error


@contextmanager
def _held(place: Location, stage: str, on_progress: Listener) -> Iterator[None]:
    """Hold a folder of targets; where another run has it, wait for that one to end."""
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(exclusive(place, "The folder of targets"))
                break
            except ConflictError:
                on_progress(Progress(stage, 0, None, note="another run computes them: waiting for it"))
                time.sleep(_POLL_S)
        yield


class _Pace:
    """Tells how many answers are there, how fast they come, and how long the rest will take."""

    def __init__(self, stage: str, total: int, done: int, on_progress: Listener) -> None:
        self.added = 0
        self._stage, self._total, self._before, self._tell = stage, total, done, on_progress
        self._began = time.perf_counter()
        on_progress(Progress(stage, done, total))

    def add(self, faces: int) -> None:
        """So many more are stored."""
        self.added += faces
        rate = self.added / max(1e-9, time.perf_counter() - self._began)
        left = (self._total - self._before - self.added) / rate
        note = f"{rate:,.0f} faces/s" + (f", {left:,.0f} s left" if left else "")
        self._tell(Progress(self._stage, self._before + self.added, self._total, note=note))
