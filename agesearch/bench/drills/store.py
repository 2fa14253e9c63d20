"""An S3 server that a drill's hosts share, with an empty bucket, and the credentials for it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agesearch.errors import InputError
from agesearch.machine import free_port
from agesearch.storage import Location

BUCKET = "drills"
KEYS = {"AWS_ACCESS_KEY_ID": "drill", "AWS_SECRET_ACCESS_KEY": "drill"}
_SETTINGS = KEYS | {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
_PATIENCE_S = 60.0


def key_file(file: Path) -> dict[str, str | None]:
    """Write the credentials into a file; what a process has in its environment that has them from there."""
    lines = [f"{name.lower()} = {value}" for name, value in KEYS.items()]
    file.write_text("\n".join(["[default]", *lines, ""]), encoding="ascii")
    return {"AWS_SHARED_CREDENTIALS_FILE": str(file), **dict.fromkeys(KEYS)}


@contextmanager
def s3_server(address: str) -> Iterator[str]:
    """An S3 server on an address of this machine, whose credentials are in the environment for the length of
    the block; the options of its URIs.
    """
    try:
        import moto.server  # noqa: F401
    except ImportError as error:
        raise InputError(
            "The drills need moto's S3 server: pip install 'moto[s3]' flask flask-cors"
        ) from error
    port = free_port(address)
    before = {name: os.environ.get(name) for name in _SETTINGS}
    os.environ |= _SETTINGS
    given = [sys.executable, "-c", "from moto.server import main; main()", "-H", address, "-p", str(port)]
    server = subprocess.Popen(given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        options = f"endpoint_override={address}:{port}&scheme=http"
        _make_bucket(f"s3://{BUCKET}?{options}&allow_bucket_creation=true")
        yield options
    finally:
        server.kill()
        server.wait()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _make_bucket(uri: str) -> None:
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            Location.of(uri).make_dir()
            return
        except InputError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
