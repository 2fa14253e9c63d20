"""[ray] How fast robustness is measured beside a bare loop, and what more models cost.

The bare loop corrupts the same faces and asks one network, in one process and on one core; as many of them as
there are cores, at once, say what the cores give together, which is less where they share clocks and memory.
Everything runs in turns. The first one is not counted as throughput: processes start, import what they need,
and glass blur is compiled in each, which is told as the start. Workers run at the same priority as the loop,
which they otherwise do not, so that whatever else the machine does hits both alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from agesearch.data.dataset.records import Split
from agesearch.data.reading.demo_pack import demo_pack
from agesearch.errors import InputError
from agesearch.measure.labelled_faces import with_an_age
from agesearch.measure.predictions import Labels, crop_batches
from agesearch.measure.robustness.protocol import CorruptionLevel, corrupted, set_named
from agesearch.measure.robustness.run import answers, tally_errors
from agesearch.measure.speed.latency_table import untrained_onnx
from agesearch.models.scorers import OnnxScorer
from agesearch.progress import Listener, Progress, silent
from agesearch.session import ray_session
from agesearch.specs import ModelSpec
from agesearch.storage import Location

_MODEL = ModelSpec(arch="lcnet_035", input_size=64)
_STAGE = "Robustness bench"


@dataclass(frozen=True)
class RobustnessSpeed:
    """Corrupted and scored faces a second, medians over the turns: of the bare loop on one core, of one on
    each core at once, and of ``measure robustness`` on all ``cores`` with one model and with ``models``, each
    over a whole run; sustained ones are from the first answers of a run to its last. The first run of all
    takes ``start_s`` seconds more than later ones.
    """

    faces: int
    levels: int
    cores: int
    models: int
    turns: int
    bare_per_s: float
    loops_per_s: float
    one_per_s: float
    many_per_s: float
    sustained_one_per_s: float
    sustained_many_per_s: float
    start_s: float

    @property
    def of_the_cores(self) -> float:
        """The rate with one model over that of the bare loop on as many cores."""
        return self.one_per_s / (self.cores * self.bare_per_s)

    @property
    def sustained_of_the_cores(self) -> float:
        """The same of the sustained rate."""
        return self.sustained_one_per_s / (self.cores * self.bare_per_s)

    @property
    def of_loops_at_once(self) -> float:
        """The rate with one model over that of bare loops on all cores at once."""
        return self.one_per_s / self.loops_per_s

    @property
    def many_over_one(self) -> float:
        """The time with all models over that with one."""
        return self.one_per_s / self.many_per_s

    @property
    def sustained_many_over_one(self) -> float:
        """The same from the first answers to the last: without opening the models in every process."""
        return self.sustained_one_per_s / self.sustained_many_per_s


def bench_robustness(
    *,
    faces: int = 128,
    models: int = 8,
    turns: int = 3,
    set_name: str = "hendrycks",
    on_progress: Listener = silent,
) -> RobustnessSpeed:
    """Time both ways on faces of the demo under every corruption of a set at severity 3.

    Starts Ray. More faces than the demo's test split has are an ``InputError``.
    """
    data = demo_pack()
    labels, _ = with_an_age(data, Split.TEST)
    if faces > len(labels):
        raise InputError(f"--faces is {faces}, but the demo's test split has {len(labels)}.")
    labels = labels.take(np.arange(faces))
    levels = set_named(set_name).levels(severities=(3,))[1:]
    network = untrained_onnx(_MODEL)
    one, many = (
        {f"model {number}": OnnxScorer(network, _MODEL.input_size) for number in range(count)}
        for count in (1, models)
    )
    # The first run of the product comes before all others, so that it starts the workers.
    seconds: dict[str, list[float]] = {"one": [], "many": [], "bare": [], "loops": []}
    sustained: dict[str, list[float]] = {"one": [], "many": []}
    with ray_session(on_progress=on_progress, background=False) as session:
        cores = int(session.cpus)
        for turn in range(turns + 1):
            on_progress(Progress(_STAGE, turn, turns + 1, note="turns"))
            for way, scorers in (("one", one), ("many", many)):
                whole, steady = _timed_run(scorers, data, labels, levels)
                seconds[way].append(whole)
                sustained[way].append(steady)
            seconds["bare"].append(_bare_s(one["model 0"], data, labels, levels))
            seconds["loops"].append(_loops_s(cores, one["model 0"], data, labels, levels))
    work = faces * len(levels)
    medians = {way: statistics.median(took[1:]) for way, took in seconds.items()}
    rates = {way: work / took for way, took in medians.items()}
    return RobustnessSpeed(
        faces,
        len(levels),
        cores,
        models,
        turns,
        rates["bare"],
        cores * rates["loops"],
        rates["one"],
        rates["many"],
        statistics.median(sustained["one"][1:]),
        statistics.median(sustained["many"][1:]),
        seconds["one"][0] - medians["one"],
    )


def _timed_run(
    models: dict[str, OnnxScorer], data: Location, labels: Labels, levels: Sequence[CorruptionLevel]
) -> tuple[float, float]:
    """Seconds of a whole run, and corrupted faces a second from its first answers to its last."""
    answered: list[tuple[float, int]] = []
    began = time.perf_counter()
    tally_errors(
        models,
        data,
        labels,
        levels,
        part=Split.TEST,
        on_progress=lambda seen: answered.append((time.perf_counter(), seen.done)),
    )
    whole = time.perf_counter() - began
    (first, done), (last, total) = answered[1], answered[-1]  # before those: that it begins
    return whole, (total - done) / max(last - first, 1e-9)


def _loops_s(
    cores: int, model: OnnxScorer, data: Location, labels: Labels, levels: Sequence[CorruptionLevel]
) -> float:
    """Seconds that as many bare loops take at once, each over all the work."""
    import ray

    loop = ray.remote(num_cpus=1)(_bare_s)
    began = time.perf_counter()
    ray.get([loop.remote(model, data, labels, levels) for _ in range(cores)])
    return time.perf_counter() - began


def _bare_s(model: OnnxScorer, data: Location, labels: Labels, levels: Sequence[CorruptionLevel]) -> float:
    began, threads = time.perf_counter(), cv2.getNumThreads()
    cv2.setNumThreads(1)
    predictor = model.open()
    for at, images in crop_batches(data, labels, part=Split.TEST):
        named = list(zip(images, labels.sample_id[at], strict=True))
        for level in levels:
            answers([predictor], [corrupted(image, level, str(name)) for image, name in named])
    cv2.setNumThreads(threads)
    return time.perf_counter() - began
