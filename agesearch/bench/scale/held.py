"""Encoded faces in memory: a training on them does all that one from the shards does but the reading."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agesearch.data.reading.stored_faces import LABELS, Columns, EncodedFaces, Rows, StoredFaces


class HeldShards:
    """The faces of the first shards of ``faces``, at least ``limit`` of them if so many, as one shard."""

    def __init__(self, faces: StoredFaces, limit: int) -> None:
        ends = np.cumsum(faces.sizes)
        count = min(len(ends), int(np.searchsorted(ends, limit)) + 1)
        parts = [faces.read(shard, np.arange(faces.sizes[shard]), 0) for shard in range(count)]
        names = parts[0].columns
        self._image = pa.concat_arrays([part.image for part in parts])
        self._columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in names}
        self.size, self.sizes = faces.size, [int(ends[count - 1])]
        self.widths: Mapping[str, tuple[int, int]] = faces.widths

    def read(self, shard: int, rows: Rows, view: int | None = None) -> EncodedFaces:
        """These faces, encoded."""
        columns = {name: column[rows] for name, column in self._columns.items()}
        return EncodedFaces(self._image.take(pa.array(rows)), columns)

    def numbers(self, shard: int) -> Columns:
        """The label columns."""
        return {name: self._columns[name] for name in LABELS}

    def ids(self, shard: int) -> npt.NDArray[np.str_]:
        """The ``sample_id`` of each face."""
        return self._columns["sample_id"]
