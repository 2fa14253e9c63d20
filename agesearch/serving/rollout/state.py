"""What a service serves now, as its driver writes it into the service's folder and every replica reads it."""

from __future__ import annotations

import secrets
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from agesearch.serving.schema import ModelSummary, Role

_STATE = "state.json"
SUMMARY = "summary.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class ServedVersion(_Part):
    """A version that runs: the ``group`` is the folder of its replicas' sockets, within the service's."""

    name: str
    version: str
    group: str
    role: Role = "live"
    share: float = 1.0
    alias: str | None = None


class Drift(_Part):
    """A measure of a version that is tried, new minus old: between ``low`` and ``high``, and its limit."""

    name: str
    version: str
    measure: str
    low: float
    high: float
    limit: float


class ServiceState(_Part):
    """All of it. ``key`` lets a replica ask another one besides; ``rollouts`` counts, by model, how changes
    ended.
    """

    models: tuple[ServedVersion, ...] = ()
    key: str = ""
    drift: tuple[Drift, ...] = ()
    rollouts: dict[str, dict[str, int]] = {}

    def write(self, folder: Path) -> None:
        """Write it whole."""
        staging = folder / f"{_STATE}.{secrets.token_hex(4)}"
        staging.write_text(self.model_dump_json(), "utf-8")
        staging.replace(folder / _STATE)


def read_state(folder: Path) -> ServiceState:
    """What the service of a folder serves; nothing while it begins or ends."""
    try:
        return ServiceState.model_validate_json((folder / _STATE).read_text("utf-8"))
    except (OSError, ValidationError):
        return ServiceState()


class StateReader:
    """The state as a replica of the group folder ``own`` sees it; it is read again as it changes."""

    def __init__(self, own: Path, summary: ModelSummary) -> None:
        self._folder = own.parent
        self._summary = summary
        self._read: tuple[int, int] | None = None
        self._state = ServiceState()
        (own / SUMMARY).write_text(summary.model_dump_json(), "utf-8")

    def state(self) -> ServiceState:
        """The newest: whoever was told of a change finds it here, so nothing stands for a while unread."""
        file = self._folder / _STATE
        try:
            found = file.stat()
            if (written := (found.st_ino, found.st_mtime_ns)) != self._read:
                self._state = ServiceState.model_validate_json(file.read_text("utf-8"))
                self._read = written
        except (OSError, ValidationError):  # the service begins, or ends
            pass
        return self._state

    def summaries(self) -> list[ModelSummary]:
        """The versions that answer in this service."""
        found = []
        for served in self.state().models:
            try:
                text = (self._folder / served.group / SUMMARY).read_text("utf-8")
                summary = ModelSummary.model_validate_json(text)
            except (OSError, ValidationError):
                continue
            about = {"role": served.role, "share": served.share, "alias": served.alias}
            found.append(summary.model_copy(update=about))
        return found or [self._summary]

    def names(self) -> list[str]:
        """The names that a request can ask for."""
        return list(dict.fromkeys(served.name for served in self.state().models)) or [self._summary.name]

    def shadow_of(self, name: str) -> ServedVersion | None:
        """The version that is asked besides, of the model of that name."""
        shadows = (one for one in self.state().models if (one.name, one.role) == (name, "shadow"))
        return next(shadows, None)

    def sockets(self, served: ServedVersion) -> list[Path]:
        """The sockets of a version's replicas."""
        return sorted((self._folder / served.group).glob("*.sock"))
