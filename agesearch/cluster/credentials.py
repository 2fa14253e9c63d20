"""[ray] Object stores are read by workers on other machines, which have the credentials of the command.

Ray's usual way, variables in the runtime environment, writes them into its logs and onto the dashboard. So
they lie in the cluster's memory, which its token guards, for as long as the command runs, and each of its
workers fetches them when it starts. Credentials in files (``~/.aws``) are not passed on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: What the clients of object stores read.
_NAMES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_EC2_METADATA_DISABLED",
)
_SPACE = b"agesearch-credentials"
#: A worker may start before the command has left the credentials.
_PATIENCE_S, _LOOK_EVERY_S = 10.0, 0.1


def passed() -> dict[str, str]:
    """The credentials of this process's environment."""
    return {name: os.environ[name] for name in _NAMES if os.environ.get(name)}


def worker_setup() -> dict[str, Any]:
    """Options of ``ray.init`` for a cluster that is joined: its workers ``fetch`` what is passed on."""
    hook = f"{__name__}.{fetch.__name__}"
    return {"runtime_env": {"worker_process_setup_hook": hook}} if passed() else {}


@contextmanager
def left_for_workers() -> Iterator[None]:
    """Leave the credentials in the memory of the cluster, which was joined, for the length of the block."""
    from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_put

    found = passed()
    if not found:
        yield
        return
    key = _key()
    _internal_kv_put(key, json.dumps(found).encode(), overwrite=True, namespace=_SPACE)
    try:
        yield
    finally:
        _internal_kv_del(key, namespace=_SPACE)


def fetch() -> None:
    """Take the credentials of the command that this worker works for into the environment."""
    from ray.experimental.internal_kv import _internal_kv_get

    end = time.monotonic() + _PATIENCE_S
    found: Any = None
    while found is None and time.monotonic() < end:
        found = _internal_kv_get(_key(), namespace=_SPACE)
        time.sleep(0.0 if found else _LOOK_EVERY_S)
    os.environ.update(json.loads(found) if found else {})


def _key() -> bytes:
    import ray

    return str(ray.get_runtime_context().get_job_id()).encode()
