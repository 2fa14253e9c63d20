"""Rewrite a dataset whose rows lie in the order of its source, so that any run of shards is a fair sample.

Nothing is decoded or computed: rows are copied to the shards where ``dataset.layout`` puts them, the ledger
of an ingest names the new ones, and what teachers answered is regrouped, file by file. All is staged first,
so a run that is killed leaves the dataset as it was, or is finished by the next. Memory does not grow with
the faces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from agesearch.data.dataset.commit import (
    LEDGERS,
    STAGING,
    Moves,
    finish_publishing,
    is_publishing,
    publish,
    shard_files,
    stage_shards,
)
from agesearch.data.dataset.layout import Partition, row_keys, shard_count, shard_name, shard_numbers
from agesearch.data.dataset.ledger import LEDGER, ledger_batches, read_head, write_ledger
from agesearch.data.dataset.records import MANIFEST, QUARANTINE, SCHEMA, Manifest, read_manifest
from agesearch.data.dataset.shards import row_batches, shard_names
from agesearch.data.dataset.writer import check_output
from agesearch.data.reading.teacher_outputs import (
    TARGETS,
    answer_files,
    answered,
    data_key,
    regroup,
    stored_key,
)
from agesearch.errors import ConflictError, InputError
from agesearch.progress import Listener, Progress, silent
from agesearch.storage import Location, exclusive

_STAGE = "reshard"


def reshard(
    dataset: str | Location,
    out: str | Location | None = None,
    *,
    replace: bool = False,
    on_progress: Listener = silent,
) -> tuple[Manifest, bool]:
    """Mix the rows of a dataset, in its place or as a copy in ``out``; returns the manifest, and whether this
    run did anything.

    Raises ``InputError`` where there is no dataset or a damaged one, ``ConflictError`` where another run
    writes it or its targets, where an ingest of it was cut short, or where ``out`` holds another dataset
    (unless ``replace``).
    """
    folder = Location.of(dataset)
    target = folder if out is None else Location.of(out)
    if not is_publishing(folder):
        read_manifest(folder)  # a misspelt folder is not made
    if target == folder:
        return _in_place(folder, on_progress)
    return _copied(folder, target, replace, on_progress)


def _in_place(folder: Location, on_progress: Listener) -> tuple[Manifest, bool]:
    with ExitStack() as stack:
        check_held = stack.enter_context(exclusive(folder, "The dataset"))
        was_cut = finish_publishing(folder)
        manifest = read_manifest(folder)
        if manifest.is_mixed:
            return manifest, was_cut
        staging = folder / STAGING
        if (staging / LEDGERS).exists():
            raise ConflictError(
                f"'{folder}' holds the work of an ingest that was cut short: the same ingest command goes on "
                f"with it, and mixes the rows too."
            )
        staging.delete()
        for _, files in answer_files(folder):
            stack.enter_context(exclusive(files[0].parent, "The folder of targets"))
        mixed, moves = _stage(folder, folder, manifest, on_progress)
        check_held()
        publish(folder, mixed, moves, shard_files(folder))
        return mixed, True


def _copied(
    folder: Location, target: Location, replace: bool, on_progress: Listener
) -> tuple[Manifest, bool]:
    manifest = read_manifest(folder)
    check_output(target, replace=True)  # a folder of other things is refused before any work
    with exclusive(target, "The dataset") as check_held:
        finish_publishing(target)
        if (target / MANIFEST).exists():
            existing = read_manifest(target)
            if existing.is_mixed and data_key(existing) == data_key(manifest):
                return existing, False
        check_output(target, replace=replace)
        (target / STAGING).delete()
        mixed, moves = _stage(folder, target, manifest, on_progress)
        _copy_file(folder / QUARANTINE, target / STAGING / QUARANTINE)
        check_held()
        publish(target, mixed, [*moves, (QUARANTINE, QUARANTINE)], [*shard_files(target), LEDGER])
        return mixed, True


def _stage(
    folder: Location, target: Location, manifest: Manifest, on_progress: Listener
) -> tuple[Manifest, Moves]:
    """Write shards, ledger and targets into the staging folder; the new manifest, and where they go."""
    staging, count = target / STAGING, shard_count(manifest.faces)
    mixed = manifest.model_copy(update={"hash_shards": count})
    with closing(Partition(staging)) as rows:
        for table in _rows(folder):
            rows.add(table)
            on_progress(Progress(_STAGE, rows.rows, manifest.faces, note="reading faces"))
        if rows.rows != manifest.faces:
            raise InputError(
                f"'{folder}' is damaged: its shards hold {rows.rows} faces, its manifest says "
                f"{manifest.faces}. Ingest it again."
            )
        moves = stage_shards(target, _told(rows.shards(count), manifest.faces, on_progress))
    if (head := read_head(folder)) is not None:
        write_ledger(staging / LEDGER, head, _ledger_rows(folder, count))
        moves.append((LEDGER, LEDGER))
    return mixed, [*moves, *_stage_targets(folder, target, manifest, mixed, on_progress)]


def _rows(folder: Location) -> Iterator[pa.Table]:
    for shard in shard_names(folder):
        for batch in row_batches(folder, None, SCHEMA.names, shards=[shard]):
            yield pa.Table.from_batches([batch]).select(SCHEMA.names).cast(SCHEMA)


def _told(
    shards: Iterable[tuple[int, pa.Table]], faces: int, on_progress: Listener
) -> Iterator[tuple[int, pa.Table]]:
    done = 0
    for number, rows in shards:
        yield number, rows
        done += len(rows)
        on_progress(Progress(_STAGE, done, faces, note="writing shards"))


def _ledger_rows(folder: Location, count: int) -> Iterator[list[dict[str, Any]]]:
    for batch in ledger_batches(folder / LEDGER):
        rows = batch.to_pylist()
        held = [row for row in rows if row["shard"] is not None]
        numbers = shard_numbers(row_keys([row["sample_id"] for row in held]), count)
        for row, number in zip(held, numbers.tolist(), strict=True):
            row["shard"] = shard_name(number)
        yield rows


def _stage_targets(
    folder: Location, target: Location, manifest: Manifest, mixed: Manifest, on_progress: Listener
) -> Moves:
    """Regroup the answers for these faces; those for other states of the dataset stay where they are."""
    files = [file for _, some in answer_files(folder) for file in some]
    moves = []
    for done, file in enumerate(files):
        on_progress(Progress(_STAGE, done, len(files), note="targets"))
        if answered(file, stored_key(manifest), manifest.faces):
            place = f"{TARGETS}/{file.path.rsplit(f'/{TARGETS}/', 1)[1]}"
            staged = target / STAGING / place
            regroup(file, mixed, staged, target / STAGING)
            (target / place).parent.make_dir()
            moves.append((place, place))
    return moves


def _copy_file(source: Location, target: Location) -> None:
    pafs.copy_files(
        source.path,
        target.path,
        source_filesystem=source.filesystem,
        destination_filesystem=target.filesystem,
    )
