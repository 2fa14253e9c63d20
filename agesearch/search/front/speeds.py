"""Times a study's teacher and students side by side, in one run, and keeps the rows.

Under the setting that the search times by (one face, one thread unless the spec says otherwise) it is the
teacher and every network of a COMPLETE trial, once each, on every engine of the study: trials of one network
share its figures, until one was judged by itself. So the front can be drawn by them, and no two trials
differ by the noise of two timings alone. Under the other settings it is the teacher and the picked trial. A
run holds while trials, teacher, engines, hardware and versions stay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from agesearch.measure.speed.footprint import weighed
from agesearch.measure.speed.hardware import hardware_name, runtime_versions
from agesearch.measure.speed.rows import SpeedRow, on_best_engine, settings, too_large
from agesearch.measure.speed.subjects import untrained_scorer
from agesearch.measure.speed.timing import TimedModel, side_by_side
from agesearch.models.architectures import Network
from agesearch.models.identity import model_digest, read_model_manifest
from agesearch.models.manifest import WEIGHTS, ModelManifest
from agesearch.models.runtimes.engines import DEFAULT, Engine
from agesearch.models.scorers import Scorer, scorer_of
from agesearch.progress import Listener, Progress
from agesearch.search.front.engines import StudyEngines
from agesearch.search.front.keyed_table import KeyedTable
from agesearch.search.front.measurements import FOLDER, SPEED_FILE, read_speed, spec_rows
from agesearch.search.store.records import StudyFolder
from agesearch.specs import CropSpec, digest_of
from agesearch.storage import Location

#: Raise it where rows of earlier versions shall be measured anew.
_PROTOCOL = 2


@dataclass(frozen=True)
class StudyModel:
    """A model under measurement: the teacher, or a trial; ``crop`` is that of the faces to be scored."""

    name: str
    folder: Location
    crop: CropSpec

    @cached_property
    def manifest(self) -> ModelManifest:
        return read_model_manifest(self.folder)

    @cached_property
    def digest(self) -> str:
        return model_digest(self.folder)

    @cached_property
    def scorer(self) -> Scorer:
        return scorer_of(self.folder, self.crop)

    @cached_property
    def has_weights(self) -> bool:
        """Whether its weights are there: a study may have been told to keep those of its front."""
        return WEIGHTS not in self.manifest.files or (self.folder / WEIGHTS).exists()

    @property
    def to_time(self) -> Scorer:
        """What is timed in its place: its network, with random weights where its own are gone."""
        return self.scorer if self.has_weights else untrained_scorer(self.manifest.model)

    @property
    def network(self) -> Network:
        return Network.of(self.manifest.model)

    def timed(self, scorer: Scorer, engine: Engine) -> TimedModel:
        """The model on an engine; ``scorer`` has what that runs."""
        return TimedModel(self.name, scorer, self.manifest.model.arch, self.manifest.model.input_size, engine)


@dataclass(frozen=True)
class SpeedRun:
    """The side-by-side timings of a study: of its ``teacher`` and its COMPLETE ``trials``."""

    study: StudyFolder
    teacher: StudyModel
    trials: Sequence[StudyModel]

    @property
    def engines(self) -> StudyEngines:
        """The study's engines, with what is known of them now."""
        return StudyEngines(self.study)

    @property
    def table(self) -> KeyedTable:
        """Where the rows are kept."""
        models = [[model.name, model.digest] for model in (self.teacher, *self.trials)]
        key = digest_of([_PROTOCOL, models, hardware_name(), runtime_versions(), *self.engines.key])
        return KeyedTable(self.study.root / FOLDER / SPEED_FILE, key)

    def lacks(self, pick: str) -> bool:
        """Whether the teacher and the picked trial are still to be timed under the other settings."""
        known = self._kept(True)
        return known is None or pick not in known.column("model").to_pylist()

    def bring_up_to_date(self, on_progress: Listener) -> None:
        """Time the teacher and every network as the search does, where that is not done."""
        if self._known() is not None:
            return
        engines = self.engines
        alike = defaultdict[tuple[Network, str], list[StudyModel]](list)
        for model in self.trials:
            alike[self._alike(model, engines)].append(model)
        first = {key: next((m for m in some if m.has_weights), some[0]) for key, some in alike.items()}
        models = [self.teacher, *first.values()]
        timed = _opened(models, engines, on_progress)
        rows: dict[str, list[SpeedRow]] = {}
        for row in side_by_side(timed, [engines.setting], on_progress=on_progress):
            rows.setdefault(row.model, []).append(row)
        # The teacher's answers are not judged: it stands on the fastest it has, which flatters no student.
        closed = {model.name: engines.closed(model.digest) for model in first.values()}
        limit = self.study.header().spec.max_bytes
        scorers = {(model.name, model.engine): model for model in timed}
        found = {}
        for done, (name, of_one) in enumerate(rows.items()):
            on_progress(Progress("Memory", done, len(rows), note=name))
            sized = [row.with_values({"file_bytes": _bytes_of(scorers[name, row.engine])}) for row in of_one]
            barred = closed[name] | too_large(sized, limit) if name in closed else set()
            best = on_best_engine(sized, barred)
            found[name] = best.with_values(weighed(scorers[name, best.engine]).model_dump())
        on_progress(Progress("Memory", len(rows), len(rows)))
        shared = [(model.name, found[first[self._alike(model, engines)].name]) for model in self.trials]
        students = [row.with_values({"model": name}) for name, row in shared]
        self.table.write([self._rows([found[self.teacher.name], *students])])

    def time_pick(self, pick: StudyModel, on_progress: Listener) -> None:
        """Time the teacher and the picked trial under the other settings, each on its engine; rows of another
        pick go.
        """
        engines = self.engines
        others = [setting for setting in settings() if setting != engines.setting]
        rows = [row for row in read_speed(self.study) if row.setting == engines.setting]
        stands_on = {row.model: row.engine for row in rows}
        models = [
            model.timed(engines.scorer(model.digest, model.scorer)[0], stands_on.get(model.name, DEFAULT))
            for model in (self.teacher, pick)
        ]
        timed = side_by_side(models, others, on_progress=on_progress)
        kept = self._kept(False)
        self.table.write([*([] if kept is None else [kept]), self._rows(timed)])

    def _alike(self, model: StudyModel, engines: StudyEngines) -> tuple[Network, str]:
        """Models that are timed as one: of one network, as long as none of them was judged by itself."""
        return model.network, "" if engines.gates(model.digest) is None else model.digest

    def _rows(self, rows: Iterable[SpeedRow]) -> pa.Table:
        return spec_rows(rows, {model.name: model.digest for model in (self.teacher, *self.trials)})

    def _known(self) -> pa.Table | None:
        """The good rows; those of a version that did not look at the network's bytes are none."""
        rows = self.table.rows()
        return None if rows is None or "file_bytes" not in rows.column_names else rows

    def _kept(self, others: bool) -> pa.Table | None:
        """The good rows under the search's setting, or under the ``others``."""
        rows = self._known()
        if rows is None:
            return None
        setting = self.engines.setting
        searched = (pc.field("threads") == setting.threads) & (pc.field("batch") == setting.batch)
        return rows.filter(~searched if others else searched)


def _bytes_of(model: TimedModel) -> int:
    return sum(map(len, model.networks()))


def _opened(models: Sequence[StudyModel], engines: StudyEngines, on_progress: Listener) -> list[TimedModel]:
    """The models as ONNX, which takes the better part of a second each, on every engine that runs them."""
    opened = []
    for done, model in enumerate(models):
        on_progress(Progress("Exporting", done, len(models), note=model.name))
        scorer, runs = engines.scorer(model.digest, model.to_time)
        opened += [model.timed(scorer, engine) for engine in runs]
    on_progress(Progress("Exporting", len(models), len(models)))
    return opened
