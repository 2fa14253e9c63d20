"""Copies of a URI's files in a folder of this machine: fetched once, and published as they change.

What counts are requests: a folder is listed once, when it is fetched; after that each changed file is one
request, and one that did not change none.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow.fs as pafs

from agesearch.storage import Location

#: Names of what is under way, of locks, and of SQLite's own files beside a database: never published.
_UNFINISHED = (".tmp", "-journal", "-wal", "-shm")

#: A file as it was published: size in bytes, and when it was last changed in ns.
_Seen = tuple[int, int]


def local_folder(home: Location, what: str) -> Path:
    """Where this machine works on what lies at ``home``: ``what`` are "studies" or "trials"."""
    name = f"{home.name}-{hashlib.sha256(str(home).encode()).hexdigest()[:16]}"
    return Path(tempfile.gettempdir()) / f"agesearch-{what}-{os.getuid()}" / name


class Copy:
    """The folder ``root`` on this machine, and what it is of: ``home``, behind a URI.

    ``wanted`` says which files (by their path inside) belong to it, both ways.
    """

    def __init__(self, root: Path, home: Location, wanted: Callable[[str], bool] = lambda _: True) -> None:
        self.root, self.home = root, home
        self._wanted = wanted
        self._published: dict[str, _Seen] = {}

    def fetch(self) -> None:
        """Make the folder anew, with the files that lie at its home."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(mode=0o700, parents=True)
        store, base = self.home.filesystem, self.home.path
        for info in store.get_file_info(pafs.FileSelector(base, allow_not_found=True, recursive=True)):
            name = info.path[len(base) + 1 :]
            if info.type != pafs.FileType.File or not self._belongs(name):
                continue
            target = self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with store.open_input_stream(info.path) as stream:
                target.write_bytes(stream.read(info.size))
            self._published[name] = _seen(target)

    def publish(
        self,
        *,
        last: str = "",
        later: Collection[str] = (),
        before: Callable[[], None] = lambda: None,
        content: Callable[[Path], bytes] = Path.read_bytes,
    ) -> None:
        """Write the files that changed since they were published, ``last`` behind all others, and remove
        those that are gone; what is for ``later`` stays as it is. ``before`` is called before anything is
        written, and its error ends it. Raises ``OSError`` where the store cannot be reached.
        """
        found = dict(self._files())
        changed = [
            name
            for name in sorted(found, key=lambda name: (name == last, name))
            if name not in later and self._published.get(name) != found[name]
        ]
        gone = self._published.keys() - found.keys()
        if changed or gone:
            before()
        for name in changed:
            with suppress(FileNotFoundError):  # gone in this moment
                self._put(name, content(self.root / name))
                self._published[name] = found[name]
        for name in gone:
            self._remove(name)

    def _put(self, name: str, data: bytes) -> None:
        # No folder is made before it: an object store has none, and would be asked for each.
        with self.home.filesystem.open_output_stream(f"{self.home.path}/{name}") as stream:
            stream.write(data)

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):  # removed by somebody else
            self.home.filesystem.delete_file(f"{self.home.path}/{name}")
        del self._published[name]

    def _files(self) -> Iterator[tuple[str, _Seen]]:
        for path in self.root.rglob("*"):
            name = path.relative_to(self.root).as_posix()
            with suppress(FileNotFoundError):
                if self._belongs(name) and path.is_file():
                    yield name, _seen(path)

    def _belongs(self, name: str) -> bool:
        hidden = any(part.startswith(".") for part in name.split("/"))
        return not hidden and not name.endswith(_UNFINISHED) and self._wanted(name)

    def delete(self) -> None:
        """Remove the folder on this machine."""
        shutil.rmtree(self.root, ignore_errors=True)


def _seen(path: Path) -> _Seen:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
