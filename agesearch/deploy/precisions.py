"""Which runtimes and precisions a model may be served with: int8 made, every engine judged and timed.

A version holds what comes of it: ``model.int8.onnx`` where an engine runs it as well as fp32, and the gate of
each engine, with its reason, or with its time where it may be used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agesearch.measure.speed.gate import Gate, with_times
from agesearch.measure.speed.judge import judge
from agesearch.measure.speed.rows import Setting
from agesearch.measure.speed.timing import TimedModel, side_by_side
from agesearch.models.runtimes.engines import DEFAULT, INT8, engines_here
from agesearch.models.scorers import Scorer, int8_of
from agesearch.progress import Listener
from agesearch.storage import Location


@dataclass(frozen=True)
class Precisions:
    """The int8 network (None: none is good enough), and the gate of each engine."""

    int8: bytes | None
    gates: Sequence[Gate]


def precisions(
    scorer: Scorer, arch: str, dataset: Location, max_drop: float, on_progress: Listener
) -> Precisions:
    """Judge and time a network on every engine of this machine, on the validation faces of a dataset.

    An int8 network is made where it has none. ``max_drop`` is how many years of MAE an engine may lose; where
    it is 0, nothing is tried.
    """
    if not max_drop:
        return Precisions(None, ())
    judged, found = judge(scorer, dataset, engines_here(), max_drop, on_progress)
    good = [gate.engine for gate in found if gate.holds]
    int8 = int8_of(judged) if any(engine.precision == INT8 for engine in good) else None
    if not good:
        return Precisions(None, found)
    models = [TimedModel("", judged, arch, judged.input_size, engine) for engine in (DEFAULT, *good)]
    return Precisions(int8, with_times(found, side_by_side(models, [Setting()], on_progress=on_progress)))
