"""API keys of a service: a file of records that holds what proves a key, never the key.

A key is ``agesearch_<id>_<secret>``: the id names its record, the secret is 256 random bits, of which the
SHA-256 is kept (a slow hash is for what people choose; nobody guesses 256 bits). It is shown once, when it is
made.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from limits import RateLimitItem, parse

from agesearch.documents import Spec, parse_spec
from agesearch.errors import ConflictError, InputError
from agesearch.storage import Location

Scope = Literal["predict", "admin"]

_PREFIX = "agesearch"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SPAN = re.compile(r"([1-9][0-9]{0,4})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}
#: What a secret is compared with where no record has the id, so that both take the same time.
_NOBODY = hashlib.sha256(b"").hexdigest()


class KeyRecord(Spec):
    """What is kept of a key: times in UTC, ``rate`` of images as ``limits`` writes it (None: any number)."""

    id: str
    name: str
    sha256: str
    scope: Scope = "predict"
    rate: str | None = None
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None

    def state(self, now: datetime) -> Literal["valid", "expired", "revoked"]:
        """Whether it lets anybody in."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires else "valid"

    def allows(self, scope: Scope) -> bool:
        """Whether it may be used for this: ``admin`` may do everything."""
        return self.scope in ("admin", scope)


class _Records(Spec):
    keys: tuple[KeyRecord, ...] = ()


@dataclass(frozen=True)
class NewKey:
    """A key that was just made: the only time that it is there whole."""

    value: str
    record: KeyRecord

    def __repr__(self) -> str:  # a key must not end up in a log by way of a repr
        return f"NewKey({self.record.id})"


class KeyFile:
    """The records in a file that only its owner can read."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()

    def records(self) -> tuple[KeyRecord, ...]:
        """All of them, the oldest first; none where there is no file."""
        place = Location.of(self.path)
        if not self.path.exists():
            return ()
        return parse_spec(_Records, place.read_json(), f"The file of keys '{self.path}'").keys

    def create(self, name: str, scope: Scope, expires: datetime | None, rate: str | None) -> NewKey:
        """Make a key; a ``ConflictError`` where one of this name is in use."""
        if not _NAME.fullmatch(name):
            raise InputError(
                f"A key cannot be called '{name[:80]}': expected up to 64 letters, digits, '.', '_' and '-'."
            )
        _item(rate)
        secret, now = secrets.token_urlsafe(32), _now()
        with self._changing() as (known, write):
            if any(record.name == name and record.state(now) == "valid" for record in known):
                raise ConflictError(f"There is a key '{name}': revoke it first, or choose another name.")
            made = _unused_id({record.id for record in known})
            record = KeyRecord(
                id=made,
                name=name,
                sha256=_digest(secret),
                scope=scope,
                rate=rate,
                created=now,
                expires=expires,
            )
            write((*known, record))
        return NewKey(f"{_PREFIX}_{made}_{secret}", record)

    def revoke(self, which: str) -> KeyRecord:
        """Revoke a valid key by its name or id, and say which it was; running services follow in a second."""
        now = _now()
        with self._changing() as (known, write):
            found = [record for record in known if which in (record.id, record.name)]
            valid = [record for record in found if record.state(now) != "revoked"]
            if not valid:
                why = "is revoked already" if found else f"is none of {self.path}"
                raise InputError(f"The key '{which[:80]}' {why}: 'agesearch keys list' names them all.")
            ended = {record.id: record.with_values({"revoked": now}) for record in valid}
            write(tuple(ended.get(record.id, record) for record in known))
        return ended[valid[-1].id]

    @contextmanager
    def _changing(self) -> Iterator[tuple[tuple[KeyRecord, ...], Callable[[tuple[KeyRecord, ...]], None]]]:
        """The records and what replaces them; one process at a time."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.path.with_name(f".{self.path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise InputError(
                f"The file of keys '{self.path}' cannot be written: {error.strerror}."
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.records(), self._write
        finally:
            os.close(lock)

    def _write(self, records: tuple[KeyRecord, ...]) -> None:
        text = _Records(keys=records).model_dump_json(indent=2) + "\n"
        with Location.of(self.path).staged() as temporary:
            descriptor = os.open(temporary.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
                handle.write(text)


def checked_file(path: str) -> str:
    """Where the records are; an ``InputError`` where there is such a file and it cannot be read as that."""
    store = KeyFile(path)
    store.records()
    return str(store.path.absolute())


def matching(records: dict[str, KeyRecord], presented: str) -> KeyRecord | None:
    """The record that a key proves, valid or not; the secret is compared in constant time."""
    prefix, _, rest = presented.partition("_")
    made, _, secret = rest.partition("_")
    record = records.get(made) if prefix == _PREFIX else None
    known = record.sha256 if record is not None else _NOBODY
    return record if hmac.compare_digest(_digest(secret), known) else None


def expiry(text: str | None) -> datetime | None:
    """When a key ends: ``90d``, ``12h``, ``4w`` from now, or a date (and time) in UTC."""
    if text is None:
        return None
    now = _now()
    span = _SPAN.fullmatch(text.strip())
    try:
        if span:
            found = now + timedelta(hours=int(span[1]) * _HOURS[span[2]])
        else:
            found = datetime.fromisoformat(text.strip())
            found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"'{text[:80]}' is no time at which a key ends: expected like 90d, 12h, 4w or 2030-01-31."
        ) from error
    if found <= now:
        raise InputError(f"A key that ends at {found:%Y-%m-%d %H:%M} UTC lets nobody in: that is over.")
    return found


def rate_limit(text: str | None) -> RateLimitItem | None:
    """A rate such as ``600/minute`` or ``5 per second``; None, ``none``: no limit; else an ``InputError``."""
    return _item(None if text is None or text.strip().lower() == "none" else text)


def _item(rate: str | None) -> RateLimitItem | None:
    if rate is None:
        return None
    try:
        item = parse(rate)
    except ValueError:
        item = None
    if item is None or item.amount < 1 or item.get_expiry() < 1:
        raise InputError(
            f"'{rate[:80]}' is no rate: expected like 5/second, 600/minute or 100 per hour, or none."
        )
    return item


def _unused_id(taken: set[str]) -> str:
    while (made := secrets.token_hex(4)) in taken:
        pass
    return made


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
