"""What a machine has that work on it needs: versions, room, limits, places, GPUs, open ports. Nothing is
judged here, and nothing changed but a probe that is written into a folder and removed again.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from agesearch.cluster.nodes import unreadable, unwritable
from agesearch.machine import cores
from agesearch.provenance import installed
from agesearch.storage import Location

#: What decides whether two machines compute the same, and whether a wheel hides another.
PACKAGES = ("agesearch", "ray", "torch", "torchvision", "timm", "numpy", "pyarrow", "onnxruntime", "openvino")
OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
_SHARED_MEMORY = "/dev/shm"
_RAY_PROCESSES = ("raylet", "gcs_server", "ray::", "ray-dashboard", "runtime_env_agent", "dashboard")
_LOOPBACK = ("127.", "::1")


@dataclass(frozen=True)
class PlaceFacts:
    """A folder or file as this machine sees it; ``unread`` and ``unwritten`` say why not, None where it can.
    ``free_bytes`` is None behind a URI.
    """

    place: str
    unread: str | None
    unwritten: str | None
    free_bytes: int | None


@dataclass(frozen=True)
class MachineFacts:
    """One machine: ``clock`` in seconds since 1970, sizes in bytes, ``token_mode`` the permissions of Ray's
    token file (None: there is none), ``listening`` what Ray's processes listen on beyond loopback.
    """

    host: str
    python: str
    packages: dict[str, str]
    opencv: dict[str, str]
    clock: float
    cores: int
    memory_bytes: int
    memory_free_bytes: int
    shared_memory_bytes: int | None
    open_files: int | None
    token_mode: int | None
    token_in_environment: bool
    gpus: tuple[str, ...]
    gpus_unseen: str | None
    listening: tuple[str, ...]
    places: tuple[PlaceFacts, ...] = field(default_factory=tuple)

    def as_json(self) -> dict[str, Any]:
        """The facts as JSON values."""
        return asdict(self)


def machine_facts(places: Sequence[str] = ()) -> MachineFacts:
    """Look at the machine that this process runs on, and at ``places`` (paths or URIs) from it."""
    memory = psutil.virtual_memory()
    gpus, unseen = _gpus()
    return MachineFacts(
        host=socket.gethostname(),
        python=platform.python_version(),
        packages=installed(PACKAGES),
        opencv=installed(OPENCV),
        clock=time.time(),
        cores=cores(),
        memory_bytes=memory.total,
        memory_free_bytes=memory.available,
        shared_memory_bytes=_total(_SHARED_MEMORY),
        open_files=_open_files(),
        token_mode=_token_mode(),
        token_in_environment=bool(os.environ.get("RAY_AUTH_TOKEN")),
        gpus=gpus,
        gpus_unseen=unseen,
        listening=tuple(_listening()),
        places=tuple(_place(place) for place in (tempfile.gettempdir(), *places)),
    )


def _total(folder: str) -> int | None:
    try:
        return shutil.disk_usage(folder).total
    except OSError:
        return None


def _open_files() -> int | None:
    try:
        import resource
    except ImportError:  # not a Unix
        return None
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _token_mode() -> int | None:
    try:
        path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
        return stat.S_IMODE(path.stat().st_mode)
    except (OSError, RuntimeError):
        return None


def _gpus() -> tuple[tuple[str, ...], str | None]:
    """The GPUs that torch can use, and why it sees none where the driver's files say that there are some."""
    import torch

    if torch.cuda.is_available():
        return tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())), None
    if not Path("/proc/driver/nvidia/version").exists():
        return (), None
    return (
        (),
        "a build of torch without CUDA" if torch.version.cuda is None else "a driver that torch cannot use",
    )


def _listening() -> Iterator[str]:
    """Ports of Ray's processes that other machines reach: the address, and the process."""
    try:
        found = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return
    seen = set()
    for connection in found:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr:
            continue
        if connection.laddr.ip.startswith(_LOOPBACK):
            continue
        name = _name_of(connection.pid)
        where = f"{connection.laddr.ip}:{connection.laddr.port} ({name})"
        if any(part in name for part in _RAY_PROCESSES) and where not in seen:
            seen.add(where)
            yield where


def _name_of(pid: int | None) -> str:
    if pid is None:
        return ""
    try:
        process = psutil.Process(pid)
        words = [process.name(), *map(os.path.basename, process.cmdline()[:3])]
    except psutil.Error:
        return ""
    return next((word for word in words if any(part in word for part in _RAY_PROCESSES)), words[0])


def _place(where: str) -> PlaceFacts:
    unread = unreadable(where)
    free = None
    if unread is None and Location.of(where).is_local:
        free = shutil.disk_usage(Location.of(where).path).free
    return PlaceFacts(where, unread, None if unread else _unwritten(Location.of(where)), free)


def _unwritten(place: Location) -> str | None:
    """Why nothing can be written into a folder; a file is not written to."""
    return unwritable(str(place)) if place.is_dir() else None
