"""Counts of images by key that all replicas of a service share, for the library ``limits``.

Its own storages are one process's memory, which would let each replica count for itself, or a server beside
the service. Here they are a table of SQLite in the service's folder: 30 to 50 microseconds a request, and
only for keys that have a rate. They end with the service; nothing is synced to disk.
"""

from __future__ import annotations

import math
import sqlite3
import time
from pathlib import Path

from limits import RateLimitItem
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

_TABLE = "CREATE TABLE IF NOT EXISTS counts (key TEXT PRIMARY KEY, amount INTEGER, ends REAL) WITHOUT ROWID"
_ADD = """
INSERT INTO counts VALUES (:key, :amount, :now + :expiry)
ON CONFLICT (key) DO UPDATE SET
  amount = CASE WHEN ends <= :now THEN :amount ELSE amount + :amount END,
  ends = CASE WHEN ends <= :now THEN :now + :expiry ELSE ends END
RETURNING amount
"""


class SharedCounts(Storage):
    """Counts in ``file``, for the fixed windows of ``limits``; each window begins with its first request."""

    STORAGE_SCHEME = None

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._database = sqlite3.connect(file, timeout=1.0, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode=WAL").fetchone()
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute(_TABLE)

    @property
    def base_exceptions(self) -> type[Exception]:
        """What the database raises."""
        return sqlite3.Error

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count ``amount`` more, for ``expiry`` seconds from the first; how many there are now."""
        values = {"key": key, "amount": amount, "expiry": expiry, "now": time.time()}
        return int(self._database.execute(_ADD, values).fetchone()[0])

    def get(self, key: str) -> int:
        """How many were counted."""
        return int(self._row(key)[0])

    def get_expiry(self, key: str) -> float:
        """When the count begins anew, in seconds of the epoch."""
        return float(self._row(key)[1])

    def check(self) -> bool:
        """Whether the table answers."""
        return bool(self._database.execute("SELECT 1").fetchone())

    def reset(self) -> int | None:
        """Forget everything."""
        return self._database.execute("DELETE FROM counts").rowcount

    def clear(self, key: str) -> None:
        """Forget one count."""
        self._database.execute("DELETE FROM counts WHERE key = ?", (key,))

    def _row(self, key: str) -> tuple[int, float]:
        now = time.time()
        found = self._database.execute("SELECT amount, ends FROM counts WHERE key = ?", (key,)).fetchone()
        return found if found and found[1] > now else (0, now)


class KeyRates:
    """Whether a key may ask for more: for an image each counts one, and so does a call without any."""

    def __init__(self, file: Path) -> None:
        self._limiter = FixedWindowRateLimiter(SharedCounts(file))

    def wait_s(self, item: RateLimitItem, key: str, images: int = 1) -> int:
        """Count images; 0 where they are within the rate, else whole seconds until they may be. Several that
        are not within it leave the rest of it for others.
        """
        fits = images == 1 or self._limiter.test(item, key, cost=images)
        if fits and self._limiter.hit(item, key, cost=images):
            return 0
        return max(1, math.ceil(self._limiter.get_window_stats(item, key).reset_time - time.time()))
