"""``agesearch.measure_decisions``: who passes an age limit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agesearch.api.places import Place
from agesearch.progress import Listener, silent
from agesearch.session import set_environment

if TYPE_CHECKING:
    from agesearch.measure.decisions.records import Decisions


def measure_decisions(
    models: Place | Sequence[Place],
    *,
    data: Place,
    legal_age: float,
    challenge: float | None = None,
    max_fpr: float | None = None,
    min_faces: int = 30,
    split: str = "test",
    folds: Sequence[int] | None = None,
    registry: Place = "registry",
    on_progress: Listener = silent,
) -> Decisions:
    """Tell who passes an age limit: rates of minors who pass and adults who are refused, with intervals.

    >>> found = agesearch.measure_decisions("teacher", data="faces", legal_age=40, split="all")
    >>> found.minors, found.adults
    (20, 20)

    The record is what ``agesearch measure decisions --json`` prints: by model the rates in cells, the
    challenge age of each target rate, three answers, errors as NIST asks for them.

    Args:
        models: model folders, studies (their front), teachers' documents, or names of ``registry``.
        challenge: who is estimated to be at least so old passes; None: ``legal_age``.
        max_fpr: find the challenge age whose worst cell passes no more than this share.
        split: ``train``, ``val``, ``test`` or ``all``.

    Raises:
        InputError: no such model; no face on one side of the limit.
    """
    set_environment()
    from agesearch.deploy.measured_models import measured_models
    from agesearch.measure.decisions.run import DecisionSpec
    from agesearch.measure.decisions.run import measure_decisions as measure
    from agesearch.measure.protocols import split_named

    spec = DecisionSpec(
        legal_age=legal_age,
        challenge_age=challenge,
        max_fpr=max_fpr,
        min_faces=min_faces,
        split=None if split == "all" else split_named(split),
        folds=tuple(folds) if folds else None,
    )
    named = [models] if isinstance(models, str | os.PathLike) else models
    places = measured_models([os.fspath(model) for model in named], os.fspath(registry))
    return measure(places, os.fspath(data), spec, on_progress=on_progress)
