"""Does a dataset's split hold? Subjects and copies across splits, odd labels, ages that are missing.

Everything is verified on the rows themselves, whatever their maker promised, in one pass over the shards; a
face costs about a hundred bytes of memory. The findings are a record, ``check.json``, beside the manifest.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agesearch.data.audit.findings import (
    EXAMPLES,
    AgeBins,
    Copies,
    FaceRef,
    Faces,
    SharedSubject,
    Suspect,
    age_bins,
    age_warnings,
    copies_of,
    shared_subjects,
    suspects_of,
    unknown_subjects,
)
from agesearch.data.audit.label_outliers import MAX_COPY_YEARS, MAX_SUBJECT_YEARS, MAX_Z
from agesearch.data.audit.near_duplicates import PARAMETERS, Fingerprints, Match, groups_of
from agesearch.data.dataset.arrays import Pixels, decode_column, numbers
from agesearch.data.dataset.records import OLDER_PHOTOGRAPHS, Manifest, photographs_of, read_manifest
from agesearch.data.dataset.shards import row_batches
from agesearch.data.dataset.texts import Growing, IdsMaker, TextsMaker
from agesearch.errors import InputError
from agesearch.progress import Listener, Progress, silent
from agesearch.provenance import now
from agesearch.specs import SharedRecord, parse_spec
from agesearch.storage import Location

CHECK = "check.json"
_LABELS = ["sample_id", "photo_digest", "age", "age_low", "age_high", "subject_id", "source", "split", "fold"]
_STAGE = "check"
_NAMED = 3

#: RGB crops ``uint8 [N, S, S, 3]`` -> ages in years ``[N]``.
AgesOf = Callable[[Pixels], npt.NDArray[Any]]
Verdict = Literal["ok", "warnings", "leaks"]


class CheckRecord(SharedRecord):
    """What a check found.

    ``subject_exclusive`` is None where it cannot be told. ``counts`` holds the full number of findings by
    kind, of which the lists hold the first ``EXAMPLES``. ``parameters`` are the limits that were used.
    """

    dataset: str
    content_digest: str
    faces: int
    verdict: Verdict
    subject_exclusive: bool | None
    leaks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    counts: dict[str, int] = {}
    shared_subjects: tuple[SharedSubject, ...] = ()
    copies: tuple[Copies, ...] = ()
    suspects: tuple[Suspect, ...] = ()
    ages: AgeBins
    model: str | None = None
    parameters: dict[str, float] = {}
    created: str


@dataclass(frozen=True)
class _Found:
    """The findings before they are worded."""

    shared: list[SharedSubject]
    fold_shared: list[SharedSubject]
    across: list[Copies]
    within: int
    suspects: list[Suspect]
    unnamed_photographs: int


def check_dataset(
    dataset: str | Location,
    *,
    ages_of: AgesOf | None = None,
    model: str | None = None,
    on_progress: Listener = silent,
) -> CheckRecord:
    """Check a dataset and write ``check.json`` into it (not where its folder may not be written).

    ``CheckRecord.verdict`` is ``leaks`` where a subject or a photograph is on two sides of a split.

    ``ages_of`` is a model's answer, whose largest errors are listed; ``model`` its name for the record.
    Raises ``InputError`` for what is no dataset or a damaged one.
    """
    folder = Location.of(dataset)
    manifest = read_manifest(folder)
    faces, fingerprints, predicted = _read(folder, manifest, ages_of, on_progress)
    matches = fingerprints.matches(on_progress)
    shared, fold_shared = shared_subjects(faces)
    across, groups, within = _copies(faces, matches)
    suspects = suspects_of(faces, groups, predicted)
    unnamed = 0 if manifest.label_kind == "synthetic" else faces.unnamed_photographs
    found = _Found(shared, fold_shared, across, within, suspects, unnamed)
    record = _record(folder, manifest, faces, found, model)
    _write(folder, record)
    return record


def read_check(dataset: str | Location) -> CheckRecord | None:
    """The last check of a dataset; None where there is none, or it was of other content."""
    folder = Location.of(dataset)
    if not (folder / CHECK).exists():
        return None
    record = parse_spec(CheckRecord, (folder / CHECK).read_json(), str(folder / CHECK))
    return record if record.content_digest == read_manifest(folder).content_digest else None


def _read(
    folder: Location, manifest: Manifest, ages_of: AgesOf | None, on_progress: Listener
) -> tuple[Faces, Fingerprints, npt.NDArray[np.float64] | None]:
    """One pass over the rows: their labels, what each looks like, and the model's ages."""
    fingerprints, columns = Fingerprints(manifest.faces), _Columns()
    predicted: list[npt.NDArray[Any]] = []
    for batch in row_batches(folder, None, [*_LABELS, "image"], rows=512):
        columns.add(batch)
        images = decode_column(batch.column("image"), manifest.crop.size)
        fingerprints.add(images)
        if ages_of is not None:
            predicted.append(np.asarray(ages_of(images), np.float64))
        on_progress(Progress(_STAGE, len(fingerprints), manifest.faces))
    if not len(fingerprints):
        raise InputError(f"'{folder}' has no faces: ingest it again.")
    return columns.made(manifest), fingerprints, np.concatenate(predicted) if predicted else None


class _Columns:
    """The label columns as they come, without their batches."""

    def __init__(self) -> None:
        self._ids, self._photographs = IdsMaker(), IdsMaker()
        self._texts = {name: TextsMaker() for name in ("subject_id", "source", "split")}
        self._numbers = {name: Growing() for name in ("fold", "age", "age_or_middle")}
        self._unnamed = 0

    def add(self, batch: pa.RecordBatch) -> None:
        self._ids.add(batch["sample_id"])
        self._photographs.add(pa.array(photographs_of(batch), pa.string()))
        self._unnamed += batch["photo_digest"].null_count
        for name, maker in self._texts.items():
            maker.add(batch[name])
        low, high, age = (numbers(batch[name]) for name in ("age_low", "age_high", "age"))
        self._numbers["fold"].add(batch["fold"].fill_null(-1).to_numpy())
        self._numbers["age"].add(age)
        self._numbers["age_or_middle"].add(np.where(np.isnan(age), (low + high) / 2, age))

    def made(self, manifest: Manifest) -> Faces:
        texts = {name: maker.made() for name, maker in self._texts.items()}
        return Faces(
            sample_id=self._ids.made(),
            subject=texts["subject_id"],
            photograph=self._photographs.made().numbers,
            unnamed_photographs=self._unnamed,
            source=texts["source"],
            split=texts["split"],
            turns=manifest.turns,
            **{name: column.made(np.float32) for name, column in self._numbers.items()},
        )


def _copies(faces: Faces, matches: list[Match]) -> tuple[list[Copies], list[list[int]], int]:
    """Photographs (copies of one by their pixels, and faces of one file) that lie on two sides of a split or
    of a protocol's turn; all groups of copies; and how many of these lie on one side.

    Two faces of one file are one photograph, but not one face: their labels need not agree.
    """
    groups = groups_of(len(faces), matches)
    weakest: dict[int, Match] = {}
    for match in matches:
        known = weakest.get(match.first)
        weakest[match.first] = match if known is None or match.similarity < known.similarity else known
    across = []
    for group in groups_of(len(faces), [*matches, *faces.of_one_file()]):
        if faces.on_two_sides(group):
            ties = [weakest[index] for index in group if index in weakest]
            across.append(copies_of(faces, group, ties))
    return across, groups, sum(not faces.on_two_sides(group) for group in groups)


def _record(
    folder: Location, manifest: Manifest, faces: Faces, found: _Found, model: str | None
) -> CheckRecord:
    bins = age_bins(faces)
    unknown = unknown_subjects(faces)
    leaks, warnings = _leaks(found), _warnings(found, unknown, len(faces), bins)
    exclusive = False if found.shared else None if unknown else True
    return CheckRecord(
        dataset=folder.name,
        content_digest=manifest.content_digest,
        faces=len(faces),
        verdict="leaks" if leaks else "warnings" if warnings else "ok",
        subject_exclusive=exclusive,
        leaks=tuple(leaks),
        warnings=tuple(warnings),
        counts={
            "unknown_subjects": unknown,
            "shared_subjects": len(found.shared) + len(found.fold_shared),
            "photographs_across": len(found.across),
            "photographs_within": found.within,
            "suspects": len(found.suspects),
        },
        shared_subjects=tuple([*found.shared, *found.fold_shared][:EXAMPLES]),
        copies=tuple(found.across[:EXAMPLES]),
        suspects=tuple(found.suspects[:EXAMPLES]),
        ages=bins,
        model=model,
        parameters={
            **PARAMETERS,
            "max_z": MAX_Z,
            "max_subject_years": MAX_SUBJECT_YEARS,
            "max_copy_years": MAX_COPY_YEARS,
        },
        created=now(),
    )


def _leaks(found: _Found) -> list[str]:
    leaks = []
    if found.shared:
        named = _listed([_describe_subject(subject) for subject in found.shared])
        leaks.append(f"{_number(len(found.shared), 'subject')} in more than one split: {named}.")
    turned = [subject for subject in found.fold_shared if subject.is_leak]
    if turned:
        named = _listed([_describe_subject(subject) for subject in turned])
        leaks.append(f"{_number(len(turned), 'subject')} on two sides of a protocol's turn: {named}.")
    if found.across:
        named = _listed([_describe_copies(copies.faces) for copies in found.across])
        leaks.append(f"{_number(len(found.across), 'photograph')} on two sides of a split: {named}.")
    return leaks


def _warnings(found: _Found, unknown: int, faces: int, bins: AgeBins) -> list[str]:
    warnings = [*_subject_warnings(unknown, faces, found), *age_warnings(bins)]
    if found.unnamed_photographs:
        number = f"{found.unnamed_photographs} of {faces} faces do not name their photograph"
        warnings.append(f"{number}: {OLDER_PHOTOGRAPHS}.")
    if found.suspects:
        kinds = Counter(suspect.kind for suspect in found.suspects)
        kinds_text = ", ".join(f"{kind.replace('_', ' ')} {count}" for kind, count in kinds.items())
        warnings.append(f"{_number(len(found.suspects), 'label')} worth a look: {kinds_text}.")
    return warnings


def _subject_warnings(unknown: int, faces: int, found: _Found) -> list[str]:
    warnings = []
    if unknown:
        verb = "has" if unknown == 1 else "have"
        warnings.append(
            f"Whether the splits are subject-exclusive cannot be told: {unknown} of {faces} faces {verb} no "
            f"identity."
        )
    loose = [subject for subject in found.fold_shared if not subject.is_leak]
    if loose:
        named = _listed([_describe_subject(subject) for subject in loose])
        warnings.append(f"{_number(len(loose), 'subject')} in more than one fold: {named}.")
    return warnings


def _describe_subject(subject: SharedSubject) -> str:
    places = ", ".join(f"{place} {count}" for place, count in subject.places.items())
    return f"{subject.subject_id} ({places})"


def _describe_copies(faces: tuple[FaceRef, ...]) -> str:
    shown = " = ".join(f"{face.sample_id} ({face.place}{_of(face.subject_id)})" for face in faces[:_NAMED])
    return shown + (" = ..." if len(faces) > _NAMED else "")


def _of(subject: str | None) -> str:
    return f", {subject}" if subject is not None else ""


def _number(count: int, noun: str) -> str:
    return f"1 {noun} is" if count == 1 else f"{count} {noun}s are"


def _listed(names: list[str]) -> str:
    rest = f"; and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return "; ".join(names[:_NAMED]) + rest


def _write(folder: Location, record: CheckRecord) -> None:
    if folder.is_local and not _may_write(folder):
        return
    (folder / CHECK).write_json(record.model_dump(mode="json"))


def _may_write(folder: Location) -> bool:
    return os.access(folder.path, os.W_OK)
