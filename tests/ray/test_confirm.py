"""A front's candidates trained again after a search, cut in the middle and gone on with."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import pytest
import search_helpers as helpers
from search_helpers import EPOCHS, functions, lucky, tiny_spec, write_sources
from typer.testing import CliRunner

from agesearch.cli.main import app
from agesearch.models.manifest import WEIGHTS
from agesearch.search.choice.confirmed import candidates_of, confirmation
from agesearch.search.choice.kept import COMPARED, needed
from agesearch.search.choice.knee import CONFIRMED_RULE
from agesearch.search.front.latencies import study_latencies
from agesearch.search.run.driver import ask_to_stop, read_driver
from agesearch.search.run.study import RunLimits, resume_study, run_study
from agesearch.search.store.events import Confirming, Note, Outcome, StudyEvent
from agesearch.search.store.records import State
from agesearch.storage import Location

ALONE = RunLimits(dashboard=False, concurrency=1)


@pytest.fixture(autouse=True)
def _helpers_reach_the_workers(ray_local: None) -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(helpers)


def _with_weights(study: Location) -> set[int]:
    return {int(file.parent.name) for file in study.local().glob(f"trials/*/{WEIGHTS}")}


def _wait_until_seen(study: Location) -> None:
    """The driver looks for a request twice a second: on a fast machine the other trainings end before."""
    end = time.monotonic() + 60
    while not ((driver := read_driver(study)) and driver.stopping):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_candidates_are_trained_again_and_a_stop_in_between_loses_nothing(tmp_path: Path) -> None:
    data, teacher = write_sources(tmp_path)
    out = Location.of(tmp_path / "study")
    told: list[str] = []
    stands: list[Confirming] = []

    def listen(event: StudyEvent) -> None:
        if isinstance(event, Confirming):
            stands.append(event)
        if isinstance(event, Note):
            told.append(event.text)
            if event.text.startswith("Confirmed 1 of"):
                ask_to_stop(out)
                _wait_until_seen(out)

    spec = tiny_spec(trials=9).with_values({"confirm": {"seeds": 3, "candidates": 2}, "keep": "front"})
    first = run_study(spec, data, teacher, out, limits=ALONE, on_event=listen, functions=functions(lucky))
    assert first.outcome is Outcome.INTERRUPTED
    assert told[0].startswith("After the search, at most 2 candidates are trained again with 3 other seeds")
    planned = sum(one.planned for one in candidates_of(first.folder))
    assert f"{planned} trainings" in told[1]
    assert sum(one.ended for one in candidates_of(first.folder)) < planned

    rest = resume_study(out, limits=ALONE, on_event=listen, functions=functions(lucky))
    assert rest.outcome is Outcome.COMPLETE
    assert len(rest.records) == rest.total == 9, "the new trainings are none of the search's trials"
    complete = [record for record in rest.records if record.state is State.COMPLETE]
    kept = needed(complete, rest.front, behind=COMPARED * 2)
    assert _with_weights(out) == kept < {record.number for record in complete}
    assert stands[0].epoch == 1
    assert stands[-1] == Confirming(planned, planned, planned * EPOCHS, planned * EPOCHS, 0.0)
    assert all(before.epoch <= after.epoch for before, after in pairwise(stands)), "nothing begins anew"
    found = candidates_of(rest.folder)
    assert [len(one.records) for one in found] == [3] * len(found)
    seeds = {record.params["seed"] for record in confirmation(rest.folder).trials()}
    assert seeds == {1, 2, 3}
    for record in confirmation(rest.folder).trials():
        rows = (confirmation(rest.folder).trial_folder(record) / "curve.jsonl").read_text().splitlines()
        assert len({json.loads(row)["epoch"] for row in rows}) == len(rows) == EPOCHS, "no epoch twice"
    choice = study_latencies(rest.folder).choice
    assert choice is not None
    assert (choice.rule == CONFIRMED_RULE) == (len(found) > 1)
    again = resume_study(out, limits=ALONE, functions=functions(lucky))
    assert (again.outcome, again.records) == (Outcome.COMPLETE, rest.records)

    more = resume_study(out, trials=10, confirm=4, limits=ALONE, functions=functions(lucky))
    assert sum(record.state is State.COMPLETE for record in more.records) == 10
    assert len(_with_weights(out)) < 10
    assert all(one.planned >= 3 for one in candidates_of(more.folder))
    shown = json.loads(CliRunner().invoke(app, ["status", str(out), "--json"]).stdout)
    assert {one["number"] for one in shown["confirmation"]} >= {one.number for one in found}
    line = " ".join(CliRunner().invoke(app, ["front", str(out)]).output.split())
    assert "Confirmed with other seeds: trial" in line or "Knee: trial" in line
