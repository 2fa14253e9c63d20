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
    """The most bytes a process tree had at once, and in how many processes."""

    bytes: int = 0
    processes: int = 0

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
    sizes = [_pss(process.pid) for process in tree]
    return TreePeak(sum(sizes), sum(size > 0 for size in sizes))


def _sample(pid: int, interval_s: float, peak: TreePeak, ended: threading.Event) -> None:
    while not ended.is_set():
        now = tree_pss(pid)
        if now.bytes > peak.bytes:
            peak.bytes, peak.processes = now.bytes, now.processes
        ended.wait(interval_s)


def _pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:  # the process has ended, or there is no such file on this system
        return 0
    return 0
