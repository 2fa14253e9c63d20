"""LitServe with the same model, for ``agesearch bench serve`` (extra ``bench``): its defaults, one worker for
each replica, and a call for each way of asking, since its own decoding sees a body and no query.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec

import psutil

from agesearch.bench.serve.servers import BARE_FOLDER, Server, running
from agesearch.machine import free_port
from agesearch.session import LOOPBACK

#: Ways of asking by kind of image: paths here, ``faces`` elsewhere.
PATHS = {"whole crop": "/whole", "photograph": "/detect"}
_CALL = "from agesearch.bench.serve.litserve_app import lit_process; lit_process()"


def is_installed() -> bool:
    """Whether LitServe is there."""
    return find_spec("litserve") is not None


@contextmanager
def lit_service(folder: str, workers: int) -> Iterator[Server]:
    """LitServe with ``workers`` inference processes for each call."""
    port = free_port(LOOPBACK)
    call = [sys.executable, "-c", _CALL, str(port), str(workers)]
    started: list[psutil.Process] = []
    try:
        with running(call, {BARE_FOLDER: folder}, port, "/health") as process:
            started += process.children(recursive=True)
            yield Server(f"LitServe x {workers}", port, process, paths=PATHS)
    finally:
        for one in started:  # told to end, LitServe leaves its workers behind
            with suppress(psutil.NoSuchProcess):
                one.kill()
