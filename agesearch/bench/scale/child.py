"""A stage of the measurement in a process of its own: its progress, its answer, and its memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import IO, Any

import psutil

from agesearch.bench.process_tree import TreePeak, tree_peak
from agesearch.errors import AgeSearchError
from agesearch.progress import Listener, Progress
from agesearch.session import set_environment

_CALL = "from agesearch.bench.scale.stages import stage_process; stage_process()"
#: Seconds that a process has to take down what it started.
_GRACE_S = 20.0


def run_stage(
    order: Mapping[str, Any], on_progress: Listener, interval_s: float = 0.5
) -> tuple[dict[str, Any], TreePeak]:
    """Run a stage; its answer and the peak of its process tree, looked at every ``interval_s``.

    Where this process is interrupted, or the stage fails (an ``AgeSearchError``), nothing of it goes on.
    """
    set_environment()  # of the child, too, before it imports torch, whose threads would spin
    with tempfile.TemporaryFile("w+", encoding="utf-8") as words:
        child = subprocess.Popen(
            [sys.executable, "-c", _CALL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            text=True,
            start_new_session=True,  # Ctrl-C comes here alone, and is passed on once
        )
        try:
            with tree_peak(child.pid, interval_s) as peak:
                answer = _heard(child, order, on_progress)
            if child.wait() or answer is None:
                words.seek(0)
                raise AgeSearchError(f"The stage '{order['stage']}' failed: {_last_line(words)}")
        finally:
            _end(child)
    return answer, peak


def tell_parent(update: Progress) -> None:
    """The listener of a stage's process."""
    _say({"progress": asdict(update)})


def answer_parent(answer: Mapping[str, Any]) -> None:
    """What a stage found: its process's last words."""
    _say({"answer": answer})


def _say(words: Mapping[str, Any]) -> None:
    print(json.dumps(words), flush=True)


def _heard(
    child: subprocess.Popen[str], order: Mapping[str, Any], on_progress: Listener
) -> dict[str, Any] | None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps(order))
    child.stdin.close()
    answer: dict[str, Any] | None = None
    for line in child.stdout:
        try:
            said = json.loads(line)
        except ValueError:  # a library's words
            continue
        if isinstance(said, dict) and "progress" in said:
            on_progress(Progress(**said["progress"]))
        elif isinstance(said, dict):
            answer = said.get("answer", answer)
    return answer


def _end(child: subprocess.Popen[str]) -> None:
    """See that a process and all it started is gone; it has some time to do so itself."""
    if child.stdout is not None:
        child.stdout.close()
    if child.poll() is None:
        tree = _tree(child.pid)
        os.kill(child.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE_S)
        for process in tree:
            with suppress(psutil.Error):
                process.kill()
        child.wait()


def _tree(pid: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def _last_line(words: IO[str]) -> str:
    lines = [line.strip() for line in words if line.strip()]
    return lines[-1] if lines else "it said nothing"
