"""Somebody who asks a service again and again, and keeps what came of it."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import httpx

#: Seconds between two requests of one connection.
_PAUSE_S = 0.02


class Asking:
    """Asks for a face crop on so many connections for the length of a block; ``seen`` counts the versions
    that answered, and by status or error what failed.
    """

    def __init__(self, url: str, token: str, crop: bytes, connections: int = 1) -> None:
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "image/jpeg"}
        self._ask: dict[str, Any] = {"url": f"{url}/v1/predict?faces=whole", "content": crop}
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(connections)]
        self.seen: Counter[str] = Counter()

    def once(self) -> str:
        """The version that answers, or how that fails, on a connection of its own."""
        with self._client() as client:
            return self._said(client)

    def _client(self) -> httpx.Client:
        return httpx.Client(headers=self._headers, timeout=30.0, trust_env=False)

    def _said(self, client: httpx.Client) -> str:
        try:
            answer = client.post(**self._ask)
        except httpx.HTTPError as error:
            return type(error).__name__
        return str(answer.json()["model"]["version"] if answer.status_code == 200 else answer.status_code)

    def _run(self) -> None:
        with self._client() as client:
            while not self._over.wait(_PAUSE_S):
                self.seen[self._said(client)] += 1

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
