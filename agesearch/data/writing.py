"""Write a dataset so that it is there whole or not at all: staged shards, quarantine, and the manifest last.

A folder is a dataset once ``dataset.json`` is in it. Until then shards lie under ``.staging``, so a run that
is killed leaves an earlier dataset as it was. Works the same on a local folder and behind a URI.
"""

from __future__ import annotations

import datetime
import hashlib
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from agesearch.data.records import (
    MANIFEST,
    QUARANTINE,
    QUARANTINE_SCHEMA,
    SCHEMA,
    SHARDS,
    LabelKind,
    Manifest,
    MixturePart,
    Rejected,
    Rotation,
    Split,
)
from agesearch.errors import ConflictError, InputError
from agesearch.specs import CropSpec
from agesearch.storage import Location

STAGING = ".staging"
#: Rows of one Parquet shard: about 10 MB of 112-pixel crops, small enough to read with few rows in memory.
ROWS_PER_SHARD = 2048

_LABEL_COLUMNS = ("age", "age_std", "age_low", "age_high", "subject_id", "split", "fold")


class DatasetWriter:
    """Takes finished rows, writes a dataset folder; the caller holds ``storage.exclusive(out, ...)``.

    ``add`` takes rows (dicts by the names of ``SCHEMA``; absent columns are null) or a table of that schema.
    A ``sample_id`` that was added before is not written again but quarantined as ``duplicate``. ``finish``
    makes the dataset appear; without it nothing but ``.staging`` is left behind.
    """

    def __init__(
        self,
        out: Location,
        *,
        name: str,
        label_kind: LabelKind,
        licence: str,
        crop: CropSpec,
        detector: str,
        rotations: tuple[Rotation, ...] = (),
        notes: tuple[str, ...] = (),
        parts: tuple[MixturePart, ...] = (),
        replace: bool = False,
        rows_per_shard: int = ROWS_PER_SHARD,
    ) -> None:
        check_output(out, replace=replace)
        self._out = out
        self._fields: dict[str, Any] = {
            "name": name,
            "label_kind": label_kind,
            "licence": licence,
            "crop": crop,
            "detector": detector,
            "rotations": rotations,
            "notes": notes,
            "parts": parts,
        }
        self._rows_per_shard = rows_per_shard
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0
        self._shards: list[str] = []
        self._counts: Counter[str] = Counter({split.value: 0 for split in Split})
        self._seen: set[bytes] = set()
        self._subjects: set[bytes] = set()
        self._content = 0
        self._rejected: list[Rejected] = []
        (out / STAGING).delete()
        (out / STAGING / SHARDS).make_dir()

    @property
    def faces(self) -> int:
        """Faces taken so far."""
        return sum(self._counts.values())

    @property
    def left_out(self) -> int:
        """Rows quarantined so far."""
        return len(self._rejected)

    def add(self, rows: Sequence[Mapping[str, Any]] | pa.Table, paths: Sequence[str] | None = None) -> None:
        """Take rows; ``paths`` (where each came from) names a duplicate in the quarantine."""
        faces = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=SCHEMA)
        faces = faces.select(SCHEMA.names).cast(SCHEMA)
        keep = self._take(faces, paths)
        self._waiting.append(faces.take(pa.array(keep, pa.int64())) if len(keep) < len(faces) else faces)
        self._waiting_rows += len(keep)
        while self._waiting_rows >= self._rows_per_shard:
            self._flush(self._rows_per_shard)

    def reject(self, left_out: Iterable[Rejected]) -> None:
        """Take what was left out, with its reason."""
        self._rejected.extend(left_out)

    def finish(
        self, left_out: Iterable[Rejected] = (), *, source_digest: str = "", spec_digest: str = ""
    ) -> Manifest:
        """Make the dataset appear and return its manifest; an ``InputError`` where not one face came."""
        self.reject(left_out)
        reasons = Counter(item.reason for item in self._rejected)
        if not self.faces:
            self.discard()
            raise InputError(_nothing_left(self._out, reasons))
        if self._waiting_rows:
            self._flush(self._waiting_rows)
        manifest = Manifest(
            **self._fields,
            counts=dict(self._counts),
            subjects=len(self._subjects) or None,
            left_out=dict(sorted(reasons.items())),
            source_digest=source_digest,
            content_digest=f"{self._content:064x}"[:16],
            spec_digest=spec_digest,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            versions=versions(),
        )
        self._publish(manifest)
        return manifest

    def discard(self) -> None:
        """Forget everything; an earlier dataset in the folder stays as it was."""
        (self._out / STAGING).delete()

    def _take(self, faces: pa.Table, paths: Sequence[str] | None) -> list[int]:
        """Indices of the rows that are new; they are counted and enter the content digest."""
        ids: list[str] = faces["sample_id"].to_pylist()
        labels: list[dict[str, Any]] = faces.select(_LABEL_COLUMNS).to_pylist()
        keep = []
        for index, (sample_id, label) in enumerate(zip(ids, labels, strict=True)):
            key = _short_hash(sample_id)
            if key in self._seen:
                where = paths[index] if paths is not None else sample_id
                source = faces["source"][index].as_py()
                self._rejected.append(
                    Rejected(where, "duplicate", f"same face as an earlier row: {sample_id}", source)
                )
                continue
            self._seen.add(key)
            self._counts[Split(label["split"]).value] += 1
            if label["subject_id"] is not None:
                self._subjects.add(_short_hash(label["subject_id"]))
            self._content = (self._content + _row_number(sample_id, label)) % 2**256
            keep.append(index)
        return keep

    def _flush(self, count: int) -> None:
        table = pa.concat_tables(self._waiting)
        shard = f"{len(self._shards):05d}.parquet"
        (self._out / STAGING / SHARDS / shard).write_table(table.slice(0, count).combine_chunks())
        self._shards.append(shard)
        rest = table.slice(count)
        self._waiting, self._waiting_rows = [rest], len(rest)

    def _publish(self, manifest: Manifest) -> None:
        quarantine = pa.Table.from_pylist([vars(item) for item in self._rejected], schema=QUARANTINE_SCHEMA)
        (self._out / STAGING / QUARANTINE).write_table(quarantine)
        # The manifest goes first and comes last: at no moment does it describe files that are not there.
        (self._out / MANIFEST).delete()
        (self._out / SHARDS).delete()
        (self._out / SHARDS).make_dir()
        for shard in self._shards:
            _move(self._out / STAGING / SHARDS / shard, self._out / SHARDS / shard)
        _move(self._out / STAGING / QUARANTINE, self._out / QUARANTINE)
        (self._out / MANIFEST).write_json(manifest.model_dump(mode="json"))
        (self._out / STAGING).delete()


def check_output(out: Location, *, replace: bool) -> None:
    """Refuse a folder that holds something else than a dataset, and a dataset unless it may be replaced."""
    if (out / MANIFEST).exists():
        if not replace:
            raise ConflictError(
                f"'{out}' already holds a dataset made from other data or another recipe: choose another "
                f"--out, or give --replace to make it anew."
            )
        return
    info = out.filesystem.get_file_info(out.path)
    if info.type == pafs.FileType.File:
        raise InputError(f"'{out}' is a file, but --out must be a folder for the dataset.")
    names = {child.name for child in out.children()} - {".lock"}
    if names and STAGING not in names:
        example = sorted(names)[0]
        raise InputError(
            f"'{out}' holds other things (such as '{example}') and no dataset: choose another --out, "
            f"or empty it."
        )


def versions() -> dict[str, str]:
    """The versions that decide the pixels of a crop."""
    found = {"python": platform.python_version()}
    for package in ("agesearch", "numpy", "pillow", "opencv-python-headless", "pyarrow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # such as another build of OpenCV
            continue
    return found


def sample_id_of(data: bytes, box: Sequence[float] | None = None) -> str:
    """32 hex digits of the SHA-256 of the source's bytes and, where it gives one, the source's own box."""
    digest = hashlib.sha256(data)
    if box is not None:
        digest.update(np.asarray(box, dtype="<f4").tobytes())
    return digest.hexdigest()[:32]


def _move(source: Location, target: Location) -> None:
    target.filesystem.move(source.path, target.path)


def _short_hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()


def _row_number(sample_id: str, label: Mapping[str, Any]) -> int:
    """A row as a number: their sum does not depend on the order of the rows, and needs no memory."""
    content = "\x1f".join([sample_id, *(f"{label[name]}" for name in _LABEL_COLUMNS)])
    return int.from_bytes(hashlib.sha256(content.encode("utf-8")).digest(), "big")


def _nothing_left(out: Location, reasons: Counter[str]) -> str:
    told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()) or "the source is empty"
    return f"Not one face was found, so '{out}' was not written. Left out: {told}."
