"""A timing as it is kept, what it was timed under, and when two of them differ."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pydantic import Field

from agesearch.machine import cores
from agesearch.models.runtimes.engines import DEFAULT, Engine
from agesearch.specs import Spec

#: A difference below this share of a latency is noise, however steady the calls were.
_STEADY = 0.05


@dataclass(frozen=True)
class Setting:
    """How a model is called while it is timed."""

    threads: int = 1
    batch: int = 1


class EngineTime(Spec):
    """The same on another engine: ms a call."""

    runtime: str
    precision: str
    latency_ms_p50: float
    latency_ms_p95: float
    file_bytes: int | None = Field(None, exclude_if=lambda value: value is None)

    @property
    def engine(self) -> Engine:
        """The runtime and the precision."""
        return Engine(self.runtime, self.precision)


class SpeedRow(Spec):
    """One timing: what ran, where, how often, and the result. Latency in ms a call of ``batch`` images.

    ``device`` names the GPU and its driver ("": the CPU). ``precision`` is what the runtime was asked for;
    ``layers_as_asked`` of the ``layers`` that multiply really ran in it, where that was looked at.
    ``file_bytes`` are those of the network, ``session_bytes`` and ``process_bytes`` the memory that it takes
    (``agesearch.measure.speed.footprint``). Where a model was timed on several engines and one of them is
    chosen, ``others`` are the rest, the fastest first.
    """

    model: str = ""
    arch: str
    input_size: int
    runtime: str = DEFAULT.runtime
    precision: str = DEFAULT.precision
    threads: int
    batch: int
    calls: int
    latency_ms_p50: float
    latency_ms_p95: float
    images_per_s: float
    hardware: str
    device: str = Field("", exclude_if=lambda value: not value)
    versions: dict[str, str]
    layers: int | None = Field(None, exclude_if=lambda value: value is None)
    layers_as_asked: int | None = Field(None, exclude_if=lambda value: value is None)
    file_bytes: int | None = Field(None, exclude_if=lambda value: value is None)
    session_bytes: int | None = Field(None, exclude_if=lambda value: value is None)
    process_bytes: int | None = Field(None, exclude_if=lambda value: value is None)
    others: tuple[EngineTime, ...] = Field((), exclude_if=lambda value: not value)

    @property
    def engine(self) -> Engine:
        """The runtime and the precision."""
        return Engine(self.runtime, self.precision)

    @property
    def setting(self) -> Setting:
        """The threads and the batch."""
        return Setting(self.threads, self.batch)


def settings(batches: Sequence[int] = (1, 32), threads: Sequence[int] = ()) -> list[Setting]:
    """These batches, each with these numbers of threads: one and all cores, where none is given."""
    counts = sorted(set(threads) or {1, cores()})
    return [Setting(count, batch) for batch in sorted(set(batches)) for count in counts]


def on_best_engine(rows: Sequence[SpeedRow], closed: Collection[Engine] = ()) -> SpeedRow:
    """The fastest of a model's rows under one setting, with the other engines beside it; an engine that is
    ``closed`` is not chosen, as long as another is there.
    """
    ranked = sorted(rows, key=lambda row: (row.engine in closed, row.latency_ms_p50))
    others = sorted(ranked[1:], key=lambda row: row.latency_ms_p50)
    told = tuple(
        EngineTime(**{name: getattr(row, name) for name in EngineTime.model_fields}) for row in others
    )
    return ranked[0].model_copy(update={"others": told})


def too_large(rows: Sequence[SpeedRow], max_bytes: int | None) -> set[Engine]:
    """The engines whose network has more bytes than that (None: any number will do)."""
    return {row.engine for row in rows if max_bytes is not None and (row.file_bytes or 0) > max_bytes}


def beyond_noise(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two timings, each (median, 95th percentile) in ms, differ by more than noise: the slower median
    lies beyond what 95 % of the single calls of the faster took, and beyond a twentieth of its median.
    """
    (fast, spread), (slow, _) = sorted((one, other))
    return slow > max(spread, fast * (1.0 + _STEADY))
