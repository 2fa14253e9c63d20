"""Labelled photographs -> a dataset of face crops, on Ray Data.

The reader's records go into an index on disk, where those that an earlier run (finished or killed) has done
are settled. The rest is written as units of work, which Ray's workers turn into staged shards and rows of the
ledger; then the dataset is put together from shards that stay and staged ones. So memory stays bounded
whatever the size, and the outcome depends neither on the number of workers nor on how many runs it took.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

import pyarrow as pa
from pydantic import Field

from agesearch.cluster.monitoring import INGEST_LEFT, INGESTED, Recorder
from agesearch.data.dataset.commit import (
    LEDGERS,
    STAGING,
    Quarantine,
    finish_publishing,
    is_publishing,
    publish,
)
from agesearch.data.dataset.disk_set import index_errors
from agesearch.data.dataset.ledger import LEDGER, LedgerHead, ledger_batches, read_head, write_ledger
from agesearch.data.dataset.records import (
    MANIFEST,
    QUARANTINE,
    SCHEMA_VERSION,
    LabelKind,
    Manifest,
    read_manifest,
)
from agesearch.data.dataset.writer import check_output, nothing_left, versions
from agesearch.data.images.detectors import Detector, open_detector
from agesearch.data.images.recipe import resolved_crop
from agesearch.data.ingest import workers
from agesearch.data.ingest.assembly import Assembly
from agesearch.data.ingest.record_index import Changes, RecordIndex
from agesearch.data.ingest.survey import Survey, in_chunks, survey
from agesearch.data.ingest.work_unit import WORK, WORK_SCHEMA, UnitContext, stage
from agesearch.data.sources import SourceOptions, source_named
from agesearch.errors import AgeSearchError, ConflictError
from agesearch.progress import Listener, Progress, silent
from agesearch.provenance import now
from agesearch.session import ray_session
from agesearch.specs import NEWEST_CROP_RECIPE, CropSpec, Spec, SplitSpec, digest_of
from agesearch.storage import Location, exclusive

#: Images of a unit: enough to hide a task's start, few enough that a kill costs little and cores stay busy.
_FEWEST_IN_UNIT, _MOST_IN_UNIT = 16, 2048
_UNITS_WANTED = 64
_STAGE = "ingest"
#: The outcome of a record that became a face, beside the reasons of the others.
FACE = "face"
#: The schema whose rows lack the photograph's digest, and nothing else.
_EARLIER_SCHEMA = 2
_RECIPE = "recipe.json"


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

    def recipe_digest(self, detector: str, schema_version: int = SCHEMA_VERSION) -> str:
        """Digest of all that decides the rows besides the source's content; where the source lies is not
        part.
        """
        recipe = self.model_dump(mode="json", exclude={"root", "images"})
        if schema_version > _EARLIER_SCHEMA:  # what was asked for may be a folder of this machine, or auto
            recipe["crop"] = self.crop.model_dump(mode="json", exclude={"detector", "detected_by"})
        return digest_of(recipe | {"detector": detector, "schema_version": schema_version})


@dataclass(frozen=True)
class Ingested:
    """The dataset's manifest, whether this run made or changed it (False: it was up to date), what differs
    from before, and which nodes of a cluster took no part, with the reasons.
    """

    manifest: Manifest
    is_new: bool
    changes: Changes = field(default_factory=Changes)
    left_out_nodes: tuple[str, ...] = ()


class Interrupted(AgeSearchError):  # noqa: N818 - named for what it is, like the other kinds
    """A run that its user stopped; the same command goes on."""

    exit_code = 130


def ingest(
    spec: IngestSpec,
    out: str | Location,
    *,
    replace: bool = False,
    address: str | None = None,
    on_progress: Listener = silent,
) -> Ingested:
    """Make the dataset ``out`` (folder or URI), or bring it up to date with its source.

    Only records that ``out``'s ledger does not know are worked on, and what a killed run of the same recipe
    had finished is used; the result equals that of a fresh ingest. What cannot become a face is quarantined
    with its reason. Raises ``InputError`` for a source that cannot be read or holds not one face,
    ``ConflictError`` where ``out`` holds a dataset of another recipe (unless ``replace``) or another run
    writes it, ``Interrupted`` on Ctrl-C. A run that fails or is killed leaves ``out`` as it was.
    """
    target = Location.of(out)
    source = source_named(spec.source)
    detector = open_detector(spec.crop.detector)
    options = spec.options()
    check_output(target, replace=True)  # a folder of other things is refused before any work
    spec = _by_its_crop_recipe(spec, target, replace=replace)
    recipe = spec.recipe_digest(str(detector.identity))
    # A dataset of before holds the same faces: it is up to date, too, until its source changes.
    recipes = (recipe, spec.recipe_digest(str(detector.identity), _EARLIER_SCHEMA))
    with index_errors(), closing(RecordIndex()) as records:
        on_progress(Progress("survey", 0, None, note="reading labels"))
        found = survey(source, options, records.add, on_progress)
        existing = None if is_publishing(target) else _up_to_date(target, found, recipes)
        if existing is not None:
            return Ingested(existing, is_new=False, changes=Changes(kept=found.records))
        with exclusive(target, "The dataset") as check_held:
            if finish_publishing(target) and (existing := _up_to_date(target, found, recipes)) is not None:
                return Ingested(existing, is_new=True, changes=Changes(kept=found.records))
            existing = _earlier(target, recipe, replace=replace)
            run = _Run(spec, target, records, found, recipe, detector, check_held, on_progress)
            try:
                return run.update(existing, address)
            except KeyboardInterrupt as error:
                raise _interrupted(target, records) from error


def _by_its_crop_recipe(spec: IngestSpec, target: Location, *, replace: bool) -> IngestSpec:
    """The spec with the newest recipe of crops, or with that of the dataset which is brought up to date."""
    goes_on = not replace and (target / MANIFEST).exists()
    recipe = read_manifest(target).crop.recipe if goes_on else NEWEST_CROP_RECIPE
    return spec.model_copy(update={"crop": spec.crop.model_copy(update={"recipe": recipe})})


def _up_to_date(target: Location, found: Survey, recipes: tuple[str, ...]) -> Manifest | None:
    head = read_head(target)
    if head is None or not (target / MANIFEST).exists():
        return None
    manifest = read_manifest(target)
    recipe = manifest.spec_digest
    same = recipe in recipes and manifest.source_digest == found.digest
    return manifest if same and head == LedgerHead(manifest.content_digest, recipe, found.stamp) else None


def _earlier(target: Location, recipe: str, *, replace: bool) -> Manifest | None:
    """The dataset to bring up to date; None where one is made anew."""
    if replace or not (target / MANIFEST).exists():
        return None
    manifest, head = read_manifest(target), read_head(target)
    if head is not None and (head.content, head.recipe) == (manifest.content_digest, recipe):
        return manifest
    if manifest.schema_version < SCHEMA_VERSION:
        raise ConflictError(
            f"'{target}' was made by an earlier version of agesearch, which cannot be brought up to date: "
            f"choose another --out, or give --replace to make it anew. Until then it can be used as it is."
        )
    check_output(target, replace=False)
    return None


@dataclass(frozen=True)
class _Run:
    """One run that holds the lock of its dataset."""

    spec: IngestSpec
    target: Location
    records: RecordIndex
    found: Survey
    recipe: str
    detector: Detector
    check_held: Callable[[], None]
    on_progress: Listener
    left_out_nodes: list[str] = field(default_factory=list)

    @property
    def staging(self) -> Location:
        return self.target / STAGING

    def update(self, existing: Manifest | None, address: str | None) -> Ingested:
        found = self.found.records
        self.on_progress(Progress("survey", found, None, note="looking up what is known"))
        self._learn(existing)
        self.records.match()
        self.on_progress(Progress("survey", found, found))
        self._work(address)
        changes = self.records.changes()
        assembly = Assembly(self.records, self.target, self.spec.split)
        assembly.build(existing.hash_shards if existing is not None else None, self.on_progress)
        quarantine = Quarantine(self.staging)
        assembly.quarantine(quarantine)
        left_out = quarantine.finish()
        if not assembly.counts.faces:
            self.staging.delete()
            raise nothing_left(self.target, quarantine.reasons)
        manifest = self._manifest(assembly, left_out)
        head = LedgerHead(manifest.content_digest, self.recipe, self.found.stamp)
        write_ledger(self.staging / LEDGER, head, assembly.ledger())
        self.check_held()
        publish(
            self.target,
            manifest,
            [*assembly.moves, (QUARANTINE, QUARANTINE), (LEDGER, LEDGER)],
            assembly.deletes,
        )
        self._tell(len(left_out) and sum(left_out.values()))
        return Ingested(manifest, _differs(manifest, existing), changes, tuple(self.left_out_nodes))

    def _learn(self, existing: Manifest | None) -> None:
        """Take in the dataset's ledger, and what a killed run of this recipe has staged."""
        if existing is not None:
            for batch in ledger_batches(self.target / LEDGER):
                self.records.add_known(batch, staged=False)
        begun = self.staging / _RECIPE
        if begun.exists() and begun.read_json() == {"recipe": self.recipe}:
            (self.staging / WORK).delete()
            for unit in (self.staging / LEDGERS).children():
                if unit.name.endswith(".parquet") and not unit.name.startswith("."):
                    for batch in ledger_batches(unit):
                        self.records.add_known(batch, staged=True)
        else:
            self.staging.delete()
            begun.write_json({"recipe": self.recipe})

    def _work(self, address: str | None) -> None:
        """Run the records that are not settled through Ray, and settle them."""
        total, done, failed = self.records.counts()
        self.on_progress(Progress(_STAGE, done, total, failed, self._note()))
        if done == total:
            return
        work = list(self._write_work(total - done))
        context = UnitContext(
            self.staging.uri, self._workers_crop().model_dump(), self.spec.split.model_dump()
        )
        figures = Recorder(dataset=self.target.name)
        with ray_session(address, on_progress=self.on_progress), figures.refreshed():
            figures.set(INGEST_LEFT, total - done)
            for table in workers.results(work, context, self.left_out_nodes.append):
                self.records.add_outcomes(table.to_pylist())
                done += len(table)
                failed += len(table) - table["reason"].null_count
                _record(figures, table["reason"], total - done)
                self.on_progress(Progress(_STAGE, done, total, failed))

    def _workers_crop(self) -> CropSpec:
        """The recipe with the detector that every worker must open, where its file lies."""
        asked = self.spec.crop.detector
        crop = resolved_crop(self.spec.crop, self.detector)
        return crop.model_copy(update={"detector": asked}) if ":" in asked else crop

    def _note(self) -> str:
        resumed = self.records.resumed()
        return f"{resumed} done by the run before; starting Ray" if resumed else "starting Ray"

    def _write_work(self, records: int) -> Iterator[Location]:
        """The list of work as Parquet files, one a unit."""
        in_unit = min(_MOST_IN_UNIT, max(_FEWEST_IN_UNIT, math.ceil(records / _UNITS_WANTED)))
        for number, rows in enumerate(in_chunks(self.records.work(), in_unit)):
            place = self.staging / WORK / f"{number:06d}.parquet"
            stage(place, pa.Table.from_pylist(rows, schema=WORK_SCHEMA))
            yield place

    def _manifest(self, assembly: Assembly, left_out: dict[str, int]) -> Manifest:
        spec, source, options = self.spec, source_named(self.spec.source), self.spec.options()
        findings = source.findings(options)
        usual = findings.label_kind or source.kind_of(options.variant)
        return Manifest(
            name=spec.name or options.root.name.rsplit(".", 1)[0],
            label_kind=_label_kind(spec, usual, self.found),
            licence=spec.licence or source.licence,
            crop=resolved_crop(spec.crop, self.detector),
            detector=str(self.detector.identity),
            turns=source.turns(options),
            notes=(*source.notes, *findings.notes, *_contradictions(assembly.contradictions)),
            **assembly.counts.fields(),
            hash_shards=assembly.hash_shards,
            left_out=left_out,
            source_digest=self.found.digest,
            spec_digest=self.recipe,
            created=now(),
            versions=versions(),
        )

    def _tell(self, left_out: int) -> None:
        total = self.found.records + self.found.rejected
        self.on_progress(Progress(_STAGE, total, total, left_out))


def _record(figures: Recorder, reasons: pa.ChunkedArray, left: int) -> None:
    """Tell whoever monitors the cluster what became of some records, and how many are left."""
    for reason, count in Counter(reasons.to_pylist()).items():
        figures.add(INGESTED, count, outcome=reason or FACE)
    figures.set(INGEST_LEFT, left)


def _differs(manifest: Manifest, existing: Manifest | None) -> bool:
    """Whether a dataset says anything else than before."""
    ignored = {"created", "versions"}
    return existing is None or manifest.model_dump(exclude=ignored) != existing.model_dump(exclude=ignored)


def _label_kind(spec: IngestSpec, usual: LabelKind, found: Survey) -> LabelKind:
    if spec.label_kind is not None:
        return spec.label_kind
    if found.unlabelled:
        return "none"
    return "group" if found.only_groups else usual


def _contradictions(count: int) -> tuple[str, ...]:
    if not count:
        return ()
    rows = "1 row gives" if count == 1 else f"{count} rows give"
    return (f"{rows} a face another age than an earlier row: that of the first was taken, see quarantine.",)


def _interrupted(target: Location, records: RecordIndex) -> Interrupted:
    total, done, _ = records.counts()
    return Interrupted(
        f"Stopped: {done} of {total} records of '{target}' are done and kept. The same command goes on."
    )
