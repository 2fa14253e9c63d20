"""Sequences of faces with distinct ages, drawn by seed: an order teacher learns from them, and is judged."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agesearch.ages import FloatArray
from agesearch.errors import InputError

Rows = npt.NDArray[np.intp]

_TRIES = 50
#: Faces looked at for each place of a sequence.
_CANDIDATES = 32


class Sequences:
    """Draws sequences of ``length`` faces whose ages lie at least ``gap`` years apart, in random order.

    Faces without an age are never drawn. Ages that cannot give such a sequence are an ``InputError``.
    """

    def __init__(self, ages: FloatArray, length: int, gap: float) -> None:
        self._rows: Rows = np.flatnonzero(np.isfinite(ages))
        self._ages = ages[self._rows].astype(np.float64)
        self._length, self._gap = length, gap
        self._tight = self._packed(np.argsort(self._ages, kind="stable"))
        self._refuse_too_few()

    @property
    def faces(self) -> int:
        """How many faces have an age."""
        return len(self._rows)

    def draw(self, count: int, generator: np.random.Generator) -> Rows:
        """Indices ``[count, length]`` into the ages given."""
        drawn = [self._one(generator) for _ in range(count)]
        return self._rows[np.array(drawn, dtype=np.intp).reshape(count, self._length)]

    def _one(self, generator: np.random.Generator) -> list[int]:
        for _ in range(_TRIES):
            # A face drawn twice is no gap away from itself, so it is taken once.
            taken = self._packed(generator.integers(0, len(self._ages), size=_CANDIDATES * self._length))
            if len(taken) == self._length:
                return taken
        # Random picks may block one another; the tightest packing never does.
        return [int(index) for index in generator.permutation(self._tight)]

    def _packed(self, order: npt.NDArray[np.intp]) -> list[int]:
        """The first faces in this order that keep the gap to all taken before."""
        taken: list[int] = []
        ages: list[float] = []
        for index in order:
            age = self._ages[index]
            if all(abs(age - other) >= self._gap for other in ages):
                taken.append(int(index))
                ages.append(age)
                if len(taken) == self._length:
                    break
        return taken

    def _refuse_too_few(self) -> None:
        possible = len(self._tight)
        if not len(self._ages):
            raise InputError(
                "None of the faces has an exact age, and an order teacher sorts them by age: it cannot learn "
                "from age groups."
            )
        if possible < self._length:
            raise InputError(
                f"Sequences of {self._length} faces with ages {self._gap:g} years apart cannot be drawn: the "
                f"{len(self._ages)} faces with an age allow {possible}. Use shorter ones or a smaller gap."
            )
