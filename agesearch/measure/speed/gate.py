"""Whether a model answers on an engine as well as it does in fp32: the gate of int8 and bf16.

Both score the same validation faces, and the gate holds where the upper end of the 95 % interval of the
paired difference of their errors is at most ``max_drop`` years. The interval resamples persons, so that few
faces make it wide: the gate then does not hold, and says so. It asks for the loss that remains possible, not
for the likeliest one; the validation faces have chosen the student, but not between its precisions.

``int8_within`` quantises by that gate: ranges come from training faces, and layers that hurt go back into
floats, worst first, until the gate holds: ``agesearch.models.runtimes.accuracy_control`` says in how many
trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from agesearch.ages import expected_age
from agesearch.data.dataset.arrays import Pixels
from agesearch.machine import cores
from agesearch.measure.intervals import Persons, estimate
from agesearch.measure.labelled_faces import LabelledFaces
from agesearch.measure.speed.hardware import hardware_name, runtime_versions
from agesearch.measure.speed.rows import SpeedRow
from agesearch.models.runtimes.accuracy_control import Restored
from agesearch.models.runtimes.engines import DEFAULT, INT8, OPENVINO, Engine
from agesearch.models.runtimes.int8 import quantised_within
from agesearch.models.scorers import ForeignScorer, OnnxScorer, Scorer, fault
from agesearch.progress import Listener, Progress, silent
from agesearch.specs import Spec

#: Years of MAE that a model may lose on another engine.
MAX_DROP_YEARS = 0.1
#: Fewer persons (faces, where nobody is known) than this make no gate.
MIN_PERSONS = 10
#: Faces that an engine is judged by, and that ranges are taken from, at most.
GATE_FACES, CALIBRATION_FACES = 500, 128

_STAGE = "Precision"

Errors = npt.NDArray[np.float64]


class Gate(Spec):
    """How a model answers on an engine, beside ONNX Runtime in fp32 on the same validation faces: both MAEs
    in years, the paired ``drop`` (positive: worse) with its 95 % interval, and whether that ``holds``;
    ``reason`` says why not. ``layers_as_asked`` of the ``layers`` that multiply run in the precision. Where
    the engines that hold were timed in one run, the latencies in ms are those of one face on ``threads``.
    """

    runtime: str
    precision: str
    max_drop_years: float
    holds: bool
    reason: str = ""
    faces: int = 0
    persons: int | None = None
    fp32_mae_years: float | None = None
    mae_years: float | None = None
    drop_years: float | None = None
    drop_low: float | None = None
    drop_high: float | None = None
    layers: int | None = None
    layers_as_asked: int | None = None
    threads: int | None = None
    latency_ms_p50: float | None = None
    latency_ms_p95: float | None = None
    hardware: str = ""
    versions: dict[str, str] = {}

    @property
    def engine(self) -> Engine:
        """The runtime and the precision."""
        return Engine(self.runtime, self.precision)


def closed(engine: Engine, max_drop: float, reason: str) -> Gate:
    """The gate of an engine that there is nothing to measure on, and why."""
    return Gate(**engine._asdict(), max_drop_years=max_drop, holds=False, reason=reason.rstrip("."))


def with_times(found: Sequence[Gate], rows: Sequence[SpeedRow]) -> list[Gate]:
    """The gates with the times of one face that one run found for their engines; that of the usual engine
    comes first, and holds by what a gate is.
    """
    times = {row.engine: row for row in rows if row.batch == 1}
    if DEFAULT not in times or not found:
        return list(found)
    usual = Gate(
        **DEFAULT._asdict(),
        max_drop_years=found[0].max_drop_years,
        holds=True,
        hardware=times[DEFAULT].hardware,
        versions=times[DEFAULT].versions,
    )
    names = ("threads", "latency_ms_p50", "latency_ms_p95")
    return [
        gate.with_values({name: getattr(times[gate.engine], name) for name in names})
        if gate.engine in times
        else gate
        for gate in (usual, *(each for each in found if each.engine != DEFAULT))
    ]


def too_few(persons: Persons) -> str | None:
    """Why faces cannot judge an engine; None where they can."""
    count = len(persons.faces)
    if count >= MIN_PERSONS:
        return None
    return f"the validation faces show {count} persons, and fewer than {MIN_PERSONS} judge nothing"


def gates(
    scorer: Scorer,
    faces: LabelledFaces,
    engines: Sequence[Engine],
    max_drop: float = MAX_DROP_YEARS,
    *,
    on_progress: Listener = silent,
) -> list[Gate]:
    """The gate of each engine, on the faces that are given. An engine that cannot run the model is closed."""
    few = too_few(faces.persons)
    if few is not None:
        return [closed(engine, max_drop, few) for engine in engines]
    usual = _errors(scorer, DEFAULT, faces)
    found = []
    for done, engine in enumerate(engines):
        on_progress(Progress(_STAGE, done, len(engines), note=f"gate, {engine}"))
        reason = fault(scorer, engine)
        if reason is not None:
            found.append(closed(engine, max_drop, reason))
            continue
        layers = scorer.layers(engine)
        gate = gate_of(engine, usual, _errors(scorer, engine, faces), faces.persons, max_drop)
        found.append(gate.with_values({"layers": layers.count, "layers_as_asked": layers.as_asked}))
    on_progress(Progress(_STAGE, len(engines), len(engines)))
    return found


def gate_of(engine: Engine, usual: Errors, errors: Errors, persons: Persons, max_drop: float) -> Gate:
    """The gate from absolute errors in years ``[N]`` in fp32 (``usual``) and on the engine."""
    drop = estimate(errors - usual, persons)
    reason = f"it loses {drop.value:.3f} years of MAE on {drop.basis} (allowed: {max_drop:g})"
    if drop.value <= max_drop:
        reason += f", and perhaps {drop.high:.3f}: too few faces to tell"
    return Gate(
        **engine._asdict(),
        max_drop_years=max_drop,
        holds=drop.high <= max_drop,
        reason="" if drop.high <= max_drop else reason,
        faces=drop.faces,
        persons=drop.persons,
        fp32_mae_years=float(usual.mean()),
        mae_years=float(errors.mean()),
        drop_years=drop.value,
        drop_low=drop.low,
        drop_high=drop.high,
        hardware=hardware_name(),
        versions=runtime_versions(engine),
    )


def int8_within(
    scorer: OnnxScorer | ForeignScorer,
    calibration: Pixels,
    faces: LabelledFaces,
    max_drop: float = MAX_DROP_YEARS,
    *,
    on_progress: Listener = silent,
) -> tuple[bytes, Restored]:
    """The network in int8, as ONNX bytes, with as many layers in floats as the gate of OpenVINO asks for (no
    more than a number of them: it may drop more then), and which those are.

    ``calibration`` are training crops ``uint8 [N, S, S, 3]``. Raises ``AgeSearchError`` where the network
    cannot be quantised.
    """
    engine, usual = Engine(OPENVINO, INT8), _errors(scorer, DEFAULT, faces)
    tried = 0

    def drop(model: bytes, where: Sequence[int]) -> tuple[float, list[float]]:
        nonlocal tried
        tried += 1
        on_progress(Progress(_STAGE, tried, None, note=f"int8, {len(where)} faces"))
        chosen = np.asarray(where)
        lost = _errors(replace(scorer, int8=model), engine, faces, chosen) - usual[chosen]
        whole = len(chosen) == len(faces)
        return (estimate(lost, faces.persons).high if whole else float(lost.mean())), lost.tolist()

    on_progress(Progress(_STAGE, 0, None, note=f"int8, ranges of {len(calibration)} faces"))
    opened = scorer.open()
    feeds = [opened.feed(face[None]) for face in calibration]
    return quantised_within(scorer.onnx, feeds, len(faces), drop, max_drop)


def _errors(
    scorer: Scorer, engine: Engine, faces: LabelledFaces, where: npt.NDArray[Any] | None = None
) -> Errors:
    """Absolute errors in years on an engine, with all cores, of the faces at some indices (None: all)."""
    at = np.arange(len(faces)) if where is None else where
    pmf = scorer.open(cores(), engine).pmf(faces.images[at])
    errors: Errors = np.abs(expected_age(pmf).astype(np.float64) - faces.age[at])
    return errors
