"""The faces that a protocol scores: their labels as arrays, and what a model predicts for them.

Crops are streamed batch by batch. Of each face stay some 65 bytes of labels, thrice that while they are read
and scored, and 9 bytes a model: its age, the spread of its PMF and its group of Adience, never the PMF.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agesearch.ages import BINS, FloatArray, adience_mass, age_spread, expected_age
from agesearch.data.dataset.arrays import numbers
from agesearch.data.dataset.records import Part, Split, read_manifest
from agesearch.data.dataset.shards import row_batches
from agesearch.data.dataset.texts import Growing, IdsMaker, Texts, TextsMaker
from agesearch.data.images.crop import decode_crop
from agesearch.errors import InputError
from agesearch.measure.intervals import Persons
from agesearch.models.predictors import Predictor
from agesearch.storage import Location

Indices = npt.NDArray[np.int64]

_NUMBERS = ("age", "age_std", "age_low", "age_high")
_TEXTS = ("subject_id", "sex", "ethnicity", "source", "split", "label_kind")
#: Faces decoded at once: enough for every core, some 20 MB of 112-pixel crops.
_BATCH_FACES = 512


@dataclass(frozen=True)
class Labels:
    """What is known of N faces; ages in years ``float32 [N]`` (NaN: unknown), texts ``[N]`` (None: unknown).

    ``label_kind`` says what each label is (``real``, ``apparent``, ``teacher``, ``group``, ``synthetic``;
    ``none`` for a face without a label); ``fold`` is -1 for a face of no fold. Texts may be given as arrays
    of objects.
    """

    sample_id: Texts
    age: FloatArray
    age_std: FloatArray
    age_low: FloatArray
    age_high: FloatArray
    subject_id: Texts
    sex: Texts
    ethnicity: Texts
    source: Texts
    split: Texts
    fold: npt.NDArray[np.signedinteger[Any]]
    label_kind: Texts

    def __post_init__(self) -> None:
        for name in ("sample_id", *_TEXTS):
            object.__setattr__(self, name, Texts.of(getattr(self, name)))

    def __len__(self) -> int:
        return len(self.sample_id)

    @cached_property
    def persons(self) -> Persons:
        """Who each face shows: what intervals and paired tests resample."""
        return Persons.of(self.sample_id, self.subject_id)

    def take(self, where: npt.NDArray[Any] | slice) -> Self:
        """The faces at some indices, in a slice, or where a mask is true."""
        return type(self)(**{field.name: getattr(self, field.name)[where] for field in fields(self)})


class Answers(NamedTuple):
    """What is kept of PMFs: expected ages and spreads in years, and the group of Adience with the most mass,
    each ``[N]``.
    """

    predicted: FloatArray
    spread: FloatArray
    group: npt.NDArray[np.int8]

    @classmethod
    def of(cls, pmf: FloatArray) -> Answers:
        """From PMFs ``[N, 101]``."""
        group = adience_mass(pmf).argmax(axis=-1).astype(np.int8)
        return cls(expected_age(pmf), age_spread(pmf).astype(np.float32), group)

    def put(self, at: Indices, answers: Answers) -> None:
        """Answers for the faces at some indices."""
        self.predicted[at], self.spread[at], self.group[at] = answers

    @classmethod
    def empty(cls, count: int) -> Answers:
        """Room for the answers of so many faces."""
        room = np.full(count, np.nan, dtype=np.float32)
        return cls(room, room.copy(), np.full(count, -1, dtype=np.int8))


@dataclass(frozen=True)
class Predictions(Labels):
    """The same faces with one model's answers ``[N]``, which ``Answers`` explains."""

    predicted: FloatArray
    spread: FloatArray
    group: npt.NDArray[np.int8]

    @classmethod
    def of(cls, labels: Labels, pmf: FloatArray) -> Self:
        """Labels with a model's PMFs ``[N, 101]`` of the same faces in the same order."""
        if pmf.shape != (len(labels), BINS):
            raise InputError(f"{len(labels)} faces need PMFs [{len(labels)}, {BINS}], but got {pmf.shape}.")
        return cls.answered(labels, Answers.of(pmf))

    @classmethod
    def answered(cls, labels: Labels, answers: Answers) -> Self:
        """Labels, which are shared, with a model's answers for the same faces in the same order."""
        known = {field.name: getattr(labels, field.name) for field in fields(Labels)}
        return cls(**known, **answers._asdict())

    @classmethod
    def joined(cls, parts: Sequence[Predictions]) -> Predictions:
        """The faces of several parts as one, such as the tests of several turns."""
        if len(parts) == 1:
            return parts[0]
        columns: dict[str, Any] = {}
        for field in fields(cls):
            values = [getattr(part, field.name) for part in parts]
            is_text = isinstance(values[0], Texts)
            columns[field.name] = Texts.joined(values) if is_text else np.concatenate(values)
        return cls(**columns)


def read_labels(dataset: str | Location, part: Split | Part | None = None) -> Labels:
    """The labels of the faces of a part (None: of all), in order of their sample ids; it may be empty."""
    folder = Location.of(dataset)
    ids, texts = IdsMaker(), {name: TextsMaker() for name in _TEXTS}
    values = {name: Growing() for name in (*_NUMBERS, "fold")}
    for batch in row_batches(folder, part, ["sample_id", *_TEXTS, *_NUMBERS, "fold"]):
        ids.add(batch["sample_id"])
        for name, maker in texts.items():
            maker.add(batch[name])
        for name in _NUMBERS:
            values[name].add(numbers(batch[name]))
        values["fold"].add(batch["fold"].fill_null(-1).to_numpy(zero_copy_only=False))
    sample_id = ids.made()
    order = np.argsort(sample_id.numbers, kind="stable")
    columns: dict[str, Any] = {name: maker.made()[order] for name, maker in texts.items()}
    columns |= {name: column.made(np.float32)[order] for name, column in values.items()}
    columns["label_kind"] = _kinds(columns, read_manifest(folder).label_kind)
    return Labels(sample_id=sample_id[order], **columns)


def predict_faces(
    predictors: Mapping[str, Predictor],
    dataset: str | Location,
    labels: Labels,
    *,
    part: Split | Part | None = None,
    threads: int = 1,
    on_batch: Callable[[int], None] = lambda _: None,
) -> dict[str, Predictions]:
    """What each model predicts for the faces of ``labels``; each crop is read and decoded once for all.

    ``part`` (None: the whole dataset) must hold these faces, and spares reading others. ``threads`` decode;
    ``on_batch`` hears how many faces are done. A face that is not in the part is an ``InputError``.
    """
    found = {name: Answers.empty(len(labels)) for name in predictors}
    done = 0
    for at, images in crop_batches(dataset, labels, part=part, threads=threads):
        for name, predictor in predictors.items():
            found[name].put(at, Answers.of(predictor.pmf(images)))
        done += len(at)
        on_batch(done)
    return {name: Predictions.answered(labels, answers) for name, answers in found.items()}


def crop_batches(
    dataset: str | Location, labels: Labels, *, part: Split | Part | None = None, threads: int = 1
) -> Iterator[tuple[Indices, list[npt.NDArray[np.uint8]]]]:
    """The crops of the faces of ``labels`` in the order of the shards, some hundred at a time: their indices
    ``[n]`` in ``labels``, and as many RGB crops. A face that is not in the part is an ``InputError``.
    """
    with ThreadPoolExecutor(threads) as pool:
        for at, crops in encoded_batches(dataset, labels, part=part):
            yield at, list(pool.map(decode_crop, crops))


def encoded_batches(
    dataset: str | Location,
    labels: Labels,
    *,
    part: Split | Part | None = None,
    rows: int = _BATCH_FACES,
) -> Iterator[tuple[Indices, list[bytes]]]:
    """The same, as the bytes of the crops, ``rows`` at a time, fewer only at the end: of a small split each
    shard holds a few, and whoever works on them wants them together.
    """
    held_at, held_crops, done = list[int](), list[bytes](), 0
    for at, crops in _found_in_shards(dataset, labels, part, rows):
        held_at += at
        held_crops += crops
        while len(held_at) >= rows:
            yield np.array(held_at[:rows], dtype=np.int64), held_crops[:rows]
            del held_at[:rows], held_crops[:rows]
        done += len(at)
    if held_at:
        yield np.array(held_at, dtype=np.int64), held_crops
    if done < len(labels):
        raise InputError(f"'{dataset}' lacks {len(labels) - done} of {len(labels)} faces: ingest it again.")


def _found_in_shards(
    dataset: str | Location, labels: Labels, part: Split | Part | None, rows: int
) -> Iterator[tuple[list[int], list[bytes]]]:
    """The indices and the crops of the faces of ``labels`` in each batch of rows."""
    place = np.full(len(labels.sample_id.names) + 1, -1, dtype=np.int32)
    place[labels.sample_id.numbers] = np.arange(len(labels))
    for batch in row_batches(dataset, part, ["sample_id", "image"], rows=rows):
        at = place[labels.sample_id.places(batch["sample_id"])]
        wanted = np.flatnonzero(at >= 0)
        yield at[wanted].tolist(), batch["image"].take(pa.array(wanted)).to_pylist()


class Picker:
    """Finds the faces of a part among labels; quick for thousands of parts of one subject each."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._order = np.argsort(labels.subject_id.numbers, kind="stable")
        self._sorted = labels.subject_id.numbers[self._order]

    def indices(self, part: Part) -> Indices:
        """The indices of the part's faces, rising."""
        labels = self._labels
        at = np.arange(len(labels)) if part.subjects is None else self._of_subjects(part.subjects)
        if part.split is not None:
            at = at[labels.split[at] == str(part.split)]
        if part.folds is not None:
            at = at[np.isin(labels.fold[at], part.folds)]
        if part.without is not None:
            without = [labels.subject_id.number_of(name) for name in (None, *part.without)]
            at = at[~np.isin(labels.subject_id.numbers[at], without)]
        return at

    def _of_subjects(self, subjects: Sequence[str]) -> Indices:
        numbers = np.array([self._labels.subject_id.number_of(name) for name in sorted(set(subjects))])
        starts = np.searchsorted(self._sorted, numbers, side="left")
        ends = np.searchsorted(self._sorted, numbers, side="right")
        parts = [self._order[start:end] for start, end in zip(starts, ends, strict=True)]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)


def _kinds(columns: Mapping[str, Any], default: str) -> Texts:
    """What each label is: as its row says, else its dataset; ``group`` and ``none`` by what is there."""
    written: Texts = columns["label_kind"].renamed(lambda kind: default if kind is None else kind)
    no_age = np.isnan(columns["age"])
    grouped = no_age & ~np.isnan(columns["age_low"]) & ~np.isnan(columns["age_high"])
    names = np.unique(np.append(written.names, [b"none", b"group"]))
    found = np.searchsorted(names, written.names)[written.numbers] if len(written) else written.numbers
    found[no_age & ~grouped] = np.searchsorted(names, b"none")
    found[grouped] = np.searchsorted(names, b"group")
    return Texts(names, found)
