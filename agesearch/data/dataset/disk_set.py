"""Sets and tables that outgrow memory: a private SQLite database in the temporary folder.

SQLite keeps it in a bounded cache, spills the rest to a nameless file, and the file goes with the process,
however that ends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from agesearch.errors import AgeSearchError, first_line

_CACHE_KIB = 32 * 1024


def open_index(tables: str, cache_kib: int = _CACHE_KIB) -> sqlite3.Connection:
    """A database of empty ``tables`` that holds at most ``cache_kib`` KiB in memory; closed, it is gone.

    It is one transaction from beginning to end, never committed: each would write its pages to the disk.
    """
    # An empty name is SQLite's own way to say: temporary, on disk.
    index = sqlite3.connect("", isolation_level=None)
    index.execute(f"PRAGMA cache_size = -{cache_kib}")
    for setting in ("journal_mode = OFF", "synchronous = OFF", "temp_store = FILE"):
        index.execute(f"PRAGMA {setting}")
    index.execute("BEGIN")
    run_script(index, tables)
    return index


def run_script(index: sqlite3.Connection, script: str) -> None:
    """Run statements that end with semicolons (``executescript`` would commit first)."""
    for statement in script.split(";"):
        if statement.strip():
            index.execute(statement)


@contextmanager
def index_errors() -> Iterator[None]:
    """Tell a failure of the index (the temporary folder's disk is full, say) in one line."""
    try:
        yield
    except sqlite3.Error as error:
        raise AgeSearchError(
            f"The index in the temporary folder failed: {first_line(error)}. Make room there, or name "
            f"another folder in the environment variable SQLITE_TMPDIR."
        ) from error


class DiskSet:
    """A set of byte strings whose memory does not grow with their number."""

    def __init__(self, cache_kib: int = _CACHE_KIB) -> None:
        self._index = open_index("CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID", cache_kib)
        self._count = 0

    def add(self, key: bytes) -> bool:
        """Whether the key is new; it is in the set from now on."""
        is_new = self._index.execute("INSERT OR IGNORE INTO seen VALUES (?)", (key,)).rowcount == 1
        self._count += is_new
        return is_new

    def __contains__(self, key: bytes) -> bool:
        found = self._index.execute("SELECT 1 FROM seen WHERE key = ?", (key,)).fetchone()
        return found is not None

    def update(self, keys: Iterable[bytes]) -> None:
        """Add many."""
        for key in keys:
            self.add(key)

    def __len__(self) -> int:
        return self._count


class DiskMap:
    """Byte strings -> texts, of which the first to come stays; its memory does not grow with their number."""

    def __init__(self, cache_kib: int = _CACHE_KIB) -> None:
        self._index = open_index(
            "CREATE TABLE known (key BLOB PRIMARY KEY, value TEXT) WITHOUT ROWID", cache_kib
        )

    def get(self, key: bytes) -> str | None:
        """The value of a key; None where it has none."""
        found = self._index.execute("SELECT value FROM known WHERE key = ?", (key,)).fetchone()
        return None if found is None else str(found[0])

    def setdefault(self, key: bytes, value: str) -> None:
        """Give a key its value, where it has none."""
        self._index.execute("INSERT OR IGNORE INTO known VALUES (?, ?)", (key, value))
