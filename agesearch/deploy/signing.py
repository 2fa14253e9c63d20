"""Signed versions: who has a private key signs one, who has its public key verifies it, offline.

The file ``model.sig`` beside a version's other files is a bundle of OpenSSF Model Signing (model-signing 1.x:
an in-toto statement with the SHA-256 of each file, signed by ECDSA). ``SHA256SUMS`` finds what broke by
accident; whoever changes a file can write new sums, too, and only a signature finds that. No certificate, no
log and no network is asked: to know whose the public key is remains with those who hand it over.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agesearch.deploy.integrity import SIGNATURE, check_place, verify
from agesearch.deploy.registry import Registry
from agesearch.errors import ConflictError, InputError, first_line
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import MANIFEST
from agesearch.storage import Location

#: Where the password of an encrypted private key is read from: on a command line everybody could see it.
PASSWORD = "AGESEARCH_KEY_PASSWORD"

_MAKE = (
    "openssl ecparam -name prime256v1 -genkey -noout -out key.pem && "
    "openssl ec -in key.pem -pubout -out key.pub"
)


@dataclass(frozen=True)
class Signed:
    """A model whose signature was made or holds: what it is called, its folder, how many files it covers."""

    label: str
    folder: Location
    files: int


def sign_version(model: str, key: str | Path, registry: str | Location, *, replace: bool = False) -> Signed:
    """Sign a version (``NAME``, ``NAME@ALIAS``, ``NAME:VERSION``) or a model folder with the private key in a
    PEM file (ECDSA on P-256, P-384 or P-521).

    What does not match its ``SHA256SUMS`` is not signed. Raises ``ConflictError`` where there is a signature
    already (unless ``replace``), and ``InputError`` for a key that is none.
    """
    config = _package("signing").Config().set_hashing_config(_hashing())
    with _as_key_fault(key, "private"):
        config.use_elliptic_key_signer(private_key=_key_file(key), password=_password())
    folder, label = _found(model, registry, own=True)
    if (folder / SIGNATURE).exists() and not replace:
        raise ConflictError(f"{label} is signed already: sign it anew with --replace.")
    with _local(folder) as files, tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / SIGNATURE
        config.sign(files, made)
        content, count = made.read_bytes(), _count(files)
    (folder / SIGNATURE).write_bytes(content)
    return Signed(label, folder, count)


def verify_version(model: str, key: str | Path, registry: str | Location) -> Signed:
    """Verify the signature of a version or a model folder by a public key in a PEM file.

    Raises ``InputError`` where there is none, where another key made it, where a file was changed, added or
    removed since, and where a signed version lies under another name or number than its own.
    """
    folder, label = _found(model, registry)
    if not (folder / SIGNATURE).exists():
        raise InputError(f"{label} is not signed: '{folder}' has no {SIGNATURE}.")
    config = _package("verifying").Config().set_hashing_config(_hashing())
    with _as_key_fault(key, "public"):
        config.use_elliptic_key_verifier(public_key=_key_file(key))
    with _local(folder) as files:
        _verify(config, files, label, key)
        count = _count(files)
    check_place(folder, read_model_manifest(folder), f"{label}, which is signed,")
    return Signed(label, folder, count)


def _found(model: str, registry: str | Location, *, own: bool = False) -> tuple[Location, str]:
    """The folder of a model and what it is called; of a version one's ``own``, its sums checked."""
    folder = Location.of(model)
    if (folder / MANIFEST).exists() or folder.exists():
        read_model_manifest(folder)  # says what the folder lacks
        return folder, f"'{model}'"
    version = Registry(registry).find(model)
    if own:
        version = Registry(registry).own(version)
        verify(version.folder)
    return version.folder, version.label


def _verify(config: Any, files: Path, label: str, key: str | Path) -> None:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the library warns of old formats where answers go
            config.verify(files, files / SIGNATURE)
    except (
        Exception
    ) as error:  # of the key, of the bundle's format, of the digests: their kinds share no base
        said = first_line(error)
        if "ignature mismatch" in said:
            raise InputError(f"{label} was changed after it was signed: {_changes(said)}.") from error
        if type(error).__name__ == "InvalidSignature" or "Key mismatch" in said:
            raise InputError(f"{label} was not signed with the key that belongs to '{key}'.") from error
        raise InputError(f"The signature of {label} is damaged or cannot be checked: {said}") from error


def _changes(said: str) -> str:
    """Which files differ, without the digests of the library's list."""
    found = {
        "other content": re.findall(r"Hash mismatch for \\*'([^'\\]+)", said),
        "missing": re.findall(r"Missing files in model [^:]*: ([^'\"]+)", said),
        "added": re.findall(r"Extra files found in model [^:]*: ([^'\"]+)", said),
    }
    words = [f"{what}: {', '.join(files)}" for what, files in found.items() if files]
    return "; ".join(words) or said.partition(": ")[2].rstrip(".") or "its files"


@contextlib.contextmanager
def _local(folder: Location) -> Iterator[Path]:
    """The files on this machine: where they lie, or copies of those behind a URI."""
    if folder.is_local:
        yield folder.local()
        return
    with tempfile.TemporaryDirectory() as scratch:
        for file in folder.children():
            with (
                file.filesystem.open_input_stream(file.path) as source,
                (Path(scratch) / file.name).open("wb") as target,
            ):
                shutil.copyfileobj(source, target)
        yield Path(scratch)


def _count(files: Path) -> int:
    return sum(1 for file in files.rglob("*") if file.is_file() and file.name != SIGNATURE)


def _hashing() -> Any:
    return _package("hashing").Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _package(module: str) -> Any:
    if find_spec("model_signing") is None:
        raise InputError("Signatures need the package model-signing: pip install 'agesearch[sign]'")
    from importlib import import_module

    return import_module(f"model_signing.{module}")


def _key_file(key: str | Path) -> Path:
    file = Path(key)
    if not file.is_file():
        raise InputError(f"There is no key '{key}'. A pair is made by: {_MAKE}")
    return file


def _password() -> bytes | None:
    given = os.environ.get(PASSWORD)
    return given.encode() if given else None


@contextlib.contextmanager
def _as_key_fault(key: str | Path, kind: str) -> Iterator[None]:
    """What the library says of a key it cannot read, without a word of what is in the file."""
    try:
        yield
    except InputError:
        raise
    except Exception:  # ValueError, TypeError, UnsupportedAlgorithm, AttributeError: what kinds of keys raise
        hint = f"; where it is encrypted its password is read from {PASSWORD}" if kind == "private" else ""
        raise InputError(
            f"'{key}' is no {kind} key in PEM form on the curve P-256, P-384 or P-521{hint}. A pair is made "
            f"by: {_MAKE}"
        ) from None
