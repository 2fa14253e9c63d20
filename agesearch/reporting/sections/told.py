"""What sections are made from: the records of a report and, for one on a study, what the study found."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from agesearch.deploy.reported.records import (
    DECISIONS,
    ROBUSTNESS,
    SPEED,
    TEST,
    VALIDATION,
    Compared,
    Records,
    ReportedModel,
)
from agesearch.errors import command
from agesearch.measure.decisions.records import Decisions
from agesearch.measure.evaluate import ModelScores
from agesearch.measure.intervals import Estimate
from agesearch.measure.robustness.record import Robustness
from agesearch.measure.robustness.scores import ModelRobustness
from agesearch.measure.speed.comparison import AS_GOOD, SpeedComparison, SpeedRatio
from agesearch.measure.speed.footprint import Footprint
from agesearch.measure.speed.rows import Setting, SpeedRow
from agesearch.metrics import MAE_YEARS
from agesearch.models.calibration.record import Calibration
from agesearch.models.manifest import MANIFEST, folder_calibration
from agesearch.models.runtimes.engines import FP32, Engine
from agesearch.reporting.findings import Findings
from agesearch.search.front.measurements import TEACHER

#: What stands for a dataset or a model in a command whose places the records do not know.
_FACES = "FACES"
#: Options of a report that take no value.
_SWITCHES = frozenset({"--judge"})
#: How the architectures of documents begin: they say no more than the document's name.
_FOREIGN = ("foreign ", "ensemble ")


@dataclass(frozen=True)
class Told:
    """``given`` is the command line's STUDY or MODEL..., ``data`` the dataset's place, as commands name them;
    ``faces_from`` the sources whose faces may be shown (None: all), ``options`` those of the command that
    makes this report again.
    """

    records: Records
    findings: Findings | None
    given: tuple[str, ...]
    data: str = _FACES
    faces_from: tuple[str, ...] | None = None
    options: tuple[str, ...] = ()

    @cached_property
    def models(self) -> tuple[ReportedModel, ...]:
        """The models of the report; none where a study's other records were not made."""
        return self.records.reported.models if self.records.reported else ()

    @property
    def student(self) -> str:
        """The name of the student."""
        if self.findings is not None:
            return f"trial {self.findings.picked.number}"
        return self.models[0].name

    @property
    def teacher(self) -> str | None:
        """The name of who taught the student; None where that is not among the models."""
        if self.findings is not None:
            return TEACHER
        found = self.records.reported.of("teacher") if self.records.reported else None
        return found.name if found else None

    @property
    def yardstick(self) -> str | None:
        """Whom the student is set against: its teacher, or the reference of the evaluation."""
        compared = self.compared(TEST) or self.compared(VALIDATION)
        return self.teacher or (compared.reference if compared else None)

    @property
    def noun(self) -> str:
        """What the student is called: one that nobody here taught is a model."""
        is_foreign = self.findings is None and self.models[0].arch.startswith(_FOREIGN)
        return "model" if is_foreign else "student"

    def title(self, name: str) -> str:
        """How a person is told of a model: with its network, where it is a student."""
        found = next((model for model in self.models if model.name == name), None)
        if found is None or found.role in ("foreign", "teacher") or found.arch.startswith(_FOREIGN):
            return name
        return f"{name}, {found.arch} at {found.input_size} px"

    @cached_property
    def speed(self) -> SpeedComparison | None:
        return self.records.get(SPEED, SpeedComparison)

    @cached_property
    def robustness(self) -> Robustness | None:
        return self.records.get(ROBUSTNESS, Robustness)

    @cached_property
    def decisions(self) -> Decisions | None:
        return self.records.get(DECISIONS, Decisions)

    def compared(self, split: str) -> Compared | None:
        """An evaluation: of the ``validation`` or the ``test`` faces."""
        return self.records.get(split, Compared)

    @cached_property
    def calibration(self) -> Calibration | None:
        """The student's; None where it has none, or its folder was cleared away."""
        if self.findings is not None:
            folder = self.findings.study.trial_folder(self.findings.picked)
            return folder_calibration(folder) if (folder / MANIFEST).exists() else None
        return self.models[0].calibration

    def name_of(self, digest: str, name: str) -> str:
        """What this report calls the model that a record names, by its digest."""
        return next((model.name for model in self.models if model.model_digest == digest), name)

    def resisting(self, name: str) -> ModelRobustness | None:
        """A model's figures under corruption."""
        record = self.robustness
        if record is None:
            return None
        known = {one.name: self.name_of(one.model_digest, one.name) for one in record.models}
        return next((one for one in record.scores if known.get(one.name, one.name) == name), None)

    def command(self, *words: object) -> str:
        """A command line, without the folders of this machine."""
        return command(*words)

    def filled_by(self, *more: object, left_out: Collection[str] = ()) -> str:
        """The command of this report with ``more`` options, which does not skip what was ``left_out``."""
        kept: list[str] = []
        words = iter(self.options)
        for name in words:
            pair = [name] if name in _SWITCHES else [name, next(words, "")]
            if name not in more and not (name == "--skip" and pair[1] in left_out):
                kept += pair
        return command("report", *self.given, "--data", self.data, *kept, *more)

    def scores(self, name: str, split: str) -> ModelScores | None:
        """A model's scores on the ``validation`` or ``test`` faces."""
        found = self.compared(split)
        return next((one for one in found.evaluation.models if one.name == name), None) if found else None

    def mae(self, name: str, split: str) -> Estimate | None:
        """A model's MAE in years, of the first kind of label that has one."""
        found = self.scores(name, split)
        kinds = found.kinds if found else ()
        return next((kind.scores[MAE_YEARS] for kind in kinds if MAE_YEARS in kind.scores), None)

    def best(self, name: str) -> SpeedRow | None:
        """A model on the fastest engine of the CPU on which it is known to answer as well, one face on one
        thread.
        """
        ranked = self.engines(name)
        return next((row for row in ranked if not row.device and self.is_allowed(row)), None)

    def engines(self, name: str) -> list[SpeedRow]:
        """A model on every engine, one face on one thread, the fastest first."""
        rows = self.speed.rows if self.speed else ()
        own = [row for row in rows if row.model == name and row.setting == Setting()]
        return sorted(own, key=lambda row: row.latency_ms_p50)

    def footprint(self, row: SpeedRow) -> Footprint | None:
        """What a model takes on an engine besides time; None where an earlier version timed it."""
        known = self.speed.footprints if self.speed else ()
        return next((one for one in known if (one.model, one.engine) == (row.model, row.engine)), None)

    def is_allowed(self, row: SpeedRow) -> bool:
        """Whether a model is known to answer as well on an engine: in fp32, or behind a gate that holds."""
        gates = self.speed.gates.get(row.model, ()) if self.speed else ()
        return row.precision == FP32 or any(gate.engine == row.engine and gate.holds for gate in gates)

    def times(self, fast: str, slow: str) -> SpeedRatio | None:
        """How many times as fast one model is as another (below 1: slower), each on its best engine; None
        where they were not timed in turns, or stand on engines whose answers nobody has judged.
        """
        if self.speed is None or not all(self._stands(name) for name in (fast, slow)):
            return None
        pair = {fast, slow}
        for ratio in self.speed.ratios:
            at = (ratio.threads, ratio.batch, ratio.device)
            if {ratio.faster, ratio.slower} == pair and at == (1, 1, ""):
                if ratio.faster == fast:
                    return ratio
                ends = {"times": 1 / ratio.times, "low": 1 / ratio.high, "high": 1 / ratio.low}
                return ratio.model_copy(update={"faster": fast, "slower": slow, **ends})
        return None

    def _stands(self, name: str) -> bool:
        """Whether the ratios take a model on an engine whose answers are known."""
        best = self.speed.best if self.speed else ()
        asked = (name, 1, 1, "", AS_GOOD)
        return any((one.model, one.threads, one.batch, one.device, one.answers) == asked for one in best)

    @cached_property
    def badges(self) -> list[Engine]:
        """The engines that models stand on, the first without a badge: told apart in charts."""
        used = {best.engine for model in self.models if (best := self.best(model.name)) is not None}
        return sorted(used, key=str)
