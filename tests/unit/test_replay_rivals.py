"""Strategies of other libraries in a replay, the table that is committed, and the page that is drawn."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from replay_rows import made_record

from agesearch.errors import InputError
from agesearch.reporting.replays import write_replay_page
from agesearch.search.replay.curve_table import read_record
from agesearch.search.replay.engine import replay
from agesearch.search.replay.rivals.asked_space import LatencySpace
from agesearch.search.replay.rivals.optuna_samplers import SAMPLERS, OptunaStudy
from agesearch.search.replay.rivals.pareto_pruner import ParetoPruner, pareto_ranks
from agesearch.search.replay.strategies import STRATEGIES
from agesearch.search.replay.summary import compare
from agesearch.storage import Location

RECORD = made_record(count=20, epochs=8)
COMMITTED = Path(__file__).parents[2] / "reports" / "search" / "recorded.parquet"


@pytest.mark.parametrize(
    "name",
    [
        "optuna-tpe",
        "optuna-tpe-latency",
        "optuna-tpe-pruned",
        "optuna-nsga2-16",
        "moasha",
        "moasha-ranked-ours",
        "mo-rea-16-latency",
        "ehvi",
        "ehvi-pausing-nearest",
    ],
)
def test_a_strategy_replays_the_same_for_a_seed_and_uses_every_row_once(name: str) -> None:
    if name.startswith("mo"):
        pytest.importorskip("syne_tune.optimizer.schedulers.multiobjective.moasha")
    before = np.random.get_state()[1].tolist()
    run = replay(RECORD, name, 1)
    assert run == replay(RECORD, name, 1)
    assert run.complete + run.stopped == 20
    stops = name.startswith("moasha") or name.endswith(("-pruned", "-pausing-nearest"))
    assert (run.stopped > 0) == stops
    assert np.random.get_state()[1].tolist() == before  # nobody's luck is touched


def test_samplers_are_as_their_authors_ship_them() -> None:
    kinds = {name: type(make(0)).__name__ for name, make in SAMPLERS.items()}
    assert kinds == {
        "tpe": "TPESampler",
        "gp": "GPSampler",
        "nsga2": "NSGAIISampler",
        "nsga2-16": "NSGAIISampler",
    }
    run = replay(
        made_record(count=8, epochs=1), "optuna-gp", 0, slots=2
    )  # too few for its model, which takes a second
    assert (run.complete, run.stopped) == (8, 0)


def test_a_limit_of_the_error_is_a_constraint_for_optuna() -> None:
    limited = replace(RECORD, spec=RECORD.spec.model_copy(update={"max_mae_years": 8.0}))
    study = OptunaStudy(limited, 0, "tpe")
    study.ask(limited.rows)
    row = limited.rows[0]
    study.complete(study.begin(row), row)
    (trial,) = study.trials
    assert trial.constraints == {"max_mae_years": row.point[0] - 8.0}
    assert trial.params == row.params


def test_a_known_latency_is_asked_for_in_place_of_the_side() -> None:
    asks = LatencySpace(RECORD)
    assert set(asks.dimensions) == RECORD.spec.space.keys() - {"model.input_size"} | {"latency_ms_p50"}
    row = RECORD.rows[0]
    told = dict(asks.booked(row))
    assert (told["latency_ms_p50"], "model.input_size" in told) == (row.latency_ms, False)
    assert asks.wanted(told) == row.params
    slow = {**told, "model.arch": "lcnet_050", "latency_ms_p50": 5.0}  # none of this network is so slow
    assert asks.wanted(slow)["model.input_size"] == 96
    assert (
        asks.wanted({**told, "model.arch": "nobody's"})["model.input_size"] == row.params["model.input_size"]
    )


def test_the_pruner_stops_by_rank_once_some_have_ended() -> None:
    pruner = ParetoPruner(first_epoch=2)
    good, bad = [(5.0, 1.0), (4.0, 2.0), (6.0, 0.5)], (9.0, 3.0)
    assert all(pruner.goes_on(2, point) for point in [*good, bad])  # none has ended yet
    for _ in range(5):
        pruner.complete()
    assert pruner.goes_on(1, (50.0, 50.0))  # too early
    assert pruner.goes_on(2, (3.0, 3.0))
    assert not pruner.goes_on(2, bad)
    assert pareto_ranks([bad, *good, (math.inf, 1.0)]) == [1, 0, 0, 0, 2]


def test_ranks_stop_other_trials_than_the_order_that_moasha_takes_for_ranks() -> None:
    pytest.importorskip("syne_tune.optimizer.schedulers.multiobjective.moasha")
    assert replay(RECORD, "moasha", 0).epochs != replay(RECORD, "moasha-ranked", 0).epochs


def test_without_syne_tune_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "syne_tune.optimizer.schedulers.multiobjective.moasha", None)
    with pytest.raises(InputError, match="install agesearch with its extra 'bench'"):
        replay(RECORD, "moasha", 0)


@pytest.mark.parametrize("table", sorted(COMMITTED.parent.glob("*.parquet")), ids=lambda table: table.stem)
def test_a_committed_table_names_no_folder_and_is_small(table: Path) -> None:
    record = read_record(str(table))
    assert table.stat().st_size < 100_000
    assert record.has_seconds == (table != COMMITTED)
    assert all("/" not in file for file in record.spec.weights.values())
    assert b"/" not in b"".join(pq.read_schema(table).metadata.values())
    assert len({row.number for row in record.rows}) == len(record.rows)


def test_the_committed_table_replays(tmp_path: Path) -> None:
    record = read_record(str(COMMITTED))
    assert COMMITTED.stat().st_size < 3_000_000
    found = compare(record, ["random", "ehvi-rungs"], seeds=1)
    chance, guided = found.rows
    assert chance.final_share == pytest.approx(1.0)
    assert guided.epochs.middle is not None
    assert chance.epochs.middle is not None
    assert guided.epochs.middle < chance.epochs.middle
    write_replay_page([found], Location.of(tmp_path / "page.html"))
    assert found.as_json()["strategies"][1]["scores_rows"]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert STRATEGIES["ehvi-rungs"].about in page
    assert "<svg" in page
