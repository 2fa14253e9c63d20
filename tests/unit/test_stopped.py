"""Ctrl-C and SIGTERM end a training with what is kept and how to go on, and exit code 130."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from agesearch.cli.main import app
from agesearch.cli.stopping import stopped
from agesearch.storage import Location
from agesearch.training.checkpoint import TrainState, save_state
from agesearch.training.ddp import _fit
from agesearch.training.protocols.jobs import _stopped_in_order
from agesearch.training.stopping import TrainingStopped, signals_stop, stop_requested


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_signal_asks_the_training_to_stop_and_a_second_one_does_what_it_did(tmp_path: Path) -> None:
    out, before = Location.of(tmp_path), signal.getsignal(signal.SIGINT)

    def trained() -> None:
        with signals_stop(out):
            signal.raise_signal(signal.SIGINT)
            assert stop_requested(out)
            raise TrainingStopped.within(0)

    with pytest.raises(KeyboardInterrupt):
        trained()
    assert not stop_requested(out)

    def twice() -> None:
        with signals_stop(out):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert signal.getsignal(signal.SIGINT) is before


class Workers:
    """What Ray Train's trainer is: ``fit`` returns when all workers are over."""

    def __init__(self, out: Location) -> None:
        self.out = out

    def fit(self) -> None:
        assert threading.current_thread() is not threading.main_thread()  # it would take Ctrl-C for itself
        os.kill(os.getpid(), signal.SIGINT)
        until = time.monotonic() + 30
        while not stop_requested(self.out) and time.monotonic() < until:
            time.sleep(0.01)
        raise TrainingStopped.within(2)


def test_several_workers_are_asked_to_stop_by_ctrl_c_and_waited_for(tmp_path: Path) -> None:
    out = Location.of(tmp_path)
    with pytest.raises(KeyboardInterrupt) as found, signals_stop(out):
        _fit(Workers(out), local=False)
    assert "in epoch 3" in str(found.value.__cause__)


def test_trainings_side_by_side_are_asked_to_stop_by_ctrl_c_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[str] = []
    monkeypatch.setattr("ray.wait", lambda refs, **_: waited.extend(refs))
    places = {name: Location.of(tmp_path / name) for name in ("trains", "predicts")}
    running: dict[str, Any] = {
        name: SimpleNamespace(training=object(), trained=name == "predicts", model=place)
        for name, place in places.items()
    }
    with pytest.raises(KeyboardInterrupt), _stopped_in_order(running):
        interrupt()
    assert waited == ["trains", "predicts"]
    assert [stop_requested(place) for place in places.values()] == [True, False]


def test_what_is_kept_is_said() -> None:
    with pytest.raises(typer.Exit) as found, stopped(lambda: "2 epochs are kept."):
        interrupt()
    assert found.value.exit_code == 130


TEACH = "teach --data d --arch resnet18 --epochs 9"


@pytest.mark.parametrize(
    ("words", "runs", "said"),
    [
        (TEACH, "agesearch.training.teach.teach", "3 of 9 epochs are kept in 'OUT'"),
        (f"{TEACH} --kind order", "agesearch.training.teach_order.teach_order", "3 of 9 epochs are kept"),
        ("targets --teacher t --data OUT", "agesearch.distill.stored_answers.age_teacher", "answers so far"),
        ("annotate --teacher t --data OUT", "agesearch.distill.annotate.annotate", "answers so far are kept"),
    ],
)
def test_each_command_says_it_in_its_own_words(
    words: str, runs: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path)
    save_state(Location.of(out), TrainState("5" * 16, 3, {"w": torch.zeros(1)}))
    monkeypatch.setattr(runs, lambda *_, **__: interrupt())
    monkeypatch.setattr("agesearch.distill.stored_answers.crop_notes_of", lambda *_: ())
    command = words.replace("OUT", out).split() + ([] if words.startswith("targets") else ["--out", out])
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 130, result.output
    assert said.replace("OUT", out) in result.output
    assert "the same command goes on" in result.output
