"""The application that a RayService names, in Ray Serve as its own command runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from agesearch.bench.serve.altered import NAME, altered_versions
from agesearch.bench.serve.asking import Asking
from agesearch.bench.serve.requests import write_faces
from agesearch.machine import free_port
from agesearch.serving.access.keys import KeyFile
from agesearch.session import ensure_token

TOKEN = "a-token-of-enough-length"
_PATIENCE_S = 120.0


def _wait(told: Callable[[], bool], server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not told():
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.5)


def test_an_alias_and_keys_are_followed_in_serves_own_application(tmp_path: Path) -> None:
    registry = altered_versions(str(tmp_path / "registry"))
    crop = Path(write_faces(tmp_path, 1)[0]).read_bytes()
    port, keys = free_port("127.0.0.1"), tmp_path / "keys.json"
    arguments = {"model": f"{NAME}@champion", "registry": str(registry.root), "keys": str(keys)}
    place = {"import_path": "agesearch.serving.configured:application", "args": arguments}
    config = {
        "http_options": {"host": "127.0.0.1", "port": port},
        "applications": [{"name": "faces", "route_prefix": "/", **place}],
    }
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))

    def said(token: str) -> str:
        return Asking(f"http://127.0.0.1:{port}", token, [crop]).once()

    ensure_token()
    log = tmp_path / "log"
    with open(log, "wb") as sink:
        server = subprocess.Popen(
            [sys.executable, "-c", "from ray.serve.scripts import cli; cli()", "run", "serve.yaml"],
            cwd=tmp_path,
            env=os.environ | {"AGESEARCH_TOKEN": TOKEN, "RAY_AUTH_MODE": "token", "RAY_ADDRESS": "local"},
            stdout=sink,
            stderr=sink,
        )
        try:
            _wait(lambda: said(TOKEN) == "0001", server, log)
            assert said("another-token-of-that-length") == "401"
            made = KeyFile(keys).create("kiosk", "predict", None, None)
            _wait(lambda: said(made.value) == "0001", server, log)
            registry.move_alias(registry.find(f"{NAME}:2"), "champion")
            _wait(lambda: said(TOKEN) == "0002", server, log)
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(60)
            finally:
                server.kill()
