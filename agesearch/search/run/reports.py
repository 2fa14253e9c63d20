"""What a trial's process reports: the keys of a report, what can be read off one, and how the trial ended.
Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, NamedTuple

from agesearch.metrics import AT_END, EPOCH, EPOCH_SECONDS, VAL_MAE_YEARS
from agesearch.search.store.records import State

#: Keys of a trial's last report besides its metrics.
OUTCOME, REASON, SECONDS, NOTE, NODE = "outcome", "reason", "train_s", "note", "node"
NODE_ID = "node_id"
#: How it ended; STOPPED: within an epoch, as it was asked to, with a checkpoint; MISPLACED: its node cannot
#: train it, and another may.
COMPLETED, FAILED, CUT, STOPPED = "completed", "failed", "cut", "stopped"
MISPLACED = "misplaced"

#: What the names of a report's figures begin with.
_METRICS = ("train_", "val_", EPOCH_SECONDS, *AT_END)


@dataclass(frozen=True)
class Report:
    """A report as it is understood.

    ``epoch`` is how many epochs are finished, 0 where it does not say so in a number; ``fault`` says why it
    has no error in years, and is empty where ``error`` is one; ``outcome`` is None until the last report,
    whose ``reason`` says why a trial failed or was cut; ``seconds`` were spent training, on the ``node``.
    """

    epoch: int = 0
    error: float | None = None
    fault: str = ""
    outcome: str | None = None
    reason: str = ""
    note: str = ""
    seconds: float = 0.0
    node: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Report:
        """What a process reported, whatever it is."""
        fault, outcome = _fault(raw), raw.get(OUTCOME)
        return cls(
            epoch=max(0, int(_number(raw.get(EPOCH)))),
            error=None if fault else float(raw[VAL_MAE_YEARS]),
            fault=fault,
            outcome=None if outcome is None else str(outcome),
            reason=str(raw.get(REASON, "")),
            note=str(raw.get(NOTE) or ""),
            seconds=round(_number(raw.get(SECONDS)), 3),
            node=str(raw.get(NODE) or ""),
            metrics={name: float(raw[name]) for name in raw if _is_metric(name, raw[name])},
        )

    @property
    def is_epoch(self) -> bool:
        """Whether it tells of a finished epoch, and not of how the trial ended."""
        return self.outcome is None and self.epoch > 0


class Verdict(NamedTuple):
    """What becomes of a trial that does not train on: its state and why, and the share of the hypervolume
    that stopping it may cost. RUNNING: a later run takes it up.
    """

    state: State
    reason: str = ""
    loss: float = 0.0


def ending_of(report: Report, verdict: Verdict | None, stop_reason: str | None) -> Verdict:
    """How a trial ended that is not COMPLETE: PRUNED or FAIL, and why."""
    if report.outcome == COMPLETED:
        return Verdict(State.FAIL, report.fault)
    if report.outcome == FAILED:
        return Verdict(State.FAIL, report.reason)
    if verdict is not None:
        return verdict
    if stop_reason is not None:
        return Verdict(State.PRUNED, f"{stop_reason} after epoch {report.epoch}")
    return Verdict(State.FAIL, "it ended without a result")


def _is_metric(name: str, value: Any) -> bool:
    """Whether a report's entry is a figure of training, and not one of those that Tune adds."""
    return name.startswith(_METRICS) and isinstance(value, Real) and math.isfinite(value)


def _fault(raw: Mapping[str, Any]) -> str:
    mae = raw.get(VAL_MAE_YEARS)
    if mae is None:
        return f"{VAL_MAE_YEARS} is missing"
    if not isinstance(mae, Real):
        return f"{VAL_MAE_YEARS} is {mae!r:.40}, no number"
    if mae < 0:
        return f"{VAL_MAE_YEARS} is {mae}, but an error is not negative"
    return "" if math.isfinite(mae) else f"{VAL_MAE_YEARS} is {mae}"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, Real) and math.isfinite(value) else 0.0
