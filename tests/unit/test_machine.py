"""The cores that this process may use: an affinity or a quota of a control group, whichever is less."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agesearch import machine


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/cpu.max": "250000 100000\n"}, 2.5),
        (  # the limit of a group above holds too
            {
                "proc/self/cgroup": "0::/batch/job_7/step_0\n",
                "sys/fs/cgroup/batch/job_7/step_0/cpu.max": "max 100000\n",
                "sys/fs/cgroup/batch/job_7/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/batch/cpu.max": "800000 100000\n",
            },
            3.0,
        ),
        (  # a container that sees its own group as the root, under a path of the host
            {"proc/self/cgroup": "0::/../host/docker-1\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"},
            1.5,
        ),
        (
            {
                "proc/self/cgroup": "9:memory:/a\n4:cpu,cpuacct:/a\n",
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            2.0,
        ),
    ],
)
def test_the_quota_of_control_groups(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    assert machine.cpu_quota(tree(tmp_path, files)) == quota


@pytest.mark.parametrize(("quota", "found"), [(None, 8), (2.9, 2), (0.5, 1), (64.0, 8)])
def test_the_smaller_of_affinity_and_quota_holds(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, found: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)
    assert machine.cores() == found
