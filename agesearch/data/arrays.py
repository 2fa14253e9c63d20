"""A split of a dataset as arrays in memory, without Ray: for measuring, plots and small tools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agesearch.ages import FloatArray
from agesearch.data.faces import decode_crop
from agesearch.data.records import SHARDS, Split, read_manifest
from agesearch.errors import InputError
from agesearch.storage import Location

Pixels = npt.NDArray[np.uint8]
Strings = npt.NDArray[np.object_]

#: The number columns of a face; missing values are NaN in arrays.
NUMBERS = ("age", "age_std", "age_low", "age_high")
_TEXTS = ("sample_id", "subject_id", "sex", "ethnicity", "source")


@dataclass(frozen=True)
class FaceArrays:
    """N faces: ``images`` uint8 [N, S, S, 3] RGB, ages in years [N] (NaN: unlabelled), texts [N] (None:
    unknown).
    """

    sample_id: Strings
    images: Pixels
    age: FloatArray
    age_std: FloatArray
    age_low: FloatArray
    age_high: FloatArray
    subject_id: Strings
    sex: Strings
    ethnicity: Strings
    source: Strings

    def __len__(self) -> int:
        return len(self.sample_id)


def read_arrays(dataset: str | Location, split: Split | None = None) -> FaceArrays:
    """All faces of a split (None: of every split), in order of their sample id.

    Raises ``InputError`` where the dataset has no such faces.
    """
    folder = Location.of(dataset)
    manifest = read_manifest(folder)
    table = read_rows(folder, split, ["image", *NUMBERS, *_TEXTS]).sort_by("sample_id")
    if table.num_rows == 0:
        raise InputError(f"'{folder}' has no faces in its split '{split or 'all'}'.")
    columns: dict[str, Any] = {name: numbers(table.column(name)) for name in NUMBERS}
    columns |= {name: np.array(table.column(name).to_pylist(), dtype=object) for name in _TEXTS}
    return FaceArrays(images=decode_column(table.column("image"), manifest.crop.size), **columns)


def read_rows(dataset: Location, split: Split | None, columns: list[str]) -> pa.Table:
    """The columns of a split's rows from all shards; only the rows asked for are kept in memory."""
    where = dataset / SHARDS
    wanted = None if split is None else pc.field("split") == str(split)
    try:
        return pq.read_table(where.path, columns=columns, filesystem=where.filesystem, filters=wanted)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"'{where}' is not a readable folder of Parquet shards: {reason}") from error


def decode_column(encoded: pa.ChunkedArray, size: int) -> Pixels:
    """Encoded crops -> ``uint8 [N, size, size, 3]`` RGB; a crop of another size is an ``InputError``."""
    images = np.empty((len(encoded), size, size, 3), dtype=np.uint8)
    for index, value in enumerate(encoded):
        crop = decode_crop(value.as_py())
        if crop.shape[0] != size:
            raise InputError(
                f"A stored crop has {crop.shape[0]} px, but the dataset says {size}: ingest it anew."
            )
        images[index] = crop
    return images


def numbers(column: pa.ChunkedArray) -> FloatArray:
    """A nullable number column -> ``float32 [N]`` with NaN for null."""
    filled: FloatArray = column.cast(pa.float32()).fill_null(float("nan")).to_numpy()
    return filled
