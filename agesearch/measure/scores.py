"""What an evaluation finds, as records that can be written and read: scores, slices, turns and differences.

``scored`` turns predicted faces into them. It does not mind whether one model answered in all turns or each
turn has its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from agesearch.ages import ADIENCE_GROUPS, adience_label, decade_end, decade_of
from agesearch.data.dataset.texts import Texts
from agesearch.measure.intervals import Estimate, Persons, Values, bootstrap_interval, estimate
from agesearch.measure.predictions import Predictions
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
    is what the bootstrap draws: persons where one has several faces (each score says how many), else faces.
    ``turns`` and ``over_turns`` are empty for a protocol of one turn.
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

    @property
    def drawn(self) -> str:
        """What the bootstrap draws, in words: ``40 persons``, ``1,160 faces``."""
        found = self.scores[self.headline]
        count = found.persons if self.resampled == "persons" and found.persons else found.faces
        part = "" if found.subsample is None else f"a seeded subsample of {found.subsample:,} of "
        return f"{part}{count:,} {self.resampled}"

    @property
    def basis(self) -> str:
        """What the intervals stand on, in words: ``1,160 faces of 40 persons``."""
        return self.scores[self.headline].basis


class Difference(Spec):
    """``model`` minus ``reference`` (the one with the best headline score) on the same faces.

    The 95 % interval is a paired bootstrap's over persons; one that holds zero is a tie.
    """

    kind: str
    score: str
    model: str
    reference: str
    difference: Estimate

    @property
    def is_tie(self) -> bool:
        """Whether these persons cannot tell the two apart."""
        return self.difference.low <= 0.0 <= self.difference.high


def scored(protocol: Protocol, turns: Mapping[str, Predictions]) -> list[KindScores]:
    """The scores of each label kind; ``turns`` are the predicted faces of each turn's test, all usable."""
    pooled = pooled_faces(turns)
    parts = {name: by_kind(predictions) for name, predictions in turns.items()} if len(turns) > 1 else {}
    return [
        _of_kind(
            protocol, kind, predictions, {name: found[kind] for name, found in parts.items() if kind in found}
        )
        for kind, predictions in by_kind(pooled).items()
    ]


def pooled_faces(turns: Mapping[str, Predictions]) -> Predictions:
    """The faces of all turns, each once: where turns overlap, as the first of them predicted it."""
    predictions = Predictions.joined(list(turns.values()))
    _, first = np.unique(predictions.sample_id.numbers, return_index=True)
    return predictions if len(first) == len(predictions) else predictions.take(np.sort(first))


def differences(protocol: Protocol, models: Mapping[str, Predictions]) -> list[Difference]:
    """Each model against the best, by the headline score on the same pooled faces, for each label kind."""
    parts = {name: by_kind(predictions) for name, predictions in models.items()}
    kinds = next(iter(parts.values()))
    return [
        row for kind in kinds for row in _compared(protocol, kind, {m: p[kind] for m, p in parts.items()})
    ]


def _of_kind(
    protocol: Protocol, kind: str, predictions: Predictions, turns: Mapping[str, Predictions]
) -> KindScores:
    values = protocol.values(predictions)
    per_turn = [TurnScores(turn=name, scores=protocol.scores(part)) for name, part in turns.items()]
    return KindScores(
        kind=kind,
        headline=_headline(protocol, values),
        resampled=predictions.persons.drawn,
        scores=_estimates(values, predictions.persons),
        slices=tuple(_slices(predictions, values)),
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
    low, high = None, None
    if len(values) >= _TURNS_FOR_INTERVAL:
        low, high = bootstrap_interval(values, Persons.each(len(values)))
    return OverTurns(mean=float(np.mean(values)), sd=sd, turns=len(values), low=low, high=high)


def _estimates(values: Mapping[str, Values], persons: Persons) -> dict[str, Estimate]:
    return {name: estimate(found, persons) for name, found in values.items()}


def _slices(predictions: Predictions, values: Mapping[str, Values]) -> Iterator[Slice]:
    for by, names in _properties(predictions):
        known = sorted(map(str, names.counts()), key=_natural)
        if len(known) < 2:  # a slice that is the whole says nothing new
            continue
        for name in known:
            inside = names == name
            part = {key: found[inside] for key, found in values.items()}
            yield Slice(by=by, name=name, scores=_estimates(part, predictions.persons.take(inside)))


def _properties(predictions: Predictions) -> Iterator[tuple[str, Texts]]:
    yield "age", _age_names(predictions)
    for by in ("sex", "ethnicity", "source"):
        yield by, _named(getattr(predictions, by))


def _age_names(predictions: Predictions) -> Texts:
    """The decade of an age, or the group of a label; Adience writes one of its groups in two ways."""
    groups = adience_label(predictions.age_low, predictions.age_high)
    low, high = predictions.age_low, predictions.age_high
    if (groups >= 0).all():
        low, high = np.array(ADIENCE_GROUPS, dtype=np.float32)[groups].T
    decade = decade_of(predictions.age)
    first = np.where(np.isnan(decade), low, decade)
    last = np.where(np.isnan(decade), high, decade_end(decade))
    ends, numbers = np.unique(first + 1j * last, return_inverse=True)
    names = np.array([f"{end.real:g}-{end.imag:g}".encode() for end in ends], dtype=np.bytes_)
    rising = np.argsort(names)
    return Texts(names[rising], np.argsort(rising)[numbers])


def _named(values: Texts) -> Texts:
    """A name for every face; names beyond the most frequent ones go together."""
    counts = Counter(values.renamed(lambda name: UNKNOWN if name is None else name).counts())
    frequent = {name for name, _ in counts.most_common(_MAX_SLICES)}
    named = {name: name or UNKNOWN if (name or UNKNOWN) in frequent else OTHERS for name in values.counts()}
    return values.renamed(named.__getitem__)


def _natural(name: str) -> tuple[int, float, str]:
    """By age where names are ages; ``others`` and ``unknown`` last."""
    if name in (OTHERS, UNKNOWN):
        return 2, 0.0, name
    start = name.partition("-")[0]
    try:
        return 0, float(start), name
    except ValueError:
        return 1, 0.0, name


def _compared(protocol: Protocol, kind: str, models: Mapping[str, Predictions]) -> list[Difference]:
    persons = next(iter(models.values())).persons  # who the faces show is the same for all
    headline = _headline(protocol, protocol.values(next(iter(models.values()))))
    values = {name: protocol.values(predictions)[headline] for name, predictions in models.items()}
    sign = 1.0 if headline in SMALLER_IS_BETTER else -1.0
    best = min(values, key=lambda name: sign * float(values[name].mean()))
    return [
        Difference(
            kind=kind,
            score=headline,
            model=name,
            reference=best,
            difference=estimate(found - values[best], persons),
        )
        for name, found in values.items()
        if name != best
    ]
