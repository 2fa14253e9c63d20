"""The scale bench runs every stage, compares both ways to train, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from agesearch.bench.scale import stages
from agesearch.bench.scale.run import measure_scale
from agesearch.bench.scale.stages import Order, side_by_side
from agesearch.data.reading import loading
from agesearch.progress import Progress, silent


def test_every_stage_is_measured_and_both_ways_to_train_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Progress] = []
    folder = tmp_path / "kept"
    found = measure_scale(240, share=0.5, keep=str(folder), on_progress=told.append)
    assert [row.stage for row in found.stages] == ["shards", "targets", "epoch", "evaluation", "mixing"]
    assert [row.faces for row in found.stages] == [240, 240, 100, 20, 240]
    assert all(row.peak_mib > 50 and row.faces_per_s > 0 and row.above_mib is None for row in found.stages)
    assert found.ratio is None  # so few are kept in memory
    assert found.mixing[0].ratio == pytest.approx(1.0, abs=0.05)
    assert set(found.disk_mib) == {"faces", "student", "targets"}
    assert (folder / "student" / "manifest.json").is_file()
    assert {"240 faces: making faces", "240 faces: training"} <= {update.stage for update in told}

    monkeypatch.setattr(loading, "RESIDENT_BYTES", 0)
    monkeypatch.setattr(stages, "_UNTIMED", 1)
    monkeypatch.setattr(stages, "_TIMED", 3)
    beside = side_by_side(Order("side by side", str(folder), 240, turns=2), silent)
    assert len(beside["streamed"]) == len(beside["resident"]) == 2
    assert all(seconds > 0 for seconds in (*beside["streamed"], *beside["resident"]))


def test_an_interrupted_bench_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    bench = subprocess.Popen(
        [sys.executable, "-m", "agesearch.cli.main", "bench", "scale", "--faces", "1000000"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert bench.stderr is not None
    for line in bench.stderr:
        if "making faces: " in line and "making faces: 0" not in line:
            break
    tree = psutil.Process(bench.pid).children(recursive=True)
    assert tree
    bench.send_signal(signal.SIGINT)
    assert bench.wait(60) == 130
    assert not list(tmp_path.iterdir())
    time.sleep(0.2)
    assert not [process for process in tree if process.is_running()]
