"""kill -9 in the middle of an epoch: what is lost, and that the end is the same to the last bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "killed_within.py"


def run(folder: Path, world: int, step: int = -1) -> list[list[str]]:
    """What each worker said, after it ended or was killed."""
    workers = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), str(rank), str(world), str(step)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    said = [worker.communicate(timeout=120)[0].splitlines() for worker in workers]
    assert {worker.returncode for worker in workers} == {0 if step < 0 else -9}
    return said


@pytest.mark.parametrize("world", [1, 2])
def test_a_kill_within_an_epoch_costs_the_steps_since_the_last_checkpoint_and_changes_nothing(
    tmp_path: Path, world: int
) -> None:
    run(tmp_path, world, step=4)
    for rank, (began, resumed, begun, whole) in enumerate(run(tmp_path, world)):
        assert (began, begun) == ("from 1 4", "from 0 0")  # here a checkpoint follows each step
        assert rank or resumed == whole  # weights, losses, errors: the first worker has them
