"""The bearer token of the service: where it comes from, where it is kept, and how a request's token is
checked.

A token comes from a file, or from the environment variable ``AGESEARCH_TOKEN``, or from
``~/.agesearch/token``, which the service makes (readable by its owner alone) and ``agesearch query`` on the
same account finds by itself. It never stands on a command line, where every user of the machine could read
it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agesearch.errors import InputError

TOKEN_VARIABLE = "AGESEARCH_TOKEN"
DEFAULT_TOKEN_FILE = "~/.agesearch/token"
#: Where the records of API keys are, and how often one may ask, unless told otherwise.
DEFAULT_KEYS_FILE = "~/.agesearch/keys.json"
DEFAULT_RATE = "600/minute"

_MIN_LENGTH = 16
_MAX_LENGTH = 512


@dataclass(frozen=True)
class Token:
    """A token, the file that holds it (None: it came from the environment), and whether it was just made."""

    value: str
    file: Path | None = None
    is_new: bool = False

    @property
    def origin(self) -> str:
        """Where it came from, in words for a person."""
        return f"the file {self.file}" if self.file else f"the environment variable {TOKEN_VARIABLE}"

    def __repr__(self) -> str:  # a token must not end up in a log by way of a repr
        return f"Token(from {self.origin})"


def given_token(token_file: str | None, environment: Mapping[str, str]) -> Token | None:
    """The token that someone gave on purpose: a file, else the environment variable; None where neither is.

    A file that is missing, unreadable or holds no usable token is an ``InputError``.
    """
    if token_file is not None:
        return _read(Path(token_file).expanduser())
    if TOKEN_VARIABLE in environment:
        value = environment[TOKEN_VARIABLE].strip()
        return Token(_checked(value, f"The environment variable {TOKEN_VARIABLE}"))
    return None


def service_token(
    token_file: str | None, environment: Mapping[str, str], default_file: str = DEFAULT_TOKEN_FILE
) -> Token:
    """The token a service shall ask for: the given one, else the one in ``default_file``, made if need be."""
    given = given_token(token_file, environment)
    if given is not None:
        return given
    path = Path(default_file).expanduser()
    return _read(path) if path.exists() else _made(path)


def client_token(
    token_file: str | None, environment: Mapping[str, str], default_file: str = DEFAULT_TOKEN_FILE
) -> Token:
    """The token a client shall send; an ``InputError`` says where tokens may be where there is none."""
    given = given_token(token_file, environment)
    if given is not None:
        return given
    path = Path(default_file).expanduser()
    if not path.exists():
        raise InputError(
            f"There is no token: give the service's with --token-file or in {TOKEN_VARIABLE} "
            f"(a service on this account keeps it in {default_file})."
        )
    return _read(path)


def require_given_token(host: str, token_file: str | None, environment: Mapping[str, str]) -> None:
    """Refuse to listen beyond this machine with a token that nobody chose."""
    if not is_loopback(host) and given_token(token_file, environment) is None:
        raise InputError(
            f"Host '{host}' can be reached from other machines: give a token with --token-file "
            f"or in {TOKEN_VARIABLE}, or stay on 127.0.0.1."
        )


def is_loopback(host: str) -> bool:
    """Whether ``host`` (a name or an address) can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class TokenCheck:
    """Compares a request's ``Authorization`` header with the service's token in constant time.

    It holds the SHA-256 of the token only, so that it can be sent to other processes and stored by Ray
    without giving the token away.
    """

    def __init__(self, token: str) -> None:
        self._digest = _digest(token)

    @property
    def sha256(self) -> str:
        """What it holds, in hexadecimal."""
        return self._digest.hex()

    @staticmethod
    def of(sha256: str) -> TokenCheck:
        """The check that holds ``sha256``; an ``InputError`` where that is none."""
        check = TokenCheck("")
        try:
            check._digest = bytes.fromhex(sha256.strip())
        except ValueError:
            check._digest = b""
        if len(check._digest) != hashlib.sha256().digest_size:
            raise InputError("There is no SHA-256 of a token: expected 64 hexadecimal digits.")
        return check

    def accepts(self, authorization: str | None) -> bool:
        """Whether the header is ``Bearer <the token>``."""
        scheme, _, presented = (authorization or "").partition(" ")
        matches = hmac.compare_digest(_digest(presented.strip()), self._digest)
        return scheme.lower() == "bearer" and matches


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _checked(value: str, where: str) -> str:
    if not _MIN_LENGTH <= len(value) <= _MAX_LENGTH or not all("!" <= char <= "~" for char in value):
        raise InputError(
            f"{where} does not hold a usable token: expected one line of {_MIN_LENGTH} to {_MAX_LENGTH} "
            "printable characters without spaces."
        )
    return value


def _read(path: Path) -> Token:
    try:
        with open(path, "rb") as handle:
            text = handle.read(_MAX_LENGTH + 64).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise InputError(f"The token file '{path}' cannot be read: {reason}.") from error
    return Token(_checked(text, f"The token file '{path}'"), file=path)


def _made(path: Path) -> Token:
    """A new random token in a file that only its owner can read."""
    value = secrets.token_urlsafe(32)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:  # another service made it in between
        return _read(path)
    except OSError as error:
        raise InputError(
            f"The token file '{path}' cannot be written: {error.strerror}. Give one with --token-file."
        ) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as handle:
        handle.write(value + "\n")
    return Token(value, file=path, is_new=True)
