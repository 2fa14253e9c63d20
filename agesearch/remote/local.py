"""A Ray cluster on this machine that stays: a head and workers, each a process group of its own.

What was started is written down in the user's state folder, each process by its number and the time of its
start, so that whoever ends the cluster ends these processes and no other.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from agesearch.errors import AgeSearchError, ConflictError, InputError
from agesearch.machine import cores, free_port, running_process
from agesearch.provenance import now
from agesearch.session import LOOPBACK, NODE_ADDRESS, prepare_environment, socket_folder
from agesearch.storage import Location, exclusive

PORT, DASHBOARD_PORT = 6399, 8265
_RAY = "import sys; from ray.scripts.scripts import main; sys.exit(main())"
_UP = b"Ray runtime started"
_PATIENCE_S = 120.0
_END_S = 20.0
#: Of the memory, what all nodes' object stores together may take; of /dev/shm, which holds them.
_STORE_SHARE, _SHARED_SHARE = 0.3, 0.8
_LEAST_STORE = 80 * 1024**2
_RECORD = "cluster.json"
#: Where Ray keeps its files.
_RAY_FOLDER = "ray"


@dataclass(frozen=True)
class Started:
    """A process that belongs to the cluster: its number, and when it started, in seconds since 1970."""

    pid: int
    born: float

    def find(self) -> psutil.Process | None:
        """The process, where it still runs; a later one of the same number is another."""
        return running_process(self.pid, self.born)


@dataclass(frozen=True)
class LocalNode:
    """A node: the process that holds it, and all that it had started when it was up."""

    name: str
    address: str
    cpus: int
    process: Started
    children: tuple[Started, ...] = ()

    @property
    def is_up(self) -> bool:
        return self.process.find() is not None


@dataclass(frozen=True)
class LocalCluster:
    """A cluster that was started here: the ``address`` that verbs join, the dashboard's, which takes jobs,
    and the ``folder`` of its logs. ``began`` is UTC in ISO 8601.
    """

    address: str
    dashboard_url: str
    folder: str
    began: str
    nodes: tuple[LocalNode, ...] = ()

    @property
    def is_up(self) -> bool:
        """Whether its head runs: without it nothing else is of use."""
        return bool(self.nodes) and self.nodes[0].is_up

    def as_json(self) -> dict[str, Any]:
        """The cluster as JSON values, with what runs of it."""
        return {
            "address": self.address,
            "dashboard": self.dashboard_url,
            "logs": self.folder,
            "began": self.began,
            "up": self.is_up,
            "nodes": [
                {"name": node.name, "address": node.address, "cpus": node.cpus, "up": node.is_up}
                for node in self.nodes
            ],
        }


def state_folder() -> Path:
    """Where this user's cluster is written down."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    try:
        return Path(base).expanduser() / "agesearch"
    except RuntimeError as error:  # a user without a home
        raise InputError("There is no home folder: set XDG_STATE_HOME to a folder of yours.") from error


def local_cluster() -> LocalCluster | None:
    """The cluster that was started here and not ended, whether it still runs or not."""
    path = state_folder() / _RECORD
    if not path.exists():
        return None
    try:
        return _read(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AgeSearchError(
            f"'{path}' cannot be read: look for processes of 'ray start' yourself, then remove the file."
        ) from error


def start_cluster(
    *, workers: int = 1, cpus: int | None = None, port: int = PORT, dashboard_port: int = DASHBOARD_PORT
) -> LocalCluster:
    """Start a head and ``workers`` nodes that share ``cpus`` (by default the cores that this process may
    use); a cluster without workers has them on its head.

    The dashboard is on loopback, and everything asks for the token. ``ConflictError`` where one runs already,
    ``InputError`` where a port is taken.
    """
    shared = cpus or cores()
    if workers > shared:
        raise InputError(f"--workers {workers}: there are {shared} CPUs to share, one a worker at least.")
    prepare_environment()
    with exclusive(Location.of(state_folder()), "the cluster's record"):
        running = local_cluster()
        if running is not None and running.is_up:
            raise ConflictError(
                f"A cluster runs here already, at {running.address}: use it, or end it "
                "(agesearch cluster down)."
            )
        if running is not None:
            _end(running)
        return _started(workers, shared, port, dashboard_port)


def end_cluster() -> LocalCluster | None:
    """End the cluster that was started here, its own processes alone; None where there was none."""
    with exclusive(Location.of(state_folder()), "the cluster's record"):
        cluster = local_cluster()
        if cluster is not None:
            _end(cluster)
        return cluster


def _started(workers: int, cpus: int, port: int, dashboard_port: int) -> LocalCluster:
    for wanted, option in ((port, "--port"), (dashboard_port, "--dashboard-port")):
        _require_free(NODE_ADDRESS if wanted is port else LOOPBACK, wanted, option)
    folder = _own_folder(port)
    store = _store_bytes(workers + 1)
    cluster = LocalCluster(
        f"{NODE_ADDRESS}:{port}", f"http://{LOOPBACK}:{dashboard_port}", str(folder), now()
    )
    head = ["--head", "--port", str(port), "--temp-dir", str(folder / _RAY_FOLDER)]
    head += ["--ray-client-server-port", str(free_port(NODE_ADDRESS))]  # Ray refuses to start none
    head += ["--include-dashboard", "true", "--dashboard-host", LOOPBACK]
    head += ["--dashboard-port", str(dashboard_port)]
    shares = _shares(cpus, workers)
    nodes: list[LocalNode] = []
    try:
        for number, share in enumerate(shares):
            name = f"worker-{number}" if number else "head"
            place = ["--address", cluster.address] if number else head
            place += ["--num-cpus", str(share), "--object-store-memory", str(store)]
            if number != min(workers, 1):  # one node has the GPUs, or each would offer all of them
                place += ["--num-gpus", "0"]
            nodes.append(_start_node(name, _node_address(number), share, place, folder))
            cluster = LocalCluster(**{**vars(cluster), "nodes": tuple(nodes)})
            _write(cluster)
    except BaseException:
        _end(cluster)
        raise
    return cluster


def _start_node(name: str, address: str, cpus: int, place: Sequence[str], folder: Path) -> LocalNode:
    """Start a node and wait until it is up; what it starts is in a session of its own."""
    options = ["--node-ip-address", address, "--block", "--disable-usage-stats"]
    options += ["--dashboard-agent-listen-port", str(free_port(address)), *place]
    log = folder / f"{name}.log"
    binaries = str(Path(sys.executable).parent)  # jobs find the Python that has agesearch as "python"
    environment = os.environ | {"PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}"}
    for inherited in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        environment.pop(inherited, None)
    with open(log, "wb") as said:
        child = subprocess.Popen(
            [sys.executable, "-c", _RAY, "start", *options],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    holder = psutil.Process(child.pid)
    end = time.monotonic() + _PATIENCE_S
    try:
        while _UP not in log.read_bytes():
            if child.poll() is not None or time.monotonic() > end:
                raise AgeSearchError(
                    f"The {name} of the cluster did not start: {_last_line(log)} (see {log})"
                )
            time.sleep(0.2)
    except BaseException:
        _end_processes([holder], _descendants([holder]))
        raise
    children = tuple(Started(one.pid, one.create_time()) for one in _descendants([holder]))
    return LocalNode(name, address, cpus, Started(holder.pid, holder.create_time()), children)


def _end(cluster: LocalCluster) -> None:
    """End a cluster's nodes, the head last, then what is left of all that they had started."""
    holders = [found for node in reversed(cluster.nodes) if (found := node.process.find()) is not None]
    known = [found for node in cluster.nodes for one in node.children if (found := one.find()) is not None]
    _end_processes(holders, [*known, *_descendants([*holders, *known])])
    (state_folder() / _RECORD).unlink(missing_ok=True)


def _end_processes(holders: Sequence[psutil.Process], others: Iterable[psutil.Process]) -> None:
    for together in (holders[:-1], holders[-1:]):
        for holder in together:
            with suppress(psutil.Error):
                holder.terminate()
        psutil.wait_procs(list(together), timeout=_END_S)
    left = {process for process in (*holders, *others) if process.is_running()}
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(list(left), timeout=_END_S)


def _descendants(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    found: set[psutil.Process] = set()
    for process in processes:
        with suppress(psutil.Error):
            found.update(process.children(recursive=True))
    return list(found)


def _own_folder(port: int) -> Path:
    """A new folder for sockets and logs of the cluster at a port, whose path leaves room for Ray's; those of
    this user's clusters that have ended go.
    """
    # Ray lets all users into its own
    folder = Path(socket_folder(f"agesearch-{os.getuid()}/{port}/{_RAY_FOLDER}")).parent
    base = folder.parent
    if base.is_symlink():  # somebody else's doing, in a folder that all may write to
        raise InputError(f"'{base}' is a link: remove it, or set RAY_TMPDIR to a folder of your own.")
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        if base.stat().st_uid != os.getuid():
            raise PermissionError(None, "it is another user's")
        for other in base.iterdir():
            if other == folder or _has_ended(other):
                shutil.rmtree(other, ignore_errors=True)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise InputError(
            f"'{folder}' cannot be made ({error.strerror}): set RAY_TMPDIR to a folder of your own."
        ) from error
    return folder


def _has_ended(folder: Path) -> bool:
    """Whether a folder is that of a cluster of which nothing runs. One that starts has no record yet."""
    try:
        cluster = _read(json.loads((folder / _RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return not any(one.find() for node in cluster.nodes for one in (node.process, *node.children))


def _node_address(number: int) -> str:
    """An address of this machine for each node, where its system has several on loopback."""
    return NODE_ADDRESS if NODE_ADDRESS == LOOPBACK else f"127.0.0.{2 + number}"


def _shares(cpus: int, workers: int) -> Iterator[int]:
    """CPUs of the head and of each worker."""
    if not workers:
        return iter((cpus,))
    each, more = divmod(cpus, workers)
    return iter((0, *(each + (number < more) for number in range(workers))))


def _store_bytes(nodes: int) -> int:
    """Bytes of each node's object store."""
    room = psutil.virtual_memory().available * _STORE_SHARE
    with suppress(OSError):
        room = min(room, shutil.disk_usage("/dev/shm").free * _SHARED_SHARE)
    return max(_LEAST_STORE, int(room / nodes))


def _require_free(host: str, port: int, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConflictError(
                f"{option} {port}: something on this machine has it already ({error.strerror}): give another."
            ) from error


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"


def _write(cluster: LocalCluster) -> None:
    """Keep the record, also beside the logs, for this user's commands with another state folder."""
    for folder in (state_folder(), Path(cluster.folder)):
        Location.of(folder / _RECORD).write_json(asdict(cluster))


def _read(value: dict[str, Any]) -> LocalCluster:
    nodes = tuple(
        LocalNode(
            **{
                **node,
                "process": Started(**node["process"]),
                "children": tuple(Started(**one) for one in node["children"]),
            }
        )
        for node in value["nodes"]
    )
    return LocalCluster(**{**value, "nodes": nodes})
