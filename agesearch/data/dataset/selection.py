"""Which rows of a dataset are meant: a split, some folds, some subjects, or all of them."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from agesearch.data.dataset.records import Split


@dataclass(frozen=True)
class Part:
    """The rows for which every given condition holds; without any, all rows.

    ``folds`` are numbers of the column ``fold``; ``subjects`` are the only ones wanted, ``without`` the ones
    not wanted (a face of an unknown subject is in neither).
    """

    split: Split | None = None
    folds: tuple[int, ...] | None = None
    subjects: tuple[str, ...] | None = None
    without: tuple[str, ...] | None = None

    @classmethod
    def of(cls, part: Split | Part | None) -> Part:
        """A part from what callers say: a split, a part, or None for all rows."""
        return part if isinstance(part, Part) else cls(split=part)

    @property
    def where(self) -> pc.Expression | None:
        """The condition on the columns; None for all rows."""
        conditions = []
        if self.split is not None:
            conditions.append(pc.field("split") == str(self.split))
        if self.folds is not None:
            conditions.append(pc.field("fold").isin(pa.array(self.folds, pa.int8())))
        if self.subjects is not None:
            conditions.append(pc.field("subject_id").isin(pa.array(self.subjects, pa.string())))
        if self.without is not None:
            conditions.append(~pc.field("subject_id").isin(pa.array(self.without, pa.string())))
            conditions.append(pc.field("subject_id").is_valid())
        whole = None
        for condition in conditions:
            whole = condition if whole is None else whole & condition
        return whole

    def __str__(self) -> str:
        conditions = []
        if self.split is not None:
            conditions.append(f"split '{self.split}'")
        if self.folds is not None:
            conditions.append(f"folds {', '.join(map(str, self.folds))}")
        if self.subjects is not None:
            conditions.append(f"{len(self.subjects)} subjects")
        if self.without is not None:
            conditions.append(f"all but {len(self.without)} subjects")
        return " of ".join(conditions) or "the whole dataset"
