"""Replays on several records: each strategy over all of them, and settings chosen on some, judged on others.

A strategy whose settings were looked at on a record does well on that one. So every figure has its worst
table beside the median, and ``leave_one_out`` chooses among strategies on all tables but one and reports what
the chosen one does there.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from agesearch.errors import InputError
from agesearch.search.model.encoding import Encoding
from agesearch.search.model.error_prior import Array, ErrorPrior
from agesearch.search.replay.curve_table import CurveTable
from agesearch.search.replay.strategies import made
from agesearch.search.replay.summary import Comparison, Row
from agesearch.search.space.limits import Fitting


@dataclass(frozen=True)
class Spread:
    """A figure over ``tables`` tables: the median and the worst. None is a goal that is not reached."""

    median: float | None
    worst: float | None
    tables: int


@dataclass(frozen=True)
class Overall:
    """One strategy over all tables. ``of_random`` and ``of_tpe`` are shares of what random search spends and
    of what Optuna's TPE needs, in epochs; ``..._s`` in seconds, over the tables that have them.
    ``reached``: the share of seeds that get to the goal; ``final``: of the hypervolume, at the end, of the
    median seed; ``final_worst``: of the worst one.
    """

    strategy: str
    of_random: Spread
    of_tpe: Spread
    of_random_s: Spread
    of_tpe_s: Spread
    reached: Spread
    final: Spread
    final_worst: Spread

    def as_json(self) -> dict[str, Any]:
        """The row as a JSON object."""
        return {"scores_rows": made(self.strategy).scores_rows, **asdict(self)}


@dataclass(frozen=True)
class HeldOut:
    """The candidate that is best on all tables but ``table``, and what it does there."""

    table: str
    chosen: str
    row: Row

    def as_json(self) -> dict[str, Any]:
        """The choice as a JSON object."""
        return {"table": self.table, "chosen": self.chosen, "there": self.row.as_json()}


def left_out_priors(tables: Sequence[CurveTable]) -> list[CurveTable]:
    """The tables, each with what the others let expect of it."""
    if len(tables) < 2:
        raise InputError("What other tables let expect takes two tables at least.")
    known = [terms_and_errors(table) for table in tables]
    return [
        replace(table, error_prior=ErrorPrior.learnt([*known[:at], *known[at + 1 :]]))
        for at, table in enumerate(tables)
    ]


def terms_and_errors(table: CurveTable) -> tuple[Array, Array]:
    """What an ``ErrorPrior`` is learnt from: terms ``[n, t]`` and logarithms of best errors ``[n]``."""
    encoding = Encoding(table.spec, Fitting(), table.latencies)
    places = np.stack([encoding.place(row.params) for row in table.rows])
    errors, latencies = np.array([row.point for row in table.rows]).T
    return encoding.terms(places, latencies), np.log(errors)


def overall(found: Sequence[Comparison]) -> list[Overall]:
    """Every strategy over all tables, in the order of the first one's rows."""
    return [
        _overall(row.strategy, [_row_of(table, row.strategy) for table in found]) for row in found[0].rows
    ]


def leave_one_out(found: Sequence[Comparison], candidates: Sequence[str]) -> list[HeldOut]:
    """For each table the candidate that loses the fewest seeds on the others, of several the one with the
    smallest median share of random search's epochs there, and its row on the table itself.
    """
    if len(found) < 2:
        raise InputError("Choosing on some tables and judging on others takes two tables at least.")
    replayed = [row.strategy for row in found[0].rows]
    for name in candidates:
        if name not in replayed:
            raise InputError(f"'{name}' is to be chosen among, but is not one of --strategies.")
    chosen = []
    for table in found:
        others = [other for other in found if other is not table]
        best = min(candidates, key=lambda name: _loss([_row_of(other, name) for other in others]))
        chosen.append(HeldOut(table.table, best, _row_of(table, best)))
    return chosen


def _loss(rows: Sequence[Row]) -> tuple[int, float]:
    shares = [math.inf if row.epochs.of_random is None else row.epochs.of_random for row in rows]
    return sum(row.seeds - row.reached for row in rows), statistics.median(shares)


def _row_of(table: Comparison, strategy: str) -> Row:
    return next(row for row in table.rows if row.strategy == strategy)


def _overall(strategy: str, rows: Sequence[Row]) -> Overall:
    timed = [row.seconds for row in rows if row.seconds is not None]
    return Overall(
        strategy,
        of_random=_least([row.epochs.of_random for row in rows]),
        of_tpe=_least([row.epochs.of_tpe for row in rows]),
        of_random_s=_least([cost.of_random for cost in timed]),
        of_tpe_s=_least([cost.of_tpe for cost in timed]),
        reached=_most([row.reached / row.seeds for row in rows]),
        final=_most([row.final_share for row in rows]),
        final_worst=_most([row.final_worst for row in rows]),
    )


def _least(values: Sequence[float | None]) -> Spread:
    """A figure of which less is better; one that is not known is worse than all others."""
    known = sorted(math.inf if value is None else value for value in values)
    if not known:
        return Spread(None, None, 0)
    middle, worst = (
        value if math.isfinite(value) else None for value in (statistics.median(known), known[-1])
    )
    return Spread(middle, worst, len(known))


def _most(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), len(values))
