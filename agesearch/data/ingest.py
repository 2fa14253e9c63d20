"""Labelled photographs -> a dataset of face crops, on Ray Data.

The reader's records are written as a list of work (Parquet, beside the dataset), Ray tasks turn each part of
it into crops, and this process takes the results in the list's order and writes shards. So memory stays
bounded whatever the size, one task handles many images, and the outcome does not depend on the number of
workers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import pyarrow as pa
from pydantic import Field

from agesearch.data.detectors import Detector, open_detector
from agesearch.data.extract import outcomes_of, record_table, split_outcomes
from agesearch.data.records import (
    MANIFEST,
    SCHEMA_VERSION,
    LabelKind,
    Manifest,
    Rejected,
    SourceRecord,
    read_manifest,
)
from agesearch.data.sources import SourceOptions, source_named
from agesearch.data.survey import Survey, in_chunks, survey
from agesearch.data.writing import STAGING, DatasetWriter, check_output
from agesearch.errors import AgeSearchError
from agesearch.progress import Listener, Progress, silent
from agesearch.session import ray_session
from agesearch.specs import CropSpec, Spec, SplitSpec, digest_of
from agesearch.storage import Location, exclusive

#: Images a Ray task handles: enough to hide its start, few enough that progress is seen and cores stay busy.
_FEWEST_IN_TASK, _MOST_IN_TASK = 16, 512
_TASKS_WANTED = 64
_STAGE = "ingest"


class IngestSpec(Spec):
    """What to ingest and how. ``columns`` maps a field to the source's column; see the readers."""

    source: str
    root: str
    images: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    unlabelled: bool = False
    variant: str | None = None
    name: str | None = None
    label_kind: LabelKind | None = None
    licence: str | None = None
    crop: CropSpec = CropSpec()
    split: SplitSpec = SplitSpec()

    def options(self) -> SourceOptions:
        """What the reader gets."""
        images = None if self.images is None else Location.of(self.images)
        variant = source_named(self.source).variant(self.variant)
        return SourceOptions(Location.of(self.root), images, self.columns, self.unlabelled, variant)

    def recipe_digest(self, detector: str) -> str:
        """Digest of all that decides the rows besides the source's content; where the source lies is not
        part.
        """
        recipe = self.model_dump(mode="json", exclude={"root", "images"})
        return digest_of(recipe | {"detector": detector, "schema_version": SCHEMA_VERSION})


@dataclass(frozen=True)
class Ingested:
    """The dataset's manifest, and whether this run made it (False: it was up to date)."""

    manifest: Manifest
    is_new: bool


def ingest(
    spec: IngestSpec,
    out: str | Location,
    *,
    replace: bool = False,
    address: str | None = None,
    on_progress: Listener = silent,
) -> Ingested:
    """Make the dataset ``out`` (folder or URI), or do nothing where it is up to date with source and spec.

    What cannot become a face is quarantined with its reason. Raises ``InputError`` for a source that cannot
    be read or holds not one face, ``ConflictError`` where ``out`` holds another dataset (unless ``replace``)
    or another run writes it. A run that fails or is killed leaves ``out`` as it was.
    """
    target = Location.of(out)
    source = source_named(spec.source)
    detector = open_detector(spec.crop.detector)
    options = spec.options()
    check_output(target, replace=True)  # a folder of other things is refused before any work
    on_progress(Progress("survey", 0, None, note="reading labels"))
    found = survey(source, options)
    on_progress(Progress("survey", found.records, found.records))
    recipe = spec.recipe_digest(detector.name)
    existing = _up_to_date(target, found, recipe)
    if existing is not None:
        return Ingested(existing, is_new=False)
    check_output(target, replace=replace)
    with exclusive(target, "The dataset"):
        writer = DatasetWriter(
            target,
            name=spec.name or options.root.name.rsplit(".", 1)[0],
            label_kind=_label_kind(spec, source.kind_of(options.variant), found),
            licence=spec.licence or source.licence,
            crop=spec.crop,
            detector=detector.name,
            rotations=source.rotations(options),
            notes=source.notes,
            replace=replace,
        )
        try:
            _fill(writer, target, spec, found, address, on_progress)
            manifest = writer.finish(source_digest=found.digest, spec_digest=recipe)
        except BaseException:
            writer.discard()
            raise
    return Ingested(manifest, is_new=True)


def _up_to_date(target: Location, found: Survey, recipe: str) -> Manifest | None:
    if not (target / MANIFEST).exists():
        return None
    manifest = read_manifest(target)
    same = (manifest.source_digest, manifest.spec_digest) == (found.digest, recipe)
    return manifest if same else None


def _label_kind(spec: IngestSpec, usual: LabelKind, found: Survey) -> LabelKind:
    if spec.label_kind is not None:
        return spec.label_kind
    if found.unlabelled:
        return "none"
    return "group" if found.only_groups else usual


def _fill(
    writer: DatasetWriter,
    target: Location,
    spec: IngestSpec,
    found: Survey,
    address: str | None,
    on_progress: Listener,
) -> None:
    """Run the records through Ray and give every outcome to the writer."""
    work, rejected = _write_work(target / STAGING / "work", spec, found.records)
    writer.reject(rejected)
    total = found.records + found.rejected
    on_progress(Progress(_STAGE, len(rejected), total, len(rejected), "starting Ray"))
    with ray_session(address):
        for outcomes in _outcomes(work, spec):
            faces, paths, left_out = split_outcomes(outcomes)
            writer.reject(left_out)
            writer.add(faces, paths)
            on_progress(Progress(_STAGE, writer.faces + writer.left_out, total, writer.left_out))


def _write_work(folder: Location, spec: IngestSpec, records: int) -> tuple[list[Location], list[Rejected]]:
    """The list of work as Parquet files, one a task, and the rows that the reader itself rejects."""
    in_task = min(_MOST_IN_TASK, max(_FEWEST_IN_TASK, math.ceil(records / _TASKS_WANTED)))
    rejected: list[Rejected] = []

    def usable() -> Iterator[SourceRecord]:
        for item in source_named(spec.source).read(spec.options()):
            if isinstance(item, Rejected):
                rejected.append(item)
            else:
                yield item

    files = []
    for number, chunk in enumerate(in_chunks(usable(), in_task)):
        files.append(folder / f"{number:06d}.parquet")
        files[-1].write_table(record_table(chunk))
    return files, rejected


def _outcomes(work: list[Location], spec: IngestSpec) -> Iterator[pa.Table]:
    """Outcome tables in the order of the work, while Ray computes the next ones."""
    import ray
    import ray.data
    from ray.exceptions import RayError

    try:
        # One block a file: Ray's own Parquet reader would pack many small files into a single task.
        parts = ray.data.from_items([{"work": part.uri} for part in work], override_num_blocks=len(work))
        parts.context.execution_options.preserve_order = True
        task: Any = _outcomes_in_task  # Ray's type knows no functions with keyword arguments
        outcomes = parts.map_batches(
            task,
            batch_format="pyarrow",
            batch_size=None,
            fn_kwargs={"crop": spec.crop.model_dump(), "split": spec.split.model_dump()},
        )
        yield from cast(Iterator[pa.Table], outcomes.iter_batches(batch_format="pyarrow", batch_size=None))
    except RayError as error:
        raise AgeSearchError(f"The ingest failed in a Ray task: {_cause(error)}") from error


def _outcomes_in_task(parts: pa.Table, *, crop: dict[str, Any], split: dict[str, Any]) -> Iterator[pa.Table]:
    """What a Ray task does: the parts of the work that its block names, one table of outcomes each."""
    import cv2

    cv2.setNumThreads(1)  # a task has one core; more threads would only fight over it
    recipe, shares = CropSpec.model_validate(crop), SplitSpec.model_validate(split)
    for part in parts["work"].to_pylist():
        yield outcomes_of(Location.of(part).read_table(), _detector(recipe.detector), recipe, shares)


@lru_cache(maxsize=2)
def _detector(name: str) -> Detector:
    """Opened once a worker process."""
    return open_detector(name)


def _cause(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
