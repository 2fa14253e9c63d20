"""What an evaluation finds, as records that can be written and read: scores, slices, turns and differences.

``scored`` turns judged faces into them. It does not mind whether one model answered in all turns or each turn
has its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from agesearch.ages import ADIENCE_GROUPS, adience_label
from agesearch.data.dataset.arrays import Strings
from agesearch.measure.accuracy import Estimate, Values, bootstrap_interval, estimate
from agesearch.measure.predictions import Indices, Judged
from agesearch.measure.protocols import Protocol, by_kind
from agesearch.metrics import SMALLER_IS_BETTER
from agesearch.specs import Spec

#: From so many turns on, the mean over turns has an interval: five folds say too little about their spread.
_TURNS_FOR_INTERVAL = 20
_MAX_SLICES = 24
OTHERS, UNKNOWN = "others", "unknown"


class Slice(Spec):
    """The scores of the faces that share a property: ``by`` (``age``, ``sex``, ...) and its value."""

    by: str
    name: str
    scores: dict[str, Estimate]


class TurnScores(Spec):
    """The scores of one turn's test."""

    turn: str
    scores: dict[str, Estimate]


class OverTurns(Spec):
    """A score over turns, each counted once: mean, sample standard deviation, and from 20 turns on the 95 %
    interval of the mean over turns.
    """

    mean: float
    sd: float
    turns: int
    low: float | None = None
    high: float | None = None


class KindScores(Spec):
    """All scores against labels of one kind.

    ``scores`` are over the faces tested, each once whatever the number of turns that test it. ``resampled``
    is what the bootstrap draws. ``turns`` and ``over_turns`` are empty for a protocol of one turn.
    """

    kind: str
    headline: str
    resampled: Literal["faces", "persons"]
    scores: dict[str, Estimate]
    slices: tuple[Slice, ...] = ()
    turns: tuple[TurnScores, ...] = ()
    over_turns: dict[str, OverTurns] = {}

    @property
    def faces(self) -> int:
        """The faces tested."""
        return self.scores[self.headline].faces


class Difference(Spec):
    """``model`` minus ``reference`` (the one with the best headline score) on the same faces.

    The 95 % interval is a paired bootstrap's; one that holds zero is a tie.
    """

    kind: str
    score: str
    model: str
    reference: str
    difference: Estimate

    @property
    def is_tie(self) -> bool:
        """Whether the faces cannot tell the two apart."""
        return self.difference.low <= 0.0 <= self.difference.high


def scored(protocol: Protocol, turns: Mapping[str, Judged]) -> list[KindScores]:
    """The scores of each label kind; ``turns`` are the judged faces of each turn's test, all usable."""
    pooled = pooled_faces(turns)
    parts = {name: by_kind(judged) for name, judged in turns.items()} if len(turns) > 1 else {}
    return [
        _of_kind(
            protocol, kind, judged, {name: found[kind] for name, found in parts.items() if kind in found}
        )
        for kind, judged in by_kind(pooled).items()
    ]


def pooled_faces(turns: Mapping[str, Judged]) -> Judged:
    """The faces of all turns, each once: where turns overlap, as the first of them judged it."""
    judged = Judged.joined(list(turns.values()))
    _, first = np.unique(judged.sample_id.astype(str), return_index=True)
    return judged if len(first) == len(judged) else judged.take(np.sort(first))


def differences(protocol: Protocol, models: Mapping[str, Judged]) -> list[Difference]:
    """Each model against the best, by the headline score on the same pooled faces, for each label kind."""
    parts = {name: by_kind(judged) for name, judged in models.items()}
    kinds = next(iter(parts.values()))
    return [
        row for kind in kinds for row in _compared(protocol, kind, {m: p[kind] for m, p in parts.items()})
    ]


def _of_kind(protocol: Protocol, kind: str, judged: Judged, turns: Mapping[str, Judged]) -> KindScores:
    values = protocol.values(judged)
    per_turn = [TurnScores(turn=name, scores=protocol.scores(part)) for name, part in turns.items()]
    return KindScores(
        kind=kind,
        headline=_headline(protocol, values),
        resampled="faces" if judged.persons is None else "persons",
        scores=_estimates(values, judged.persons),
        slices=tuple(_slices(judged, values)),
        turns=tuple(per_turn),
        over_turns={
            name: _over_turns([turn.scores[name].value for turn in per_turn]) for name in values if per_turn
        },
    )


def _headline(protocol: Protocol, values: Mapping[str, Values]) -> str:
    """The score to compare by; labels of another kind (groups) may have another, their first."""
    return protocol.headline if protocol.headline in values else next(iter(values))


def _over_turns(values: Sequence[float]) -> OverTurns:
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    low, high = bootstrap_interval(values) if len(values) >= _TURNS_FOR_INTERVAL else (None, None)
    return OverTurns(mean=float(np.mean(values)), sd=sd, turns=len(values), low=low, high=high)


def _estimates(values: Mapping[str, Values], persons: Indices | None) -> dict[str, Estimate]:
    return {name: estimate(found, persons=persons) for name, found in values.items()}


def _slices(judged: Judged, values: Mapping[str, Values]) -> Iterator[Slice]:
    for by, names in _properties(judged):
        known = sorted(set(names), key=_natural)
        if len(known) < 2:  # a slice that is the whole says nothing new
            continue
        for name in known:
            inside = names == name
            part = {key: found[inside] for key, found in values.items()}
            persons = None if judged.persons is None else judged.persons[inside]
            yield Slice(by=by, name=name, scores=_estimates(part, persons))


def _properties(judged: Judged) -> Iterator[tuple[str, Strings]]:
    yield "age", _age_names(judged)
    for by in ("sex", "ethnicity", "source"):
        yield by, _named(getattr(judged, by))


def _age_names(judged: Judged) -> Strings:
    """The decade of an age, or the group of a label; Adience writes one of its groups in two ways."""
    groups = adience_label(judged.age_low, judged.age_high)
    low, high = judged.age_low, judged.age_high
    if (groups >= 0).all():
        low, high = np.array(ADIENCE_GROUPS)[groups].T
    names = []
    for age, first, last in zip(judged.age, low, high, strict=True):
        decade = 10 * int(age // 10) if not np.isnan(age) else 0
        names.append(f"{first:g}-{last:g}" if np.isnan(age) else f"{decade}-{decade + 9}")
    return np.array(names, dtype=object)


def _named(values: Strings) -> Strings:
    """A name for every face; names beyond the most frequent ones go together."""
    names = [UNKNOWN if value is None else value for value in values]
    frequent = {name for name, _ in Counter(names).most_common(_MAX_SLICES)}
    return np.array([name if name in frequent else OTHERS for name in names], dtype=object)


def _natural(name: str) -> tuple[int, float, str]:
    """By age where names are ages; ``others`` and ``unknown`` last."""
    if name in (OTHERS, UNKNOWN):
        return 2, 0.0, name
    start = name.partition("-")[0]
    try:
        return 0, float(start), name
    except ValueError:
        return 1, 0.0, name


def _compared(protocol: Protocol, kind: str, models: Mapping[str, Judged]) -> list[Difference]:
    values = {name: protocol.values(judged) for name, judged in models.items()}
    headline = _headline(protocol, next(iter(values.values())))
    sign = 1.0 if headline in SMALLER_IS_BETTER else -1.0
    best = min(values, key=lambda name: sign * float(values[name][headline].mean()))
    return [
        Difference(
            kind=kind,
            score=headline,
            model=name,
            reference=best,
            difference=estimate(found[headline] - values[best][headline], persons=models[name].persons),
        )
        for name, found in values.items()
        if name != best
    ]
