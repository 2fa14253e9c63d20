"""Loggers beside a study: what they are told, and that one that fails costs the study nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from agesearch.errors import InputError
from agesearch.search.store.events import (
    Note,
    Outcome,
    StudyEnded,
    StudyEvent,
    StudyStarted,
    TrialFinished,
    TrialParked,
    TrialPaused,
    TrialProgress,
    TrialStarted,
)
from agesearch.search.store.records import State, StudyHeader, StudyInput, TrialRecord
from agesearch.search.tracking import backends as trackers
from agesearch.search.tracking.feed import Feed, open_tracker, tracked, without_secrets
from agesearch.search.tracking.tracker import study_id
from agesearch.specs import CropSpec, ModelSpec, Range, StudySpec, TrainSpec

SPEC = StudySpec(
    student=TrainSpec(model=ModelSpec(arch="lcnet_050")),
    space={"optim.learning_rate": Range(low=1e-4, high=1e-2)},
)
SOURCE = StudyInput(path="/data", content_digest="d" * 16)
HEADER = StudyHeader(
    spec=SPEC, dataset=SOURCE, teacher=SOURCE, crop=CropSpec(), spec_digest=SPEC.digest(), created="now"
)


def record(number: int, state: State = State.COMPLETE) -> TrialRecord:
    return TrialRecord(number, state, f"{number:04d}-lcnet_050-96px", curve=(9.0, 8.0), epochs=2)


def started(*records: TrialRecord) -> StudyStarted:
    return StudyStarted("/studies/first", 4, records, 0, 2, None, HEADER)


class Fake:
    """Writes down what it is told; fails as often as it is said to."""

    def __init__(self, failures: int = 0) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.failures = failures

    def _told(self, *call: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("https://me:secret@server/?token=abc is down\nsecond line")
        self.calls.append(call)

    def open(self, header: StudyHeader, folder: str, records: Sequence[TrialRecord]) -> None:
        self._told("open", folder, [entry.number for entry in records])

    def begin(self, record: TrialRecord, epochs: int) -> None:
        self._told("begin", record.number, epochs)

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        self._told("epoch", number, epoch, dict(metrics))

    def end(self, record: TrialRecord) -> None:
        self._told("end", record.number)

    def park(self, record: TrialRecord) -> None:
        self._told("park", record.number)

    def close(self, outcome: str) -> None:
        self._told("close", outcome)


RUNNING = record(1, State.RUNNING)


def run(tracker: Fake, events: Sequence[StudyEvent]) -> list[StudyEvent]:
    """What the view hears of a study with this tracker beside it."""
    heard: list[StudyEvent] = []
    with tracked([], heard.append, {"fake": tracker}) as listener:
        for event in events:
            listener(event)
    return heard


def test_a_tracker_hears_the_study_from_its_start_to_its_end() -> None:
    tracker = Fake()
    events: list[StudyEvent] = [
        started(record(0), record(7, State.RUNNING)),
        TrialStarted(RUNNING, 2),
        TrialProgress(1, 1, 2, 9.0, {"val_mae_years": 9.0, "train_loss": 3.0}),
        TrialFinished(record(1), 2, 4, ()),
        TrialStarted(record(2, State.RUNNING), 2),
        TrialParked(record(2, State.RUNNING), 1),
        TrialStarted(record(3, State.RUNNING), 2),
        TrialPaused(record(3, State.PAUSED)),
        StudyEnded(Outcome.INTERRUPTED),
    ]
    assert run(tracker, events) == events  # the view hears the same, and nothing else
    assert tracker.calls == [
        ("open", "first", [0]),
        ("begin", 1, 2),
        ("epoch", 1, 1, {"val_mae_years": 9.0, "train_loss": 3.0}),
        ("end", 1),
        ("begin", 2, 2),
        ("park", 2),
        ("begin", 3, 2),
        ("park", 3),
        ("close", "interrupted"),
    ]


def test_one_that_fails_says_so_once_without_secrets_and_the_study_goes_on() -> None:
    events: list[StudyEvent] = [started(), *(TrialStarted(record(number), 2) for number in range(4))]
    heard = run(Fake(failures=99), events)
    notes = [event.text for event in heard if isinstance(event, Note)]
    assert [event for event in heard if not isinstance(event, Note)] == events
    assert notes[0] == (
        "fake failed: ConnectionError: https://***@server/?token=*** is down. "
        "The study goes on; it is tried again later."
    )
    assert notes[1].startswith("fake: 5 entries were not written")
    assert len(notes) == 2


def test_one_that_answers_again_is_told_what_it_missed() -> None:
    tracker = Fake(failures=1)
    feed = Feed("fake", tracker, rest=0.0)
    for event in (
        started(record(0)),
        TrialStarted(record(1), 2),
        TrialFinished(record(1), 2, 4, ()),
        TrialStarted(record(2), 2),
    ):
        feed.put(event)
    feed.finish(5.0)
    assert tracker.calls[0] == ("open", "first", [0])
    assert ("begin", 1, 2) in tracker.calls
    assert ("end", 1) in tracker.calls
    assert feed.take_notes()[-1] == "fake: answers again."


def test_a_study_keeps_its_identity_when_it_gets_more_trials() -> None:
    more = HEADER.model_copy(update={"spec": SPEC.with_values({"trials": 99})})
    other = HEADER.model_copy(update={"created": "later"})
    assert study_id(more) == study_id(HEADER) != study_id(other)


def test_addresses_are_told_without_their_secrets() -> None:
    assert without_secrets("mlflow=https://user:pass@host:5000/x?api_key=1&b=2") == (
        "mlflow=https://***@host:5000/x?api_key=***&b=2"
    )
    assert without_secrets("tensorboard=runs/token") == "tensorboard=runs/token"


def test_a_logger_that_is_misspelt_or_not_installed_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InputError, match="must be NAME=WHERE"):
        open_tracker("mlflow")
    with pytest.raises(InputError, match="Unknown logger 'tensorbord'.*Did you mean 'tensorboard'"):
        open_tracker("tensorbord=runs")
    with pytest.raises(InputError, match="must be a folder on this machine"):
        open_tracker("tensorboard=s3://bucket/runs")
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    with pytest.raises(
        InputError, match=r"needs the package mlflow-skinny: pip install 'agesearch\[track\]'"
    ):
        open_tracker("mlflow=runs")
