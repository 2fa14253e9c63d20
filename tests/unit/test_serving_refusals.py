"""How a request is refused while its body is on its way, and what a process keeps of freed memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from agesearch.serving.access.check import Access
from agesearch.serving.auth import TokenCheck
from agesearch.serving.images import ImageLimits
from agesearch.serving.schema import Refusal
from agesearch.serving.web import predicting
from agesearch.serving.web.predicting import Predicting

TOKEN = "a-token-of-enough-length"
LIMITS = ImageLimits(max_bytes=200_000, max_body_bytes=300_000)
PART = b"x" * 65_536


class Full:
    """Stands in for the queue, the metrics and the models of a replica that takes no more."""

    waiting = 99

    def require_room(self, images: int = 1) -> None:
        raise Refusal(503, "busy", "Try again in 1 s.", headers={"Retry-After": "1"})

    def __getattr__(self, _: str) -> Any:
        return lambda *_: None


def _exchange(parts: list[bytes], length: int, *, stalls: bool = False) -> list[Any]:
    """What happens, in order: the messages that are sent, and "read" for each part that is asked for."""
    log: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not parts:
            assert stalls
            await asyncio.sleep(3600)
        log.append("read")
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts) or stalls}

    async def send(message: Any) -> None:
        log.append(message)

    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "image/jpeg", "content-length": length}
    pairs = [(name.encode(), str(value).encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "query_string": b"", "headers": pairs}
    full: Any = Full()
    endpoint = Predicting(Access(TokenCheck(TOKEN)), LIMITS, full, full, full)
    asyncio.run(endpoint(scope, receive, send))
    return log


def test_a_refusal_goes_out_before_the_body_is_read_and_the_rest_is_dropped() -> None:
    start, body, *rest, end = _exchange([PART] * 4, 4 * len(PART))
    assert start["status"] == 503
    assert dict(start["headers"])[b"retry-after"] == b"1"
    assert b"busy" in body["body"]
    assert body["more_body"]  # the connection stays, so that nobody holds the answer back
    assert rest == ["read"] * 4
    assert end == {"type": "http.response.body", "body": b""}


def test_what_is_dropped_has_an_end_in_bytes_and_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, end = log = _exchange([PART] * 1000, 1000 * len(PART))
    assert log.count("read") == LIMITS.max_body_bytes // len(PART) + 1
    assert end == {"type": "http.response.body", "body": b""}
    monkeypatch.setattr(predicting, "_DROPPED_S", 0.01)
    *_, end = log = _exchange([PART], 10 * len(PART), stalls=True)
    assert (log.count("read"), end) == (1, {"type": "http.response.body", "body": b""})


def test_a_short_body_comes_in_one_piece_and_is_left_alone() -> None:
    start, body = _exchange([b"x" * 100], 100)
    assert (start["status"], body["more_body"]) == (503, False)
    assert b"connection" not in dict(start["headers"])


_FAULTS_OF_FREED_MEMORY = """
import resource
from agesearch.data.images.memory import give_back_large_pieces
give_back_large_pieces()
def photograph():
    pieces = [bytearray(3 * 2**20) for _ in range(4)]
photograph()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    photograph()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told what to keep")
def test_memory_of_an_ordinary_photograph_is_kept_for_the_next() -> None:
    told = subprocess.run(
        [sys.executable, "-c", _FAULTS_OF_FREED_MEMORY], capture_output=True, text=True, check=True
    )
    # 12 MiB are 3,072 pages, which the system clears each time where they are given back to it.
    assert int(told.stdout) < 3072
