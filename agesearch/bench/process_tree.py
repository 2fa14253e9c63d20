"""The memory of a process and all it started: the sum of their proportional set sizes.

A page that several processes share (Ray's object store, libraries) counts once, split among them. Linux only:
the kernel tells it in ``/proc/PID/smaps_rollup``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass
class TreePeak:
    """The most bytes a process tree had at once, and in how many processes; and the most of them, at another
    time perhaps, that are shared memory: Ray's object store.
    """

    bytes: int = 0
    processes: int = 0
    shared_bytes: int = 0

    @property
    def mib(self) -> float:
        """The peak in MiB."""
        return self.bytes / 2**20


@contextmanager
def tree_peak(pid: int, interval_s: float = 0.5) -> Iterator[TreePeak]:
    """Sample the tree of ``pid`` for the length of the block."""
    peak, ended = TreePeak(), threading.Event()
    sampler = threading.Thread(target=_sample, args=(pid, interval_s, peak, ended), daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        ended.set()
        sampler.join()


def tree_pss(pid: int) -> TreePeak:
    """The tree's bytes now."""
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.Error:
        return TreePeak()
    sizes, shared = zip(*(_pss(process.pid) for process in tree), strict=True)
    return TreePeak(sum(sizes), sum(size > 0 for size in sizes), sum(shared))


def _sample(pid: int, interval_s: float, peak: TreePeak, ended: threading.Event) -> None:
    while not ended.is_set():
        now = tree_pss(pid)
        if now.bytes > peak.bytes:
            peak.bytes, peak.processes = now.bytes, now.processes
        peak.shared_bytes = max(peak.shared_bytes, now.shared_bytes)
        ended.wait(interval_s)


def _pss(pid: int) -> tuple[int, int]:
    """The proportional set size of a process in bytes, and how much of it is shared memory."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:  # the process has ended, or there is no such file on this system
        return 0, 0
    found = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines[1:]}
    return found.get("Pss:", 0), found.get("Pss_Shmem:", 0)
