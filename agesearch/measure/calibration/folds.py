"""Folds over persons: what is learnt on some is judged on others, and nobody is on both sides."""

from __future__ import annotations

import numpy as np

from agesearch.measure.intervals import Codes, Persons

#: So many folds, fewer where there are fewer persons.
FOLDS = 5


def person_folds(persons: Persons, folds: int = FOLDS, seed: int = 0) -> Codes:
    """The fold 0..folds-1 of each of N faces ``[N]``: persons are dealt out at random, each with all faces.

    The deal depends on the names of the persons and the seed, not on the order of the faces.
    """
    _, codes = np.unique(persons.codes, return_inverse=True)
    count = len(persons.faces)
    dealt = np.random.default_rng(seed).permutation(count) % min(folds, count)
    found: Codes = dealt[codes].astype(np.int64)
    return found
