"""A teacher's age distribution for every face of a dataset, computed once and shared by all students.

As in Fast Knowledge Distillation (Shen & Xing 2022): a frozen teacher's PMF of an image never changes, so it
is stored beside the dataset, ``targets/<teacher digest>/plain.parquet`` (``sample_id``, ``pmf`` float16
[101]). ``plain`` is the view: the crop as it is stored, without augmentation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from agesearch.ages import BINS
from agesearch.data.arrays import decode_column
from agesearch.data.records import SHARDS, Manifest, read_manifest
from agesearch.data.shards import shard_names
from agesearch.measure.speed import cores
from agesearch.models.manifest import model_digest
from agesearch.models.scorers import Scorer, scorer_of
from agesearch.progress import Listener, Progress, silent
from agesearch.specs import digest_of
from agesearch.storage import Location

PLAIN_VIEW = "plain"

SCHEMA = pa.schema([pa.field("sample_id", pa.string()), pa.field("pmf", pa.list_(pa.float16(), BINS))])

#: Up to so many faces are scored in this process: a Ray worker takes 3 s to start, as long as 1,500 faces.
FACES_SCORED_HERE = 4096

_DATA_KEY = b"agesearch.dataset"


def teacher_targets(
    teacher: str | Location, dataset: str | Location, on_progress: Listener = silent
) -> Location:
    """The Parquet file with the teacher's PMFs for all faces of a dataset; computed where it is missing.

    Each shard is stored when it is done, so a killed run goes on where it stopped. Ray must be running where
    the dataset is large.
    """
    folder = Location.of(dataset)
    manifest = read_manifest(folder)
    data = digest_of([manifest.content_digest, manifest.crop.model_dump(mode="json")])
    place = folder / "targets" / model_digest(teacher)
    out = place / f"{PLAIN_VIEW}.parquet"
    if _belongs(out, data):
        return out
    parts = place / f".{PLAIN_VIEW}.{data}"
    shards = [folder / SHARDS / name for name in shard_names(folder)]
    missing = [shard for shard in shards if not (parts / shard.name).exists()]
    _score(teacher, manifest, missing, parts, len(shards), on_progress)
    tables = [(parts / shard.name).read_table() for shard in shards]
    out.write_table(pa.concat_tables(tables).cast(SCHEMA).replace_schema_metadata({_DATA_KEY: data.encode()}))
    parts.delete()
    return out


def score_shard(shard: Location, teacher: Scorer, crop_size: int, threads: int = 1) -> pa.Table:
    """The PMFs of one shard's faces."""
    table = shard.read_table(["sample_id", "image"])
    predictor = teacher.open(threads)
    pmf = predictor.pmf(decode_column(table.column("image"), crop_size)).astype(np.float16)
    masses = pa.FixedSizeListArray.from_arrays(pa.array(pmf.reshape(-1)), BINS)
    return pa.table({"sample_id": table.column("sample_id"), "pmf": masses}, schema=SCHEMA)


def _score(
    teacher: str | Location,
    manifest: Manifest,
    shards: list[Location],
    parts: Location,
    total: int,
    on_progress: Listener,
) -> None:
    scorer, size = scorer_of(teacher, manifest.crop), manifest.crop.size
    done = total - len(shards)
    on_progress(Progress("teacher targets", done, total))
    if manifest.faces <= FACES_SCORED_HERE:
        threads = cores()
        for shard in shards:
            (parts / shard.name).write_table(score_shard(shard, scorer, size, threads))
            done += 1
            on_progress(Progress("teacher targets", done, total))
        return
    for _ in _scored_by_workers(shards, parts, scorer, size):
        done += 1
        on_progress(Progress("teacher targets", done, total))


def _scored_by_workers(shards: list[Location], parts: Location, teacher: Scorer, size: int) -> Any:
    import ray

    shared = ray.put(teacher)

    @ray.remote(num_cpus=1)
    def score(shard: Location, teacher: Scorer) -> None:
        (parts / shard.name).write_table(score_shard(shard, teacher, size))

    waiting = [score.remote(shard, shared) for shard in shards]
    while waiting:
        finished, waiting = ray.wait(waiting)
        ray.get(finished)
        yield from finished


def _belongs(file: Location, data: str) -> bool:
    """Whether the file holds the targets of this very dataset."""
    if not file.exists():
        return False
    metadata = file.read_table(["sample_id"]).schema.metadata or {}
    return bool(metadata.get(_DATA_KEY) == data.encode())
