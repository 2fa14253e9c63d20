"""What a check of a dataset can find, and how each is found on the label columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import model_validator

from agesearch.ages import DECADES, decade_name, decade_of
from agesearch.data.audit.label_outliers import Values, differing_copies, far_out, wide_subjects
from agesearch.data.audit.near_duplicates import Match
from agesearch.data.dataset.records import Split, Turn
from agesearch.data.dataset.texts import Texts
from agesearch.metrics import signed
from agesearch.specs import Spec

_SPLITS = tuple(split.value for split in Split)
#: From this share on the largest decade dominates: an error over all faces says little about the other ages.
_DOMINANT_SHARE = 0.5
_SHOWN_FACES = 8
#: Findings of one kind that a record holds, with their faces; of further ones the number is told.
EXAMPLES = 200


SuspectKind = Literal["far_out_age", "wide_subject", "differing_copies", "model_residual"]


class FaceRef(Spec):
    """A face by its sample id, and where it stands."""

    sample_id: str
    split: str
    fold: int | None = None
    subject_id: str | None = None
    age: float | None = None

    @property
    def place(self) -> str:
        """``test``, or ``test, fold 3``."""
        return self.split if self.fold is None else f"{self.split}, fold {self.fold}"


class SharedSubject(Spec):
    """A subject in several splits, or (``by`` fold) in several folds, with its faces in each place.

    ``is_leak`` is false for folds that no turn of the dataset's protocols puts on two sides.
    """

    subject_id: str
    by: Literal["split", "fold"]
    places: dict[str, int]
    faces: tuple[FaceRef, ...]
    is_leak: bool = True


class Copies(Spec):
    """Faces cut from one photograph or from copies of it: how many, and some of every place.

    Of the ties between copies the largest Hamming ``distance`` of their hashes in bits, the smallest
    ``similarity`` (0..1), and whether one is mirrored; faces of one file are 0 bits apart and 1 alike.
    """

    faces: tuple[FaceRef, ...]
    size: int
    distance: int
    similarity: float
    mirrored: bool

    @model_validator(mode="before")
    @classmethod
    def _earlier_name(cls, values: Any) -> Any:
        """Checks of before call the similarity ``likeness``."""
        if isinstance(values, dict) and "likeness" in values:
            values = {"similarity": values["likeness"]} | values
            values.pop("likeness")
        return values


class Suspect(Spec):
    """Labels worth a look: why, in words, and the faces meant."""

    kind: SuspectKind
    detail: str
    faces: tuple[FaceRef, ...]


class AgeBins(Spec):
    """Faces by decade and split; the decades that one side of the split lacks and the other has; the largest
    decade's share of the labelled faces.
    """

    counts: dict[str, dict[str, int]]
    lacking: dict[str, tuple[str, ...]]
    largest: str | None
    largest_share: float
    empty_splits: tuple[str, ...]


@dataclass(frozen=True)
class Faces:
    """The label columns of N faces in the order of the shards, some 60 bytes each; ``age`` in years, NaN
    where unknown, ``age_or_middle`` with the middle of a group in its place; ``fold`` is -1 where unknown.

    ``photograph`` numbers the file of each, as far as it is known (``records.photographs_of``);
    ``unnamed_photographs`` counts those named by their sample id only.
    """

    sample_id: Texts
    subject: Texts
    photograph: npt.NDArray[np.signedinteger[Any]]
    source: Texts
    split: Texts
    fold: npt.NDArray[np.signedinteger[Any]]
    age: npt.NDArray[np.floating]
    age_or_middle: npt.NDArray[np.floating]
    turns: tuple[Turn, ...] = field(default=())
    unnamed_photographs: int = 0

    def __len__(self) -> int:
        return len(self.sample_id)

    def ref(self, index: int) -> FaceRef:
        """The face as findings name it."""
        age = float(self.age[index])
        return FaceRef(
            sample_id=self.sample_id[index],
            split=self.split[index],
            fold=self.fold_of(index),
            subject_id=self.subject[index],
            age=None if np.isnan(age) else round(age, 2),
        )

    def fold_of(self, index: int) -> int | None:
        """The fold of a face; None where it is in none."""
        return int(self.fold[index]) if self.fold[index] >= 0 else None

    def of_one_file(self) -> list[Match]:
        """Ties between the faces of each file: of each to the file's first."""
        _, first, number = np.unique(self.photograph, return_index=True, return_inverse=True)
        others = np.flatnonzero(first[number] != np.arange(len(self)))
        pairs = zip(first[number[others]].tolist(), others.tolist(), strict=True)
        return [Match(one, other, distance=0, similarity=1.0, mirrored=False) for one, other in pairs]

    def on_two_sides(self, group: Sequence[int]) -> bool:
        """Whether some of these faces lie on two sides of the split or of a turn of the protocols."""
        folds = {self.fold_of(index) for index in group} - {None}
        return len({self.split[index] for index in group}) > 1 or self.separates(folds)

    def separates(self, folds: Collection[int | None]) -> bool:
        """Whether some turn puts two of these folds on two sides."""
        return any(pair <= set(folds) for pair in self.separated_folds)

    @cached_property
    def separated_folds(self) -> frozenset[frozenset[int | None]]:
        """The pairs of folds that some turn puts on two sides."""
        pairs = set()
        for turn in self.turns:
            role = {fold: split for split, folds in turn.folds.items() for fold in folds}
            pairs |= {frozenset((a, b)) for a in role for b in role if role[a] != role[b]}
        return frozenset(pairs)


def unknown_subjects(faces: Faces) -> int:
    """Faces without an identity."""
    return int((faces.subject == None).sum())  # noqa: E711 - face by face


def shared_subjects(faces: Faces) -> tuple[list[SharedSubject], list[SharedSubject]]:
    """The subjects in more than one split, and those in more than one fold only; by name, and some hundred of
    either with their faces.
    """
    by_split: list[SharedSubject] = []
    by_fold: list[SharedSubject] = []
    for subject, indices in _in_several_places(faces):
        splits = Counter(faces.split[index] for index in indices)
        folds = Counter(faces.fold_of(index) for index in indices if faces.fold[index] >= 0)
        if len(splits) > 1:
            shown = indices[: None if len(by_split) < EXAMPLES else 0]
            by_split.append(_shared(faces, subject, "split", splits, shown, is_leak=True))
        elif len(folds) > 1:
            numbers = {f"fold {fold}": count for fold, count in sorted(folds.items(), key=str)}
            shown = indices[: None if len(by_fold) < EXAMPLES else 0]
            by_fold.append(
                _shared(faces, subject, "fold", numbers, shown, is_leak=faces.separates(folds.keys()))
            )
    return by_split, by_fold


def _in_several_places(faces: Faces) -> Iterator[tuple[str, list[int]]]:
    """The subjects, by name, whose faces are not all in one split and fold, with the indices of these."""
    order = np.argsort(faces.subject.numbers, kind="stable")
    order = order[faces.subject.numbers[order] >= 0]
    place = faces.split.numbers[order].astype(np.int32) * 1024 + faces.fold[order]
    starts = np.flatnonzero(np.diff(faces.subject.numbers[order], prepend=-2))
    if not len(order):
        return
    several = np.maximum.reduceat(place, starts) != np.minimum.reduceat(place, starts)
    ends = np.append(starts[1:], len(order))
    for start, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True):
        yield str(faces.subject[int(order[start])]), order[start:end].tolist()


def _shared(
    faces: Faces,
    subject: str,
    by: Literal["split", "fold"],
    places: dict[str, int],
    indices: list[int],
    *,
    is_leak: bool,
) -> SharedSubject:
    # The rarest place first: those are the faces to move or drop.
    order = sorted(indices, key=lambda index: (places.get(faces.split[index], 0), faces.sample_id[index]))
    return SharedSubject(
        subject_id=subject,
        by=by,
        places=dict(places),
        faces=tuple(map(faces.ref, order[:_SHOWN_FACES])),
        is_leak=is_leak,
    )


def copies_of(faces: Faces, group: Sequence[int], ties: Sequence[Match]) -> Copies:
    """A group of copies as a finding: the first face of every place comes first."""
    seen: set[str] = set()
    firsts: list[FaceRef] = []
    rest: list[FaceRef] = []
    for index in group:
        face = faces.ref(index)
        (rest if face.place in seen else firsts).append(face)
        seen.add(face.place)
    return Copies(
        faces=tuple([*firsts, *rest][:_SHOWN_FACES]),
        size=len(group),
        distance=max((tie.distance for tie in ties), default=0),
        similarity=round(min((tie.similarity for tie in ties), default=1.0), 4),
        mirrored=any(tie.mirrored for tie in ties),
    )


def suspects_of(faces: Faces, copies: Sequence[Sequence[int]], predicted: Values | None) -> list[Suspect]:
    """Labels worth a look, of all four kinds, some hundred of them with their faces; ``predicted`` are a
    model's ages, None without a model.
    """
    found: list[Suspect] = []
    for kind, detail, indices in _suspicions(faces, copies, predicted):
        shown = map(faces.ref, indices) if len(found) < EXAMPLES else ()
        found.append(Suspect(kind=kind, detail=detail, faces=tuple(shown)))
    return found


def _suspicions(
    faces: Faces, copies: Sequence[Sequence[int]], predicted: Values | None
) -> Iterator[tuple[SuspectKind, str, tuple[int, ...]]]:
    age = faces.age
    for group in differing_copies(copies, age):
        low = min(group, key=lambda index: _or(age[index], np.inf))
        high = max(group, key=lambda index: _or(age[index], -1))
        yield "differing_copies", f"one photograph is {age[low]:g} and {age[high]:g} years old", (low, high)
    for subject, low, high in wide_subjects(faces.subject, faces.source, age):
        yield "wide_subject", f"{subject} is {age[low]:g} and {age[high]:g} years old", (low, high)
    for index, z in far_out(age):
        yield "far_out_age", f"{age[index]:g} years, robust z {signed(z, 1)}", (index,)
    if predicted is not None:
        for index, z in far_out(predicted - age):
            detail = (
                f"labelled {age[index]:g}, the model says {predicted[index]:.0f}, robust z {signed(z, 1)}"
            )
            yield "model_residual", detail, (index,)


def _or(age: Any, unknown: float) -> float:
    return unknown if np.isnan(age) else float(age)


def age_bins(faces: Faces) -> AgeBins:
    """The decades of each split, and what they lack."""
    counts = {decade_name(first): dict.fromkeys(_SPLITS, 0) for first in DECADES}
    first = decade_of(faces.age_or_middle)
    for split in faces.split.counts():
        found, number = np.unique(first[(faces.split == split) & ~np.isnan(first)], return_counts=True)
        for decade, count in zip(found.tolist(), number.tolist(), strict=True):
            counts[decade_name(decade)][str(split)] += count
    present = Counter(faces.split.counts())
    has = {split: {decade for decade, row in counts.items() if row[split]} for split in _SPLITS}
    evaluated = has["val"] | has["test"]
    wanted = {"train": evaluated, "val": has["train"], "test": has["train"]}
    lacking = {
        split: tuple(decade for decade in counts if decade in wanted[split] - has[split])
        for split in _SPLITS
        if has[split]
    }
    totals = {decade: sum(row.values()) for decade, row in counts.items()}
    labelled = sum(totals.values())
    largest = max(totals, key=lambda decade: totals[decade]) if labelled else None
    return AgeBins(
        counts=counts,
        lacking={split: decades for split, decades in lacking.items() if decades},
        largest=largest,
        largest_share=round(totals[largest] / labelled, 4) if largest is not None else 0.0,
        empty_splits=tuple(split for split in _SPLITS if not present[split]),
    )


def age_warnings(bins: AgeBins) -> list[str]:
    """The bins in words, where they matter."""
    warnings = []
    if bins.empty_splits:
        warnings.append(f"No faces at all in: {', '.join(bins.empty_splits)}.")
    for split, decades in bins.lacking.items():
        other = "val or test has" if split == "train" else "train has"
        warnings.append(f"{split} lacks ages that {other}: {', '.join(decades)}.")
    if bins.largest_share > _DOMINANT_SHARE:
        warnings.append(f"{bins.largest_share:.0%} of the faces are {bins.largest} years old.")
    return warnings
