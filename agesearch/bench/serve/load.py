"""The load tool of ``agesearch bench serve``: HTTP/1.1 over plain sockets, in a process of its own.

Closed loop: each connection sends its next request when it has the answer. Open loop: requests are sent at a
rate, whatever the answers do; a latency counts from the moment that a request was due.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from agesearch.errors import AgeSearchError

_CALL = "from agesearch.bench.serve.load import load_process; load_process()"
_ANSWER_TIMEOUT_S = 30.0
#: The longest that a load tool may take beyond what it was asked for.
_SLACK_S = 90.0


@dataclass(frozen=True)
class Order:
    """What is sent where, for how long: the files' bodies in turn. ``rate`` 0: a closed loop."""

    host: str
    port: int
    path: str
    headers: dict[str, str]
    body_files: list[str]
    seconds: float
    connections: int = 8
    rate: float = 0.0


@dataclass
class Outcome:
    """Answers by status, latencies in ms of those that were fulfilled and of those refused, connections that
    broke, and refusals without ``Retry-After``.
    """

    seconds: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict)
    fulfilled_ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    broken: int = 0
    without_retry_after: int = 0
    last_refusal_s: float = 0.0

    @property
    def fulfilled_per_s(self) -> float:
        """Requests fulfilled a second."""
        return len(self.fulfilled_ms) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float, refused: bool = False) -> float:
        """A percentile (0..100) of the latencies in ms; 0 where there are none."""
        found = self.refused_ms if refused else self.fulfilled_ms
        return float(np.percentile(found, share)) if found else 0.0


class LoadRun:
    """A load tool that runs; ``outcome`` waits for it, ``end`` has it end before its time."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CALL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(order)))
        self._process.stdin.close()

    def end(self) -> None:
        """Let it wait for the answers to what it has sent, and end."""
        self._process.send_signal(signal.SIGTERM)

    def outcome(self) -> Outcome:
        """What it saw."""
        assert self._process.stdout is not None
        text = self._process.stdout.read()
        if self._process.wait(self._order.seconds + _SLACK_S):
            raise AgeSearchError("The load tool failed; what it said stands above.")
        return Outcome(**json.loads(text))


def load_process() -> None:
    """The load tool's process: the order comes on standard input, the outcome goes out as JSON."""
    order = Order(**json.load(sys.stdin))
    print(json.dumps(asdict(asyncio.run(_until_told(order)))))


async def _until_told(order: Order) -> Outcome:
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    return await run(order, over)


async def run(order: Order, over: asyncio.Event | None = None) -> Outcome:
    """Send what is ordered, in a closed loop until it is ``over`` at most, and tell what came back."""
    over = over or asyncio.Event()
    requests = itertools.cycle([_request(order, file) for file in order.body_files])
    outcome = Outcome()
    began = time.perf_counter()
    if order.rate:
        await _open_loop(order, requests, outcome, began)
    else:
        await asyncio.gather(
            *(_closed_loop(order, requests, outcome, began, over) for _ in range(order.connections))
        )
    outcome.seconds = time.perf_counter() - began
    return outcome


def _request(order: Order, body_file: str) -> bytes:
    with open(body_file, "rb") as file:
        body = file.read()
    headers = {"Host": f"{order.host}:{order.port}", "Content-Length": str(len(body)), **order.headers}
    lines = [f"POST {order.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


class _Connection:
    """One connection, opened when it is first needed and again where it was closed."""

    def __init__(self, order: Order, outcome: Outcome) -> None:
        self._order, self._outcome = order, outcome
        self._streams: Any = None

    async def ask(self, request: bytes, due: float, began: float) -> None:
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                if self._streams is not None and self._streams[0].at_eof():
                    self.close()  # it was idle for longer than the service waits
                if self._streams is None:
                    self._streams = await asyncio.open_connection(self._order.host, self._order.port)
                status, headers = await self._exchange(request)
        except (OSError, EOFError, TimeoutError):
            self._outcome.broken += 1
            self.close()
            return
        self._note(status, headers, due, began)

    async def _exchange(self, request: bytes) -> tuple[int, dict[str, str]]:
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
        await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            self.close()
        return int(head[0].split()[1]), headers

    def _note(self, status: int, headers: dict[str, str], due: float, began: float) -> None:
        now = time.perf_counter()
        milliseconds = (now - due) * 1e3
        self._outcome.statuses[str(status)] = self._outcome.statuses.get(str(status), 0) + 1
        if status == 200:
            self._outcome.fulfilled_ms.append(milliseconds)
            return
        self._outcome.refused_ms.append(milliseconds)
        self._outcome.last_refusal_s = now - began
        self._outcome.without_retry_after += "retry-after" not in headers

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _closed_loop(
    order: Order, requests: Iterator[bytes], outcome: Outcome, began: float, over: asyncio.Event
) -> None:
    connection = _Connection(order, outcome)
    while (now := time.perf_counter()) - began < order.seconds and not over.is_set():
        await connection.ask(next(requests), now, began)
    connection.close()


async def _open_loop(order: Order, requests: Iterator[bytes], outcome: Outcome, began: float) -> None:
    idle: list[_Connection] = []
    tasks: set[asyncio.Task[None]] = set()

    async def one(due: float) -> None:
        connection = idle.pop() if idle else _Connection(order, outcome)
        await connection.ask(next(requests), due, began)
        idle.append(connection)

    for index in range(int(order.rate * order.seconds)):
        due = began + index / order.rate
        if (ahead := due - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        task = asyncio.create_task(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for connection in idle:
        connection.close()
