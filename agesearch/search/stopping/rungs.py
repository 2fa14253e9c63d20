"""Whether a trial may still reach the front at its own latency: early stopping for two objectives.

Successive halving asks at fixed epochs (rungs) which trials are worth more epochs (Jamieson & Talwalkar 2016;
asynchronously Li 2020; by non-dominated rank Schmucker 2021). Here a student's latency is known before it
trains, so its place on that axis is settled and one question is left at a rung: can its error still fall
below that of every trial that is at most as slow? Slower trials have no say, and a trial is never stopped for
being slow or fast.

A trial is stopped only where all of this holds:

1. It stands at a rung: ``first_epoch * eta^k`` epochs, or ``first_faces * eta^k`` faces, before the end of
its
   budget.
2. At least ``evidence`` trials are COMPLETE, so that their curves tell how much is still gained from there.
3. It is dominated at this rung: its rank, the number of trials that are at most as slow and had no larger
   error at the same share of their budget (Fonseca & Fleming 1993), is not 0.
4. Its error at best, in the end, is larger than the smallest error of a trial that is at most as slow and
   COMPLETE or still training. "At best" is the bound of a one-sided Student t prediction interval, at
   probability ``margin``, for the logarithm of one more trial's gain: wide while few trials have finished and
   where curves differ, so that late bloomers live.

A trial that passes 4 with ``margin`` but would not with the smaller ``pause_margin`` is unlikely to reach the
front, not out of its reach: it is paused, and goes on once that is worth more than a new trial (see
``agesearch.search.sampler.ehvi``), at the latest when no new trials are left; it is judged again before it
does.

Errors are the smallest so far, since a trial's best epoch is what counts in the end. Trials with other
budgets are compared at the same share of theirs, since learning-rate schedules stretch with the budget.
Stopped trials finish no curve, so the gains are those of the survivors, all of the first trials among them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, count

from agesearch.search.store.records import State
from agesearch.specs import RungSpec, StudySpec

#: What the reason of every stopped trial begins with.
OUT_OF_REACH = "out of reach of the front"

#: What the reason of every paused trial begins with.
UNLIKELY = "unlikely to reach the front"

#: Errors below this (years) count as this: logarithms need a number above zero.
TINY = 1e-9


@dataclass(frozen=True)
class LearningCurve:
    """What the other trials see of one: ``best`` holds its smallest error after each epoch so far.

    ``epochs`` is its whole budget, ``latency_ms`` its known latency; ``epoch_faces`` are the faces of an
    epoch where an epoch is no whole pass.
    """

    number: int
    latency_ms: float
    epochs: int
    best: tuple[float, ...]
    state: State = State.RUNNING
    epoch_faces: int | None = None

    @classmethod
    def of(
        cls,
        number: int,
        latency_ms: float,
        epochs: int,
        errors: Iterable[float],
        state: State = State.RUNNING,
        epoch_faces: int | None = None,
    ) -> LearningCurve:
        """A curve from the error after each epoch."""
        return cls(number, latency_ms, epochs, tuple(accumulate(errors, min)), state, epoch_faces)

    def after(self, share: float) -> float | None:
        """The smallest error once ``share`` of the budget was trained; None where it was not."""
        epoch = math.floor(share * self.epochs + 1e-9)
        return self.best[epoch - 1] if 1 <= epoch <= len(self.best) else None


@dataclass(frozen=True)
class Keep:
    """The trial goes on; ``why`` says what spoke for it, where that is of interest."""

    why: str = ""


@dataclass(frozen=True)
class Stop:
    """The trial ends as PRUNED: why, and after which epoch. ``loss`` is the share of the hypervolume that
    this is expected to cost, where that is known.
    """

    reason: str
    epoch: int
    loss: float = 0.0


@dataclass(frozen=True)
class Pause:
    """The trial waits at its rung: why, and after which epoch."""

    reason: str
    epoch: int


KEEP = Keep()


def rungs_of(study: StudySpec) -> RungSpec | None:
    """The rungs of a study. Only its own sampler can tell whether a paused trial is worth more than a new
    one: with the others trials are not paused.
    """
    if study.rungs is None or study.sampler == "ehvi":
        return study.rungs
    return study.rungs.with_values({"pause_margin": None})


def rung_epochs(epochs: int, spec: RungSpec, epoch_faces: int | None = None) -> list[int]:
    """The epochs after which a trial of this budget is judged, in rising order.

    Where rungs count faces, ``epoch_faces`` are those of an epoch; without them there is no rung.
    """
    found: list[int] = []
    if spec.unit == "faces" and (spec.first_faces is None or epoch_faces is None):
        return found
    for power in count():
        if spec.unit == "faces":
            assert spec.first_faces is not None
            assert epoch_faces is not None
            epoch = math.ceil(spec.first_faces * spec.eta**power / epoch_faces - 1e-9)
        else:
            epoch = math.floor(spec.first_epoch * spec.eta**power + 1e-9)
        if epoch >= epochs:
            return found
        if epoch not in found:
            found.append(epoch)
    raise AssertionError


def is_at_rung(trial: LearningCurve, spec: RungSpec) -> bool:
    """Whether a trial is judged where it stands now."""
    return len(trial.best) in rung_epochs(trial.epochs, spec, trial.epoch_faces)


def decide(
    trial: LearningCurve, others: Sequence[LearningCurve], spec: RungSpec, max_error: float | None = None
) -> Keep | Pause | Stop:
    """Whether ``trial`` goes on after the last epoch of its curve, by the rule above.

    ``others`` are the study's trials in any order; the trial itself and FAILed ones among them are ignored. A
    front that takes no error above ``max_error`` is out of reach for trials that cannot get below it.
    """
    epoch = len(trial.best)
    if not is_at_rung(trial, spec):
        return KEEP
    seen = [other for other in others if other.number != trial.number and other.state is not State.FAIL]
    rivals = [other for other in seen if other.latency_ms <= trial.latency_ms]
    if not _is_dominated(trial, rivals):
        return KEEP
    gains = gains_from(epoch / trial.epochs, seen)
    if len(gains) < spec.evidence:
        return KEEP
    goal, holder = _goal(rivals)
    if max_error is not None and max_error < goal:
        goal, holder = max_error, "max_mae_years is"
    now = f"{trial.best[-1]:.2f} years after epoch {epoch} of {trial.epochs} at {trial.latency_ms:.2f} ms"
    bound = trial.best[-1] * math.exp(-_largest_gain(gains, spec.margin))
    if bound > goal:
        return Stop(f"{OUT_OF_REACH}: {now}, at best {bound:.2f} in the end; {holder} {goal:.2f}", epoch)
    if spec.pause_margin is not None:
        bound = trial.best[-1] * math.exp(-_largest_gain(gains, spec.pause_margin))
        if bound > goal:
            reason = f"{UNLIKELY}: {now}, most likely above {bound:.2f} in the end; {holder} {goal:.2f}"
            return Pause(reason, epoch)
    return KEEP


def _is_dominated(trial: LearningCurve, rivals: Iterable[LearningCurve]) -> bool:
    """Whether its rank is not 0: whether any trial dominated this one at its rung."""
    share, mine = len(trial.best) / trial.epochs, (trial.best[-1], trial.latency_ms)
    theirs = ((other.after(share), other.latency_ms) for other in rivals)
    return any(error is not None and error <= mine[0] and (error, ms) != mine for error, ms in theirs)


def _goal(rivals: Iterable[LearningCurve]) -> tuple[float, str]:
    """The smallest error that is on the front, or will be if its trial lasts, and whose it is."""
    lasting = [rival for rival in rivals if rival.state is not State.PRUNED and rival.best]
    best = min(lasting, key=lambda rival: (rival.best[-1], rival.number), default=None)
    return (best.best[-1], f"trial {best.number} has") if best else (math.inf, "nobody has")


def gains_from(share: float, curves: Iterable[LearningCurve]) -> list[float]:
    """log(error now / error in the end) of each COMPLETE curve, now being after ``share`` of its budget."""
    complete = [curve for curve in curves if curve.state is State.COMPLETE and curve.best]
    ended = ((curve.after(share), curve.best[-1]) for curve in complete)
    return [math.log(max(then, TINY) / max(end, TINY)) for then, end in ended if then is not None]


def _largest_gain(gains: Sequence[float], margin: float) -> float:
    """The bound of the prediction interval for log(error now / error in the end)."""
    gains = sorted(gains)  # so that the sums do not depend on the order of the trials
    mean = math.fsum(gains) / len(gains)
    spread = math.sqrt(math.fsum((gain - mean) ** 2 for gain in gains) / (len(gains) - 1))
    return max(0.0, mean + _t_quantile(margin, len(gains) - 1) * spread * math.sqrt(1 + 1 / len(gains)))


@lru_cache(maxsize=4096)
def _t_quantile(probability: float, freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))
