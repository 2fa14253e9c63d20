"""Write a dataset so that it is there whole or not at all: staged shards, quarantine, and the manifest last.

A folder is a dataset once ``dataset.json`` is in it. Until then shards lie under ``.staging``, so a run that
is killed leaves an earlier dataset as it was. Works the same on a local folder and behind a URI.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from agesearch.artefacts import own_folder
from agesearch.data.dataset.commit import (
    STAGING,
    Moves,
    Quarantine,
    finish_publishing,
    publish,
    shard_files,
    stage_shards,
)
from agesearch.data.dataset.counts import LABEL_COLUMNS, RowCounts, short_hash
from agesearch.data.dataset.disk_set import DiskSet
from agesearch.data.dataset.layout import Partition, shard_count
from agesearch.data.dataset.ledger import LEDGER
from agesearch.data.dataset.records import (
    MANIFEST,
    QUARANTINE,
    SCHEMA,
    SHARDS,
    Annotation,
    Augmentation,
    LabelKind,
    Manifest,
    MixturePart,
    Rejected,
    Turn,
    read_manifest,
)
from agesearch.errors import ConflictError, InputError
from agesearch.provenance import installed, now
from agesearch.specs import CropSpec
from agesearch.storage import Location


class DatasetWriter:
    """Takes finished rows, writes a dataset folder; the caller holds ``storage.exclusive(out, ...)``.

    ``add`` takes rows (dicts by the names of ``SCHEMA``; absent columns are null, and a row without
    ``photo_digest`` is a photograph of its own) or a table of that schema.
    A ``sample_id`` that was added before is not written again but quarantined as ``duplicate``. ``finish``
    makes the dataset appear, its rows mixed (see ``layout``) whatever the order they came in; without it
    nothing but ``.staging`` is left behind.
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
        turns: tuple[Turn, ...] = (),
        notes: tuple[str, ...] = (),
        parts: tuple[MixturePart, ...] = (),
        annotation: Annotation | None = None,
        augmentation: Augmentation | None = None,
        replace: bool = False,
        rows_per_shard: int | None = None,
    ) -> None:
        finish_publishing(out)
        check_output(out, replace=replace)
        self._out = out
        self._fields: dict[str, Any] = {
            "name": name,
            "label_kind": label_kind,
            "licence": licence,
            "crop": crop,
            "detector": detector,
            "turns": turns,
            "notes": notes,
            "parts": parts,
            "annotation": annotation,
            "augmentation": augmentation,
        }
        self._rows_per_shard = rows_per_shard
        self._row_counts = RowCounts()
        self._seen = DiskSet()
        (out / STAGING).delete()
        (out / STAGING / SHARDS).make_dir()
        self._quarantine = Quarantine(out / STAGING)
        self._rows = Partition(out / STAGING)

    def __contains__(self, sample_id: str) -> bool:
        """Whether a face of this ``sample_id`` was taken."""
        return short_hash(sample_id) in self._seen

    @property
    def faces(self) -> int:
        """Faces taken so far."""
        return self._row_counts.faces

    @property
    def left_out(self) -> int:
        """Rows quarantined so far."""
        return self._quarantine.reasons.total()

    def add(self, rows: Sequence[Mapping[str, Any]] | pa.Table, paths: Sequence[str] | None = None) -> None:
        """Take rows; ``paths`` (where each came from) names a duplicate in the quarantine."""
        if isinstance(rows, pa.Table):
            faces = rows
        else:
            own = [{"photo_digest": row["sample_id"], **row} for row in rows]
            faces = pa.Table.from_pylist(own, schema=SCHEMA)
        faces = faces.select(SCHEMA.names).cast(SCHEMA)
        keep = self._take(faces, paths)
        self._rows.add(faces.take(pa.array(keep, pa.int64())) if len(keep) < len(faces) else faces)

    def reject(self, left_out: Iterable[Rejected]) -> None:
        """Take what was left out, with its reason."""
        self._quarantine.add(left_out)

    def finish(
        self,
        left_out: Iterable[Rejected] = (),
        *,
        source_digest: str = "",
        spec_digest: str = "",
        also: Callable[[Manifest], Moves] | None = None,
    ) -> Manifest:
        """Make the dataset appear and return its manifest; an ``InputError`` where not one face came.

        ``also`` may put more files into the staging folder once all rows are written, and says where in the
        dataset they go; they appear with it.
        """
        self.reject(left_out)
        if not self.faces:
            self.discard()
            raise nothing_left(self._out, self._quarantine.reasons)
        count = shard_count(self.faces, self._rows_per_shard)
        shards = stage_shards(self._out, self._rows.shards(count))
        manifest = Manifest(
            **self._fields,
            **self._row_counts.fields(),
            hash_shards=count,
            left_out=self._quarantine.finish(),
            source_digest=source_digest,
            spec_digest=spec_digest,
            created=now(),
            versions=versions(),
        )
        more = [] if also is None else also(manifest)
        moves = [*shards, (QUARANTINE, QUARANTINE), *more]
        publish(self._out, manifest, moves, [*shard_files(self._out), LEDGER])
        return manifest

    def discard(self) -> None:
        """Forget everything; an earlier dataset in the folder stays as it was."""
        self._quarantine.discard()
        self._rows.close()
        (self._out / STAGING).delete()

    def _take(self, faces: pa.Table, paths: Sequence[str] | None) -> list[int]:
        """Indices of the rows that are new; they are counted and enter the content digest."""
        ids: list[str] = faces["sample_id"].to_pylist()
        labels: list[dict[str, Any]] = faces.select(LABEL_COLUMNS).to_pylist()
        keep = []
        for index, (sample_id, label) in enumerate(zip(ids, labels, strict=True)):
            if not self._seen.add(short_hash(sample_id)):
                where = paths[index] if paths is not None else sample_id
                self.reject([duplicate(where, sample_id, faces["source"][index].as_py())])
                continue
            self._row_counts.add(sample_id, label)
            keep.append(index)
        return keep


def check_output(out: Location, *, replace: bool) -> None:
    """Refuse a folder that holds something else than a dataset, and a dataset unless it may be replaced."""
    if (out / MANIFEST).exists():
        if not replace:
            raise ConflictError(
                f"'{out}' already holds a dataset made from other data or another recipe: choose another "
                f"--out, or give --replace to make it anew."
            )
        return
    own_folder(out, "a dataset", (STAGING,))


def made_already(out: Location, source: str, recipe: str, *, replace: bool) -> Manifest | None:
    """The manifest of ``out`` where it is the dataset of these digests: there is nothing to do. None where it
    may be written; else it is refused as by ``check_output``.
    """
    check_output(out, replace=True)  # a folder of other things is refused before any work
    if (out / MANIFEST).exists():
        existing = read_manifest(out)
        if (existing.source_digest, existing.spec_digest) == (source, recipe):
            return existing
    check_output(out, replace=replace)
    return None


def versions() -> dict[str, str]:
    """The versions that decide the pixels of a crop."""
    packages = ("agesearch", "numpy", "pillow", "opencv-python-headless", "pyarrow")
    return {"python": platform.python_version(), **installed(packages)}


def duplicate(path: str, sample_id: str, source: str, ages: tuple[str, str] | None = None) -> Rejected:
    """The rejection of a face that an earlier row has; ``ages``: its own and that row's, if they differ."""
    detail = f"same face as an earlier row: {sample_id}"
    if ages is not None:
        detail += f"; two ages: {ages[0]} here, {ages[1]} there, which was taken"
    return Rejected(path, "duplicate", detail, source)


def nothing_left(out: Location, reasons: Counter[str]) -> InputError:
    """The error of a run that ends without a face."""
    counts = (
        ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()) or "the source is empty"
    )
    return InputError(f"Not one face was found, so '{out}' was not written. Left out: {counts}.")
