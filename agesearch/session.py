"""One Ray session for every stage: started on loopback with token authentication, quiet, and shut down again.

``with ray_session() as session:`` starts a local Ray (or joins one by address). Ray reads its settings from
the environment when it is first imported, so they are set here, just before, and nowhere else.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agesearch.errors import AgeSearchError, InputError

LOOPBACK = "127.0.0.1"

# Ray turns 127.0.0.1 into an address that other machines reach; the rest of 127.0.0.0/8 it leaves alone.
NODE_ADDRESS = "127.0.0.2" if sys.platform == "linux" else LOOPBACK

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
    "NO_ALBUMENTATIONS_UPDATE": "1",
    # torch's threads sleep while they wait, not spin: where other processes want the cores too, an epoch of a
    # small network took 6 s instead of 41 s with two threads.
    "OMP_WAIT_POLICY": "PASSIVE",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
}


@dataclass(frozen=True)
class RaySession:
    """A running Ray: its dashboard's address (None where there is none), its CPUs and GPUs."""

    dashboard_url: str | None
    cpus: float
    gpus: float
    is_local: bool


@contextmanager
def ray_session(
    address: str | None = None, *, cpus: int | None = None, dashboard: bool = False, verbose: bool = False
) -> Iterator[RaySession]:
    """Start Ray on loopback, or join the cluster at ``address``, for the length of the block.

    A session that is already running in this process is used as it is and left running. A cluster that cannot
    be reached is an ``InputError``. ``cpus`` overrides the number of cores a local Ray offers.
    """
    prepare_environment()
    import ray

    if ray.is_initialized():
        yield _describe(ray, is_local=address is None)
        return
    _init(ray, address, cpus, dashboard, verbose)
    try:
        yield _describe(ray, is_local=address is None)
    finally:
        ray.shutdown()


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
    It is created readable by its owner alone.
    """
    if os.environ.get("RAY_AUTH_TOKEN"):
        return None
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:  # another agesearch wrote it in between
            return path
        with os.fdopen(descriptor, "w", encoding="ascii") as handle:
            handle.write(secrets.token_urlsafe(32))
    return path


def _require_reachable(address: str) -> None:
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


def _init(ray: Any, address: str | None, cpus: int | None, dashboard: bool, verbose: bool) -> None:
    level = logging.INFO if verbose else logging.ERROR
    options: dict[str, Any] = {"logging_level": level, "log_to_driver": verbose, "configure_logging": True}
    if address is None:
        # "local" starts a new Ray even where RAY_ADDRESS or an earlier `ray start` points to another one.
        options |= {
            "address": "local",
            "num_cpus": cpus,
            "include_dashboard": None if dashboard else False,  # None: go on without one that fails to start
            "dashboard_host": LOOPBACK,
        }
        options |= {"_node_ip_address": NODE_ADDRESS}
    else:
        _require_reachable(address)
        options |= {"address": address}
    for name in ("ray.serve", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(level)
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = f"the Ray cluster at '{address}'" if address else "a local Ray"
        kind = InputError if address else AgeSearchError
        raise kind(f"Could not reach {where}: {str(error).splitlines()[0]}") from error


def _describe(ray: Any, *, is_local: bool) -> RaySession:
    resources = ray.cluster_resources()
    url = ray.get_runtime_context().gcs_address and ray._private.worker.get_dashboard_url()
    return RaySession(
        dashboard_url=f"http://{url}" if url else None,
        cpus=float(resources.get("CPU", 0)),
        gpus=float(resources.get("GPU", 0)),
        is_local=is_local,
    )
