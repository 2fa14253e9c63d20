"""What a study found, gathered from its records: what the report's text and charts all draw from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from agesearch.errors import InputError, command
from agesearch.measure.accuracy import cs, paired_difference
from agesearch.measure.intervals import Estimate
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import MANIFEST, ModelManifest
from agesearch.search.front.latencies import Run, StudyLatencies, study_latencies
from agesearch.search.front.measurements import TEACHER, MeasuredPredictions, Measurements, read_measurements
from agesearch.search.store.records import State, StudyFolder, StudyHeader, TrialRecord
from agesearch.training.curve import epoch_errors


@dataclass(frozen=True)
class Findings:
    """The records of a study with what was measured on it."""

    study: StudyFolder
    header: StudyHeader
    latencies: StudyLatencies
    measured: Measurements

    @property
    def records(self) -> list[TrialRecord]:
        """Every trial, as it was timed last."""
        return self.latencies.trials

    @property
    def front(self) -> list[TrialRecord]:
        """The front by rising latency."""
        return self.latencies.front

    @cached_property
    def picked(self) -> TrialRecord:
        """The trial that the measurements picked."""
        return self.latencies.trial(self.measured.summary.pick)

    @cached_property
    def knee(self) -> TrialRecord:
        knee = self.latencies.knee
        assert knee is not None  # findings have a front
        return knee

    @cached_property
    def manifests(self) -> dict[int, ModelManifest]:
        """The manifests of the COMPLETE trials by number."""
        complete = [record for record in self.records if record.state is State.COMPLETE]
        folders = {record.number: self.study.trial_folder(record) for record in complete}
        return {
            number: read_model_manifest(folder)
            for number, folder in folders.items()
            if (folder / MANIFEST).exists()
        }

    @cached_property
    def curves(self) -> dict[int, list[tuple[int, float]]]:
        """Epoch and validation MAE in years by trial; trials without a finished epoch are left out."""
        folders = {record.number: self.study.trial_folder(record) for record in self.records}
        found = {number: sorted(epoch_errors(folder).items()) for number, folder in folders.items()}
        return {number: curve for number, curve in found.items() if curve}

    def has(self, model: str, split: str = "val") -> bool:
        """Whether a model (``teacher``, ``median`` or a trial's name) was scored on a split."""
        return (split, model) in self.measured.predictions

    def mae(self, model: str, split: str = "val") -> Estimate:
        """MAE in years of a model on a split, with its interval."""
        return self.predictions(model, split).mae()

    def cs5(self, model: str, split: str = "val") -> float:
        """CS@5 of a model on a split, 0..1."""
        found = self.predictions(model, split)
        return cs(found.predicted_age, found.age)

    def against(self, model: str, reference: str, split: str = "val") -> Estimate:
        """MAE of ``model`` minus that of ``reference`` on the same faces, paired."""
        one, other = self.predictions(model, split), self.predictions(reference, split)
        if one.sample_id != other.sample_id:
            raise InputError(
                f"'{model}' and '{reference}' were measured on different {split} faces: delete "
                f"'{self.study.root / 'measured'}' and measure again."
            )
        return paired_difference(one.predicted_age, other.predicted_age, one.age, one.persons)

    @cached_property
    def searched(self) -> list[int]:
        """Numbers of the trials whose latency is still the search's: their network was not timed since."""
        timed = [record for record in self.records if record.latency_ms_p50 is not None]
        return [record.number for record in timed if self.latencies.latency(record).run is Run.SEARCH]

    def is_on_front(self, record: TrialRecord) -> bool:
        return any(record.number == other.number for other in self.front)

    def parameters(self, record: TrialRecord) -> int | None:
        """How many parameters a COMPLETE trial's network has."""
        manifest = self.manifests.get(record.number)
        return manifest.parameters if manifest else None

    @cached_property
    def teacher_latency_ms(self) -> float:
        """Of the run that the student was timed in."""
        if self.latencies.teacher is None:
            raise self._unmeasured(TEACHER, "speeds")
        return self.latencies.teacher.latency_ms_p50

    @cached_property
    def student_latency_ms(self) -> float:
        """Of the picked trial, timed beside the teacher."""
        found = self.latencies.latency(self.picked)
        if found.ms is None or found.times_teacher is None:
            raise self._unmeasured(self.picked.name, "speeds")
        return found.ms

    def predictions(self, model: str, split: str = "val") -> MeasuredPredictions:
        """What a model answered on a split; an ``InputError`` where it was not measured."""
        if not self.has(model, split):
            raise self._unmeasured(model, f"predictions on the {split} faces")
        return self.measured.predictions[split, model]

    def _unmeasured(self, model: str, what: str) -> InputError:
        return InputError(
            f"'{model}' is missing from the measured {what} of '{self.study.root}': measure it with: "
            f"{command('report', self.study.root)}"
        )


def read_findings(study: StudyFolder) -> Findings:
    """All records of a study; an ``InputError`` where it has no COMPLETE trial or was not measured yet."""
    latencies = study_latencies(study)
    if not latencies.front:
        raise InputError(
            f"The study '{study.root}' has no COMPLETE trial, so there is nothing to report yet."
        )
    return Findings(study, study.header(), latencies, read_measurements(study))
