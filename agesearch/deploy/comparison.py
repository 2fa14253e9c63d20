"""Two versions of a model side by side: on the same faces, and timed in turns in one run.

What their manifests say was measured at other times, on other machines and perhaps on other faces, so the
error is taken anew where there is a dataset, as a paired difference with the interval of
``agesearch.measure.evaluate`` (over persons, where they are known).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from agesearch.data.dataset.records import Split, read_manifest
from agesearch.deploy.integrity import verify
from agesearch.deploy.registry import Version
from agesearch.errors import AgeSearchError, InputError, first_line
from agesearch.measure.evaluate import Evaluation, evaluate
from agesearch.measure.protocols import protocol_named
from agesearch.measure.speed.rows import Setting, beyond_noise
from agesearch.measure.speed.timing import TimedModel, side_by_side
from agesearch.metrics import MAE_YEARS
from agesearch.progress import Listener, silent
from agesearch.storage import Location

#: The splits in the order of what they prove: no decision of a search has seen the test split.
_SPLITS = (Split.TEST, Split.VAL)

Judgement = Literal["better", "worse", "the same within noise", "not compared"]


@dataclass(frozen=True)
class Error:
    """The MAE of both versions in years on ``faces`` of a split, and their paired difference (new minus old)
    with the ends of its 95 % interval; ``notes`` say what weakens it.
    """

    split: str
    faces: int
    old: float
    new: float
    difference: float
    low: float
    high: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class VersionComparison:
    """A version beside an older one. ``error`` is None where nothing could be compared, which ``why`` says;
    latencies are medians in ms of one face on one thread, with the 95th percentiles of their calls, sizes
    bytes of the network as it is served.
    """

    old: str
    new: str
    error: Error | None
    why: str
    latency_ms: tuple[float, float]
    latency_ms_p95: tuple[float, float]
    size_bytes: tuple[int | None, int | None]
    judgement: Judgement = field(init=False)
    speed: Judgement = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "judgement", _of_error(self.error))
        object.__setattr__(self, "speed", _of_speed(self.latency_ms, self.latency_ms_p95))

    def as_json(self) -> dict[str, Any]:
        """The comparison as one JSON object."""
        old, new = self.latency_ms
        return {
            "old": self.old,
            "new": self.new,
            "error": None if self.error is None else vars(self.error),
            "why_no_error": self.why,
            "error_is": self.judgement,
            "latency_ms_p50": {"old": old, "new": new},
            "latency_is": self.speed,
            "size_bytes": dict(zip(("old", "new"), self.size_bytes, strict=True)),
        }


def compare_versions(
    old: Version, new: Version, dataset: str | Location | None, *, on_progress: Listener = silent
) -> VersionComparison:
    """Compare two versions, their files checked. Without a dataset, or on one that cannot tell their errors
    apart, only speed and size are compared.
    """
    for version in (old, new):
        verify(version.folder)
    models = [TimedModel(each.label, each.onnx, *_network(each)) for each in (old, new)]
    first, second = side_by_side(models, [Setting()], on_progress=on_progress)
    error, why = _error(old, new, dataset, on_progress)
    return VersionComparison(
        old.label,
        new.label,
        error,
        why,
        (first.latency_ms_p50, second.latency_ms_p50),
        (first.latency_ms_p95, second.latency_ms_p95),
        (old.size_bytes, new.size_bytes),
    )


def _network(version: Version) -> tuple[str, int]:
    model = version.manifest().model
    return model.arch, model.input_size


def _error(
    old: Version, new: Version, dataset: str | Location | None, on_progress: Listener
) -> tuple[Error | None, str]:
    if dataset is None:
        return None, "no dataset is given"
    try:
        counts = read_manifest(dataset).counts
        split = next((split for split in _SPLITS if counts.get(split)), None)
        if split is None:
            return None, f"'{dataset}' has neither test nor validation faces"
        folders = {version.label: version.folder for version in (old, new)}
        protocol = protocol_named("standard", split=split)
        found = evaluate(folders, dataset, protocol, on_progress=on_progress)
    except (InputError, AgeSearchError) as error:  # groups alone, other crops: told, and no reason to stop
        return None, first_line(error).rstrip(".")
    return _difference(found.record, old.label, new.label, str(split))


def _difference(record: Evaluation, old: str, new: str, split: str) -> tuple[Error | None, str]:
    """The difference in MAE on the label kind that most faces have."""
    scores = {model.name: model for model in record.models}
    kind = max(scores[old].kinds, key=lambda kind: kind.faces)
    rows = [row for row in record.differences if (row.kind, row.score) == (kind.kind, MAE_YEARS)]
    if not rows:
        return None, f"the {split} faces have no ages"
    row, sign = rows[0], 1.0 if rows[0].model == new else -1.0
    ends = sorted((sign * row.difference.low, sign * row.difference.high))
    of = {
        name: next(each for each in scores[name].kinds if each.kind == kind.kind).scores[MAE_YEARS].value
        for name in (old, new)
    }
    notes = tuple(f"{name}: {note}" for name in (old, new) for note in scores[name].notes)
    if split == Split.VAL:
        notes = ("The validation faces have chosen models: their figures flatter.", *notes)
    found = Error(split, kind.faces, of[old], of[new], sign * row.difference.value, ends[0], ends[1], notes)
    return found, ""


def _of_error(error: Error | None) -> Judgement:
    if error is None:
        return "not compared"
    if error.low <= 0.0 <= error.high:
        return "the same within noise"
    return "worse" if error.low > 0.0 else "better"


def _of_speed(medians: tuple[float, float], slowest: tuple[float, float]) -> Judgement:
    (old, new), (old_p95, new_p95) = medians, slowest
    if not beyond_noise((old, old_p95), (new, new_p95)):
        return "the same within noise"
    return "worse" if new > old else "better"
