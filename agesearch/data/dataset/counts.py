"""What a dataset's manifest says of its rows, counted as they pass: faces, subjects, content digest."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from agesearch.data.dataset.disk_set import DiskSet
from agesearch.data.dataset.records import Split

_ALWAYS = ("age", "age_std", "age_low", "age_high", "subject_id", "split", "fold")
#: Set in mixtures only; where they are not, the digest is what it was before there were any.
_IN_MIXTURES = ("label_kind", "weight")
#: The columns that enter the content digest, besides ``sample_id``.
LABEL_COLUMNS = (*_ALWAYS, *_IN_MIXTURES)
#: What ``RowCounts.add`` reads.
COUNTED_COLUMNS = ["sample_id", *LABEL_COLUMNS]


class RowCounts:
    """Counts rows; the digest is a sum, so that it depends neither on their order nor on memory."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter({split.value: 0 for split in Split})
        self._subjects = DiskSet()
        self._content = 0

    def add(self, sample_id: str, label: Mapping[str, Any]) -> None:
        """Count one row by its labels (``LABEL_COLUMNS``)."""
        self._counts[Split(label["split"]).value] += 1
        if label["subject_id"] is not None:
            self._subjects.add(short_hash(label["subject_id"]))
        self._content = (self._content + _row_number(sample_id, label)) % 2**256

    def add_table(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Count the rows of a table."""
        for row in rows.select(COUNTED_COLUMNS).to_pylist():
            self.add(row["sample_id"], row)

    @property
    def faces(self) -> int:
        """Rows so far."""
        return sum(self._counts.values())

    def fields(self) -> dict[str, Any]:
        """The manifest's fields ``counts``, ``subjects`` (None: unknown) and ``content_digest``."""
        return {
            "counts": dict(self._counts),
            "subjects": len(self._subjects) or None,
            "content_digest": f"{self._content:064x}"[:16],
        }


def short_hash(text: str) -> bytes:
    """16 bytes that stand for a text in an index."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _row_number(sample_id: str, label: Mapping[str, Any]) -> int:
    parts = [sample_id, *(f"{label[name]}" for name in _ALWAYS)]
    parts += [f"{name}={label[name]}" for name in _IN_MIXTURES if label[name] is not None]
    content = "\x1f".join(parts)
    return int.from_bytes(hashlib.sha256(content.encode("utf-8")).digest(), "big")
