"""Labels that look wrong: ages far out, one subject's ages too far apart, copies of a face with two ages, and
ages that a model disagrees with most.

An outlier is a candidate for a look, not a proof. "Far out" is the modified z-score 0.6745 (x - median) / MAD
beyond 3.5, the limit that Iglewicz and Hoaglin (1993) recommend; it holds up where outliers are many.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agesearch.data.dataset.texts import Texts

Values = npt.NDArray[np.float64]

#: The modified z-score beyond which a value is called far out.
MAX_Z = 3.5
#: Photographs of one person rarely span more; a father and a son under one name do.
MAX_SUBJECT_YEARS = 60.0
#: Copies of one face may differ by this much: an age rounded up, another day of the same year.
MAX_COPY_YEARS = 1.0
_TO_SIGMA = 0.6745


def robust_z(values: npt.ArrayLike) -> Values:
    """The modified z-score of each value, ``[n]``; NaN where the value is NaN, 0 everywhere where more than
    half of the values are the same (their median deviation is 0, which is no scale).
    """
    x = np.asarray(values, np.float64)
    known = x[~np.isnan(x)]
    if known.size == 0:
        return np.full(x.shape, np.nan)
    middle = np.median(known)
    spread = np.median(np.abs(known - middle))
    z: Values = _TO_SIGMA * (x - middle) / spread if spread > 0 else np.where(np.isnan(x), np.nan, 0.0)
    return z


def far_out(values: npt.ArrayLike) -> list[tuple[int, float]]:
    """Index and z-score of the values beyond ``MAX_Z``, the farthest first."""
    z = robust_z(values)
    found = np.flatnonzero(np.abs(np.nan_to_num(z)) > MAX_Z)
    return [(int(index), float(z[index])) for index in found[np.argsort(-np.abs(z[found]), kind="stable")]]


def wide_subjects(
    subjects: Texts | Sequence[str | None], sources: Texts | Sequence[str], ages: npt.ArrayLike
) -> list[tuple[str, int, int]]:
    """``(subject, youngest, oldest)`` (indices) of subjects whose ages within one source span more than
    ``MAX_SUBJECT_YEARS``, the widest first.
    """
    names, where, age = Texts.of(subjects), Texts.of(sources), np.asarray(ages, np.float64)
    known = np.flatnonzero((names.numbers >= 0) & ~np.isnan(age))
    group = names.numbers[known].astype(np.int64) * (len(where.names) + 1) + where.numbers[known]
    low, high = (known[_firsts(group, sign * age[known])] for sign in (1.0, -1.0))
    wide = np.flatnonzero(age[high] - age[low] > MAX_SUBJECT_YEARS)
    found = [(str(names[int(low[at])]), int(low[at]), int(high[at])) for at in wide]
    return sorted(found, key=lambda item: (age[item[1]] - age[item[2]], item[0]))


def _firsts(groups: npt.NDArray[np.int64], values: Values) -> npt.NDArray[np.int64]:
    """The index of the smallest value of each group, of equal ones the first; by rising group."""
    order = np.lexsort((values, groups))
    starts = np.flatnonzero(np.diff(groups[order], prepend=-2))
    return np.asarray(order[starts], np.int64)


def differing_copies(groups: Sequence[Sequence[int]], ages: npt.ArrayLike) -> list[Sequence[int]]:
    """The groups of copies (indices) whose ages differ by more than ``MAX_COPY_YEARS``, the most first."""
    age = np.asarray(ages, np.float64)
    spans = []
    for number, group in enumerate(groups):
        known = age[list(group)]
        known = known[~np.isnan(known)]
        if known.size > 1 and np.ptp(known) > MAX_COPY_YEARS:
            spans.append((-float(np.ptp(known)), number))
    return [groups[number] for _, number in sorted(spans)]
