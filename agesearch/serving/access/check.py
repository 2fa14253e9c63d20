"""Who may ask a service for what: its token for everything, keys for what their scope and rate allow."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path

from agesearch.errors import AgeSearchError
from agesearch.serving.access.keys import KeyFile, KeyRecord, Scope, matching, rate_limit
from agesearch.serving.access.rates import KeyRates
from agesearch.serving.auth import TokenCheck
from agesearch.serving.schema import Refusal

_LOG = logging.getLogger("ray.serve")

#: Seconds between two looks at the file of keys: so long does a key work after it was revoked.
_LOOK_S = 1.0
_COUNTS = "rates.sqlite"

_rate = lru_cache(maxsize=1024)(rate_limit)


class Access:
    """What a request must show. Sent to each replica, where the file of ``keys`` is followed as it changes;
    ``folder`` is the service's own, in which its replicas count together.
    """

    def __init__(self, token: TokenCheck, keys: str | None = None, folder: Path | None = None) -> None:
        self._token = token
        self._keys = keys
        self._folder = folder
        self._looked = float("-inf")
        self._stamp: tuple[int, int] | None = None
        self._records: dict[str, KeyRecord] = {}

    def admit(self, authorization: str | None, scope: Scope) -> KeyRecord | None:
        """Pass a request that may do what belongs to ``scope``, and say by which key (None: by the token);
        else a ``Refusal``: 401, 403 or 429. It counts as one image: how many it has shows later.
        """
        if self._token.accepts(authorization):
            return None
        record = self._record(authorization)
        if record is None:
            raise _unknown(authorization)
        state = record.state(datetime.now(UTC))
        if state != "valid":
            raise _refused(f"key_{state}", f"This key is {state}.")
        if not record.allows(scope):
            raise Refusal(403, "scope_missing", f"This key may not do that: it takes the scope '{scope}'.")
        self._require_rate(record, 1)
        return record

    def count_more(self, record: KeyRecord | None, images: int) -> None:
        """Count the images of an admitted request after its first; a ``Refusal`` (429) where they are more
        than the key's rate leaves, 413 where they are more than it ever allows at once.
        """
        item = None if record is None else _rate(record.rate)
        if record is None or item is None or images < 1:
            return
        if images >= item.amount:
            raise Refusal(
                413,
                "more_images_than_rate",
                f"This key may ask for {record.rate}, each image counts, and these are {images + 1}: send "
                f"at most {item.amount} at once.",
            )
        self._require_rate(record, images)

    def _record(self, authorization: str | None) -> KeyRecord | None:
        scheme, _, presented = (authorization or "").partition(" ")
        if self._keys is None or scheme.lower() != "bearer":
            return None
        self._follow(self._keys)
        return matching(self._records, presented.strip())

    def _require_rate(self, record: KeyRecord, images: int) -> None:
        item = _rate(record.rate)
        if item is None or self._folder is None:
            return
        try:
            wait = self._rates.wait_s(item, record.id, images)
        except sqlite3.Error as error:  # the other replicas hold the counts, or the disk is full
            _LOG.warning("A key's rate is not counted: %s", error)
            raise Refusal(
                503, "busy", "The rate cannot be counted now: try again in 1 s.", headers={"Retry-After": "1"}
            ) from error
        if wait:
            raise Refusal(
                429,
                "rate_limited",
                f"This key may ask for {record.rate}, each image counts: try again in {wait} s.",
                headers={"Retry-After": str(wait)},
            )

    @cached_property
    def _rates(self) -> KeyRates:
        assert self._folder is not None
        return KeyRates(self._folder / _COUNTS)

    def _follow(self, keys: str) -> None:
        """Read the file again where it has changed; one that cannot be read lets nobody in."""
        now = time.monotonic()
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        try:
            found = os.stat(keys)
            stamp = (found.st_mtime_ns, found.st_ino)
        except OSError:
            self._stamp, self._records = None, {}
            return
        if stamp != self._stamp:
            try:
                self._records = {record.id: record for record in KeyFile(keys).records()}
            except AgeSearchError:
                _LOG.error("The file of keys cannot be read: no key is accepted until it can.")
                self._records = {}
            self._stamp = stamp


def _unknown(header: str | None) -> Refusal:
    if header:
        return _refused("token_wrong", "The bearer token or key is wrong.")
    return _refused("token_missing", "Send the header 'Authorization: Bearer TOKEN'.")


def _refused(code: str, message: str) -> Refusal:
    return Refusal(401, code, message, headers={"WWW-Authenticate": "Bearer"})
