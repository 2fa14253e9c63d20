"""One way to read and write files, on this machine or behind a URI (``s3://bucket/key``), through
``pyarrow.fs``.

A ``Location`` is a place: ``Location.of("runs/a") / "manifest.json"``. Writes are atomic: a reader sees the
old bytes or the new ones, never half of them. Locally that is a temporary file beside the target and a
rename; object stores publish an object only when its upload is complete.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from agesearch.claims import claimed
from agesearch.errors import AgeSearchError, ConflictError, InputError, StorageFullError, first_line

#: Files that are read whole (manifests, specs) may not be larger than this.
MAX_DOCUMENT_BYTES = 64 * 1024 * 1024

#: No room on the disk, none in the quota, or a limit on the size of a process's files.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: What clients of object stores say where credentials are missing or wrong.
_DENIED = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "INVALID_CLIENT_TOKEN_ID",
    "UNRECOGNIZED_CLIENT",
    "MISSING_AUTHENTICATION_TOKEN",
    "SIGNATURE_DOES_NOT_MATCH",
    "INVALID_SIGNATURE",
    "ExpiredToken",
    "InvalidToken",
    "HTTP status 401",
    "HTTP status 403",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
)

_OBJECT_STORES = ("s3", "gs", "gcs")
_OPTIONS = re.compile(r"\?\w+=[^?/]*$")
_ONE_REQUEST = "allow_delayed_open"


@dataclass(frozen=True)
class Location:
    """A file or folder: a filesystem and a path in it. Equal and hashable by its printed form."""

    uri: str
    path: str

    @classmethod
    def of(cls, where: str | os.PathLike[str] | Location) -> Location:
        """A location from a local path (made absolute) or a URI; an unknown scheme is an ``InputError``."""
        if isinstance(where, Location):
            return where
        text = os.fspath(where)
        if "://" not in text:
            absolute = os.path.abspath(os.path.expanduser(text))
            return cls(absolute, absolute)
        try:
            _, path = _opened(text)
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            raise InputError(f"'{text}' is not a path or URI that can be opened: {_reason(error)}") from error
        return cls(text.rstrip("/"), path.rstrip("/"))

    @property
    def filesystem(self) -> pafs.FileSystem:
        """The pyarrow filesystem that holds this location."""
        return _opened(self.uri)[0] if "://" in self.uri else pafs.LocalFileSystem()

    @property
    def is_local(self) -> bool:
        """Whether plain file calls can open ``path``."""
        return "://" not in self.uri or self.uri.startswith("file://")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def parent(self) -> Location:
        """The folder it lies in."""
        return self._with_uri(
            lambda address: address.rsplit("/", 1)[0] or "/", self.path.rsplit("/", 1)[0] or "/"
        )

    def __truediv__(self, part: str) -> Location:
        return self._with_uri(lambda address: f"{address}/{part}", f"{self.path}/{part}")

    def _with_uri(self, change: Callable[[str], str], path: str) -> Location:
        """The same filesystem, another path: a URI keeps its options (``?endpoint_override=...``)."""
        if "://" not in self.uri:
            return Location(change(self.uri), path)
        address, options = _without_options(self.uri)
        return Location(f"{change(address)}{options}", path)

    def __str__(self) -> str:
        return self.uri

    def local(self) -> Path:
        """The local path; an ``InputError`` for a URI of another machine."""
        if not self.is_local:
            raise InputError(f"'{self}' must be a folder on this machine for this step.")
        return Path(self.path)

    def exists(self) -> bool:
        """Whether a file or folder is there."""
        return bool(self._info().type != pafs.FileType.NotFound)

    def is_dir(self) -> bool:
        """Whether a folder is there (for object stores: whether any key lies under it)."""
        return bool(self._info().type == pafs.FileType.Directory)

    def _info(self) -> pafs.FileInfo:
        try:
            return self.filesystem.get_file_info(self.path)
        except OSError as error:
            raise InputError(f"'{self}' cannot be reached: {_reason(error)}") from error

    @property
    def size_bytes(self) -> int | None:
        """The size of the file; None where there is none."""
        size: int | None = self._info().size
        return size

    def children(self) -> list[Location]:
        """The files and folders directly inside, sorted by name; empty where there is no such folder."""
        selector = pafs.FileSelector(self.path, allow_not_found=True)
        names = sorted(info.base_name for info in self.filesystem.get_file_info(selector))
        return [self / name for name in names]

    def make_dir(self) -> Location:
        """Create the folder and its parents; returns itself. An ``InputError`` says what is in the way."""
        try:
            self.filesystem.create_dir(self.path, recursive=True)
        except OSError as error:
            if is_full(error):
                raise unwritten(self, error) from error
            raise InputError(f"The folder '{self}' cannot be made: {_reason(error)}") from error
        return self

    def delete(self) -> None:
        """Remove the file, or the folder with all in it; nothing happens where nothing is."""
        kind = self._info().type
        if kind == pafs.FileType.Directory:
            self.filesystem.delete_dir(self.path)
        elif kind != pafs.FileType.NotFound:
            self.filesystem.delete_file(self.path)

    def read_bytes(self, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
        """The whole file; an ``InputError`` where it is missing or larger than ``limit`` bytes."""
        info = self._info()
        if info.type == pafs.FileType.Directory:
            raise InputError(f"'{self}' is a folder, but a file was expected.")
        if info.type != pafs.FileType.File:
            raise InputError(f"There is no file '{self}'.")
        if info.size is not None and info.size > limit:
            raise InputError(f"'{self}' has {info.size} bytes, more than the {limit} allowed for it.")
        with self.filesystem.open_input_stream(self.path) as stream:
            return bytes(stream.read(info.size))  # in one request; without the size it would be many

    def read_text(self) -> str:
        """The whole file as UTF-8."""
        try:
            return self.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"'{self}' is not UTF-8 text (byte {error.start}).") from error

    def read_json(self) -> Any:
        """The whole file as JSON; an ``InputError`` names the line where it breaks."""
        try:
            return json.loads(self.read_text())
        except json.JSONDecodeError as error:
            raise InputError(f"'{self}' is not valid JSON: line {error.lineno}: {error.msg}.") from error

    def read_table(self, columns: list[str] | None = None) -> pa.Table:
        """A Parquet file, or every Parquet file of a folder, as one table."""
        if not self.exists():
            raise InputError(f"There is no Parquet file or folder '{self}'.")
        try:
            return pq.read_table(self.path, columns=columns, filesystem=self.filesystem)
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            raise InputError(f"'{self}' is not readable Parquet: {_reason(error)}") from error

    def write_bytes(self, data: bytes) -> None:
        """Write atomically, creating the folder."""
        with self.staged() as temporary, temporary.filesystem.open_output_stream(temporary.path) as stream:
            stream.write(data)

    def write_text(self, text: str) -> None:
        """Write UTF-8 text atomically."""
        self.write_bytes(text.encode("utf-8"))

    def write_json(self, value: Any) -> None:
        """Write indented JSON atomically; NaN is refused, since JSON has none."""
        self.write_text(
            json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
        )

    def write_table(self, table: pa.Table) -> None:
        """Write one Parquet file atomically (zstd)."""
        with self.staged() as temporary:
            pq.write_table(table, temporary.path, filesystem=temporary.filesystem, compression="zstd")

    @contextmanager
    def staged(self) -> Iterator[Location]:
        """A temporary location that becomes this one when the block ends, and vanishes when it fails."""
        parent = self.parent
        temporary = parent / f".{self.name}.{uuid.uuid4().hex[:8]}.tmp" if self.is_local else self
        try:
            parent.make_dir()
            yield temporary
            if temporary is not self:
                os.replace(temporary.path, self.path)
        except OSError as error:
            raise unwritten(self, error) from error
        finally:
            if temporary is not self and temporary.exists():
                temporary.delete()


def beside(place: str | Location, ending: str) -> str:
    """What lies beside a place, under its name with an ``ending``, as a command takes it: a URI's options
    stay behind its name.

    >>> beside("s3://bucket/faces?scheme=http", "-teacher")
    's3://bucket/faces-teacher?scheme=http'
    >>> beside("runs/faces/", ".html")
    'runs/faces.html'
    """
    address, options = _without_options(str(place)) if "://" in str(place) else (str(place), "")
    return f"{address.rstrip('/') or address}{ending}{options}"


def distinct_names(places: Sequence[Location]) -> list[str]:
    """A name for each place: its own, or, where several have the same, with as many of the folders that it
    lies in as tell them apart. Places that are the same get the same name.
    """
    parts = [place.path.strip("/").split("/") for place in places]
    distinct = len(set(places))
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == distinct:
            return names
    return [place.path for place in places]


def sqlite_url(file: Path) -> str:
    """The address of an SQLite file as SQLAlchemy takes it: ``?``, ``#`` and ``%`` of its path are no part of
    the address's own.
    """
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)


def unwritten(place: Location | Path, error: OSError) -> AgeSearchError:
    """The error for a file that could not be written: a ``StorageFullError`` where there is no room."""
    kind = StorageFullError if is_full(error) else AgeSearchError
    return kind(f"'{place}' could not be written: {_reason(error)}")


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk or quota is full."""
    return isinstance(error, StorageFullError) or (isinstance(error, OSError) and error.errno in _FULL)


def is_denied(error: BaseException) -> bool:
    """Whether an error says that something may not be read or written with the credentials at hand, which no
    waiting changes.
    """
    return isinstance(error, PermissionError) or any(words in str(error) for words in _DENIED)


@contextmanager
def exclusive(folder: Location, what: str) -> Iterator[Callable[[], None]]:
    """Hold ``folder/.lock`` for one process; a second gets a ``ConflictError`` that names ``what`` and the
    holder. The block gets a function that raises where the lock was lost, which a local one never is.

    On a local path the kernel drops the lock with its process, so a killed run leaves none. Behind a URI it
    is a claim that is renewed (``agesearch.claims``), and a killed run's lasts until it expires.
    """
    if not folder.is_local:
        with claimed(folder.filesystem, f"{folder.path}/.lock", f"{what} '{folder}'") as check:
            yield check
        return
    folder.make_dir()
    path = folder.local() / ".lock"
    with open(path, "a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            raise ConflictError(
                f"{what} '{folder}' is in use by process {holder}: wait for it, or stop it first."
            ) from error
        try:
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
        except OSError as error:
            raise unwritten(path, error) from error
        yield lambda: None


def _opened(uri: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem of a URI, and the path in it.

    The key of an object is taken as it is written, like the tools of object stores do: it may hold spaces and
    signs that a URI would have to escape.
    """
    scheme, _, _ = uri.partition("://")
    if scheme not in _OBJECT_STORES:
        return cast(tuple[pafs.FileSystem, str], pafs.FileSystem.from_uri(uri))
    address, options = _without_options(uri)
    bucket, _, key = address.removeprefix(f"{scheme}://").partition("/")
    filesystem, path = _object_store(f"{scheme}://{bucket}{options}")
    return filesystem, f"{path}/{key}" if key else path


@lru_cache(maxsize=16)
def _object_store(uri: str) -> tuple[pafs.FileSystem, str]:
    """Opened once a process: a client of an object store keeps its connections.

    A small object is written to S3 in one request, and not in the three of an upload in parts.
    """
    if uri.startswith("s3://") and _ONE_REQUEST not in uri:
        uri = f"{uri}{'&' if '?' in uri else '?'}{_ONE_REQUEST}=true"
    return cast(tuple[pafs.FileSystem, str], pafs.FileSystem.from_uri(uri))


def _without_options(uri: str) -> tuple[str, str]:
    """A URI's address and its options with their question mark (``?scheme=http&...``, or nothing)."""
    found = _OPTIONS.search(uri)
    return (uri[: found.start()], found[0]) if found else (uri, "")


def _reason(error: BaseException) -> str:
    text = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else first_line(error)
    return text.rstrip(".") + "."
