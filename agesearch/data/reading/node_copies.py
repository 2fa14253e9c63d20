"""Copies of an object store's shards on this node: fetched once, read by every training on it in each epoch.

They lie in the folder for temporary files. One that is fetched is complete (of the size that the store says)
or not there; where the copies would take more than ``MOST_BYTES``, or leave the disk little room, those not
used for longest go first, and what still does not fit is read from the store.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import fs as pafs

from agesearch.data.dataset.records import SHARDS
from agesearch.errors import InputError, first_line
from agesearch.storage import Location

#: The copies of all datasets take so much at most ...
MOST_BYTES = 64 * 1024**3
#: ... and leave so much of the disk free.
FREE_BYTES = 4 * 1024**3
#: A copy that was asked for so lately may not have been opened yet.
_IN_USE_S = 600.0


def node_copy(dataset: Location, shard: str, key: str) -> Location:
    """A folder on this node that has this shard of a dataset as the dataset has it, or the dataset itself
    where it is local or there is no room. ``key`` names the dataset's content.
    """
    if dataset.is_local:
        return dataset
    root = _root()
    folder = root / key
    copy, source = folder / SHARDS / shard, dataset / SHARDS / shard
    if not copy.exists():
        with _alone(root):
            if not copy.exists() and not _fetched(source, copy, root):
                return dataset
    try:
        os.utime(copy)
    except OSError:  # another user's, or gone this moment
        return dataset
    return Location.of(folder)


def _root() -> Path:
    return Path(tempfile.gettempdir()) / f"agesearch-shards-{os.getuid()}"


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One process of the node fetches; the others wait for its copies."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(root / ".lock", "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _fetched(source: Location, copy: Path, root: Path) -> bool:
    """Whether the copy is there now: whole, and within the limits."""
    size = source.size_bytes
    if size is None:
        raise InputError(f"'{source.parent.parent}' is damaged: its shard '{source.name}' is missing.")
    if not _make_room(root, size):
        return False
    copy.parent.mkdir(parents=True, exist_ok=True)
    part = copy.with_name(f".{copy.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        pafs.copy_files(
            source.path,
            str(part),
            source_filesystem=source.filesystem,
            destination_filesystem=pafs.LocalFileSystem(),
        )
        if part.stat().st_size != size:
            return False
        os.replace(part, copy)
    except pa.ArrowInvalid as error:
        raise InputError(f"'{source}' cannot be fetched: {first_line(error)}") from error
    except OSError:  # a full disk, or a store that faltered: it is read where it lies
        return False
    finally:
        part.unlink(missing_ok=True)
    return True


def _make_room(root: Path, size: int) -> bool:
    """Let go of what was not used for longest until ``size`` bytes more fit; False where they never do."""
    copies = sorted((file.stat().st_mtime, file.stat().st_size, file) for file in root.rglob("*.parquet"))
    held, free = sum(bytes_ for _, bytes_, _ in copies), shutil.disk_usage(root).free
    for used, bytes_, file in copies:
        if held + size <= MOST_BYTES and free - size >= FREE_BYTES:
            break
        if time.time() - used < _IN_USE_S:
            return False
        file.unlink(missing_ok=True)
        held, free = held - bytes_, free + bytes_
    return held + size <= MOST_BYTES and free - size >= FREE_BYTES
