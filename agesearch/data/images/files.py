"""Files as they really lie on disks: names that are not UTF-8, and things that are no files at all.

Linux names are bytes, but Parquet, JSON and terminals hold text. So a name that is not UTF-8 travels with its
odd bytes written ``\\xHH`` (``printable``) and is found again under its own bytes (``on_disk``). Only regular
files are opened: a FIFO would wait for ever for a writer, a device may never end.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.fs as pafs

from agesearch.data.images.decode import MAX_IMAGE_BYTES, BadImage
from agesearch.errors import InputError, first_line
from agesearch.storage import Location

_WRITTEN_BYTE = re.compile(rb"\\x([89a-f][0-9a-f])")
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
#: What opening or asking for a file of any name can raise: NUL bytes, 300 letters, unknown schemes.
_FAILURES = (OSError, ValueError, InputError, pa.ArrowException)


def printable(text: str) -> str:
    """The text as valid UTF-8: bytes of a file name that are not (surrogates, in Python) become ``\\xHH``."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "".join(map(_printable_character, text))
    return text


def on_disk(path: str) -> str | bytes:
    """What the system calls ``path``: itself, or the name in bytes that ``printable`` wrote so."""
    if "\\x" not in path or os.path.lexists(path):
        return path
    raw = _WRITTEN_BYTE.sub(lambda found: bytes.fromhex(found[1].decode()), path.encode("utf-8"))
    return raw if os.path.lexists(raw) else path


def read_image(path: str, limit: int = MAX_IMAGE_BYTES) -> bytes:
    """The bytes of an image file, local or behind a URI.

    ``BadImage`` with the reason ``missing_file``, ``not_a_file`` (folder, FIFO, socket, device),
    ``too_many_bytes`` (over ``limit``) or ``unreadable``. Never blocks on anything that is no regular file.
    """
    try:
        where = Location.of(path)
        return _local_bytes(where.path, limit) if where.is_local else _remote_bytes(where, limit)
    except BadImage:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadImage("missing_file", f"There is no file '{path}'.") from error
    except _FAILURES as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise BadImage("unreadable", f"'{path[:300]}' cannot be read: {reason[:200]}") from error


def file_stamps(paths: Sequence[str]) -> Iterator[tuple[int, int] | None]:
    """Each file's size in bytes and the time it was written, in nanoseconds; None where there is none that
    can be asked.
    """
    places = [_place(path) for path in paths]
    remote = [place for place in places if place is not None and not place.is_local]
    found = iter(_remote_stamps(remote))
    for place in places:
        if place is None:
            yield None
        else:
            yield _local_stamp(place.path) if place.is_local else next(found)


def path_within(path: str, base: str) -> str:
    """``path`` without its scheme and without ``base`` in front; a path that cannot be opened stays."""
    place = _place(path)
    return path if place is None else place.path.removeprefix(base)


def _printable_character(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if 0xD800 <= code <= 0xDFFF else character


def _place(path: str) -> Location | None:
    try:
        return Location.of(path)
    except _FAILURES:
        return None


def _local_bytes(path: str, limit: int) -> bytes:
    name = on_disk(path)
    _check_kind(os.stat(name), path)
    # A FIFO put in the file's place since then must not block either, so the open file is asked again.
    with open(os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        info = os.fstat(stream.fileno())
        _check_kind(info, path)
        _check_size(info.st_size, path, limit)
        data = stream.read(info.st_size + 1)
    if len(data) != info.st_size:
        raise BadImage("unreadable", f"'{path}' changes while it is read.")
    return data


def _remote_bytes(where: Location, limit: int) -> bytes:
    filesystem = where.filesystem
    info = filesystem.get_file_info(where.path)
    if info.type != pafs.FileType.File:
        raise BadImage("missing_file", f"There is no file '{where}'.")
    _check_size(info.size or 0, str(where), limit)
    with filesystem.open_input_stream(where.path) as stream:
        return bytes(stream.read(limit))


def _check_kind(info: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(info.st_mode):
        kind = _KINDS.get(stat.S_IFMT(info.st_mode), "something else")
        raise BadImage("not_a_file", f"'{path}' is {kind}, not a file.")


def _check_size(size: int, path: str, limit: int) -> None:
    if size > limit:
        raise BadImage("too_many_bytes", f"'{path}' has {size} bytes, more than the {limit} allowed.")


def _local_stamp(path: str) -> tuple[int, int] | None:
    try:
        info = os.stat(on_disk(path))
    except _FAILURES:
        return None
    return (info.st_size, info.st_mtime_ns) if stat.S_ISREG(info.st_mode) else None


def _remote_stamps(places: list[Location]) -> list[tuple[int, int] | None]:
    if not places:
        return []
    infos = places[0].filesystem.get_file_info([place.path for place in places])
    return [
        (info.size or 0, info.mtime_ns or 0) if info.type == pafs.FileType.File else None for info in infos
    ]
