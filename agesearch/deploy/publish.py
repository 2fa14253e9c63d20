"""From a study's picked trial, or any model folder, to an immutable version in the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agesearch.deploy.aliases import Alias
from agesearch.deploy.card import render_card
from agesearch.deploy.comparison import VersionComparison, compare_versions
from agesearch.deploy.evidence import Evidence, folder_evidence, is_measured, study_evidence
from agesearch.deploy.export import Parity, export_checked, parity_crops
from agesearch.deploy.integrity import file_digest
from agesearch.deploy.precisions import precisions
from agesearch.deploy.registry import CARD, CHAMPION, Registry, Version, checked_alias, checked_name
from agesearch.errors import AgeSearchError, InputError, first_line
from agesearch.measure.speed.gate import MAX_DROP_YEARS
from agesearch.models.calibration.record import CALIBRATION
from agesearch.models.identity import model_digest, read_model_manifest
from agesearch.models.manifest import (
    INT8_ONNX,
    MANIFEST,
    ONNX,
    WEIGHTS,
    ModelManifest,
    folder_calibration,
    library_versions,
    read_checked,
)
from agesearch.models.runtimes.int8 import RECIPE
from agesearch.models.scorers import OnnxScorer
from agesearch.progress import Listener, Progress, silent
from agesearch.provenance import now
from agesearch.search.front.latencies import picked
from agesearch.search.store.records import StudyFolder, TrialRecord
from agesearch.specs import digest_of
from agesearch.storage import Location

_STAGE = "publish"
_STEPS = 3


@dataclass(frozen=True)
class Published:
    """A version, whether it was just made (else it existed with this content), its parity, its alias, and
    what that pointed to before (None: nothing). Where that was another version, ``comparison`` is with it, or
    ``uncompared`` says why there is none.
    """

    version: Version
    is_new: bool
    parity: dict[str, Any]
    alias: Alias
    previous: Version | None = None
    comparison: VersionComparison | None = None
    uncompared: str = ""


def publish(
    source: str | Location,
    name: str,
    registry: str | Location,
    *,
    pick: str = "knee",
    dataset: str | Location | None = None,
    teacher: str | Location | None = None,
    alias: str = CHAMPION,
    max_drop: float = MAX_DROP_YEARS,
    on_progress: Listener = silent,
) -> Published:
    """Publish the ``pick`` of a study, or a model folder with its ``dataset``, as the next version of
    ``name``.

    What the card says of a trial and nobody has measured yet is measured first, as ``agesearch report`` does;
    ``dataset`` and ``teacher`` say where those lie now, if not where the study found them. The int8 network
    goes with it where it loses at most ``max_drop`` years of MAE (see ``agesearch.deploy.precisions``; 0:
    fp32 alone). Content that is in
    the registry already is not written again. Then the alias moves, and what it pointed to is compared with
    the new version. Raises ``InputError`` for what is no model, ``AgeSearchError`` where the ONNX export does
    not answer as the network does.
    """
    store = Registry(registry)
    checked_name(name)
    checked_alias(alias)
    folder, data, evidence = _material(Location.of(source), pick, dataset, teacher, on_progress)
    content_digest = _content_digest(folder, evidence, max_drop)
    with store.locked(name):
        known = store.with_digest(name, content_digest)
        version = known or _add(store, name, folder, data, evidence, content_digest, max_drop, on_progress)
        previous = store.pointed(name, alias)
        moved = store.move_alias(version, alias)
    compared, why = _compared(previous, version, data, on_progress)
    parity = version.manifest().provenance.get("parity", {})
    return Published(version, known is None, parity, moved, previous, compared, why)


def _compared(
    previous: Version | None, version: Version, data: Location, on_progress: Listener
) -> tuple[VersionComparison | None, str]:
    """The version beside the one before, or why not: what is published already stays so."""
    if previous is None or previous.number == version.number:
        return None, ""
    try:
        return compare_versions(previous, version, data, on_progress=on_progress), ""
    except AgeSearchError as error:
        return None, first_line(error)


def _material(
    source: Location,
    pick: str,
    dataset: str | Location | None,
    teacher: str | Location | None,
    on_progress: Listener,
) -> tuple[Location, Location, Evidence]:
    """The model folder, the dataset and the evidence of what shall be published."""
    study = StudyFolder(source)
    if study.exists():
        picked(study, pick)  # speaks up where there is nothing to pick
        data = _present(Location.of(dataset or study.header().dataset.path))
        trial = _measured_pick(study, pick, data, teacher, on_progress)
        return _trial_folder(study, trial), data, study_evidence(study, trial, data)
    if not (source / MANIFEST).exists():
        raise InputError(
            f"'{source}' is neither a study nor a model folder: give the folder that 'agesearch tune' or "
            "'agesearch teach' wrote."
        )
    if dataset is None:
        raise InputError(
            f"'{source}' is a model folder, which does not know its dataset: give it with --data, since the "
            "export is checked on its faces."
        )
    data = _present(Location.of(dataset))
    return source, data, folder_evidence(source, data)


def _measured_pick(
    study: StudyFolder, pick: str, data: Location, teacher: str | Location | None, on_progress: Listener
) -> TrialRecord:
    """The picked trial, measured: side by side, another may be the knee or the fastest."""
    trial = picked(study, pick)
    if is_measured(study, trial):
        return trial
    from agesearch.search.front.measure import measure_study  # starts Ray, which a measured study needs not

    measure_study(
        study,
        pick=pick,
        dataset=str(data),
        teacher=None if teacher is None else str(teacher),
        on_progress=on_progress,
    )
    return picked(study, pick)


def _present(dataset: Location) -> Location:
    if not dataset.exists():
        raise InputError(
            f"The dataset '{dataset}' is not there any more, and the export is checked on its faces: say "
            "where it is with --data."
        )
    return dataset


def _trial_folder(study: StudyFolder, trial: TrialRecord) -> Location:
    folder = study.trial_folder(trial)
    read_model_manifest(folder)
    return folder


def _content_digest(folder: Location, evidence: Evidence, max_drop: float) -> str:
    """What makes two versions the same: the model, all that is known of it, and what its precisions may lose
    and how they are made (0 is as before there were any).
    """
    known = [evidence.metrics(), evidence.intervals(), evidence.speed, evidence.robustness]
    calibration = folder_calibration(folder)
    more: list[Any] = [] if calibration is None else [calibration.content_digest()]
    more += [max_drop, RECIPE] if max_drop else []
    return digest_of([model_digest(folder), *known, evidence.licences, evidence.provenance, *more])


def _add(
    store: Registry,
    name: str,
    folder: Location,
    data: Location,
    evidence: Evidence,
    content_digest: str,
    max_drop: float,
    on_progress: Listener,
) -> Version:
    step = _steps(on_progress)
    step("reading the faces")
    crops = parity_crops(data)
    step("exporting to ONNX and comparing with torch")
    onnx, parity = export_checked(folder, crops)
    trained = read_model_manifest(folder)
    scorer = OnnxScorer(onnx, trained.model.input_size)
    found = precisions(scorer, trained.model.arch, data, max_drop, on_progress)
    step("writing the version")
    number = store.next_number(name)
    files = {ONNX: onnx, WEIGHTS: read_checked(folder, WEIGHTS)}
    if found.int8 is not None:
        files[INT8_ONNX] = found.int8
    calibration = folder_calibration(folder)
    if calibration is not None:
        files[CALIBRATION] = read_checked(folder, CALIBRATION)
    manifest = _manifest(trained, evidence, name, number, parity, content_digest).model_copy(
        update={"precisions": [gate.model_dump(mode="json") for gate in found.gates]}
    )
    files[CARD] = render_card(manifest, evidence, calibration).encode("utf-8")
    complete = manifest.model_copy(
        update={"files": {file: file_digest(content) for file, content in sorted(files.items())}}
    )
    files[MANIFEST] = complete.model_dump_json(indent=2).encode("utf-8")
    return store.add(name, number, files)


def _manifest(
    trained: ModelManifest, evidence: Evidence, name: str, number: int, parity: Parity, content_digest: str
) -> ModelManifest:
    provenance = evidence.provenance | {
        "content_digest": content_digest,
        "model_created": trained.created,
        "model_kind": trained.kind,
        "parity": parity.as_json(),
        "trained_with": trained.versions,
    }
    return trained.model_copy(
        update={
            "kind": "version",
            "name": name,
            "version": number,
            "metrics": trained.metrics | evidence.metrics(),
            "intervals": trained.intervals | evidence.intervals(),
            "speed": evidence.speed or trained.speed,
            "robustness": evidence.robustness or trained.robustness,
            "licences": trained.licences | evidence.licences,
            "provenance": trained.provenance | provenance,
            "created": now(),
            "versions": library_versions(),
        }
    )


def _steps(on_progress: Listener) -> Callable[[str], None]:
    done = 0

    def step(note: str) -> None:
        nonlocal done
        done += 1
        on_progress(Progress(_STAGE, done, _STEPS, note=note))

    return step
