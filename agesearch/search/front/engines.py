"""On which engines the models of a study stand: those of its spec, less those on which they answer worse.

A search times untrained networks, whose answers say nothing, on every engine that its spec names. Once they
are trained, those of the front are judged (``agesearch.measure.speed.gate``). What is found is kept in
``STUDY/measured``: ``gates.json``, and the int8 networks that were judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from agesearch.measure.speed.gate import MAX_DROP_YEARS, Gate
from agesearch.measure.speed.hardware import hardware_name
from agesearch.measure.speed.judge import judge
from agesearch.measure.speed.latency_table import runnable
from agesearch.measure.speed.rows import Setting, SpeedRow
from agesearch.models.runtimes.engines import DEFAULT, Engine, engines_here
from agesearch.models.scorers import Scorer, int8_of
from agesearch.progress import Listener
from agesearch.search.front.measurements import FOLDER
from agesearch.search.store.records import StudyFolder
from agesearch.specs import digest_of, parse_spec
from agesearch.storage import Location

GATES_FILE = "gates.json"
_INT8 = "int8"


class StudyEngines:
    """The engines of a study, what is known of its models there, and the setting that the search times by."""

    def __init__(self, study: StudyFolder) -> None:
        self._folder = study.root / FOLDER
        wanted = study.header().spec.latency
        self.engines = engines_here(wanted.runtime, wanted.precision)
        self.setting = Setting(wanted.threads)

    @property
    def are_usual(self) -> bool:
        """Whether there is nothing to choose: ONNX Runtime in fp32, as in studies that name no engine."""
        return self.engines == [DEFAULT]

    @property
    def need_gates(self) -> bool:
        """Whether a model may answer worse on one of them."""
        return any(engine.precision != DEFAULT.precision for engine in self.engines)

    @cached_property
    def _known(self) -> dict[str, Any]:
        place = self._folder / GATES_FILE
        found: dict[str, Any] = place.read_json() if place.exists() else {}
        return found if found.get("hardware") == hardware_name() else {"hardware": hardware_name()}

    def gates(self, digest: str) -> list[Gate] | None:
        """The gates of the model with this digest; None where it was not judged on this kind of machine."""
        rows = self._known.get(digest)
        return None if rows is None else [parse_spec(Gate, row, GATES_FILE) for row in rows]

    def closed(self, digest: str) -> set[Engine]:
        """The engines on which the model is known to answer worse, or is not known to answer as well."""
        return {gate.engine for gate in self.gates(digest) or () if not gate.holds}

    @property
    def key(self) -> list[Any]:
        """What the timings of the study hang on besides its models; nothing for a study without engines."""
        if self.are_usual and self.setting == Setting():
            return []
        return [list(map(str, self.engines)), self.setting.threads, digest_of(self._known)]

    def scorer(self, digest: str, scorer: Scorer) -> tuple[Scorer, list[Engine]]:
        """The model as it is timed, with the int8 network that was judged or one for its time alone, and the
        engines that run it.
        """
        if self.are_usual:
            return scorer, self.engines
        place = self._int8(digest)
        if place.exists():
            content = place.read_bytes()
            scorer = scorer.with_int8(lambda _: content)
        return runnable(scorer, self.engines)

    def unjudged(self, digest: str, row: SpeedRow) -> list[Engine]:
        """The engines that a model has to be judged on for its row: none where it stands in fp32, or holds on
        its engine; else those that are faster than fp32.
        """
        known = {gate.engine for gate in self.gates(digest) or ()}
        if row.precision == DEFAULT.precision or row.engine in known:
            return []
        floats = [other.latency_ms_p50 for other in row.others if other.precision == DEFAULT.precision]
        limit = min(floats, default=math.inf)
        faster = [other.engine for other in row.others if other.latency_ms_p50 < limit]
        return [engine for engine in (row.engine, *faster) if engine not in known]

    def judge(
        self,
        digest: str,
        scorer: Scorer,
        dataset: Location,
        engines: Sequence[Engine],
        on_progress: Listener,
    ) -> None:
        """Judge a model on engines, by the validation faces of the dataset, and keep what is found."""
        judged, found = judge(scorer, dataset, engines, MAX_DROP_YEARS, on_progress)
        int8 = int8_of(judged)
        if int8 is not None:
            self._int8(digest).write_bytes(int8)
        rows = [gate.model_dump(mode="json") for gate in found]
        self._known[digest] = [*self._known.get(digest, ()), *rows]
        (self._folder / GATES_FILE).write_json(self._known)

    def _int8(self, digest: str) -> Location:
        return self._folder / _INT8 / f"{digest}.onnx"
