"""Which layers of a network in int8 go back into floats until it loses no more than it may: few, and found in
a bounded number of trials.

Each group of layers is ranked by itself: how little the faces that int8 hurts most lose once it is back in
floats. With as many of the worst as may go back the network is tried first: where even that loses far too
much, no more is tried. Else the fewest of the worst that do are looked for, and where no number does, what is
left is ranked anew beside the best of them, as long as trials last.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

#: So many groups go back into floats at most: where more had to, little would be won.
MOST_IN_FLOATS = 15
#: So many networks are tried at most.
MOST_TRIED = 200
#: So many of them to rank groups once; where there are more groups, neighbours are ranked together first, and
#: then those of the worst by themselves.
MOST_RANKED = 96
#: How often the loss that is allowed is far too much with all in floats that may be.
_FAR = 2.0
#: Trials beside those of a ranking: with the most in floats, with 1, 2, 4, 8 more, and three halvings.
_BESIDE = 8

Groups = tuple[int, ...]
Loss = Callable[[Sequence[int]], float]


@dataclass(frozen=True)
class Restored:
    """The ``floats`` (groups by index) of ``groups`` that are back, what the network then loses, and how many
    networks were ``tried``.
    """

    floats: Groups
    groups: int
    lost: float
    tried: int

    def __str__(self) -> str:
        tried = "1 network was" if self.tried == 1 else f"{self.tried} networks were"
        return f"{len(self.floats)} of its {self.groups} groups of layers are back in floats, {tried} tried"


def restored(groups: int, lost: Loss, hurt: Loss, max_lost: float) -> Restored:
    """The groups with which in floats a network loses at most ``max_lost``, few and the worst; those with
    which it loses least where none were found. One group stays in int8.

    ``lost`` is what the network loses with these groups in floats, ``hurt`` the same on the faces that int8
    hurts most, which are fewer.
    """
    most = min(MOST_IN_FLOATS, groups - 1)
    trials = _Trials(groups, lost, hurt)
    base: Groups = ()
    is_within = trials.lost(base) <= max_lost
    while not is_within and len(base) < most and trials.may_rank(groups - len(base)):
        ranked = (base + trials.worst_first(base))[:most]
        if trials.lost(ranked) > _FAR * max_lost:
            break
        is_within = _is_found(trials, len(base), ranked, max_lost)
        better = min((each for each in trials.found if len(each) < most), key=trials.found.__getitem__)
        if better == base:
            break
        base = better
    within = [each for each, loss in trials.found.items() if loss <= max_lost]
    best = min(within, key=len) if within else min(trials.found, key=trials.found.__getitem__)
    return Restored(best, groups, trials.found[best], trials.tried)


def _is_found(trials: _Trials, start: int, ranked: Groups, max_lost: float) -> bool:
    """Whether some number of these groups is enough: those before ``start`` and 1, 2, 4, ... more, then
    between the last number that is not and the first that is.
    """
    low, more = start, 1
    while trials.lost(ranked[: start + more]) > max_lost:
        low, more = start + more, 2 * more
        if low >= len(ranked):
            return False
    high = min(start + more, len(ranked))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if trials.lost(ranked[:middle]) <= max_lost else (middle, high)
    return True


@dataclass
class _Trials:
    """Networks that were tried, each once, and what those lost that all faces were shown to."""

    groups: int
    of_all: Loss
    hurt: Loss
    found: dict[Groups, float] = field(default_factory=dict)
    tried: int = 0

    def lost(self, floats: Groups) -> float:
        if floats not in self.found:
            self.tried += 1
            self.found[floats] = self.of_all(floats)
        return self.found[floats]

    def may_rank(self, groups: int) -> bool:
        return self.tried + min(groups, MOST_RANKED) + _BESIDE <= MOST_TRIED

    def worst_first(self, floats: Groups) -> Groups:
        """The other groups, those first whose return helps most; those of many that were not ranked by
        themselves are left out.
        """
        others = [group for group in range(self.groups) if group not in floats]
        if len(others) > MOST_RANKED:
            length = -(-len(others) // (MOST_RANKED // 2))
            runs = [others[start : start + length] for start in range(0, len(others), length)]
            others = [group for run in self._ranked(floats, runs) for group in run][: MOST_RANKED - len(runs)]
        return tuple(group for run in self._ranked(floats, [[each] for each in others]) for group in run)

    def _ranked(self, floats: Groups, runs: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        self.tried += len(runs)
        scores = [self.hurt((*floats, *run)) for run in runs]
        return [run for _, run in sorted(zip(scores, runs, strict=True), key=operator.itemgetter(0))]
