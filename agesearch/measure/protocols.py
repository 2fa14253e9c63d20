"""The published protocols: which faces train, validate and test in each turn, and what the tests score.

Every score is the mean of one value a face, so that intervals and paired comparisons come from the same
values. A protocol says which faces it can score; one that a dataset cannot serve is an ``InputError`` that
says what is missing. Faces of different label kinds (real, apparent, teacher, group) never share a figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from agesearch.ages import adience_group, adience_label
from agesearch.data.dataset.records import Manifest, Part, Split, Turn
from agesearch.data.dataset.shards import read_rows
from agesearch.errors import InputError, unknown_name
from agesearch.measure.accuracy import eps_errors, errors, within
from agesearch.measure.intervals import Estimate, Values, estimate
from agesearch.measure.predictions import Labels, Predictions
from agesearch.metrics import (
    BIAS_YEARS,
    EPS_ERROR,
    IN_GROUP,
    MAE_YEARS,
    ONE_OFF,
    ONE_OFF_BY_AGE,
    OUTSIDE_YEARS,
    TOP1,
    TOP1_BY_AGE,
    cs_at,
)
from agesearch.storage import Location

__all__ = ["PROTOCOLS", "Predictions", "Labels", "Protocol", "by_kind", "protocol_named"]

Mask = npt.NDArray[np.bool_]

DEFAULT = "standard"
DEFAULT_K = 5.0
#: The column of folds has a byte each.
_LAST_FOLD = 127


@dataclass(frozen=True)
class Protocol:
    """How a published result was measured.

    ``turns`` lists a dataset's turns, and raises an ``InputError`` where it has none. ``values`` gives one
    value a face for each score, whose mean it is; ``headline`` is the score that models are compared by.
    ``usable`` tells which faces can be scored, and ``needs`` says what each of those has.
    """

    name: str
    about: str
    headline: str
    turns: Callable[[Location, Manifest], list[Turn]]
    values: Callable[[Predictions], dict[str, Values]]
    usable: Callable[[Labels], Mask]
    needs: str

    def scores(self, predictions: Predictions) -> dict[str, Estimate]:
        """Each score's mean with its 95 % interval; all faces must be usable, and of one kind."""
        values = self.values(predictions)
        return {name: estimate(found, predictions.persons) for name, found in values.items()}

    def require_usable(self, labels: Labels, where: str | Location) -> Mask:
        """Which faces can be scored; an ``InputError`` that says what is missing where none can."""
        mask = self.usable(labels)
        if not mask.any():
            kinds = ", ".join(sorted(map(str, labels.label_kind.counts()))) or "no face at all"
            raise InputError(
                f"The protocol '{self.name}' needs faces with {self.needs}, but none of the {len(labels):,} "
                f"faces tested in '{where}' has one (label kinds there: {kinds})."
            )
        return mask


def by_kind(predictions: Predictions) -> dict[str, Predictions]:
    """The faces of each label kind, since figures never mix them."""
    kinds = sorted(map(str, predictions.label_kind.counts()))
    if len(kinds) == 1:
        return {kinds[0]: predictions}
    return {kind: predictions.take(predictions.label_kind == kind) for kind in kinds}


def protocol_named(name: str, *, split: Split | None = None, k: float = DEFAULT_K) -> Protocol:
    """A protocol of the table; an unknown name is an ``InputError`` that lists the known ones.

    ``split`` is what ``standard`` tests (default: test), and for no other protocol to choose; ``k`` the years
    of CS@k.
    """
    if not 0.0 <= k <= 100.0:
        raise InputError(f"k is {k:g} years, but must lie in 0..100.")
    table = _protocols(split or Split.TEST, k)
    if name not in table:
        raise unknown_name("protocol", name, table)
    if split is not None and name != DEFAULT:
        raise InputError(f"The protocol '{name}' fixes what is tested: --split goes with '{DEFAULT}' only.")
    return table[name]


def split_named(name: str | None) -> Split | None:
    """The split as it is written on the command line; an unknown one is an ``InputError``."""
    if name is not None and name not in set(Split):
        raise unknown_name("split", name, set(Split))
    return None if name is None else Split(name)


def part_named(split: str, folds: Sequence[int] | None = None) -> Part:
    """The faces of a split as it is written on the command line (``all``: of every one), or of its folds."""
    for fold in folds or ():
        if not 0 <= fold <= _LAST_FOLD:
            raise InputError(f"The fold is {fold}, but folds are numbered from 0 to {_LAST_FOLD}.")
    return Part(None if split == "all" else split_named(split), tuple(folds) if folds else None)


def _protocols(split: Split, k: float) -> Mapping[str, Protocol]:
    rows = [_standard(split, k), *_of_one_set(k), *_of_ages(k)]
    return {row.name: row for row in rows}


def _standard(split: Split, k: float) -> Protocol:
    return Protocol(
        DEFAULT,
        "one split: MAE, CS@k and bias; by decade, sex and group",
        MAE_YEARS,
        partial(_one_split, split),
        partial(_standard_values, k),
        lambda labels: labels.label_kind != "none",
        "an age or an age group",
    )


def _of_one_set(k: float) -> list[Protocol]:
    """Protocols whose labels one dataset has: apparent ages with their spread, groups of its own."""
    return [
        Protocol(
            "lap2016",
            "ChaLearn LAP 2016 (APPA-REAL): eps-error on apparent ages, test split",
            EPS_ERROR,
            partial(_one_split, Split.TEST),
            partial(_lap_values, k),
            lambda labels: (labels.label_kind == "apparent") & (labels.age_std >= 0),
            "an apparent age with its standard deviation",
        ),
        Protocol(
            "adience",
            "Adience: top-1 and 1-off over 8 age groups, mean of the folds",
            TOP1,
            partial(_folded, "adience"),
            _adience_values,
            lambda labels: adience_label(labels.age_low, labels.age_high) >= 0,
            "an age group of Adience, such as (25, 32)",
        ),
        Protocol(
            "lfw+",
            "LFW+: the whole set, trained elsewhere, MAE on apparent ages",
            MAE_YEARS,
            _whole_set,
            partial(_age_values, k),
            lambda labels: labels.label_kind == "apparent",
            "an apparent age",
        ),
    ]


def _of_ages(k: float) -> list[Protocol]:
    """Protocols of any dataset with exact ages."""
    return [
        Protocol(
            "lopo",
            "FG-NET: leave one person out, MAE over faces and over persons",
            MAE_YEARS,
            _leave_one_out,
            partial(_age_values, k),
            lambda labels: ~np.isnan(labels.age) & (labels.subject_id.numbers >= 0),
            "an age and a known subject",
        ),
        Protocol(
            "paplham",
            "Paplham & Franc 2024: the published folds, mean and spread",
            MAE_YEARS,
            partial(_folded, "paplham"),
            partial(_age_values, k),
            lambda labels: ~np.isnan(labels.age),
            "an age",
        ),
    ]


def _one_split(split: Split, dataset: Location, manifest: Manifest) -> list[Turn]:
    if not manifest.counts.get(split):
        there = ", ".join(f"{name} {count}" for name, count in manifest.counts.items() if count)
        raise InputError(f"'{dataset}' has no faces in its split '{split}' (faces there: {there or 'none'}).")
    return [Turn(name=str(split), train=Part(Split.TRAIN), val=Part(Split.VAL), test=Part(split))]


def _whole_set(dataset: Location, manifest: Manifest) -> list[Turn]:
    return [Turn(name="whole set", train=None, val=None, test=Part())]


def _folded(name: str, dataset: Location, manifest: Manifest) -> list[Turn]:
    if not manifest.turns:
        raise InputError(
            f"The protocol '{name}' needs the owner's folds, but '{dataset}' ({manifest.name}) has none: "
            "ingest it with the reader of its owner's layout."
        )
    return list(manifest.turns)


def _leave_one_out(dataset: Location, manifest: Manifest) -> list[Turn]:
    subjects = read_rows(dataset, None, ["subject_id"]).column("subject_id").drop_null().unique().to_pylist()
    if len(subjects) < 2:
        raise InputError(
            f"The protocol 'lopo' needs identities, but '{dataset}' ({manifest.name}) knows "
            f"{len(subjects) or 'no'} subject{'' if len(subjects) == 1 else 's'}: ingest it with its column "
            "of subjects."
        )
    return [
        Turn(name=name, train=Part(without=(name,)), val=None, test=Part(subjects=(name,)))
        for name in sorted(subjects)
    ]


def _standard_values(k: float, predictions: Predictions) -> dict[str, Values]:
    kinds = set(map(str, predictions.label_kind.counts()))
    if len(kinds) > 1:
        raise InputError(f"One figure cannot mix the label kinds {', '.join(sorted(kinds))}.")
    return _group_values(predictions) if kinds == {"group"} else _age_values(k, predictions)


def _age_values(k: float, predictions: Predictions) -> dict[str, Values]:
    signed = errors(predictions.predicted, predictions.age)
    return {MAE_YEARS: np.abs(signed), cs_at(k): within(signed, k), BIAS_YEARS: signed}


def _group_values(predictions: Predictions) -> dict[str, Values]:
    """Against groups of any kind: years that the prediction lies outside; ends count as whole years."""
    low = predictions.age_low.astype(np.float64) - 0.5
    high = predictions.age_high.astype(np.float64) + 0.5
    predicted = predictions.predicted.astype(np.float64)
    outside = np.maximum(np.maximum(low - predicted, predicted - high), 0.0)
    return {OUTSIDE_YEARS: outside, IN_GROUP: (outside <= 1e-4).astype(np.float64)}


def _lap_values(k: float, predictions: Predictions) -> dict[str, Values]:
    return {
        EPS_ERROR: eps_errors(predictions.predicted, predictions.age, predictions.age_std),
        **_age_values(k, predictions),
    }


def _adience_values(predictions: Predictions) -> dict[str, Values]:
    true = adience_label(predictions.age_low, predictions.age_high)
    by_mass = np.abs(predictions.group - true)
    by_age = np.abs(adience_group(predictions.predicted) - true)
    return {
        TOP1: (by_mass == 0).astype(np.float64),
        ONE_OFF: (by_mass <= 1).astype(np.float64),
        TOP1_BY_AGE: (by_age == 0).astype(np.float64),
        ONE_OFF_BY_AGE: (by_age <= 1).astype(np.float64),
    }


PROTOCOLS: Mapping[str, Protocol] = _protocols(Split.TEST, DEFAULT_K)
