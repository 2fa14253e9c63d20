"""How fast an ingest is beside a bare loop over the same work, and how much memory it takes.

The bare loop is one process with one thread that reads, detects, aligns, crops and encodes (``face_row``) and
keeps nothing. Loops and ingests take turns, so that a machine that has other work shows in the spread. Every
run is a process of its own; a loop's start is not counted, an ingest's is told apart.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agesearch.bench.photos import write_photos, write_tiny
from agesearch.bench.process_tree import TreePeak, tree_peak
from agesearch.data.dataset.records import SourceRecord
from agesearch.data.images.detectors import open_detector
from agesearch.data.ingest.extract import face_row
from agesearch.data.ingest.run import IngestSpec, ingest
from agesearch.data.sources import source_named
from agesearch.errors import AgeSearchError
from agesearch.machine import cores
from agesearch.progress import Listener, Progress, silent
from agesearch.specs import CropSpec

#: One thread in whatever library a process loads.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
#: Ray's workers run at this niceness; a loop too, so that other work on the machine slows both alike.
_WORKER_NICENESS = 15
_LOOP_CALL = "from agesearch.bench.ingest import loop_process; loop_process()"
_INGEST_CALL = "from agesearch.bench.ingest import ingest_process; ingest_process()"


@dataclass(frozen=True)
class Throughput:
    """Faces a second: of single loops, of as many loops at once as there are processes, and of ingests in
    their steady part (first to last piece) and as a whole (with Ray's start). ``ratio`` is the median steady
    ingest over ``processes`` times the median loop.
    """

    records: int
    processes: int
    loops: list[float]
    loops_at_once: list[float]
    steady: list[float]
    whole: list[float]
    ratio: float
    ratio_of_ceiling: float
    peak_mib: float
    load_before: float


@dataclass(frozen=True)
class Footprint:
    """The peak memory of an ingest's process tree, in MiB, for a number of records."""

    records: int
    peak_mib: float
    processes: int
    seconds: float


def measure_throughput(
    records: int, processes: int | None = None, turns: int = 2, on_progress: Listener = silent
) -> Throughput:
    """Loop, loops at once, ingest, ``turns`` times, and a loop at the end."""
    count = processes or cores()
    load = os.getloadavg()[0]
    loops: list[float] = []
    together: list[float] = []
    steady: list[float] = []
    whole: list[float] = []
    peak = 0.0
    steps = 3 * turns + 1
    with _scratch() as folder:
        on_progress(Progress("photographs", 0, records))
        csv = write_photos(folder, records)
        on_progress(Progress("photographs", records, records))

        def tell(note: str) -> None:
            done = len(loops) + len(together) + len(steady)
            on_progress(Progress("bench", done, steps, note=note))

        for _ in range(turns):
            tell("a bare loop")
            loops.append(_loops(csv, 1)[0])
            tell(f"{count} bare loops at once")
            together.append(sum(_loops(csv, count)))
            tell(f"the ingest with {count} processes")
            run = _ingested(csv, folder / "ds", CropSpec(), count)
            steady.append(run.steady)
            whole.append(run.faces / run.seconds)
            peak = max(peak, run.peak.mib)
        tell("a bare loop")
        loops.append(_loops(csv, 1)[0])
        tell("")
    ratio = statistics.median(steady) / (count * statistics.median(loops))
    ceiling = statistics.median(steady) / statistics.median(together)
    return Throughput(records, count, loops, together, steady, whole, ratio, ceiling, peak, load)


def measure_memory(
    records: list[int], processes: int | None = None, on_progress: Listener = silent
) -> list[Footprint]:
    """The peak of an ingest without a detector over so many tiny files, one ingest for each number."""
    found = []
    for number, count in enumerate(records):
        on_progress(Progress("memory", number, len(records), note=f"{count} records"))
        with _scratch() as folder:
            csv = write_tiny(folder, count)
            run = _ingested(csv, folder / "ds", CropSpec(detector="none", size=48), processes)
        found.append(Footprint(count, run.peak.mib, run.peak.processes, run.seconds))
    on_progress(Progress("memory", len(records), len(records)))
    return found


@dataclass(frozen=True)
class _Run:
    faces: int
    seconds: float
    steady: float
    peak: TreePeak


def _ingested(csv: Path, out: Path, crop: CropSpec, processes: int | None) -> _Run:
    """Ingest in a process of its own, whose tree is watched; the dataset is removed again."""
    order = {"csv": str(csv), "out": str(out), "crop": crop.model_dump(), "processes": processes}
    child = _start(_INGEST_CALL, order)
    # Reading a process's memory map takes time from it: where speed is measured, seldom.
    with tree_peak(child.pid, interval_s=0.5 if crop.detector == "none" else 3.0) as peak:
        answer = _answer(child)
    shutil.rmtree(out)
    return _Run(answer["faces"], answer["seconds"], answer["steady"], peak)


def _loops(csv: Path, count: int) -> list[float]:
    """Faces a second of each of ``count`` loops that run at once."""
    start = time.time() + 4.0  # all are ready by then, and begin together
    children = [_start(_LOOP_CALL, {"csv": str(csv), "start": start}) for _ in range(count)]
    return [float(_answer(child)["rate"]) for child in children]


def _start(call: str, order: dict[str, Any]) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", call],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | _ONE_THREAD,
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(order))
    child.stdin.close()
    return child


def _answer(child: subprocess.Popen[str]) -> dict[str, Any]:
    assert child.stdout is not None
    lines = child.stdout.read().strip().splitlines()
    if child.wait() or not lines:
        raise AgeSearchError("A process of the measurement failed; what it said stands above.")
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def loop_process() -> None:
    """The bare loop, in a process of its own: the order comes on standard input, faces a second go out."""
    import cv2

    order = json.load(sys.stdin)
    cv2.setNumThreads(1)
    os.nice(_WORKER_NICENESS)
    spec = _spec(order["csv"], CropSpec())
    records = [item for item in source_named("csv").read(spec.options()) if isinstance(item, SourceRecord)]
    detector = open_detector(spec.crop.detector)
    face_row(records[0], detector, spec.crop, spec.split)
    time.sleep(max(0.0, order["start"] - time.time()))
    begun = time.perf_counter()
    for record in records:
        face_row(record, detector, spec.crop, spec.split)
    print(json.dumps({"rate": len(records) / (time.perf_counter() - begun)}))


def ingest_process() -> None:
    """An ingest, in a process of its own: the order comes on standard input, its times go out."""
    from agesearch.session import ray_session

    order = json.load(sys.stdin)
    begun = time.perf_counter()
    seen: list[tuple[float, int]] = []

    def listen(update: Progress) -> None:
        if update.stage == "ingest":
            seen.append((time.perf_counter(), update.done))

    with ray_session(cpus=order["processes"]):
        spec = _spec(order["csv"], CropSpec.model_validate(order["crop"]))
        done = ingest(spec, order["out"], on_progress=listen)
    seconds = time.perf_counter() - begun
    pieces = [entry for index, entry in enumerate(seen[:-1]) if index and entry[1] > seen[index - 1][1]]
    (first, before), (last, after) = pieces[0], pieces[-1]
    steady = (after - before) / (last - first) if last > first else 0.0
    print(json.dumps({"faces": done.manifest.faces, "seconds": seconds, "steady": steady}))


def _spec(csv: str, crop: CropSpec) -> IngestSpec:
    return IngestSpec(source="csv", root=csv, images=str(Path(csv).parent / "photos"), crop=crop)


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="agesearch-bench-") as folder:
        yield Path(folder)
