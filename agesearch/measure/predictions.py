"""The faces that a protocol scores: their labels as arrays, and what a model predicts for them.

Labels are small and read whole; crops are streamed batch by batch, so that memory does not grow with the
pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agesearch.ages import BINS, FloatArray, expected_age
from agesearch.data.dataset.arrays import Strings, numbers
from agesearch.data.dataset.records import Part, Split, read_manifest
from agesearch.data.dataset.shards import read_rows, row_batches
from agesearch.data.images.crop import decode_crop
from agesearch.errors import InputError
from agesearch.measure.intervals import Persons
from agesearch.models.predictors import Predictor
from agesearch.storage import Location

Indices = npt.NDArray[np.int64]

_NUMBERS = ("age", "age_std", "age_low", "age_high")
_TEXTS = ("sample_id", "subject_id", "sex", "ethnicity", "source", "split")
#: Faces decoded at once: enough for every core, some 20 MB of 112-pixel crops.
_BATCH_FACES = 512


@dataclass(frozen=True)
class Labels:
    """What is known of N faces; ages in years ``float32 [N]`` (NaN: unknown), texts ``[N]`` (None: unknown).

    ``label_kind`` says what each label is (``real``, ``apparent``, ``teacher``, ``group``, ``synthetic``;
    ``none`` for a face without a label); ``fold`` is -1 for a face of no fold.
    """

    sample_id: Strings
    age: FloatArray
    age_std: FloatArray
    age_low: FloatArray
    age_high: FloatArray
    subject_id: Strings
    sex: Strings
    ethnicity: Strings
    source: Strings
    split: Strings
    fold: Indices
    label_kind: Strings

    def __len__(self) -> int:
        return len(self.sample_id)

    @cached_property
    def persons(self) -> Persons:
        """Who each face shows: what intervals and paired tests resample."""
        return Persons.of(self.sample_id, self.subject_id)

    def take(self, where: npt.NDArray[Any]) -> Self:
        """The faces at some indices, or where a mask is true."""
        return type(self)(**{field.name: getattr(self, field.name)[where] for field in fields(self)})


@dataclass(frozen=True)
class Predictions(Labels):
    """The same faces with one model's predictions: PMFs ``float32 [N, 101]`` and expected ages ``[N]``."""

    pmf: FloatArray
    predicted: FloatArray

    @classmethod
    def of(cls, labels: Labels, pmf: FloatArray) -> Predictions:
        """Labels with a model's PMFs ``[N, 101]`` of the same faces in the same order."""
        if pmf.shape != (len(labels), BINS):
            raise InputError(f"{len(labels)} faces need PMFs [{len(labels)}, {BINS}], but got {pmf.shape}.")
        known = {field.name: getattr(labels, field.name) for field in fields(Labels)}
        return cls(**known, pmf=pmf, predicted=expected_age(pmf))

    @classmethod
    def joined(cls, parts: Sequence[Predictions]) -> Predictions:
        """The faces of several parts as one, such as the tests of several turns."""
        if len(parts) == 1:
            return parts[0]
        columns = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)}
        return cls(**columns)


def read_labels(dataset: str | Location, part: Split | Part | None = None) -> Labels:
    """The labels of the faces of a part (None: of all), in order of their sample ids; it may be empty."""
    folder = Location.of(dataset)
    kind = read_manifest(folder).label_kind
    table = read_rows(folder, part, [*_TEXTS, *_NUMBERS, "fold", "label_kind"]).sort_by("sample_id")
    columns: dict[str, Any] = {name: numbers(table.column(name)) for name in _NUMBERS}
    columns |= {name: _texts(table.column(name)) for name in _TEXTS}
    columns["fold"] = table.column("fold").cast(pa.int64()).fill_null(-1).to_numpy()
    columns["label_kind"] = _kinds(_texts(table.column("label_kind")), kind, columns)
    return Labels(**columns)


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
    place = {sample_id: index for index, sample_id in enumerate(labels.sample_id)}
    found = {name: np.full((len(labels), BINS), np.nan, dtype=np.float32) for name in predictors}
    done = 0
    with ThreadPoolExecutor(threads) as pool:
        for batch in row_batches(dataset, part, ["sample_id", "image"], rows=_BATCH_FACES):
            at = np.array([place.get(key, -1) for key in batch.column("sample_id").to_pylist()])
            wanted = np.flatnonzero(at >= 0)
            if not len(wanted):
                continue
            crops = batch.column("image").take(pa.array(wanted)).to_pylist()
            images = list(pool.map(decode_crop, crops))
            for name, predictor in predictors.items():
                found[name][at[wanted]] = predictor.pmf(images)
            done += len(wanted)
            on_batch(done)
    if done < len(labels):
        raise InputError(f"'{dataset}' lacks {len(labels) - done} of {len(labels)} faces: ingest it again.")
    return {name: Predictions.of(labels, pmf) for name, pmf in found.items()}


class Picker:
    """Finds the faces of a part among labels; quick for thousands of parts of one subject each."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._by_subject: dict[str, list[int]] = {}
        for index, subject in enumerate(labels.subject_id):
            if subject is not None:
                self._by_subject.setdefault(subject, []).append(index)

    def indices(self, part: Part) -> Indices:
        """The indices of the part's faces, rising."""
        labels = self._labels
        if part.subjects is not None:
            chosen = sorted(index for name in set(part.subjects) for index in self._by_subject.get(name, ()))
            at = np.array(chosen, dtype=np.int64)
        else:
            at = np.arange(len(labels))
        if part.split is not None:
            at = at[labels.split[at] == str(part.split)]
        if part.folds is not None:
            at = at[np.isin(labels.fold[at], part.folds)]
        if part.without is not None:
            without = {None, *part.without}
            at = at[np.array([name not in without for name in labels.subject_id[at]], dtype=bool)]
        return at


def _texts(column: pa.ChunkedArray) -> Strings:
    """Texts of which equal ones are one object: a split's name is not kept once a face."""
    encoded = pa.array(column.to_pylist(), pa.string()).dictionary_encode()
    names = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    texts: Strings = names[encoded.indices.fill_null(len(names) - 1).to_numpy(zero_copy_only=False)]
    return texts


def _kinds(written: Strings, default: str, columns: Mapping[str, Any]) -> Strings:
    """What each label is: as its row says, else its dataset; ``group`` and ``none`` by what is there."""
    kinds = np.array([default if kind is None else kind for kind in [*written, ""]], dtype=object)[:-1]
    no_age = np.isnan(columns["age"])
    grouped = no_age & ~np.isnan(columns["age_low"]) & ~np.isnan(columns["age_high"])
    kinds[no_age & ~grouped] = "none"
    kinds[grouped] = "group"
    return kinds
