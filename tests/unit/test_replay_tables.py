"""Replays on several tables: the worst beside the median, by epochs and by seconds."""

from __future__ import annotations

import json
import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from replay_rows import made_record, timed
from typer.testing import CliRunner

from agesearch.cli.main import app
from agesearch.errors import InputError
from agesearch.machine import running_process
from agesearch.progress import Progress
from agesearch.reporting.replays import write_replay_figures, write_replay_page
from agesearch.search.replay import summary
from agesearch.search.replay.curve_table import as_table
from agesearch.search.replay.strategies import STRATEGIES
from agesearch.search.replay.summary import Comparison, Cost, Row, compare
from agesearch.search.replay.tables import leave_one_out, overall
from agesearch.storage import Location

SLEEP_S = 600.0
FIRST, SECOND = timed(made_record(20, 6)), timed(made_record(16, 4, seed=1))


def _found(table: str, **shares: tuple[float | None, int]) -> Comparison:
    """A comparison with these shares of random's epochs and seeds of 4 that got there."""
    rows = [
        Row(name, 4, reached, Cost(None, None, None, share, share), None, 9.0, 0.0, reached / 4, 0.5)
        for name, (share, reached) in shares.items()
    ]
    return Comparison(table, tuple(rows), (), (), 9, 0, 90, 0.0, 4, (9.0, 9.0), 1.0)


def test_a_table_where_the_goal_is_missed_is_the_worst() -> None:
    tables = [
        _found("a", default=(0.3, 4), tpe=(0.5, 4)),
        _found("b", default=(0.2, 4), tpe=(None, 1)),
        _found("c", default=(0.6, 3), tpe=(0.7, 4)),
    ]
    ours, tpe = overall(tables)
    assert (ours.of_random.median, ours.of_random.worst, ours.of_random.tables) == (0.3, 0.6, 3)
    assert (ours.reached.median, ours.reached.worst) == (1.0, 0.75)
    assert (tpe.of_random.median, tpe.of_random.worst) == (0.7, None)
    assert (tpe.of_random_s.median, tpe.of_random_s.tables) == (None, 0)  # no table has seconds


def test_settings_are_chosen_on_the_other_tables() -> None:
    tables = [
        _found("a", default=(0.1, 4), tpe=(0.5, 4)),
        _found("b", default=(0.9, 4), tpe=(0.4, 4)),
        _found("c", default=(0.2, 2), tpe=(0.6, 4)),
    ]
    chosen = {held.table: held.chosen for held in leave_one_out(tables, ["default", "tpe"])}
    assert chosen == {"a": "tpe", "b": "tpe", "c": "tpe"}  # lost seeds on c, whatever its share elsewhere
    assert [h.row.epochs.of_random for h in leave_one_out(tables, ["default"])] == [0.1, 0.9, 0.2]
    for found, names, fault in (
        (tables[:1], ["tpe"], "takes two tables"),
        (tables, ["x"], "not one of --strategies"),
    ):
        with pytest.raises(InputError, match=fault):
            leave_one_out(found, names)


def test_costs_by_seconds_are_shares_of_random_and_tpe(tmp_path: Path) -> None:
    found = [
        compare(record, ["random", "optuna-tpe"], seeds=2, table=name)
        for name, record in (("first", FIRST), ("second", SECOND))
    ]
    for one in found:
        chance, tpe = one.rows
        assert tpe.seconds is not None
        assert chance.seconds is not None
        assert (tpe.epochs.of_tpe, tpe.seconds.of_tpe) == (1.0, 1.0)
        assert chance.seconds.of_random == pytest.approx((chance.seconds.middle or 0) / one.budget_s)
        assert one.lines_s[0].spent[-1] == pytest.approx(one.budget_s)
    files = write_replay_figures(found, Location.of(tmp_path / "all.svg"))
    assert [file.name for file in files] == ["all.svg", "all-seconds.svg"]
    assert "% of what random search spends" in files[1].read_text()
    assert 'class="line line-curve-1"' in files[0].read_text(), "random search stays behind in grey"
    untimed = replace(found[0], table="untimed", lines_s=())
    files = write_replay_figures([untimed, found[1]], Location.of(tmp_path / "some.svg"))
    drawn = [file.read_text() for file in files]
    assert ["untimed" in one for one in drawn] == [True, False]
    assert all("second" in one for one in drawn)
    write_replay_page(found, Location.of(tmp_path / "all.html"), leave_one_out(found, ["random"]))
    page = (tmp_path / "all.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 6
    assert "Over all 2 tables" in page


def test_a_replay_that_is_stopped_leaves_no_process_behind_and_waits_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(summary, "replay", _endless)
    began = time.monotonic()
    workers: list[tuple[int, float]] = []

    def stopped(_: Progress) -> None:
        processes = [psutil.Process(child.pid) for child in multiprocessing.active_children()]
        workers.extend((process.pid, process.create_time()) for process in processes)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(FIRST, ["random"], seeds=2, processes=2, on_progress=stopped)
    assert len(workers) == 2
    # Asked of the system: the pool's thread, which collects them too, may not have noted it yet.
    assert [worker for worker in workers if running_process(*worker)] == []
    assert time.monotonic() - began < SLEEP_S / 2


def _endless(*_: object, **__: object) -> None:
    time.sleep(SLEEP_S)


def test_the_command_takes_several_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]
    for place, record in zip(tables, (FIRST, SECOND), strict=True):
        Location.of(place).write_table(as_table(record))
    options = ["--strategies", "random,random-rungs", "--seeds", "1", "--choose", "random"]
    result = CliRunner().invoke(app, ["replay", *tables, *options, "--json"])
    found = json.loads(result.stdout)
    assert [table["table"] for table in found["tables"]] == ["a.parquet", "b.parquet"]
    assert [row["strategy"] for row in found["over_all"]] == ["random", "random-rungs"]
    assert [choice["chosen"] for choice in found["left_out"]] == ["random", "random"]
    shown = CliRunner().invoke(app, ["replay", *tables, *options])
    assert "All 2 tables: median (worst)" in shown.stdout
    monkeypatch.setitem(STRATEGIES, "moasha", replace(STRATEGIES["moasha"], package="nobody_has_this"))
    shown = CliRunner().invoke(app, ["replay", *tables, "--strategies", "random,moasha", "--seeds", "1"])
    assert "moasha is left out: 'nobody_has_this' is not installed" in shown.output
    assert shown.exit_code == 0
    refused = CliRunner().invoke(app, ["replay", *tables, "--save", "x.parquet"])
    assert isinstance(refused.exception, InputError)
