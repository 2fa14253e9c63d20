"""A real S3 API server on loopback, in this process, and what it was asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow.fs as pafs
import pytest
from conftest import S3_CREDENTIALS


@dataclass
class S3Server:
    """``options`` of a URI in the server's bucket; ``requests``: the lines of all requests so far."""

    options: str
    requests: list[str] = field(default_factory=list)

    def asked(self, part: str, method: str = "") -> list[str]:
        """The requests so far with this in their address."""
        return [line for line in self.requests if part in line and line.startswith(method)]


@contextmanager
def s3_server(bucket: str) -> Iterator[S3Server]:
    """A server with this empty bucket, and credentials for it in the environment."""
    from moto.server import ThreadedMotoServer
    from werkzeug.serving import WSGIRequestHandler

    with pytest.MonkeyPatch.context() as patch:
        for name, value in S3_CREDENTIALS.items():
            patch.setenv(name, value)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        found = S3Server(f"endpoint_override={host}:{port}&scheme=http")
        patch.setattr(
            WSGIRequestHandler,
            "log_request",
            lambda self, *_: found.requests.append(f"{self.command} {self.path}"),
        )
        store, _ = pafs.FileSystem.from_uri(f"s3://{bucket}?{found.options}&allow_bucket_creation=true")
        store.create_dir(bucket)
        yield found
        server.stop()
