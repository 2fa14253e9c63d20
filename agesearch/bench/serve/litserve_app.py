"""The process of ``litserve``: only there is LitServe imported, whose workers find this class by its name."""

# No annotations from the future: LitServe reads those of ``decode_request``.

import os
import sys
from typing import Annotated, Any

import litserve
from fastapi import Body

from agesearch.bench.serve.litserve import PATHS
from agesearch.bench.serve.servers import BARE_FOLDER, answer_of
from agesearch.session import LOOPBACK


class Faces(litserve.LitAPI):  # type: ignore[misc]  # untyped, and no part of the installation
    """Ages of the faces of an image, whose bytes are the body."""

    def setup(self, device: str) -> None:
        """Open the model, once in each worker."""
        self._answer = answer_of(os.environ[BARE_FOLDER])

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/jpeg")]) -> bytes:
        """The body as it is."""
        return request

    def predict(self, x: bytes) -> dict[str, Any]:
        """What the bare server answers."""
        return self._answer(x, self.api_path.removeprefix("/"))


def lit_process() -> None:
    """The server, until it is told to end: its port and its workers for each call are the arguments."""
    port, workers = (int(value) for value in sys.argv[1:3])
    calls = [Faces(api_path=path) for path in PATHS.values()]
    server = litserve.LitServer(calls, accelerator="cpu", workers_per_device=workers)
    server.run(host=LOOPBACK, port=port, log_level="critical", generate_client_file=False)
