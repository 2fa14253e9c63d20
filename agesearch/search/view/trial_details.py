"""Everything that is recorded about one trial; no Ray."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from agesearch.metrics import VAL_MAE_YEARS
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import MANIFEST, ModelManifest
from agesearch.search.front.latencies import Latency, StudyLatencies, study_latencies
from agesearch.search.run.driver import read_driver
from agesearch.search.space.space import trial_spec
from agesearch.search.store.records import State, StudyFolder, StudyHeader, TrialRecord, open_study
from agesearch.search.view.progress import Ends, interval_in
from agesearch.search.view.status import running_trial
from agesearch.specs import TrainSpec, parse_spec
from agesearch.storage import Location
from agesearch.training.curve import Row, read_curve, read_within
from agesearch.training.standing import Standing, standing

SPEC_FILE = "spec.json"


@dataclass(frozen=True)
class TrialDetails:
    """A trial's record, as it was timed last, what it trained, its curve's rows, those ``within`` epochs and
    where the one under way stands, its model's manifest where it has one, and its files with their sizes in
    bytes.

    ``role`` says what it is to the study: on the front, its knee, or beaten by which trials.
    """

    folder: StudyFolder
    header: StudyHeader
    record: TrialRecord
    spec: TrainSpec
    rows: tuple[Row, ...]
    curve: tuple[float, ...]
    manifest: ModelManifest | None
    files: dict[str, int]
    role: str
    latency: Latency
    age: float | None
    quiet: float | None
    within: tuple[Row, ...] = ()
    standing: Standing | None = None

    @property
    def interval(self) -> Ends | None:
        """The 95 % interval of its best error, where it is validated on a subset (``val_faces``)."""
        judged = [row for row in self.rows if row.get(VAL_MAE_YEARS) is not None]
        return interval_in(min(judged, key=lambda row: row[VAL_MAE_YEARS])) if judged else None

    @property
    def state(self) -> str:
        """How the trial stands, in words: a RUNNING one may be cut short."""
        if self.record.state is State.RUNNING and self.age is None:
            part = f" and {self.standing.share:.0%} of the next" if self.standing else ""
            return (
                f"cut short after epoch {len(self.curve)}{part}, to be taken up again by 'agesearch resume'"
            )
        return f"{self.record.state.value}: {self.record.reason}".removesuffix(": ")

    @property
    def lineage(self) -> str:
        """What the trial's weights started from."""
        model, parent = self.spec.model, self.record.inherited
        if parent is not None:
            return f"the weights of trial {parent}"
        if model.weights:
            return f"weights of {model.init} '{model.weights}'"
        return (
            "pretrained weights" if model.init == "pretrained" else f"random weights of seed {self.spec.seed}"
        )

    def as_json(self) -> dict[str, Any]:
        """The details as one JSON object."""
        return {
            **self.record.as_json(),
            "latency_run": self.latency.run.value,
            "times_teacher": self.latency.times_teacher,
            "study": str(self.folder.root),
            "role": self.role,
            "epochs_of_full_budget": self.spec.optim.epochs,
            "curve": list(self.rows) or list(self.curve),
            "lineage": self.lineage,
            "started_from": (self.manifest.provenance or {}).get("started_from") if self.manifest else None,
            "parameters": self.manifest.parameters if self.manifest else None,
            "files": self.files,
            "spec": self.spec.model_dump(mode="json"),
            "spec_digest": self.spec.digest(),
            "age_s": self.age,
            "quiet_s": self.quiet,
            "within_epochs": list(self.within),
            "val_faces": self.spec.val_faces,
            "val_mae_years_interval": self.interval,
        }


def trial_details(where: str | os.PathLike[str] | Location, number: int) -> TrialDetails:
    """What is known of a trial; an ``InputError`` where there is no such study or trial."""
    folder = open_study(where)
    latencies = study_latencies(folder)
    header, record = folder.header(), latencies.trial(number)
    place = folder.trial_folder(record)
    driver = read_driver(folder.root)
    live = driver is not None and driver.is_live and record.state is State.RUNNING
    running = running_trial(folder, header, record) if live else None
    rows = tuple(read_curve(place))
    return TrialDetails(
        folder=folder,
        header=header,
        record=record,
        spec=trained_spec(folder, header, record),
        rows=rows,
        curve=record.curve or tuple(row[VAL_MAE_YEARS] for row in rows if VAL_MAE_YEARS in row),
        manifest=read_model_manifest(place) if (place / MANIFEST).exists() else None,
        files=_files(place),
        role=_role(latencies, record),
        latency=latencies.latency(record),
        age=running.age if running else None,
        quiet=running.quiet if running else None,
        within=tuple(read_within(place)),
        standing=None if record.state.ended else standing(place),
    )


def trained_spec(folder: StudyFolder, header: StudyHeader, record: TrialRecord) -> TrainSpec:
    """What the trial trained, as its folder has it, or as the study's spec makes it."""
    file = folder.trial_folder(record) / SPEC_FILE
    if file.exists():
        return parse_spec(TrainSpec, file.read_json(), f"'{file}'")
    parent = None if record.inherited is None else folder.trial_folder(record.inherited)
    return trial_spec(header.spec, record.params, parent)


def _role(latencies: StudyLatencies, record: TrialRecord) -> str:
    front = latencies.front
    if record.number in [other.number for other in front]:
        is_knee = latencies.knee is not None and latencies.knee.number == record.number
        return "on the front, its knee" if is_knee else "on the front"
    if record.state is not State.COMPLETE:
        return ""
    broken = latencies.broken_limits.get(record.number)
    if broken:
        return f"not on the front: above the study's {broken}"
    names = ", ".join(other.title for other in front if _beats(other, record))
    return f"beaten by {names}" if names else "not on the front"


def _beats(other: TrialRecord, record: TrialRecord) -> bool:
    pairs = (
        (other.val_mae_years, record.val_mae_years),
        (other.latency_ms_p50, record.latency_ms_p50),
    )
    return all(theirs is not None and own is not None and theirs <= own for theirs, own in pairs)


def _files(place: Location) -> dict[str, int]:
    """Files of the trial's folder with their sizes, by path."""
    found: dict[str, int] = {}
    if not place.is_local or not place.exists():
        return found
    root = place.local()
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.name.startswith("."):  # locks and files that are being written
            found[str(path.relative_to(root))] = path.stat().st_size
    return found
