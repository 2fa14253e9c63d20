"""Runs the stages one after the other, first with few faces and then with all, and puts their costs together.

Each stage is a process of its own, so that its memory is its own: that of the process and all it started,
each shared page counted once. What the same stage takes with ``BASE_FACES`` faces is the libraries' and the
network's.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agesearch.artefacts import own_folder
from agesearch.bench.process_tree import TreePeak
from agesearch.bench.scale.child import run_stage
from agesearch.bench.scale.faces import LEAST_FACES
from agesearch.bench.scale.mixing import Mixing
from agesearch.bench.scale.stages import Order
from agesearch.errors import InputError
from agesearch.machine import cores
from agesearch.progress import Listener, Progress, silent
from agesearch.storage import Location

#: Faces of the run that tells what a stage needs whatever the number of faces.
BASE_FACES = 1000

#: What a face takes on disk at most while its dataset is written.
_BYTES_A_FACE = 12_000
_BESIDE = "side by side"

Answers = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class StageCost:
    """What a stage did and took. Memory in MiB: the peak of its process tree, by how much that is more than
    with ``BASE_FACES`` faces (None: there are not more), and the shared memory in it, which is Ray's object
    store.
    """

    stage: str
    faces: int
    seconds: float
    faces_per_s: float
    peak_mib: float
    above_mib: float | None
    object_store_mib: float
    processes: int


@dataclass(frozen=True)
class Scale:
    """The outcome. ``streamed_over_resident`` is the throughput of training from shards over that of the same
    training on encoded faces in memory, turn by turn; ``streamed_over_decoded``, over that on faces which
    were decoded and resized before (both empty: the set is small enough to be kept so).
    """

    faces: int
    share: float
    base_faces: int
    cores: int
    load_before: float
    stages: list[StageCost]
    streamed_over_resident: list[float]
    streamed_over_decoded: list[float]
    mixing: list[Mixing]
    disk_mib: dict[str, float]

    @property
    def ratio(self) -> float | None:
        """``streamed_over_resident``, the median of the turns."""
        return median(self.streamed_over_resident)


def measure_scale(
    faces: int,
    *,
    share: float = 1.0,
    with_ingest: bool = False,
    turns: int = 8,
    keep: str | None = None,
    on_progress: Listener = silent,
) -> Scale:
    """Measure every stage with ``faces`` faces; an epoch trains on ``share`` of those for training.

    All files lie in a temporary folder that is gone at the end, also of an interrupted run, or in the new
    folder ``keep``. Wrong input is an ``InputError`` before anything is made.
    """
    _check(faces, share)
    load = os.getloadavg()[0]
    with _folder(keep) as folder:
        _require_space(folder, faces)
        base: dict[str, StageCost] = {}
        if faces > BASE_FACES:
            few = folder / "base"
            few.mkdir()
            wanted = _Wanted(BASE_FACES, 1.0, 0, with_ingest)
            base = {row.stage: row for row in _all_stages(wanted, few, {}, on_progress)[0]}
            shutil.rmtree(few)
        wanted = _Wanted(faces, share, turns, with_ingest)
        stages, answers = _all_stages(wanted, folder, base, on_progress)
        disk = {name: _mib(folder / name) for name in ("photos", "faces", "student")}
    targets = answers["targets"]["bytes"] / 2**20
    disk |= {"faces": disk["faces"] - targets, "targets": targets}
    beside = answers.get(_BESIDE, {"streamed": [], "resident": [], "decoded": []})
    return Scale(
        faces=faces,
        share=share,
        base_faces=BASE_FACES,
        cores=cores(),
        load_before=load,
        stages=stages,
        streamed_over_resident=_quotients(beside["resident"], beside["streamed"]),
        streamed_over_decoded=_quotients(beside["decoded"], beside["streamed"]),
        mixing=[Mixing(**epoch) for epoch in answers["mixing"]["epochs"]],
        disk_mib={name: size for name, size in disk.items() if size},
    )


def median(values: Sequence[float]) -> float | None:
    """The median; None without a value."""
    return statistics.median(values) if values else None


def _quotients(above: Sequence[float], below: Sequence[float]) -> list[float]:
    return [first / second for first, second in zip(above, below, strict=True)]


@dataclass(frozen=True)
class _Wanted:
    """What a run of all stages is to do."""

    faces: int
    share: float
    turns: int
    with_ingest: bool


def _all_stages(
    wanted: _Wanted, folder: Path, base: Mapping[str, StageCost], on_progress: Listener
) -> tuple[list[StageCost], Answers]:
    """What each stage took, beside a ``base`` where one is known, and what each answered."""
    rows, answers = list[StageCost](), dict[str, dict[str, Any]]()
    # Reading a process's memory map takes time from it: long stages, whose peaks last, are looked at seldom.
    look_s = 0.5 if wanted.faces <= 20 * BASE_FACES else 2.0
    faces = ("photos", "ingest") if wanted.with_ingest else ("shards",)
    for stage in (*faces, "targets", "epoch", _BESIDE, "evaluation", "mixing"):
        if stage == _BESIDE and (not wanted.turns or answers["epoch"]["resident"]):
            continue
        order = Order(stage, str(folder), wanted.faces, wanted.share, wanted.turns)

        def named(update: Progress) -> None:
            on_progress(replace(update, stage=f"{wanted.faces:,} faces: {update.stage}"))

        answers[stage], peak = run_stage(asdict(order), named, look_s)
        rows.append(_cost(stage, answers[stage], peak, base.get(stage)))
    return rows, answers


def _cost(stage: str, answer: Mapping[str, Any], peak: TreePeak, base: StageCost | None) -> StageCost:
    return StageCost(
        stage=stage,
        faces=answer["faces"],
        seconds=answer["seconds"],
        faces_per_s=answer["faces"] / answer["seconds"],
        peak_mib=peak.mib,
        above_mib=None if base is None else peak.mib - base.peak_mib,
        object_store_mib=peak.shared_bytes / 2**20,
        processes=peak.processes,
    )


def _check(faces: int, share: float) -> None:
    if not sys.platform.startswith("linux"):
        raise InputError("The scale bench needs Linux: it reads the memory of processes from /proc.")
    if faces < LEAST_FACES:
        raise InputError(
            f"--faces is {faces}, but must be at least {LEAST_FACES}: fewer have nobody to validate on."
        )
    if not 0.0 < share <= 1.0:
        raise InputError(f"--share is {share:g}, but must lie above 0 and be at most 1.")


@contextmanager
def _folder(keep: str | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="agesearch-bench-scale-", ignore_cleanup_errors=True) as made:
            yield Path(made)
        return
    if "://" in keep:
        raise InputError(f"--keep is '{keep}', but must be a folder of this machine.")
    place = Location.of(keep)
    own_folder(place, "a measurement", ())
    folder = Path(place.path)
    folder.mkdir(parents=True, exist_ok=True)
    yield folder


def _require_space(folder: Path, faces: int) -> None:
    need, free = faces * _BYTES_A_FACE, shutil.disk_usage(folder).free
    if free < need:
        raise InputError(
            f"{faces:,} faces need about {need / 1e9:.0f} GB, but '{folder}' has {free / 1e9:.0f} GB free: "
            "give fewer --faces, or set TMPDIR to a folder with more room."
        )


def _mib(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
