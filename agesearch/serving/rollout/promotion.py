"""Moving an alias that running services follow, and waiting for what becomes of it.

The alias in the registry is all that services and commands share: a step of it is written here, services take
it by themselves, and tell in their records how that goes. A version that a service cannot take goes back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from agesearch.deploy.aliases import Canary, Step
from agesearch.deploy.integrity import verify
from agesearch.deploy.registry import CHAMPION, Registry, Version
from agesearch.errors import AgeSearchError, ConflictError, InputError, command
from agesearch.progress import Listener, Progress, silent
from agesearch.provenance import now
from agesearch.serving.rollout.records import ServiceRecord, followers

_LOOK_S = 0.25
#: Seconds that services have for a change, besides those of a trial.
_TAKE_S = 180.0


@dataclass(frozen=True)
class Trial:
    """How a version is tried before it takes the other's place: on which share of the requests, for at most
    how many minutes; ``shadow``: it is asked besides, and nobody gets its answers.
    """

    share: float
    shadow: bool = False
    minutes: float = 60.0


@dataclass(frozen=True)
class Change:
    """What became of an alias: what it pointed to and points to, the services that follow it, and why."""

    name: str
    alias: str
    before: str | None
    version: str | None
    services: list[str]
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """As a document."""
        return asdict(self)


@dataclass(frozen=True)
class _Followed:
    """An alias and who follows it."""

    registry: Registry
    name: str
    alias: str

    def records(self) -> list[ServiceRecord]:
        return followers(self.registry, self.name, self.alias)

    def urls(self) -> list[str]:
        return [record.url for record in self.records()]

    def pointed(self) -> str | None:
        return self.registry.alias(self.name, self.alias).version

    def canary(self) -> Canary | None:
        return self.registry.alias(self.name, self.alias).canary


def promote(
    registry: Registry,
    name: str,
    number: str,
    alias: str = CHAMPION,
    *,
    trial: Trial | None = None,
    why: str = "",
    wait: bool = True,
    check: Callable[[Version], None] = lambda _: None,
    on_progress: Listener = silent,
) -> Change:
    """Point an alias at a version, at once or after a ``trial`` that a running service judges, and wait until
    the services that follow it have changed. Without one the alias moves and nothing else happens; with one
    the version must pass ``check`` first.

    Raises ``InputError`` for a version that is not there, is damaged, or is the alias's already, and for a
    trial that nobody would make; ``AgeSearchError`` where a service cannot take it, or the trial failed: the
    alias then points to what it did.
    """
    version = registry.own(registry.find(f"{name}:{number}"))
    verify(version.folder)
    followed = _Followed(registry, name, alias)
    if followed.urls():
        check(version)
    with registry.locked(name):
        before = followed.pointed()
        if before == version.number:
            raise InputError(f"The alias '{alias}' of {name} points to {version.number} already.")
        tried = followed.canary()
        if tried is not None:
            raise ConflictError(
                f"The version {name}:{tried.version} is being tried since {tried.began}: wait for its end, "
                f"or break it off: {command('rollback', name, *_alias_words(alias))}"
            )
        services = followed.urls()
        if trial is None:
            registry.move_alias(version, alias, "promote", why)
        else:
            _begin(followed, version, trial, services, before, why)
    if wait and services:
        _await_end(followed, version, before, trial, on_progress)
    moved = registry.alias(name, alias)
    told = moved.history[-1].why if moved.history else ""
    return Change(name, alias, before, moved.version, services, told)


def rollback(
    registry: Registry,
    name: str,
    alias: str = CHAMPION,
    *,
    why: str = "",
    wait: bool = True,
    check: Callable[[Version], None] = lambda _: None,
    on_progress: Listener = silent,
) -> Change:
    """Break off a trial, or point an alias at the version that it pointed to before the last change that was
    not taken back; check and wait as ``promote`` does, and leave the alias where it was where a service
    cannot take it. An ``InputError`` where there is nothing to go back to.
    """
    registry.versions(name)
    followed = _Followed(registry, name, alias)
    with registry.locked(name):
        entry = registry.alias(name, alias)
        services = followed.urls()
        if entry.canary is not None:
            registry.try_beside(name, alias, None, why or "broken off by hand")
            return Change(name, alias, entry.version, entry.version, services, "the trial is broken off")
        if entry.before is None:
            raise InputError(f"The alias '{alias}' of {name} has no version before to go back to.")
        version = registry.find(f"{name}:{entry.before}")
        verify(version.folder)
        if services:
            check(version)
        registry.move_alias(version, alias, "rollback", why)
    if wait and services:
        _taken_or_back(followed, version, entry.version, "move", on_progress)
    return Change(name, alias, entry.version, version.number, services, why)


def _begin(
    followed: _Followed,
    version: Version,
    trial: Trial,
    services: list[str],
    before: str | None,
    why: str,
) -> None:
    name, alias = followed.name, followed.alias
    if not services or before is None:
        raise InputError(
            f"No running service follows {name}@{alias}, so no requests to try {version.number} on: "
            f"start one ({command('serve', f'{name}@{alias}')}), or promote without a trial."
        )
    how = "asked besides" if trial.shadow else "tried"
    canary = Canary(
        version=version.number,
        share=trial.share,
        shadow=trial.shadow,
        minutes=trial.minutes,
        began=now(),
    )
    told = f"{how} on {trial.share:.0%} of the requests" + (f": {why}" if why else "")
    followed.registry.try_beside(name, alias, canary, told)


def _await_end(
    followed: _Followed, version: Version, before: str | None, trial: Trial | None, on_progress: Listener
) -> None:
    if trial is not None:
        _await_verdict(followed, version, trial, on_progress)
    _taken_or_back(followed, version, before, "rollback", on_progress)


def _taken_or_back(
    followed: _Followed, version: Version, before: str | None, step: Step, on_progress: Listener
) -> None:
    """Wait for the services; where one cannot take the version, the alias takes a ``step`` back."""
    try:
        _await_taken(followed, version, on_progress)
    except AgeSearchError as error:
        _take_back(followed, version, before, step, str(error))
        raise


def _await_verdict(followed: _Followed, version: Version, trial: Trial, on_progress: Listener) -> None:
    deadline = time.monotonic() + 60 * trial.minutes + _TAKE_S
    stage = f"Trying {version.label}"
    while (entry := followed.registry.alias(followed.name, followed.alias)).canary is not None:
        records = followed.records()
        if not records or time.monotonic() > deadline:
            raise AgeSearchError(
                f"No service judges {version.label} any more; it still counts as tried. Break it off: "
                f"{command('rollback', followed.name, *_alias_words(followed.alias))}"
            )
        requests = max(record.requests for record in records)
        on_progress(Progress(stage, requests, None, note="requests"))
        time.sleep(_LOOK_S)
    if entry.version != version.number:
        raise AgeSearchError(f"{version.label} is not taken: {entry.history[-1].why}")
    on_progress(Progress(stage, 1, 1))


def _await_taken(followed: _Followed, version: Version, on_progress: Listener) -> None:
    """Until every service that follows the alias answers with the version."""
    deadline = time.monotonic() + _TAKE_S
    stage = f"Changing to {version.label}"
    while True:
        records = followed.records()
        refused = next((record for record in records if record.refused == version.number), None)
        if refused is not None:
            raise AgeSearchError(f"The service at {refused.url} cannot take {version.label}: {refused.why}")
        ready = [record for record in records if record.version == version.number]
        on_progress(Progress(stage, len(ready), max(1, len(records))))
        if len(ready) == len(records):
            return
        if time.monotonic() > deadline:
            late = next(record.url for record in records if record.version != version.number)
            raise AgeSearchError(f"The service at {late} has not taken {version.label} in {_TAKE_S:g} s.")
        time.sleep(_LOOK_S)


def _take_back(followed: _Followed, version: Version, before: str | None, step: Step, why: str) -> None:
    """Point the alias at what it pointed to, unless somebody has moved it since."""
    if before is None or followed.pointed() != version.number:
        return
    registry, name = followed.registry, followed.name
    with registry.locked(name):
        registry.move_alias(registry.find(f"{name}:{before}"), followed.alias, step, why)
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline and any(
        record.refused == version.number for record in followed.records()
    ):
        time.sleep(_LOOK_S)


def _alias_words(alias: str) -> list[str]:
    return [] if alias == CHAMPION else ["--alias", alias]
