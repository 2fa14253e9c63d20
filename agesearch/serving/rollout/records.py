"""The services that follow an alias, as they tell of themselves in the registry.

    registry/NAME/services/<id>.json        renewed every few seconds, deleted at the end

``promote`` and ``rollback`` read from them whether anybody follows, and how a change goes.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from agesearch.deploy.registry import Registry
from agesearch.errors import InputError

_SERVICES = "services"
#: Seconds after which a service that has not renewed its record is gone.
_GONE_S = 30.0
RENEWED_S = 5.0

State = Literal["serving", "rolling", "trying"]


class ServiceRecord(BaseModel):
    """One service and one model of it: the alias that it follows, the version that answers, the one that is
    being started or tried, and the one that it could not take, with the reason.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    url: str
    alias: str
    version: str
    state: State = "serving"
    candidate: str | None = None
    refused: str | None = None
    why: str = ""
    requests: int = 0
    seen: str = ""


def new_id() -> str:
    """A name that no other service has."""
    return secrets.token_hex(6)


def write_record(registry: Registry, name: str, record: ServiceRecord) -> None:
    """Write or renew a record."""
    seen = datetime.now(UTC).isoformat(timespec="milliseconds")
    document = record.model_copy(update={"seen": seen}).model_dump(mode="json")
    (registry.folder(name) / _SERVICES / f"{record.id}.json").write_json(document)


def drop_record(registry: Registry, name: str, service: str) -> None:
    """Take a record away."""
    (registry.folder(name) / _SERVICES / f"{service}.json").delete()


def followers(registry: Registry, name: str, alias: str) -> list[ServiceRecord]:
    """The services that follow an alias now. The records of those that are gone are taken away, whichever
    alias they followed: a service that was killed leaves its own behind.
    """
    found = []
    for file in (registry.folder(name) / _SERVICES).children():
        if not file.name.endswith(".json"):
            continue
        try:
            record = ServiceRecord.model_validate(file.read_json())
            age = (datetime.now(UTC) - datetime.fromisoformat(record.seen)).total_seconds()
        except (OSError, InputError, ValidationError, ValueError):  # it goes, or is no record
            continue
        if age >= _GONE_S:
            with suppress(OSError, InputError):  # a registry that may only be read
                file.delete()
        elif record.alias == alias:
            found.append(record)
    return found
