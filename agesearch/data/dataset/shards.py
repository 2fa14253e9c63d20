"""Reading a dataset's rows from its Parquet shards, whole or batch by batch; a damaged one says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from agesearch.data.dataset.records import SCHEMA, SHARDS, Part, Split, read_manifest
from agesearch.errors import InputError, first_line
from agesearch.storage import Location

if TYPE_CHECKING:
    import pyarrow.dataset as pads

#: Rows held at once by ``row_batches``: some 10 MB of 112-pixel crops.
BATCH_ROWS = 2048


def shard_names(dataset: Location) -> list[str]:
    """The names of the shards, in order."""
    return [child.name for child in (dataset / SHARDS).children() if child.name.endswith(".parquet")]


def read_rows(dataset: str | Location, part: Split | Part | None, columns: list[str]) -> pa.Table:
    """The columns of a part's rows from all shards; only the rows asked for are kept in memory."""
    folder = Location.of(dataset)
    with _damage_as_input_error(folder):
        return open_shards(folder).to_table(columns=columns, filter=Part.of(part).where)


def rows_of_shards(dataset: str | Location, part: Split | Part | None) -> dict[str, int]:
    """How many rows of a part each shard has, in the order of their names; no image is read."""
    folder = Location.of(dataset)
    with _damage_as_input_error(folder):
        shards = open_shards(folder).get_fragments()
        counts = {
            shard.path.rsplit("/", 1)[-1]: shard.count_rows(filter=Part.of(part).where) for shard in shards
        }
    return dict(sorted(counts.items()))


@dataclass(frozen=True)
class Labelled:
    """How many faces of a part have an exact age, and how many others an age group."""

    ages: int
    groups: int


def labelled(dataset: str | Location, part: Split | Part | None) -> Labelled:
    """Count the labels of a part; no image is read."""
    rows = read_rows(dataset, part, ["age", "age_low"])
    has_age = pc.is_finite(pc.fill_null(rows["age"], float("nan")))
    has_group = pc.and_(pc.invert(has_age), pc.is_valid(rows["age_low"]))
    ages, groups = (int(pc.sum(found).as_py() or 0) for found in (has_age, has_group))
    return Labelled(ages, groups)


def row_batches(
    dataset: str | Location,
    part: Split | Part | None,
    columns: list[str],
    *,
    rows: int = BATCH_ROWS,
    shards: list[str] | None = None,
) -> Iterator[pa.RecordBatch]:
    """The same, as batches of at most ``rows`` rows, so that memory does not grow with the dataset.

    ``shards`` names those to read (default: all).
    """
    folder = Location.of(dataset)
    with _damage_as_input_error(folder):
        # Shard by shard: a scan of the whole reads ahead of a slow caller until it holds every crop.
        for shard in open_shards(folder, shards).get_fragments():
            batches = shard.to_batches(
                SCHEMA, columns=columns, filter=Part.of(part).where, batch_size=rows, batch_readahead=2
            )
            yield from (batch for batch in batches if batch.num_rows)


def open_shards(dataset: Location, names: list[str] | None = None) -> pads.Dataset:
    """All shards (or those named) as one Arrow dataset; columns that an older version lacks are null."""
    import pyarrow.dataset as pads  # loads pandas, which the service does without

    shards = dataset / SHARDS
    if not shards.exists():
        read_manifest(dataset)  # says so where nothing, or something else, is there
        raise InputError(f"'{dataset}' is damaged: its folder '{SHARDS}' is missing. Ingest it again.")
    where = shards.path if names is None else [(shards / name).path for name in names]
    return pads.dataset(where, schema=SCHEMA, filesystem=shards.filesystem, format="parquet")


@contextmanager
def _damage_as_input_error(dataset: Location) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        raise InputError(f"'{dataset}' is damaged: {first_line(error)} Ingest it again.") from error
