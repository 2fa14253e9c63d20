"""Studies behind a URI: worked on here, published there, taken up elsewhere, one driver at a time; and what
an object store is asked for.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import search_helpers as helpers
from s3_server import S3Server, s3_server
from search_helpers import EPOCHS, functions, tiny_spec, write_sources

from agesearch.errors import ConflictError
from agesearch.search.run.driver import ask_to_stop, read_driver
from agesearch.search.run.published import study as published
from agesearch.search.run.study import RunLimits, StudyResult, resume_study, run_study
from agesearch.search.store.events import Outcome, StudyEvent, TrialProgress
from agesearch.search.store.records import State, open_study
from agesearch.search.view.status import study_status
from agesearch.search.view.trial_details import trial_details
from agesearch.storage import Location
from agesearch.training.curve import read_curve

_ALONE = RunLimits(concurrency=1)


@pytest.fixture(scope="module")
def server(ray_local: None) -> Iterator[S3Server]:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(helpers)
    with s3_server("studies") as server:
        yield server


def _uri(server: S3Server, name: str) -> str:
    return f"s3://studies/{name}?{server.options}"


def _run(root: Path, uri: str, **made: object) -> StudyResult:
    data, teacher = write_sources(root)
    listener = made.pop("on_event", lambda _: None)
    epoch_s = made.pop("epoch_s", 0.0)
    return run_study(
        tiny_spec(**made),
        data,
        teacher,
        uri,
        limits=_ALONE,
        functions=functions(helpers.curved, epoch_s),  # type: ignore[arg-type]
        on_event=listener,  # type: ignore[arg-type]
    )


def test_a_study_is_published_with_few_requests_and_goes_on_on_another_machine(
    tmp_path: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = _uri(server, "first")
    server.requests.clear()
    result = _run(tmp_path, uri)
    trials = len(result.records)
    asked = Counter(
        line.partition(" ")[0] for line in server.asked("/first/trials/") if "list-type" not in line
    )
    # Of each trial: its spec, and after each epoch the curve and a checkpoint.
    assert asked["PUT"] <= trials * (1 + 2 * EPOCHS)
    assert asked["GET"] == 0
    listed = [line for line in server.requests if "list-type" in line and "trials" in line]
    assert len(listed) <= trials + 1
    rest = [line for line in server.requests if "/first/trials/" not in line and "list-type" not in line]
    # What is renewed and looked at every so many seconds is more on a slow machine.
    rest = [line for line in rest if not any(name in line for name in ("/.lock", "driver.json", "stop.json"))]
    assert len(rest) <= 15 * trials, Counter(line.partition("?")[0] for line in rest)

    study = open_study(uri)
    assert (result.outcome, study.trials()) == (Outcome.COMPLETE, result.records)
    assert [len(read_curve(study.trial_folder(record))) for record in result.records] == [EPOCHS] * trials
    assert trial_details(uri, 0).record == result.records[0]
    monkeypatch.setattr("agesearch.search.run.published.copies.local_folder", lambda *_: tmp_path / "other")
    more = resume_study(uri, trials=trials + 2, limits=_ALONE, functions=functions(helpers.curved))
    assert [record.state for record in more.records] == [State.COMPLETE] * (trials + 2)
    assert more.records[:trials] == result.records
    status = study_status(uri)
    assert (status.is_running, status.how_to_go_on) == (False, "")
    assert not list(Path("/tmp").glob(f"agesearch-*-{helpers.os.getuid()}/first-*"))


def test_one_driver_at_a_time_and_a_request_to_stop_at_the_uri(
    tmp_path: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "_LOOK_S", 1.0)
    uri, refused = _uri(server, "second"), []

    def listen(event: StudyEvent) -> None:
        if isinstance(event, TrialProgress) and not refused:
            try:
                resume_study(uri)
            except ConflictError as error:
                refused.append(str(error))
            threading.Thread(target=ask).start()

    def ask() -> None:
        end = time.monotonic() + 30
        while read_driver(Location.of(uri)) is None and time.monotonic() < end:
            time.sleep(0.1)
        ask_to_stop(Location.of(uri))

    stopped = _run(tmp_path, uri, epoch_s=1.0, on_event=listen, trials=6)
    assert "is in use by process" in refused[0]
    assert stopped.outcome is Outcome.INTERRUPTED
    before = {record.number: record.epochs for record in open_study(uri).trials() if record.state.ended}
    assert study_status(uri).how_to_go_on.startswith("agesearch resume")
    over = resume_study(uri, limits=_ALONE, functions=functions(helpers.curved))
    assert [record.state for record in over.records] == [State.COMPLETE] * 6
    assert [record.epochs for record in over.records] == [EPOCHS] * 6
    assert before.keys() <= {record.number for record in over.records}
