"""What a running study looks like: within any terminal, from its events, and as lines in a pipe."""

from __future__ import annotations

import io
import re
from itertools import pairwise

import pytest
from rich.console import Console

from agesearch.cli import common, tune_view
from agesearch.cli.study_screen import Screen, trial_line
from agesearch.cli.tune_view import LiveView
from agesearch.progress import Progress
from agesearch.search.store.events import (
    Confirming,
    Note,
    StudyEvent,
    StudyStarted,
    StudyStopping,
    TrialFinished,
    TrialParked,
    TrialPaused,
    TrialProgress,
    TrialRetried,
    TrialStarted,
    TrialWithin,
)
from agesearch.search.store.records import State, StudyHeader, StudyInput, TrialRecord, front_of
from agesearch.search.view.live_progress import LiveProgress
from agesearch.specs import CropSpec, ModelSpec, Range, StudySpec, TrainSpec
from agesearch.training.standing import Standing

NAMES = ("lcnet_035", "mobilenetv4_conv_small_with_a_name_that_is_very_long_indeed_and_longer")
SPEC = StudySpec(
    trials=30,
    student=TrainSpec(model=ModelSpec(arch="lcnet_035")).with_values({"optim.epochs": 8}),
    space={"optim.learning_rate": Range(low=1e-4, high=1e-2)},
)
SOURCE = StudyInput(path="/data", content_digest="d" * 16)
HEADER = StudyHeader(
    spec=SPEC, dataset=SOURCE, teacher=SOURCE, crop=CropSpec(), spec_digest=SPEC.digest(), created="now"
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def record(number: int, state: State = State.RUNNING, **values: object) -> TrialRecord:
    name = f"{number:04d}-{NAMES[number % 2]}-96px"
    return TrialRecord(number, state, name, latency_ms_p50=0.4 + 0.1 * number, **values)  # type: ignore[arg-type]


def ended(number: int) -> TrialRecord:
    if number % 5 == 3:
        reason = "out of reach of the front: 9.10 years after epoch 2 of 8 at 0.40 ms"
        return record(number, State.PRUNED, epochs=2, reason=reason, val_mae_years=9.1)
    if number % 7 == 6:
        return record(number, State.FAIL, epochs=1, reason="[red]worker died[/red]\x1b[2J after epoch 1")
    return record(number, State.COMPLETE, epochs=8, val_mae_years=9.0 - 0.3 * number, seconds=30.0)


def story(trials: int = 12, running: int = 4) -> list[StudyEvent]:
    events: list[StudyEvent] = [
        StudyStarted("/studies/first", 30, (), 0, running, "http://127.0.0.1:8265", HEADER)
    ]
    done: list[TrialRecord] = []
    for number in range(trials + running):
        events.append(TrialStarted(record(number), 8))
        events += [TrialProgress(number, epoch, 8, 10.0 - epoch) for epoch in range(1, 4)]
        if number < trials:
            done.append(ended(number))
            events.append(TrialFinished(done[-1], len(done), 30, tuple(front_of(done))))
    return events


def shown_on(monkeypatch: pytest.MonkeyPatch, console: Console) -> None:
    for module in (common, tune_view):
        monkeypatch.setattr(module, "err", console)


def drawn(events: list[StudyEvent], width: int, height: int, **options: object) -> list[str]:
    found = LiveProgress(Clock())
    for event in events:
        found.take(event)
    console = Console(file=io.StringIO(), width=width, height=height, **options)  # type: ignore[arg-type]
    with console.capture() as captured:
        console.print(Screen(found.progress()))
    return captured.get().rstrip("\n").split("\n")


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (100, 15), (50, 24), (80, 10), (30, 5), (200, 60)])
def test_the_screen_fits_any_terminal_and_no_line_wraps(size: tuple[int, int]) -> None:
    lines = drawn(story(), *size)
    assert len(lines) <= size[1] - 1  # the last line is the cursor's
    assert max(map(len, lines)) <= size[0]
    assert lines[0].startswith("12 of 30 trials")
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (50, 24), (120, 40)])
def test_no_figure_is_cut(size: tuple[int, int]) -> None:
    """Whatever is left out or shortened, a figure that is shown is whole, and names keep their input."""
    lines = drawn(story(), *size)
    text = " ".join(lines)
    for part in ("12 of 30 trials", "9 complete", "2 pruned", "1 failed", "4 running", "89 epochs spent"):
        assert part in text
    assert "stopping saved 12% of 96" in text
    assert "http://127.0.0.1:8265" in text
    rows = [line for line in lines if re.match(r" *\d+ (lcnet|mobile)", line)]
    assert len(rows) >= 6
    for line in rows:
        assert re.match(
            r" *\d+ [\w…]+ at 96 px +(\d\.\d\d +\d\.\d\d|(3/8 +)?7\.00( +0:00)?  █▅▁)( |$)", line
        ), line


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_trial_that_ended_keeps_its_error_in_any_width(width: int) -> None:
    line = trial_line(ended(7), width)
    assert len(line) <= width
    assert line.startswith("trial 7 mobile")
    assert "at 96 px: COMPLETE" in line
    assert "MAE 6.90 years" in line or width < 60
    assert ("1.10 ms, 30 s" in line) == (width >= 80)


def test_the_screen_shows_front_curves_reasons_epochs_and_the_dashboard() -> None:
    text = "\n".join(drawn(story(), 120, 40))
    for part in (
        "9 complete · 2 pruned · 1 failed · 4 running",
        "2 pruned: out of reach of the front",
        r"1 failed: [red]worker died[/red]\x1b[2J",
        "89 epochs spent, stopping saved 12% of 96",
        "http://127.0.0.1:8265",
        "Front so far",
        "●",
        "3/8",
        "█▅▁",
    ):
        assert part in text
    wide, narrow = drawn(story(), 120, 40), drawn(story(), 80, 24)
    assert any("●" in line for line in wide)
    assert not any("●" in line for line in narrow)  # no room for the plot


def test_a_terminal_without_unicode_gets_ascii() -> None:
    found = LiveProgress(Clock())
    for event in story():
        found.take(event)
    console = Console(file=io.TextIOWrapper(io.BytesIO(), "ascii"), width=120, height=40)
    with console.capture() as captured:
        console.print(Screen(found.progress()))
    assert captured.get().isascii()


def test_events_move_a_trial_from_waiting_to_running_to_its_end() -> None:
    found, clock = LiveProgress(clock := Clock()), clock
    before = (ended(0), record(1))
    found.take(StudyStarted("/s", 30, before, 1, 1, None, HEADER, front=(before[0],)))
    progress = found.progress()
    assert (progress.counts.finished, progress.waiting, progress.pace.finished) == (1, 1, 0)
    found.take(TrialStarted(before[1], 8))
    found.take(TrialProgress(1, 5, 8, 7.5))
    clock.now = 10.0
    progress = found.progress()
    assert (progress.waiting, progress.running[0].epoch, progress.running[0].age) == (0, 5, 10.0)
    assert progress.running[0].curve == (7.5,)
    found.take(TrialRetried(before[1], "worker died"))
    assert (found.progress().waiting, found.progress().running) == (1, ())
    found.take(TrialStarted(before[1], 8))
    found.take(TrialFinished(ended(1), 2, 30, (ended(1),)))
    progress = found.progress()
    assert (progress.counts.finished, progress.pace.finished, progress.running) == (2, 1, ())
    assert progress.front == (ended(1),)


def test_a_paused_trial_is_counted_with_its_epochs_until_it_goes_on_or_ends() -> None:
    waiting = record(1, State.PAUSED, epochs=2, curve=(9.0, 8.5), reason="unlikely to reach the front")
    before = (record(0, State.PAUSED, epochs=4, curve=(9.0, 8.0, 7.5, 7.0)), ended(2))
    events: list[StudyEvent] = [
        StudyStarted("/studies/first", 30, before, 0, 4, None, HEADER),
        TrialStarted(record(1), 8),
        TrialProgress(1, 1, 8, 9.0),
        TrialProgress(1, 2, 8, 8.5),
        TrialPaused(waiting),
    ]
    assert any("0 running · 2 paused" in line for line in drawn(events, 80, 24))
    found = LiveProgress(Clock())
    for event in events:
        found.take(event)
    progress = found.progress()
    assert [trial.record.number for trial in progress.paused] == [0, 1]
    assert (progress.running, progress.waiting, progress.epochs) == ((), 0, 8 + 4 + 2)
    found.take(TrialStarted(record(0), 8))
    pruned = record(1, State.PRUNED, epochs=2, reason="out of reach of the front")
    found.take(TrialFinished(pruned, 2, 30, ()))
    progress = found.progress()
    assert progress.paused == ()
    assert progress.running[0].curve == (9.0, 8.0, 7.5, 7.0)
    assert (progress.counts.saved, progress.epochs) == (6, 8 + 4 + 2)


def test_where_new_trainings_of_candidates_stand_is_said_once_the_search_is_over() -> None:
    events = story(trials=30, running=0)
    events.append(Confirming(1, 4, 20, 32, 90.0))
    line = drawn(events, 120, 24)[0]
    assert "confirming: 1 of 4 trainings over, 20 of 32 epochs, about 1:30 left" in line
    events.append(Confirming(4, 4, 32, 32, 0.0))
    assert drawn(events, 120, 24)[0].rstrip().endswith("confirming: 4 of 4 trainings over, 32 of 32 epochs")


def test_a_study_that_is_stopping_says_what_it_waits_for_and_what_was_cut() -> None:
    found = LiveProgress(Clock())
    for event in story(trials=2, running=2):
        found.take(event)
    found.take(StudyStopping("Ctrl-C", 2))
    assert "once 2 running trials wrote a checkpoint; Ctrl-C stops now" in found.progress().stopping
    found.take(TrialParked(record(2), 3))
    assert (found.progress().waiting, found.progress().epochs) == (1, 8 + 8 + 3 + 3)
    found.take(StudyStopping("Ctrl-C", 0, at_once=True))
    assert found.progress().stopping == "Stopping now (Ctrl-C)."


def test_in_a_pipe_each_trial_is_one_line_and_controls_are_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = io.StringIO()
    shown_on(monkeypatch, Console(file=sink, width=120))
    with tune_view.shown_study() as listener:
        for event in [*story(trials=8, running=1), Note("a note"), StudyStopping("SIGTERM", 1)]:
            listener(event)
    lines = sink.getvalue().splitlines()
    assert "\x1b" not in sink.getvalue()
    assert sum(line.endswith("/30]") for line in lines) == 8
    assert lines[0] == "Study /studies/first: 30 trials, 1 at once"
    assert lines[-2:] == [
        "a note",
        "Stopping (SIGTERM) once 1 running trial wrote a checkpoint; Ctrl-C stops now.",
    ]


def test_a_live_view_leaves_nothing_of_its_screen_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = io.StringIO()
    shown_on(monkeypatch, Console(file=sink, width=80, height=24, force_terminal=True))
    with LiveView() as view:
        for event in story(trials=3, running=2):
            view.listen(event)
    text = sink.getvalue()
    assert "Front so far" in text
    assert text.rstrip("\n").endswith("\x1b[2K")  # erased from its last line to its first
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")  # the cursor is there again


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    sink = io.StringIO()
    shown_on(monkeypatch, Console(file=sink, width=80, force_terminal=True))
    with tune_view.shown_study() as listener:
        for event in story(trials=2, running=0):
            listener(event)
    assert "\x1b" not in sink.getvalue()
    assert "[2/30]" in sink.getvalue()


def test_a_quiet_study_is_spoken_of_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    sink, clock = io.StringIO(), Clock()
    shown_on(monkeypatch, Console(file=sink, width=120))
    lines = tune_view.PlainStudy(clock)
    for event in story(trials=1, running=2):
        lines.listen(event)
    sink.truncate(0)
    told = []
    for second in range(1, 120):
        clock.now = second
        before = len(sink.getvalue())
        lines.remind()
        if len(sink.getvalue()) > before:
            told.append(second)
    assert told[:6] == [5, 10, 15, 20, 25, 30]
    assert all(5 <= later - one <= 20 for one, later in pairwise(told))
    assert told[-1] - told[-2] > 10
    assert "1 of 30 trials" in sink.getvalue()
    assert "2 running, 6 of their 16 epochs done" in sink.getvalue()


def test_a_quiet_stage_is_spoken_of(monkeypatch: pytest.MonkeyPatch) -> None:
    sink, clock = io.StringIO(), Clock()
    shown_on(monkeypatch, Console(file=sink, width=120))
    lines = common._PlainLines(clock)
    clock.now = 6
    lines.remind()
    lines.listen(Progress("Training", 2, 10, note="val MAE 7.10 years"))
    clock.now = 9
    lines.remind()
    clock.now = 12
    lines.remind()
    lines.remind()
    assert sink.getvalue().splitlines() == [
        "starting (6 s)",
        "Training: 2/10 val MAE 7.10 years",
        "Training: 2/10 val MAE 7.10 years (6 s)",
    ]


def test_where_a_long_epoch_stands_is_shown_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    sink, clock = io.StringIO(), Clock()
    shown_on(monkeypatch, Console(file=sink, width=120))
    lines = tune_view.PlainStudy(clock)
    events = story(trials=1, running=2)
    running = [event for event in events if isinstance(event, TrialStarted)][-1]
    for event in events:
        lines.listen(event)
    done = lines._events.progress().running[-1].epoch
    stood = Standing(done + 1, 120_000, 3_000_000, 400.0, 2.31, seconds=300.0)
    lines.listen(TrialWithin(running.record.number, stood))
    clock.now = 60
    lines.remind()
    where = f"trial {running.record.number}, epoch {done + 1}"
    words = f"{where}: 120,000 of 3,000,000 faces, 400 faces/s, loss 2.31, "
    assert words in sink.getvalue()
    progress = lines._events.progress()
    assert progress.running[-1].epochs_done == pytest.approx(done + 0.04)
    text = "\n".join(drawn([*events, TrialWithin(running.record.number, stood)], 140, 60))
    assert f"{done}.04/{running.epochs}" in text
    assert words in text
    # once the epoch is over, nothing is said of it
    lines.listen(TrialProgress(running.record.number, done + 1, running.epochs, 8.0))
    assert lines._events.progress().running[-1].standing is None
