"""This machine: its name among others, the share of cores that the process may use, processes and ports."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

_ROOT = Path("/")

#: What a worker of a cluster has in its environment: how people are told of its node.
NODE_VARIABLE = "AGESEARCH_NODE"

#: The start of a process as two sources tell it may differ by so many seconds.
_SAME_START_S = 2.0


def node_name() -> str:
    """How people are told of this machine: its host name, with its address where it is a cluster's node."""
    return os.environ.get(NODE_VARIABLE) or socket.gethostname()


def running_process(pid: int, born: float) -> psutil.Process | None:
    """The process that started at ``born`` (seconds since 1970), where it lives; a later one of the same
    number is another.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - born) < _SAME_START_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def free_port(host: str) -> int:
    """A port of ``host``, an address of this machine, on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def cores() -> int:
    """How many cores this process may use, at least one.

    A batch system or container gives a share in one of two ways, and the smaller holds: an affinity
    (``taskset``, Slurm, a cpuset), or a quota of processor time (``docker --cpus``, a Kubernetes limit),
    rounded down.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = cpu_quota()
    return count if quota is None else max(1, min(count, int(quota)))


def cpu_quota(root: Path = _ROOT) -> float | None:
    """The processor time that control groups allow, in cores; None where nothing limits it.

    The limit of every group above holds too (cgroup v2: ``cpu.max``; v1: ``cpu.cfs_quota_us``). In a
    container the path of the group may be one of the host's: what is not found there is passed over.
    """
    found = [quota for folder in _groups(root) if (quota := _quota_of(folder)) is not None]
    return min(found, default=None)


def _groups(root: Path) -> Iterator[Path]:
    """The folders that may hold a limit of this process, from its own group to the root of the hierarchy."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mount = root / "sys/fs/cgroup"
        elif "cpu" in controllers.split(","):
            mount = root / "sys/fs/cgroup" / controllers
        else:
            continue
        group = PurePosixPath(path)
        for part in (group, *group.parents):
            yield mount / str(part).lstrip("/")


def _quota_of(folder: Path) -> float | None:
    words = _text(folder / "cpu.max").split()
    if len(words) != 2:
        words = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    try:
        quota, period = map(int, words)
    except ValueError:  # "max", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
