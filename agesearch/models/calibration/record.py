"""What a calibration holds and applies: an age correction, and how wide intervals must be for their level.

It lies as ``calibration.json`` in a model's folder, or inside the document of a calibrated teacher
(``agesearch.models.foreign.document``). How it is learnt, and what it was worth on held-out persons, is
``agesearch.measure.calibration``; that part stands in ``evidence`` and changes no answer.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from agesearch.ages import MAX_AGE, FloatArray, age_quantile, expected_age
from agesearch.data.dataset.records import Part
from agesearch.documents import newer
from agesearch.models.calibration.correction import AgeCorrection
from agesearch.specs import SharedRecord, Spec, digest_of

CALIBRATION = "calibration.json"

#: What faces may be told apart by; the names of columns of a dataset.
GroupBy = Literal["sex", "ethnicity", "source"]

Groups = npt.NDArray[np.object_]
Ages = npt.NDArray[np.float64]


class IntervalCell(Spec):
    """Faces whose predicted age lies in ``first <= age < last`` (of one ``group``; None: of any).

    The interval is the model's own central one of the level, ``below`` years longer at its lower end and
    ``above`` at its upper end (negative: shorter). ``faces`` taught it.
    """

    first: float
    last: float
    below: float
    above: float
    faces: int
    group: str | None = None


class Intervals(Spec):
    """Intervals that hold the true age of a share ``level`` of the faces (split conformal; Romano 2019).

    ``cells`` cover every predicted age: first those of any group, then those of groups with faces enough.
    """

    level: float = Field(gt=0.0, lt=1.0)
    by: GroupBy | None = None
    cells: tuple[IntervalCell, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _cover_every_age(self) -> Self:
        for group in {cell.group for cell in self.cells} | {None}:
            own = [cell for cell in self.cells if cell.group == group]
            ends = [cell.last for cell in own[:-1]]
            if not own or own[0].first > 0 or own[-1].last <= MAX_AGE or ends != [c.first for c in own[1:]]:
                raise ValueError("the cells of a group must follow each other from 0 to beyond 100 years")
        return self

    def of(self, pmf: FloatArray, groups: Groups | None = None) -> tuple[Ages, Ages]:
        """PMFs ``[N, 101]`` -> lower and upper ends ``[N]`` in years, which hold the estimate.

        ``groups`` ``[N]`` are the faces' groups of the kind ``by`` (None: unknown). A face of an unknown
        group gets the interval that is wide enough for every group.
        """
        estimate = expected_age(pmf).astype(np.float64)
        low, high = own_interval(pmf, self.level)
        below, above = self._widened(estimate, groups)
        low, high = np.minimum(low - below, estimate), np.maximum(high + above, estimate)
        return np.clip(low, 0.0, MAX_AGE), np.clip(high, 0.0, MAX_AGE)

    def _widened(self, estimate: Ages, groups: Groups | None) -> tuple[Ages, Ages]:
        """By how much each face's interval is longer below and above."""
        below, above = np.full(len(estimate), -np.inf), np.full(len(estimate), -np.inf)
        for cell in self.cells:
            inside = (estimate >= cell.first) & (estimate < cell.last)
            if groups is not None and self.by is not None:
                inside &= self._speaks_for(cell.group, groups)
            below[inside] = np.maximum(below[inside], cell.below)
            above[inside] = np.maximum(above[inside], cell.above)
        return below, above

    def _speaks_for(self, group: str | None, faces: Groups) -> npt.NDArray[np.bool_]:
        """Which of the faces need the interval of a group: its own, and those of an unknown one."""
        if group is not None:
            return np.asarray((faces == group) | (faces == None), dtype=bool)  # noqa: E711 - element by element
        known = [cell.group for cell in self.cells if cell.group is not None]
        return ~np.isin(faces.astype(str), known)


def own_interval(pmf: FloatArray, level: float) -> tuple[Ages, Ages]:
    """The middle ``level`` of each PMF's mass ``[N, 101]``: ages ``[N]`` at its ends. What a model believes
    of itself, which nobody has checked.
    """
    tail = (1.0 - level) / 2.0
    low, high = age_quantile(pmf, tail), age_quantile(pmf, 1.0 - tail)
    return low.astype(np.float64), high.astype(np.float64)


class CalibrationFaces(Spec):
    """The faces that taught a calibration: of which dataset and part, and how many of how many persons.

    ``folds``: not the model itself answered for them, which has seen them all, but so many of its recipe,
    each for a share of the faces that it had not seen (cross-validation).
    """

    data: str
    data_digest: str
    part: Part
    label_kind: str
    faces: int
    persons: int | None = None
    folds: int | None = newer(None, ge=2)

    @property
    def unseen(self) -> str:
        """Why these faces may judge, as the end of a sentence about them."""
        if self.folds is None:
            return "that chose nothing else about it"
        return f"for which {self.folds} models of its recipe answered, each for those that it had not seen"


class Calibration(SharedRecord):
    """What a model learnt from ``faces`` that chose nothing else about it.

    ``model_digest`` names the model as it was before (``agesearch.models.identity``); ``correction`` is None
    where none was asked for, or none helped beyond noise. ``evidence`` is what was measured on held-out
    persons, with the reasons.
    """

    model_digest: str
    intervals: Intervals
    correction: AgeCorrection | None = None
    faces: CalibrationFaces
    evidence: dict[str, Any] = Field(default_factory=dict)
    created: str = ""
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def level(self) -> float:
        """The share of faces whose true age the intervals hold."""
        return self.intervals.level

    def content_digest(self) -> str:
        """16 hex digits of all that it does and stands on, whenever it was made."""
        return digest_of(self.model_dump(mode="json", exclude={"created", "versions"}))
