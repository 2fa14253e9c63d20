"""``agesearch.measure_*``: models beside each other, a function for each verb of ``agesearch measure``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from agesearch.api.places import Place, listed, text_of
from agesearch.progress import Listener, silent
from agesearch.session import set_environment

if TYPE_CHECKING:
    from agesearch.measure.counterfactual.records import Counterfactuals
    from agesearch.measure.decisions.records import Decisions
    from agesearch.measure.robustness.record import Robustness
    from agesearch.measure.speed.comparison import SpeedComparison


def measure_speed(
    models: Place | Sequence[Place],
    *,
    runtime: Sequence[str] = (),
    precision: Sequence[str] = (),
    threads: Sequence[int] = (),
    batch: Sequence[int] = (),
    calls: int = 50,
    photo: Place | None = None,
    gate: bool = False,
    data: Place | None = None,
    max_drop: float = 0.1,
    registry: Place = "registry",
    on_progress: Listener = silent,
) -> SpeedComparison:
    """Time models in turns by runtime, precision, threads and batch, warm; ratios with intervals.

    >>> found = agesearch.measure_speed("teacher", precision=["fp32"], threads=[1], batch=[1])
    >>> [best.answers for best in found.best]
    ['as good']

    The record is what ``agesearch measure speed --json`` prints: a row for each model, engine and setting,
    each model's best engine of the CPU (and of a GPU), bytes of its file and peak memory of its session.

    Args:
        models: model folders, studies (their front), teachers' documents, names of ``registry``, or
            ``ARCH@SIZE``: an architecture with random weights.
        runtime: none: all that are here; so, too, ``precision``.
        threads: none: one, and all cores; ``batch``: none: 1, 8 and 32.
        photo: a photograph to decode and crop; None: a made-up one.
        gate: judge each engine on the validation faces of ``data`` first: it may lose ``max_drop`` years.

    Raises:
        InputError: no such model; nothing of what was asked for runs here.
    """
    set_environment()
    from agesearch.deploy.speed import speed_of
    from agesearch.errors import InputError
    from agesearch.measure.speed.rows import settings

    if gate != (data is not None):
        raise InputError("gate and data go together: the engines are judged on the dataset's faces.")
    return speed_of(
        listed(models),
        registry=os.fspath(registry),
        runtimes=runtime,
        precisions=precision,
        settings=settings(tuple(batch) or (1, 8, 32), tuple(threads)),
        calls=calls,
        photo=text_of(photo),
        gate_on=text_of(data),
        max_drop=max_drop,
        on_progress=on_progress,
    )


def measure_robustness(
    models: Place | Sequence[Place],
    *,
    data: Place,
    corruption_set: Literal["hendrycks", "lfwc"] = "hendrycks",
    corruptions: Sequence[str] = (),
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    split: str = "test",
    faces: int | None = None,
    reference: str | None = None,
    registry: Place = "registry",
    address: str | None = None,
    on_progress: Listener = silent,
) -> Robustness:
    """Corrupt each face once and let all models score it: MAE-C, mCE, relative mCE, with 95 % intervals.

    >>> found = agesearch.measure_robustness(
    ...     "teacher", data="faces", corruptions=["contrast", "fog"], severities=[1, 5]
    ... )
    >>> [row.corruption for row in found.scores[0].corruptions]
    ['fog', 'contrast']

    The record is what ``agesearch measure robustness --json`` prints. Starts Ray, or joins the one at
    ``address``.

    Args:
        models: model folders, studies (their front and their teacher), teachers' documents, or names of
            ``registry``.
        corruptions: some of the set; none: all of it.
        faces: at most so many, the same every time; None: all.
        reference: whose errors the others are beside; None: the teacher.

    Raises:
        InputError: no such model or corruption; a split without ages.
    """
    set_environment()
    from agesearch.deploy.robustness import robustness_of
    from agesearch.measure.protocols import split_named

    return robustness_of(
        listed(models),
        os.fspath(data),
        registry=os.fspath(registry),
        corruption_set=corruption_set,
        corruptions=tuple(corruptions),
        severities=tuple(severities),
        split=split_named(split),
        faces=faces,
        reference=reference,
        address=address,
        on_progress=on_progress,
    )


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
    """Tell who passes an age limit: who is too young and passes, who is old enough and refused.

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
    from agesearch.deploy.places import measured_models
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
    places = measured_models(listed(models), os.fspath(registry))
    return measure(places, os.fspath(data), spec, on_progress=on_progress)


def measure_counterfactual(
    models: Place | Sequence[Place],
    *,
    changes: Sequence[str] = (),
    persons: int = 120,
    seed: int = 0,
    size: int = 112,
    legal_age: float = 18.0,
    challenge: float | None = None,
    min_persons: int = 20,
    registry: Place = "registry",
    address: str | None = None,
    on_progress: Listener = silent,
) -> Counterfactuals:
    """Render persons as they are and with one thing changed, and tell how far each answer moves.

    >>> found = agesearch.measure_counterfactual(
    ...     "teacher", changes=["glasses"], persons=4, size=48, min_persons=2
    ... )
    >>> [(shift.change, shift.shift_years.faces) for shift in found.models[0].shifts]
    [('glasses', 4)]

    The record is what ``agesearch measure counterfactual --json`` prints; it says what rendered faces can and
    cannot tell. Starts Ray, or joins the one at ``address``. Needs the package anny (the extra synth).

    Args:
        models: model folders, studies (their front), teachers' documents, or names of ``registry``.
        changes: some of them; none: all.
        persons: so many are rendered, from ``seed``, half of them younger than ``legal_age``.
        size: side of a picture in pixels.
        challenge: who is estimated to be at least so old passes; None: ``legal_age``.
        min_persons: of fewer no figure is told.

    Raises:
        InputError: no such model or change; the package that renders is missing.
    """
    set_environment()
    from agesearch.deploy.places import measured_models
    from agesearch.measure.counterfactual.faces import CounterfactualSpec
    from agesearch.measure.counterfactual.run import measure_counterfactual as measure

    spec = CounterfactualSpec(
        persons=persons,
        seed=seed,
        size=size,
        changes=tuple(changes),
        legal_age=legal_age,
        challenge_age=challenge,
        min_persons=min_persons,
    )
    spec.check()
    places = measured_models(listed(models), os.fspath(registry))
    return measure(places, spec, address=address, on_progress=on_progress)
