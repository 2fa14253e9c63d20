"""What is left of drills that were killed, and the table of those that ran; nothing is started."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from agesearch.bench.drills import network, run
from agesearch.bench.drills.network import Network
from agesearch.bench.drills.outcome import Outcome
from agesearch.cli.main import app
from agesearch.errors import AgeSearchError


def test_only_networks_of_processes_that_are_gone_are_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    space, born = network._pid_space(), psutil.Process().create_time()
    labels = {
        "agesearch1": f"agesearch-drills {space} {os.getpid()} {born - 100}",
        "agesearch2": f"agesearch-drills {space} {os.getpid()} {born}",
        "agesearch3": f"agesearch-drills pid:[1] {os.getpid()} {born - 100}",
        "agesearch4": "",
        "agesearchers": f"agesearch-drills {space} {os.getpid()} {born - 100}",
        "br0": "the office",
    }
    links = [{"ifname": name, **({"ifalias": label} if label else {})} for name, label in labels.items()]
    monkeypatch.setattr(network, "_said", lambda *_: json.dumps(links))
    assert network.abandoned() == [Network(1)]
    monkeypatch.setattr(network, "_said", lambda *_: "")
    assert network.abandoned() == []


def test_a_drill_that_breaks_off_is_told_among_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def ground() -> Iterator[Any]:
        yield SimpleNamespace()

    def drilled(name: str, _: Any, trials: int, *__: Any) -> Outcome:
        if name == "stop":
            raise AgeSearchError("The study stands still.")
        return Outcome(name, "it went on", trials, trials, 1, 1, 61.4)

    for name, does in {"need_namespaces": lambda: None, "_ground": ground, "_run": drilled}.items():
        monkeypatch.setattr(run, name, does)
    words = ["bench", "drills", "--only", "stop", "--only", "host killed", "--trials", "4", "--markdown"]
    done = CliRunner().invoke(app, words)
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert rows[0] == "| drill | what happened | trials | epochs repeated | s |"
    assert rows[-2:] == [
        "| stop | The study stands still. | 0 of 4 | 0 | 0 |",
        "| host killed | it went on | 4 of 4 | 1 | 61 |",
    ]
    assert isinstance(done.exception, AgeSearchError)
