"""Where random draws start."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agesearch.documents import Spec

#: Where random draws start: what the generators of NumPy, torch and Optuna all take.
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Seeded(Spec):
    """A seed alone, for what has no other spec."""

    seed: Seed = 0
