"""A split of a dataset as arrays in memory, without Ray: for measuring, plots and small tools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agesearch.ages import FloatArray
from agesearch.data.dataset.records import Part, Split, read_manifest
from agesearch.data.dataset.shards import read_rows
from agesearch.data.images.crop import decode_crop
from agesearch.errors import InputError
from agesearch.storage import Location

Pixels = npt.NDArray[np.uint8]
Strings = npt.NDArray[np.object_]

#: The number columns of a face; missing values are NaN in arrays.
NUMBERS = ("age", "age_std", "age_low", "age_high", "weight")
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
    weight: FloatArray
    subject_id: Strings
    sex: Strings
    ethnicity: Strings
    source: Strings

    def __len__(self) -> int:
        return len(self.sample_id)


def read_arrays(dataset: str | Location, part: Split | Part | None = None) -> FaceArrays:
    """All faces of a split or another part (None: of every split), in order of their sample id.

    Raises ``InputError`` where the dataset has no such faces.
    """
    folder = Location.of(dataset)
    manifest = read_manifest(folder)
    table = read_rows(folder, part, ["image", *NUMBERS, *_TEXTS]).sort_by("sample_id")
    if table.num_rows == 0:
        raise InputError(f"'{folder}' has no faces in {Part.of(part)}.")
    columns: dict[str, Any] = {name: numbers(table.column(name)) for name in NUMBERS}
    columns |= {name: np.array(table.column(name).to_pylist(), dtype=object) for name in _TEXTS}
    return FaceArrays(images=decode_column(table.column("image"), manifest.crop.size), **columns)


def decode_column(encoded: pa.ChunkedArray | pa.BinaryArray, size: int) -> Pixels:
    """Encoded crops -> ``uint8 [N, size, size, 3]`` RGB; a crop of another size is an ``InputError``."""
    images = np.empty((len(encoded), size, size, 3), dtype=np.uint8)
    for index, value in enumerate(encoded):
        images[index] = stored_crop(value.as_py(), size)
    return images


def stored_crop(data: bytes, size: int) -> Pixels:
    """A stored crop as RGB ``uint8 [size, size, 3]``; one of another size is an ``InputError``."""
    crop = decode_crop(data)
    if crop.shape[0] != size:
        raise InputError(
            f"A stored crop has {crop.shape[0]} px, but the dataset says {size}: ingest it anew."
        )
    return crop


def numbers(column: pa.ChunkedArray) -> FloatArray:
    """A nullable number column -> ``float32 [N]`` with NaN for null."""
    filled: FloatArray = column.cast(pa.float32()).fill_null(float("nan")).to_numpy()
    return filled
