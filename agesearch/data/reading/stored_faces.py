"""The faces of a part of a dataset as they are stored: encoded, shard by shard, with a teacher's answers.

Nothing is decoded here, and no more than what is asked for of one shard is in memory: what a training of
millions of faces reads. The files are the one copy that all processes of a node share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agesearch.data.dataset.arrays import NUMBERS, numbers
from agesearch.data.dataset.records import Part, Split, read_manifest
from agesearch.data.dataset.shards import read_rows, row_batches, rows_of_shards
from agesearch.data.reading.node_copies import node_copy
from agesearch.data.reading.teacher_outputs import StoredAnswers, answered, stored_key
from agesearch.errors import InputError
from agesearch.specs import digest_of
from agesearch.storage import Location

Columns = dict[str, npt.NDArray[Any]]
Rows = npt.NDArray[np.intp]

#: What a label is made of.
LABELS = ("age", "age_std", "age_low", "age_high")


@dataclass(frozen=True)
class Answers:
    """Answers of ``width`` values that become the column ``name``: ``files`` has one file a view, ``stored``
    is their column.
    """

    name: str
    stored: str
    files: tuple[Location, ...]
    width: int

    @classmethod
    def of(cls, name: str, stored: str, where: Location | Sequence[Location]) -> Answers:
        """The answers of these files."""
        files = (where,) if isinstance(where, Location) else tuple(where)
        return cls(name, stored, files, StoredAnswers(files[0], stored).width)

    @cached_property
    def open(self) -> list[StoredAnswers]:
        """The files, one a view."""
        return [StoredAnswers(file, self.stored) for file in self.files]

    def __getstate__(self) -> dict[str, Any]:
        """Open files do not travel."""
        return {name: value for name, value in self.__dict__.items() if name != "open"}


@dataclass(frozen=True)
class EncodedFaces:
    """Some faces: ``image`` their JPEGs as Arrow holds them, and their columns ``[n, ...]``: ids, numbers, a
    teacher's answers.
    """

    image: pa.BinaryArray
    columns: Columns

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class StoredFaces:
    """The faces of ``part``: ``sizes[i]`` of them in ``shards[i]``, as crops of ``size`` pixels.

    ``key`` names the dataset's content: shards of an object store are read from this node's copies.
    """

    folder: Location
    part: Part
    size: int
    shards: tuple[str, ...]
    sizes: tuple[int, ...]
    key: str
    answers: tuple[Answers, ...] = ()

    @classmethod
    def of(
        cls,
        dataset: str | Location,
        part: Split | Part | None,
        *,
        targets: Location | Sequence[Location] | None = None,
        features: Location | Sequence[Location] | None = None,
    ) -> StoredFaces:
        """The faces of a part (None: all); one without answers where others have them is an ``InputError``,
        as is a part without faces.
        """
        folder, rows = Location.of(dataset), Part.of(part)
        manifest = read_manifest(folder)
        held = {name: count for name, count in rows_of_shards(folder, rows).items() if count}
        if not held:
            raise InputError(f"'{folder}' has no faces in {rows}.")
        named = (("teacher_pmf", "pmf", targets), ("teacher_features", "features", features))
        answers = tuple(Answers.of(name, stored, where) for name, stored, where in named if where)
        key = digest_of([str(folder), stored_key(manifest), manifest.created])
        faces = cls(folder, rows, manifest.crop.size, tuple(held), tuple(held.values()), key, answers)
        for one in answers:
            faces._check(one)
        return faces

    def __len__(self) -> int:
        return sum(self.sizes)

    @property
    def widths(self) -> dict[str, tuple[int, int]]:
        """The columns of a teacher's answers: how many views each has, and how many values a view."""
        return {one.name: (len(one.files), one.width) for one in self.answers}

    def read(self, shard: int, rows: Rows, view: int | None = None) -> EncodedFaces:
        """The given faces of a shard (numbered among those of the part), encoded, in their order; a teacher's
        answers ``[n, W]`` for a view, or ``[n, V, W]`` for all.
        """
        near = node_copy(self.folder, self.shards[shard], self.key)
        table = self._table(shard, ["sample_id", "image", *NUMBERS], near).take(pa.array(rows))
        ids = np.array(table.column("sample_id").to_pylist(), dtype=str)
        columns: Columns = {"sample_id": ids}
        columns |= {name: numbers(table.column(name)) for name in NUMBERS}
        for one in self.answers:
            views = one.open if view is None else [one.open[view % len(one.open)]]
            found = [answers.of(self.shards[shard], ids) for answers in views]
            columns[one.name] = np.stack(found, axis=1) if view is None else found[0]
        return EncodedFaces(table.column("image").combine_chunks(), columns)

    def numbers(self, shard: int, names: Iterable[str] = LABELS) -> Columns:
        """Number columns of all faces of a shard; no image is read."""
        table = self._table(shard, list(names))
        return {name: numbers(table.column(name)) for name in table.column_names}

    def ids(self, shard: int) -> npt.NDArray[Any]:
        """The ``sample_id`` of all faces of a shard."""
        return np.array(self._table(shard, ["sample_id"]).column(0).to_pylist(), dtype=str)

    def ages(self) -> npt.NDArray[np.float32]:
        """The exact ages in years of the faces that have one."""
        known = numbers(read_rows(self.folder, self.part, ["age"]).column("age"))
        return known[np.isfinite(known)]

    def _table(self, shard: int, columns: list[str], folder: Location | None = None) -> pa.Table:
        if self.folder.is_local and not self.folder.exists():
            raise InputError(
                f"This node does not see '{self.folder}': put the dataset into a folder that all nodes "
                "share, or on an object store."
            )
        batches = list(row_batches(folder or self.folder, self.part, columns, shards=[self.shards[shard]]))
        if sum(map(len, batches)) != self.sizes[shard]:
            raise InputError(
                f"The shard '{self.shards[shard]}' of '{self.folder}' changed while it was read: run again."
            )
        return pa.Table.from_batches(batches)

    def _check(self, answers: Answers) -> None:
        """The views of one teacher have the same faces, so the first one's are compared, unless all files say
        that they are for all faces of this very dataset.
        """
        manifest = read_manifest(self.folder)
        if all(answered(file, stored_key(manifest), manifest.faces) for file in answers.files):
            return
        first, *others = answers.open
        fits = all(first.has(name, self.ids(index)) for index, name in enumerate(self.shards))
        if not fits or any(other.rows != first.rows for other in others):
            raise InputError(
                f"The teacher targets '{answers.files[0]}' lack faces of '{self.folder}': remove them, and "
                "retry."
            )
