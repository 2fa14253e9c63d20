"""The ledger of an ingest: what became of each record, kept beside the shards as ``ledger.parquet``.

A later run looks a record up by its key (see ``survey.Entry``) and works only on what it does not find. The
same rows, a file for each finished unit of work, lie in ``.staging`` while a run goes on, so that a killed
one can be resumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agesearch.errors import InputError, first_line
from agesearch.storage import Location

LEDGER = "ledger.parquet"
LEDGER_SCHEMA = pa.schema(
    [
        pa.field("key", pa.binary(16), nullable=False),
        # Relative to the images.
        pa.field("path", pa.string(), nullable=False),
        # Nanoseconds; null without a file.
        pa.field("modified", pa.int64()),
        # Of a face, even of one that a duplicate stands for; null where ``reason`` says why there is none.
        pa.field("sample_id", pa.string()),
        pa.field("photo_digest", pa.string()),
        # As drawn for its subject or photograph alone, or as its owner says.
        pa.field("split", pa.string()),
        # Where the row went instead, with the others that photographs tie it to (``splits.tied_splits``).
        pa.field("moved_to", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        # The shard that holds the face with this record's labels; null for duplicates.
        pa.field("shard", pa.string()),
    ]
)

ROWS_AT_ONCE = 4096
_CONTENT, _RECIPE, _STAMP = b"agesearch.content", b"agesearch.recipe", b"agesearch.stamp"


@dataclass(frozen=True)
class LedgerHead:
    """Which dataset a ledger belongs to (content and recipe digests), and the stamp of the source then."""

    content: str
    recipe: str
    stamp: str


def read_head(dataset: Location) -> LedgerHead | None:
    """The head of a dataset's ledger; None where it has none."""
    place = dataset / LEDGER
    if not place.exists():
        return None
    with _opened(place) as file:
        found = file.schema_arrow.metadata or {}
    return LedgerHead(*(found.get(name, b"").decode() for name in (_CONTENT, _RECIPE, _STAMP)))


def ledger_batches(place: Location) -> Iterator[pa.RecordBatch]:
    """The rows of a ledger file, a few thousand at once."""
    with _opened(place) as file:
        yield from file.iter_batches(batch_size=ROWS_AT_ONCE, columns=LEDGER_SCHEMA.names)


def write_ledger(place: Location, head: LedgerHead, rows: Iterable[list[dict[str, Any]]]) -> None:
    """Write a ledger from lists of rows, one list in memory at a time."""
    facts = {_CONTENT: head.content, _RECIPE: head.recipe, _STAMP: head.stamp}
    write_rows(place, LEDGER_SCHEMA.with_metadata(facts), rows)


def write_rows(place: Location, schema: pa.Schema, rows: Iterable[list[dict[str, Any]]]) -> None:
    """Write a Parquet file from lists of rows, one list in memory at a time."""
    with (
        place.staged() as temporary,
        pq.ParquetWriter(
            temporary.path, schema, filesystem=temporary.filesystem, compression="zstd"
        ) as writer,
    ):
        for some in rows:
            writer.write_table(pa.Table.from_pylist(some, schema=schema))


def _opened(place: Location) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(place.path, filesystem=place.filesystem)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"'{place}' is damaged: {first_line(error)} Ingest again with --replace.") from error
