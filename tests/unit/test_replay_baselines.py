"""Strategies of other libraries in a replay, the table that is committed, and the page that is drawn."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from replay_rows import made_record

from agesearch.errors import InputError
from agesearch.reporting.replays import write_replay_page
from agesearch.search.replay.curve_table import read_record
from agesearch.search.replay.engine import replay
from agesearch.search.replay.strategies import STRATEGIES
from agesearch.search.replay.summary import compare
from agesearch.storage import Location

RECORD = made_record(count=20, epochs=8)
COMMITTED = Path(__file__).parents[2] / "reports" / "search" / "recorded.parquet"


@pytest.mark.parametrize(
    "name", ["optuna-tpe", "moasha", "moasha-ranked-ours", "ehvi", "ehvi-pausing-nearest"]
)
def test_a_strategy_replays_the_same_for_a_seed_and_uses_every_row_once(name: str) -> None:
    if name.startswith("moasha"):
        pytest.importorskip("syne_tune.optimizer.schedulers.multiobjective.moasha")
    before = np.random.get_state()[1].tolist()
    run = replay(RECORD, name, 1)
    assert run == replay(RECORD, name, 1)
    assert run.complete + run.stopped == 20
    assert (run.stopped == 0) == (name in ("optuna-tpe", "ehvi"))
    assert np.random.get_state()[1].tolist() == before  # nobody's luck is touched


def test_ranks_stop_other_trials_than_the_order_that_moasha_takes_for_ranks() -> None:
    pytest.importorskip("syne_tune.optimizer.schedulers.multiobjective.moasha")
    assert replay(RECORD, "moasha", 0).epochs != replay(RECORD, "moasha-ranked", 0).epochs


def test_without_syne_tune_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "syne_tune.optimizer.schedulers.multiobjective.moasha", None)
    with pytest.raises(InputError, match="install agesearch with its extra 'bench'"):
        replay(RECORD, "moasha", 0)


def test_the_committed_table_replays(tmp_path: Path) -> None:
    record = read_record(str(COMMITTED))
    assert COMMITTED.stat().st_size < 3_000_000
    found = compare(record, ["random", "ehvi-rungs"], seeds=1)
    chance, guided = found.rows
    assert chance.final_share == pytest.approx(1.0)
    assert guided.epochs is not None
    assert chance.epochs is not None
    assert guided.epochs < chance.epochs
    write_replay_page(found, Location.of(tmp_path / "page.html"), "recorded.parquet")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert STRATEGIES["ehvi-rungs"].about in page
    assert "<svg" in page
