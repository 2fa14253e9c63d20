"""Somebody who asks a service again and again, and keeps what came of it."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Self

import httpx

#: Opens a connection, and gives what asks once on it and tells how that went.
Connection = Callable[[], AbstractContextManager[Callable[[], str]]]


class Repeatedly:
    """Asks on so many connections for the length of a block, ``pause_s`` seconds between two requests of
    one; ``seen`` counts how they went.
    """

    def __init__(self, connection: Connection, connections: int = 1, pause_s: float = 0.0) -> None:
        self._connection, self._pause_s = connection, pause_s
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(connections)]
        self.seen: Counter[str] = Counter()

    def once(self) -> str:
        """How one request goes, on a connection of its own."""
        with self._connection() as ask:
            return ask()

    def _run(self) -> None:
        with self._connection() as ask:
            while not self._over.wait(self._pause_s):
                self.seen[ask()] += 1

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


class Asking(Repeatedly):
    """Asks for face crops in turn; ``seen`` counts the versions that answered, and by status or error what
    failed.
    """

    def __init__(
        self, url: str, token: str, crops: Sequence[bytes], connections: int = 1, pause_s: float = 0.02
    ) -> None:
        super().__init__(self._connected, connections, pause_s)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "image/jpeg"}
        self._url, self._crops = f"{url}/v1/predict?faces=whole", itertools.cycle(crops)

    @contextmanager
    def _connected(self) -> Iterator[Callable[[], str]]:
        with httpx.Client(headers=self._headers, timeout=60.0, trust_env=False) as client:
            yield lambda: self._said(client)

    def _said(self, client: httpx.Client) -> str:
        try:
            answer = client.post(self._url, content=next(self._crops))
        except httpx.HTTPError as error:
            return type(error).__name__
        return str(answer.json()["model"]["version"] if answer.status_code == 200 else answer.status_code)
