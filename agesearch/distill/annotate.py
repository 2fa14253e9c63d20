"""A teacher gives faces the ages they lack: the result is a dataset like any other (VMAGE, Greco 2021).

An annotated face has the expectation of the teacher's PMF as its ``age`` and the PMF's spread as its
``age_std``; its kind of label is ``teacher``. The PMFs themselves become the new dataset's targets of that
teacher, so that a search with it computes nothing again. Splits, subjects, folds and weights stay.

The faces are read twice: once their numbers, to see how many there are of each age, once to copy them.
Memory does not grow with the dataset; nothing is there until all of it is.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from agesearch.ages import AGES, FloatArray, age_spread, expected_age
from agesearch.data.dataset.arrays import numbers
from agesearch.data.dataset.commit import STAGING, Moves
from agesearch.data.dataset.layout import Partition
from agesearch.data.dataset.records import (
    SCHEMA,
    Annotation,
    Manifest,
    Rejected,
    Split,
    read_manifest,
)
from agesearch.data.dataset.shards import row_batches, shard_names
from agesearch.data.dataset.writer import DatasetWriter, made_already
from agesearch.data.reading.teacher_outputs import (
    TARGETS,
    StoredAnswers,
    answers_table,
    data_key,
    write_answers,
)
from agesearch.distill.stored_answers import AgeTeacher, age_teacher
from agesearch.distill.targets import PLAIN_VIEW, compute
from agesearch.errors import InputError
from agesearch.models.identity import crop_notes, read_model_manifest
from agesearch.progress import Listener, Progress, silent, waiting
from agesearch.specs import Seed, Spec, digest_of
from agesearch.storage import Location, exclusive

#: A face's confidence is the mass of its PMF within so many years of its age, as CS@5 counts errors.
CONFIDENCE_YEARS = 5.0

_STAGE = "annotate"
_DRAWS_AT_ONCE = 4096
_LABELS = ["sample_id", "age", "age_low", "age_high", "split"]

Flags = npt.NDArray[np.bool_]


class AnnotateSpec(Spec):
    """Which faces are annotated, and which of them are kept.

    ``labelled``: a face that has an age or a group keeps it (``keep``), gets the teacher's (``replace``), or
    is left out (``leave-out``). Of the annotated ones, those with a PMF wider than ``max_spread`` years, or
    with less than ``min_confidence`` of its mass within ``CONFIDENCE_YEARS``, are left out. ``per_decade`` is
    the most training faces of a decade of age: labelled ones count, but are never left out for it; which of
    the annotated ones stay is drawn by ``seed``. Validation and test faces are not thinned.
    """

    labelled: Literal["keep", "replace", "leave-out"] = "keep"
    max_spread: float | None = Field(None, gt=0.0)
    min_confidence: float | None = Field(None, gt=0.0, le=1.0)
    per_decade: int | None = Field(None, ge=1)
    seed: Seed = 0


@dataclass(frozen=True)
class _Answered:
    """Faces with what the teacher says of them; ``reason`` is empty for those that are kept so far."""

    ids: npt.NDArray[np.str_]
    pmf: FloatArray
    labelled: Flags
    train: Flags
    age: FloatArray
    spread: FloatArray
    decade: npt.NDArray[np.int64]
    reason: list[tuple[str, str]]


@dataclass
class _Census:
    """How many faces there will be, and the highest draw that stays in each decade that is too full."""

    annotated: int = 0
    labelled: int = 0
    limits: dict[int, int] = field(default_factory=dict)


def annotate(
    teacher: str | Location,
    dataset: str | Location,
    out: str | Location,
    spec: AnnotateSpec | None = None,
    *,
    replace: bool = False,
    on_progress: Listener = silent,
) -> tuple[Manifest, bool]:
    """Write the annotated dataset to ``out``; returns its manifest, and whether this run made it.

    The teacher's answers are stored beside the source (``targets.compute``), so that a killed run goes on.
    Nothing is done where ``out`` is that dataset already. Raises ``InputError`` where no face is to be
    annotated, or none is left, ``ConflictError`` where ``out`` holds another dataset (unless ``replace``).
    """
    options = spec or AnnotateSpec()
    folder, target = Location.of(dataset), Location.of(out)
    manifest = read_manifest(folder)
    if folder == target:
        raise InputError(f"'{target}' is the dataset to be annotated, so it cannot be its output too.")
    asked = age_teacher(teacher, folder)
    source, recipe = data_key(manifest), digest_of([asked.digest, options.model_dump(mode="json")])
    if existing := made_already(target, source, recipe, replace=replace):
        return existing, False
    (answers,) = compute(asked, folder, None, on_progress).files
    reader = _Reader(folder, StoredAnswers(answers, asked.column), options)
    with waiting(on_progress, "counting faces"):
        census = _count(reader, options)
    if not census.annotated:
        raise InputError(
            f"No face of '{folder}' would be annotated: all have labels, or none is confident enough. Look "
            "at --labelled, --max-spread and --min-confidence."
        )
    facts = _facts(teacher, asked, manifest, options, census)
    with exclusive(target, "The dataset"), ExitStack() as stack:
        copy = _Copy(target, manifest, facts, options, census, asked, replace)
        stack.callback(copy.discard)
        for table, answered in reader.faces(SCHEMA.names):
            copy.add(table, answered)
            note = f"{copy.writer.left_out:,} left out"
            on_progress(Progress(_STAGE, copy.done, manifest.faces, note=note))
        made = copy.finish(source, recipe)
        stack.pop_all()
        return made, True


class _Reader:
    """Reads the dataset's faces with the teacher's answers, some thousand at a time."""

    def __init__(self, folder: Location, answers: StoredAnswers, spec: AnnotateSpec) -> None:
        self._folder, self._answers, self._spec = folder, answers, spec

    def faces(self, columns: list[str]) -> Iterator[tuple[pa.Table, _Answered]]:
        """Tables of these columns, in the dataset's order, each with what is known of its rows."""
        for shard in shard_names(self._folder):
            for batch in row_batches(self._folder, None, columns, shards=[shard]):
                table = pa.Table.from_batches([batch])
                yield table, self._answered(table, shard)

    def _answered(self, table: pa.Table, shard: str) -> _Answered:
        ids = np.array(table["sample_id"].to_pylist(), dtype=str)
        pmf = self._answers.of(shard, ids).astype(np.float32)
        pmf /= pmf.sum(axis=1, keepdims=True)
        own = _own_age(table)
        has_label = np.isfinite(own)
        labelled = has_label & (self._spec.labelled != "replace")
        age, spread = expected_age(pmf), age_spread(pmf)
        final = np.where(labelled, own, age)
        return _Answered(
            ids=ids,
            pmf=pmf,
            labelled=labelled,
            train=np.array([split == Split.TRAIN for split in table["split"].to_pylist()], dtype=bool),
            age=age,
            spread=spread,
            decade=np.floor(final / 10.0).astype(np.int64),
            reason=self._reasons(pmf, labelled, age, spread),
        )

    def _reasons(
        self, pmf: FloatArray, labelled: Flags, age: FloatArray, spread: FloatArray
    ) -> list[tuple[str, str]]:
        spec = self._spec
        near = np.abs(AGES[None, :] - age[:, None]) <= CONFIDENCE_YEARS
        confidence = (pmf * near).sum(axis=1)
        reasons = []
        for row, own in enumerate(labelled):
            reason = ("", "")
            if own:
                if spec.labelled == "leave-out":
                    reason = ("has_label", "only faces without a label were asked for")
            elif spec.max_spread is not None and spread[row] > spec.max_spread:
                reason = ("too_wide", f"spread {spread[row]:.2f} years > {spec.max_spread:g}")
            elif spec.min_confidence is not None and confidence[row] < spec.min_confidence:
                reason = ("low_confidence", f"{confidence[row]:.3f} < {spec.min_confidence:g}")
            reasons.append(reason)
        return reasons


class _Copy:
    """The dataset in the making, and its PMFs, which are kept apart by shard as its rows are."""

    def __init__(
        self,
        out: Location,
        source: Manifest,
        facts: Annotation,
        spec: AnnotateSpec,
        census: _Census,
        teacher: AgeTeacher,
        replace: bool,
    ) -> None:
        self.done = 0
        self._out, self._spec, self._census, self._teacher = out, spec, census, teacher
        self._kind = source.label_kind if census.labelled else None
        licences = [f"faces: {source.licence}", *(f"{name}: {text}" for name, text in facts.licences.items())]
        estimated = (
            f"{facts.faces:,} faces have no true age, but one estimated by the teacher {facts.teacher}."
        )
        self.writer = DatasetWriter(
            out,
            name=f"{source.name}-annotated",
            label_kind="mixed" if census.labelled else "teacher",
            licence="; ".join(licences),
            crop=source.crop,
            detector=source.detector,
            turns=source.turns,
            notes=(
                *source.notes,
                estimated,
                *crop_notes(teacher.where, source.crop, "its ages may be poor"),
            ),
            parts=source.parts,
            annotation=facts,
            augmentation=source.augmentation,
            replace=replace,
        )
        self._answers = Partition(out / STAGING)

    def add(self, table: pa.Table, answered: _Answered) -> None:
        """Copy the faces that stay, and tell the others with their reasons."""
        reasons = [
            reason if reason[0] else self._too_many(answered, row)
            for row, reason in enumerate(answered.reason)
        ]
        keep = np.array([not reason for reason, _ in reasons], dtype=bool)
        sources = table["source"].to_pylist()
        self.writer.reject(
            Rejected(str(answered.ids[row]), *reasons[row], sources[row]) for row in np.flatnonzero(~keep)
        )
        self.writer.add(_annotated(table, answered, self._kind).filter(pa.array(keep)))
        self._answers.add(
            answers_table(answered.ids[keep].tolist(), self._teacher.column, answered.pmf[keep])
        )
        self.done += len(keep)

    def finish(self, source: str, recipe: str) -> Manifest:
        """Make the dataset appear with its targets."""
        return self.writer.finish(source_digest=source, spec_digest=recipe, also=self._targets)

    def discard(self) -> None:
        """Forget everything."""
        self._answers.close()
        self.writer.discard()

    def _too_many(self, answered: _Answered, row: int) -> tuple[str, str]:
        decade = int(answered.decade[row])
        limit = self._census.limits.get(decade)
        if limit is None or answered.labelled[row] or not answered.train[row]:
            return "", ""
        if _draw(self._spec.seed, str(answered.ids[row])) <= limit:
            return "", ""
        return (
            "decade_full",
            f"more than {self._spec.per_decade} faces of {10 * decade}-{10 * decade + 9} years",
        )

    def _targets(self, manifest: Manifest) -> Moves:
        digest, column = self._teacher.digest, self._teacher.column
        staged = self._out / STAGING / f"{PLAIN_VIEW}.parquet"
        about = {"teacher": self._teacher.name, "digest": digest, "answers": column}
        write_answers(staged, self._answers, manifest, about)
        (self._out / TARGETS / digest).make_dir()
        return [(staged.name, f"{TARGETS}/{digest}/{staged.name}")]


class _Lowest:
    """The ``count`` lowest of many draws, at 8 bytes each."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept = np.empty(0, np.uint64)
        self._new: list[int] = []

    def add(self, draw: int) -> None:
        """Take one more."""
        self._new.append(draw)
        if len(self._new) >= _DRAWS_AT_ONCE:
            self._keep()

    def of_rank(self, rank: int) -> int:
        """The highest of the ``rank`` lowest."""
        self._keep()
        return int(np.partition(self._kept, rank - 1)[rank - 1])

    def _keep(self) -> None:
        known = np.concatenate([self._kept, np.array(self._new, np.uint64)])
        self._kept = known if len(known) <= self._count else np.partition(known, self._count)[: self._count]
        self._new = []


def _count(reader: _Reader, spec: AnnotateSpec) -> _Census:
    """Count the faces that stay, and find the highest draw that may stay in each full decade."""
    census = _Census()
    own, others = Counter[int](), Counter[int]()
    lowest: dict[int, _Lowest] = defaultdict(lambda: _Lowest(spec.per_decade or 0))
    for _, answered in reader.faces(_LABELS):
        for row in (row for row, (reason, _) in enumerate(answered.reason) if not reason):
            decade = int(answered.decade[row])
            census.labelled += bool(answered.labelled[row])
            census.annotated += not answered.labelled[row]
            if spec.per_decade is None or not answered.train[row]:
                continue
            if answered.labelled[row]:
                own[decade] += 1
                continue
            others[decade] += 1
            lowest[decade].add(_draw(spec.seed, str(answered.ids[row])))
    for decade, count in others.items():
        room = max(0, (spec.per_decade or 0) - own[decade])
        if count > room:
            census.limits[decade] = lowest[decade].of_rank(room) if room else -1
            census.annotated -= count - room
    return census


def _draw(seed: int, sample_id: str) -> int:
    """A number that is drawn once for a face, whatever else is in the dataset."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{sample_id}".encode(), digest_size=8).digest())


def _own_age(table: pa.Table) -> FloatArray:
    """The age of each face in years, or the middle of its group; NaN where it has neither."""
    age = numbers(table["age"])
    middle = (numbers(table["age_low"]) + numbers(table["age_high"])) / 2
    return np.where(np.isfinite(age), age, middle).astype(np.float32)


def _annotated(table: pa.Table, answered: _Answered, kind: str | None) -> pa.Table:
    """The rows with the teacher's ages where there is no label to keep; ``kind`` is that of the source's
    labels, None where all rows are annotated.
    """
    columns: dict[str, Any] = {name: table[name] for name in SCHEMA.names}
    taken = {"age": answered.age, "age_std": answered.spread, "age_low": None, "age_high": None}
    for name, value in taken.items():
        new = np.full(len(table), np.nan, np.float32) if value is None else value
        values = np.where(answered.labelled, numbers(table[name]), new)
        columns[name] = pa.array(values, pa.float32(), from_pandas=True)  # NaN becomes null
    columns["label_kind"] = pa.nulls(len(table), pa.string())
    if kind is not None:
        known = pc.fill_null(table["label_kind"], kind)
        columns["label_kind"] = pc.if_else(pa.array(answered.labelled), known, "teacher")
    return pa.table(columns, schema=SCHEMA)


def _facts(
    teacher: str | Location,
    asked: AgeTeacher,
    manifest: Manifest,
    spec: AnnotateSpec,
    census: _Census,
) -> Annotation:
    return Annotation(
        teacher=asked.name,
        teacher_digest=asked.digest,
        licences=read_model_manifest(teacher).licences,
        data=manifest.name,
        data_digest=manifest.content_digest,
        options=spec.model_dump(mode="json"),
        faces=census.annotated,
    )
