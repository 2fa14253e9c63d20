"""One Ray session for every stage: started on loopback with token authentication, quiet, and shut down again.

``with ray_session() as session:`` starts a local Ray (or joins one by address). Ray reads its settings from
the environment when it is first imported, so they are set here, just before, and nowhere else.

Ray's processes run in sessions (of the operating system) of their own: a signal to the driver's process
group, which is how batch systems and shells end a job, reaches the driver alone, which then ends in order.
They still end with the driver, however that dies: the kernel sees to it.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from agesearch.cluster.credentials import left_for_workers, worker_setup
from agesearch.cluster.ray_internals import read_environment_anew
from agesearch.errors import AgeSearchError, InputError, first_line
from agesearch.machine import cores
from agesearch.progress import Listener, Progress, silent

T = TypeVar("T")

LOOPBACK = "127.0.0.1"

# Ray turns 127.0.0.1 into an address that other machines reach; the rest of 127.0.0.0/8 it leaves alone.
NODE_ADDRESS = "127.0.0.2" if sys.platform == "linux" else LOOPBACK

#: Longest folder in which Ray's sockets have paths of at most 107 bytes, the system's limit.
_LONGEST_FOLDER = 36

#: What Ray sets for the driver of a job.
_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"

_ENVIRONMENT = {
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "RAY_DEDUP_LOGS": "1",
    # Ray would print this on standard output; whoever runs the workers tells of it in its own words.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed while executing a task",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    # Serve's controller looks after replicas, and replicas tell Ray figures that we do not read (they have
    # /metrics), ten times a second: for a service that does nothing half the CPU that it takes.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "10000",
    # torch's threads sleep while they wait, not spin: where other processes want the cores too, an epoch of a
    # small network took 6 s instead of 41 s with two threads.
    "OMP_WAIT_POLICY": "PASSIVE",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
}


@dataclass(frozen=True)
class RaySession:
    """A running Ray: its dashboard's address (None where there is none), its CPUs and GPUs, and the folder of
    its logs ("" where they lie on other machines).
    """

    dashboard_url: str | None
    cpus: float
    gpus: float
    is_local: bool
    logs: str = ""


@contextmanager
def ray_session(
    address: str | None = None,
    *,
    cpus: int | None = None,
    dashboard: bool = False,
    verbose: bool = False,
    background: bool = True,
    credentials: bool = True,
    on_progress: Listener = silent,
) -> Iterator[RaySession]:
    """Start Ray on loopback, or join the cluster at ``address``, for the length of the block. A process that
    is a cluster's job joins that.

    Workers of a local Ray leave the cores to others that want them, unless they are not for the
    ``background``: people wait for a service. Workers of a cluster have this process's ``credentials`` of
    object stores for the length of the block, unless what it starts is to outlive that.

    A session that is already running in this process is used as it is and left running. A cluster that cannot
    be reached is an ``InputError``. A local Ray offers the cores that this process may use, or ``cpus``.
    """
    prepare_environment()
    address = address or cluster_of_job()
    import ray

    if ray.is_initialized():
        yield _describe(ray, _running(ray), is_local=address is None)
        return
    read_environment_anew()
    stage = "Starting Ray" if address is None else "Joining Ray"
    on_progress(Progress(stage, 0, 1))
    if not background:
        os.environ.setdefault("RAY_worker_niceness", "0")
    with _kept_signal(signal.SIGTERM), _apart():
        setup = worker_setup() if credentials else {}
        context = _init(ray, address, cpus, dashboard, verbose, setup)
    on_progress(Progress(stage, 1, 1))
    session = _describe(ray, context, is_local=address is None)
    try:
        with left_for_workers() if credentials and not session.is_local else nullcontext():
            yield session
    except Exception as error:
        if session.logs:
            error.add_note(f"Ray's logs are in {session.logs}")
        raise
    finally:
        with _kept_signal(signal.SIGTERM):
            ray.shutdown()


def in_order(tasks: Iterable[tuple[Any, T]], at_once: Callable[[], int]) -> Iterator[tuple[T, Any]]:
    """What tasks return, in the order in which they are given, at most ``at_once()`` of them under way.

    ``tasks`` hands each one in when it is drawn: the reference to its result, and what belongs to it.
    """
    import ray

    waiting: deque[tuple[Any, T]] = deque()

    def first() -> tuple[T, Any]:
        reference, belongs = waiting.popleft()
        return belongs, ray.get(reference)

    for task in tasks:
        waiting.append(task)
        if len(waiting) >= at_once():
            yield first()
    while waiting:
        yield first()


@contextmanager
def _kept_signal(number: signal.Signals) -> Iterator[None]:
    """Put a handler that the program has set back in place after the block: Ray sets its own, at its start
    and at its end.
    """
    before = signal.getsignal(number)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(number, before)


class _Forks:
    """Whether children of this process are to leave its session, process group and terminal."""

    apart = False
    hooked = False


def _leave_session() -> None:
    if _Forks.apart:
        os.setsid()


@contextmanager
def _apart() -> Iterator[None]:
    """Children that Python forks within the block get a session of their own.

    Ray has no option for it. Its starter forks in Python (it passes a ``preexec_fn``), so the hook of the
    standard library runs in each child.
    """
    if not _Forks.hooked and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_leave_session)
        _Forks.hooked = True
    _Forks.apart = True
    try:
        yield
    finally:
        _Forks.apart = False


def prepare_environment() -> None:
    """Set Ray's environment (what the user has set stays) and make sure that a token exists."""
    set_environment()
    if os.environ["RAY_AUTH_MODE"] == "token":
        ensure_token()


def set_environment() -> None:
    """Set what Ray and torch read when they are first imported; what the user has set stays."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def ensure_token() -> Path | None:
    """Make sure Ray has an authentication token; returns its file, or None where the environment holds it.

    The file is Ray's own (``~/.ray/auth_token``), so that ``ray get-auth-token`` and every Ray tool find it.
    It is created readable by its owner alone. Where no such file can be written (a home that is read-only),
    this process and its children share a token through the environment.
    """
    if os.environ.get("RAY_AUTH_TOKEN"):
        return None
    try:
        path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
        if not path.exists():
            _write_token(path)
        path.read_bytes()
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_urlsafe(32)
        return None
    return path


def _write_token(path: Path) -> None:
    """Write a new token whole, so that nobody reads half of one; the first writer wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".token-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as handle:
            handle.write(secrets.token_urlsafe(32))
        with suppress(FileExistsError):  # another agesearch wrote it in between
            os.link(temporary, path)
    finally:
        os.unlink(temporary)


def socket_folder(name: str = "ray") -> str:
    """Where a local Ray keeps its sockets: in its default folder, unless their paths, which have a limit, are
    too long there (a long ``TMPDIR``). An ``InputError`` where no shorter folder can be written.
    """
    longest = _LONGEST_FOLDER - len(name) + len("ray")

    def fits(folder: str) -> bool:
        return len(os.fsencode(folder)) <= longest and os.access(folder, os.W_OK | os.X_OK)

    chosen = os.path.abspath(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp")
    if fits(chosen):
        return f"{chosen}/{name}"
    for folder in ("/tmp", "/var/tmp", "/dev/shm", os.environ.get("XDG_RUNTIME_DIR", "")):
        if folder and fits(folder):
            return f"{folder}/{name}-{os.getuid()}"
    raise InputError(
        f"Ray cannot keep its sockets in '{chosen}', and no other folder for them can be written: "
        f"set RAY_TMPDIR to a folder whose path has at most {longest} characters."
    )


def cluster_of_job() -> str | None:
    """The address of the cluster that this process is a job of (Ray Jobs); None where it is none."""
    return os.environ.get("RAY_ADDRESS") if os.environ.get(_JOB_VARIABLE) else None


def require_reachable(address: str) -> None:
    """Refuse a host and port where nobody listens at once: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():  # "auto" and the like: Ray's to resolve
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise InputError(
            f"No Ray cluster answers at '{address}' ({error.strerror or error}): "
            "give the address that 'ray start --head' printed."
        ) from error


def _init(
    ray: Any, address: str | None, cpus: int | None, dashboard: bool, verbose: bool, setup: dict[str, Any]
) -> Any:
    """Start Ray or join one, whose workers have that ``setup``; what ``ray.init`` tells of it."""
    level = logging.INFO if verbose else logging.ERROR
    options: dict[str, Any] = {"logging_level": level, "log_to_driver": verbose, "configure_logging": True}
    if address is None:
        # "local" starts a new Ray even where RAY_ADDRESS or an earlier `ray start` points to another one.
        options |= {
            "address": "local",
            "num_cpus": cpus or cores(),
            "include_dashboard": None if dashboard else False,  # None: go on without one that fails to start
            "dashboard_host": LOOPBACK,
        }
        options |= {"_node_ip_address": NODE_ADDRESS, "_temp_dir": socket_folder()}
    else:
        require_reachable(address)
        options |= {"address": address} | setup
    for name in ("ray.serve", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(level)
    try:
        return ray.init(**options)
    except Exception as error:  # one that does not start in time raises just that
        with suppress(Exception):
            ray.shutdown()  # what of it has started
        raise _not_begun(address, error) from error


def _not_begun(address: str | None, error: Exception) -> AgeSearchError:
    said = first_line(error).rstrip(".")
    if address:
        return InputError(f"Could not reach the Ray cluster at '{address}': {said}")
    return AgeSearchError(
        f"Could not start a Ray on this machine: {said}. Where other work keeps it busy, try again once that "
        "is done; 'agesearch doctor' tells what else is wrong."
    )


def _running(ray: Any) -> Any:
    """What ``ray.init`` tells of the session that runs in this process; None within a worker of Ray.

    "local" keeps it from going to where RAY_ADDRESS points; nothing is started where a session runs.
    """
    with _kept_signal(signal.SIGTERM):
        try:
            return ray.init("local", ignore_reinit_error=True, configure_logging=False)
        except AttributeError:  # a worker has no node of its own (2.60)
            return None


def _describe(ray: Any, context: Any, *, is_local: bool) -> RaySession:
    resources = ray.cluster_resources()
    url = None if context is None else context.dashboard_url
    has_logs = is_local and context is not None
    return RaySession(
        dashboard_url=f"http://{url}" if url else None,
        cpus=float(resources.get("CPU", 0)),
        gpus=float(resources.get("GPU", 0)),
        is_local=is_local,
        logs=f"{context.address_info['session_dir']}/logs" if has_logs else "",
    )
