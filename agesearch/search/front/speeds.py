"""Times a study's teacher and students side by side, in one run, and keeps the rows.

Under the setting that the search times by (one thread, one face) it is the teacher and every network of a
COMPLETE trial, once each: trials of one network share its figures. So the front can be drawn by them, and no
two trials differ by the noise of two timings alone. Under the other settings it is the teacher and the picked
trial. A run holds while trials, teacher, hardware and versions stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from agesearch.measure.speed.hardware import hardware_name, runtime_versions
from agesearch.measure.speed.rows import Setting, SpeedRow, settings
from agesearch.measure.speed.timing import TimedModel, side_by_side
from agesearch.models.architectures import Network
from agesearch.models.identity import model_digest, read_model_manifest
from agesearch.models.manifest import ModelManifest
from agesearch.models.scorers import Scorer, scorer_of
from agesearch.progress import Listener, Progress
from agesearch.search.front.keyed_table import KeyedTable
from agesearch.search.front.measurements import FOLDER, SPEED_FILE, spec_rows
from agesearch.search.store.records import StudyFolder
from agesearch.specs import CropSpec, digest_of
from agesearch.storage import Location

#: How the search times networks.
_SEARCH = Setting()

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

    @property
    def network(self) -> Network:
        return Network.of(self.manifest.model)

    def timed(self) -> TimedModel:
        return TimedModel(self.name, self.scorer, self.manifest.model.arch, self.manifest.model.input_size)


@dataclass(frozen=True)
class SpeedRun:
    """The side-by-side timings of a study: of its ``teacher`` and its COMPLETE ``trials``."""

    study: StudyFolder
    teacher: StudyModel
    trials: Sequence[StudyModel]

    @cached_property
    def table(self) -> KeyedTable:
        """Where the rows are kept."""
        models = [[model.name, model.digest] for model in (self.teacher, *self.trials)]
        key = digest_of([_PROTOCOL, models, hardware_name(), runtime_versions()])
        return KeyedTable(self.study.root / FOLDER / SPEED_FILE, key)

    def lacks(self, pick: str) -> bool:
        """Whether the teacher and the picked trial are still to be timed under the other settings."""
        known = self._kept(True)
        return known is None or pick not in known.column("model").to_pylist()

    def bring_up_to_date(self, on_progress: Listener) -> None:
        """Time the teacher and every network as the search does, where that is not done."""
        if self.table.rows() is not None:
            return
        first = {model.network: model for model in reversed(self.trials)}
        models = _opened([self.teacher, *first.values()], on_progress)
        found = {row.model: row for row in side_by_side(models, [_SEARCH], on_progress=on_progress)}
        shared = [(model.name, found[first[model.network].name]) for model in self.trials]
        rows = [row.with_values({"model": name}) for name, row in shared]
        self.table.write([self._rows([found[self.teacher.name], *rows])])

    def time_pick(self, pick: StudyModel, on_progress: Listener) -> None:
        """Time the teacher and the picked trial under the other settings; rows of another pick go."""
        others = [setting for setting in settings() if setting != _SEARCH]
        rows = side_by_side(_opened([self.teacher, pick], on_progress), others, on_progress=on_progress)
        kept = self._kept(False)
        self.table.write([*([] if kept is None else [kept]), self._rows(rows)])

    def _rows(self, rows: Iterable[SpeedRow]) -> pa.Table:
        return spec_rows(rows, {model.name: model.digest for model in (self.teacher, *self.trials)})

    def _kept(self, others: bool) -> pa.Table | None:
        """The good rows under the search's setting, or under the ``others``."""
        rows = self.table.rows()
        if rows is None:
            return None
        searched = (pc.field("threads") == _SEARCH.threads) & (pc.field("batch") == _SEARCH.batch)
        return rows.filter(~searched if others else searched)


def _opened(models: Sequence[StudyModel], on_progress: Listener) -> list[TimedModel]:
    """The models as ONNX, which takes the better part of a second each."""
    opened = []
    for done, model in enumerate(models):
        on_progress(Progress("Exporting", done, len(models), note=model.name))
        opened.append(model.timed())
    on_progress(Progress("Exporting", len(models), len(models)))
    return opened
