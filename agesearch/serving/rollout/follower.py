"""A running service follows its aliases: it takes the version that one comes to point to, and tries the one
that is to be tried beside it.

A new version runs whole before the first request goes to it, and an old one answers all that it has before it
ends; so no request fails for a change. What cannot be started changes nothing: the service goes on with the
version that it has, and tells why.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from agesearch.deploy.aliases import Canary
from agesearch.deploy.registry import Registry, Version
from agesearch.errors import AgeSearchError, ConflictError, first_line
from agesearch.provenance import without_places
from agesearch.serving.ingress.config import Route
from agesearch.serving.rollout.counts import Counts, since
from agesearch.serving.rollout.groups import METRICS, Group, Replicas
from agesearch.serving.rollout.judge import Finding, Seen, judged, look_due, words
from agesearch.serving.rollout.models import ServedModel
from agesearch.serving.rollout.records import (
    RENEWED_S,
    ServiceRecord,
    State,
    drop_record,
    new_id,
    write_record,
)
from agesearch.serving.rollout.state import Drift, ServedVersion, ServiceState
from agesearch.storage import Location

_LOG = logging.getLogger(__name__)
#: Seconds between two looks at an alias on this machine, and behind a URI.
_LOCAL_S, _REMOTE_S = 0.5, 5.0
_START_TIMEOUT_S = 60.0


class Versions(Protocol):
    """What starts and ends versions (``Groups``)."""

    def start(self, wanted: Sequence[tuple[str, Location, Replicas]]) -> list[Group]: ...  # noqa: D102

    def scale(self, group: Group, replicas: Replicas) -> None: ...  # noqa: D102

    def stop(self, group: Group) -> None: ...  # noqa: D102


class Front(Protocol):
    """What leads requests to them (``Ingress``)."""

    folder: Path

    def route(self, routes: Sequence[Route]) -> None: ...  # noqa: D102

    def wait_for(self, replicas: int, seconds: float, group: str = "") -> None: ...  # noqa: D102

    def answered(self, model: str, *, canary: bool = False) -> tuple[int, int]: ...  # noqa: D102

    def sockets_of(self, group: str) -> list[Path]: ...  # noqa: D102


@dataclass
class _Trial:
    """A version that is tried, and what both had done when that began."""

    canary: Canary
    group: Group
    old: Seen
    new: Seen
    began: float
    looks: int = 0
    finding: Finding | None = None


@dataclass
class _Running:
    """A model of the service: the version that answers, what is tried, what was refused and why."""

    model: ServedModel
    version: str
    group: Group
    trial: _Trial | None = None
    refused: str | None = None
    why: str = ""
    state: State = "serving"
    candidate: str | None = None
    requests: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)

    @property
    def registry(self) -> Registry:
        """Where its alias is."""
        assert self.model.registry is not None
        return self.model.registry

    @property
    def alias(self) -> str:
        """The alias that it follows."""
        assert self.model.alias is not None
        return self.model.alias


class Follower:
    """Keeps the versions of a service those that its aliases name.

    ``tell`` hears of every change in a line. ``running`` are the models and the groups that answer for them.
    """

    def __init__(
        self,
        running: Sequence[tuple[ServedModel, Group]],
        fleet: Versions,
        front: Front,
        replicas: Replicas,
        url: str,
        key: str,
        tell: Callable[[str], None],
    ) -> None:
        self._running = [_Running(model, model.version, group) for model, group in running]
        self._fleet, self._front, self._replicas = fleet, front, replicas
        self._url, self._key, self._tell = url, key, tell
        self._id = new_id()
        self._ended = threading.Event()
        self._telling = threading.Lock()
        # A step may take as long as a version takes to start; that the service lives is told meanwhile.
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for name, run in (("rollout", self._run), ("alive", self._stay_known))
        ]
        self._lead()

    def __enter__(self) -> Follower:
        for one in self._followed():
            self._renew(one)  # whoever sees that the service answers can find that it follows
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        for one in self._followed():
            with self._unwritten():
                drop_record(one.registry, one.model.name, self._id)

    def _followed(self) -> list[_Running]:
        return [one for one in self._running if one.model.alias is not None]

    def _run(self) -> None:
        followed = self._followed()
        is_local = all(one.model.folder.is_local for one in followed)
        while followed and not self._ended.wait(_LOCAL_S if is_local else _REMOTE_S):
            for one in followed:
                try:
                    self.step(one)
                except ConflictError:  # somebody writes there: next time
                    continue
                except Exception as error:
                    # Whatever a change meets, the service goes on with the versions that it has.
                    _LOG.warning("%s: %s", one.model.name, first_line(error))

    def _stay_known(self) -> None:
        while not self._ended.wait(RENEWED_S):
            for one in self._followed():
                self._renew(one)

    def step(self, one: _Running) -> None:
        """Look at an alias, and do what it asks for next."""
        alias = one.registry.alias(one.model.name, one.alias)
        if one.refused is not None and alias.version == one.version:
            one.refused = None
            self._renew(one)
        if alias.version is not None and alias.version not in (one.version, one.refused):
            self._take(one, alias.version)
        elif one.trial is not None and alias.canary != one.trial.canary:
            self._end_trial(one)
            self._change(one, "serving")
        elif alias.canary is not None and one.trial is None:
            self._try(one, alias.canary)
        elif one.trial is not None:
            self._look(one, one.trial)

    def _take(self, one: _Running, number: str) -> None:
        """Change to another version: start it whole, lead the requests there, end the old one."""
        self._change(one, "rolling", number)
        old, group = one.group, None
        try:
            group = self._whole(one, number)
            self._lead({one.model.name: group})
            self._front.wait_for(self._replicas.least, _START_TIMEOUT_S, group.name)
        except AgeSearchError as error:
            self._refuse(one, number, error)
            if group is not None:
                self._fleet.stop(group)
            return
        before, one.version, one.group, one.refused = one.version, number, group, None
        self._change(one, "serving", done="taken")
        self._tell(f"{one.model.name}: version {number} answers in place of {before}.")
        self._fleet.stop(old)

    def _whole(self, one: _Running, number: str) -> Group:
        """All replicas of a version: those that were tried and more, or new ones."""
        trial = one.trial
        # As many as answer now, which load may have made more than the fewest.
        replicas = self._replicas.beginning_with(len(self._front.sockets_of(one.group.name)))
        if trial is None or trial.canary.version != number:
            self._end_trial(one)
            return self._started(one.model.checked(number), replicas)[0]
        self._fleet.scale(trial.group, replicas)
        one.trial = None
        return trial.group

    def _refuse(self, one: _Running, number: str, error: AgeSearchError) -> None:
        one.refused, one.why = number, first_line(error)
        self._end_trial(one)
        self._lead()
        self._change(one, "serving", done="refused")
        self._tell(f"{one.model.name}: version {one.version} goes on, {number} is not taken: {error}")

    def _try(self, one: _Running, canary: Canary) -> None:
        """Start the version that is to be tried, and give it its share."""
        one.requests = 0
        self._change(one, "trying", canary.version)
        try:
            count = 1 if canary.shadow else math.ceil(canary.share * self._replicas.least)
            (group,) = self._started(one.model.checked(canary.version), Replicas.of(count))
        except AgeSearchError as error:
            self._conclude(one, canary, takes=False, why=f"it does not start: {first_line(error)}")
            return
        old, new = self._seen(one, canary)
        one.trial = _Trial(canary, group, old, new, time.monotonic())
        self._lead()
        self._change(one, "trying", canary.version)
        how = "is asked besides" if canary.shadow else "is tried"
        self._tell(f"{one.model.name}: version {canary.version} {how}, {canary.share:.0%} of the requests.")

    def _look(self, one: _Running, trial: _Trial) -> None:
        """Judge the version that is tried, where there are requests enough for the next look."""
        canary = trial.canary
        old, new = self._seen(one, canary)
        if new.requests < trial.new.requests or old.requests < trial.old.requests:
            trial.old, trial.new = old, new  # HAProxy was started anew, and counts from nothing
        old, new = since(old, trial.old), since(new, trial.new)
        one.requests = new.requests
        late = time.monotonic() - trial.began > 60 * canary.minutes
        if look_due(new.requests, trial.looks):
            trial.looks += 1
            trial.finding = judged(old, new, trial.looks)
            self._lead()
        finding = trial.finding
        if finding is not None and finding.outcome != "open":
            why = f"after {new.requests} requests: {finding.why}"
            self._conclude(one, canary, takes=finding.outcome == "fine", why=why)
        elif late:
            found = words([] if finding is None else finding.measures)
            why = f"{new.requests} requests in {canary.minutes:g} minutes decide nothing: {found}"
            self._conclude(one, canary, takes=False, why=why)
        self._renew(one)

    def _conclude(self, one: _Running, canary: Canary, *, takes: bool, why: str) -> None:
        """Write the end of a trial into the registry; the next step carries it out."""
        registry, name = one.registry, one.model.name
        one.why = why
        with registry.locked(name):
            if registry.alias(name, one.alias).canary != canary:
                return  # somebody else was faster
            if takes:
                version = registry.find(f"{name}:{canary.version}")
                registry.move_alias(version, one.alias, "promote", why)
            else:
                registry.try_beside(name, one.alias, None, why)
        if not takes:
            self._end_trial(one)
            self._change(one, "serving", done="refused")
            self._tell(f"{name}: version {one.version} stays, {canary.version} is refused: {why}")

    def _started(self, version: Version, replicas: Replicas) -> list[Group]:
        return self._fleet.start([(version.label, version.folder, replicas)])

    def _end_trial(self, one: _Running) -> None:
        trial, one.trial = one.trial, None
        if trial is not None:
            self._lead()
            try:
                self._front.wait_for(0, _START_TIMEOUT_S)
            finally:
                self._fleet.stop(trial.group)

    def _seen(self, one: _Running, canary: Canary) -> tuple[Seen, Seen]:
        """What the version that answers and the one that is tried did so far."""
        counts, name = Counts(self._front.folder / METRICS), one.model.name
        new = counts.of(name, canary.version, shadow=canary.shadow)
        if not canary.shadow:
            requests, failed = self._front.answered(name, canary=True)
            new = replace(new, requests=requests, failed=failed)
        requests, failed = self._front.answered(name)
        return replace(counts.of(name, one.version), requests=requests, failed=failed), new

    def _lead(self, taking: dict[str, Group] | None = None) -> None:
        """Lead the requests as it is now; those of a model in ``taking`` to that group."""
        routes, served, drift = [], [], []
        for one in self._running:
            name, trial = one.model.name, one.trial
            share = 0.0 if trial is None or trial.canary.shadow else trial.canary.share
            group = (taking or {}).get(name, one.group)
            tried = trial.group.name if trial is not None and share else None
            routes.append(Route(name, group.name, tried, share))
            live = ServedVersion(name=name, version=one.version, group=one.group.name)
            served.append(live.model_copy(update={"share": 1 - share, "alias": one.model.alias}))
            if trial is None:
                continue
            role = "shadow" if trial.canary.shadow else "canary"
            about = {"version": trial.canary.version, "group": trial.group.name, "role": role}
            served.append(live.model_copy(update={**about, "share": trial.canary.share}))
            drift += _drift(name, trial)
        outcomes = {one.model.name: dict(one.outcomes) for one in self._running}
        state = ServiceState(models=tuple(served), key=self._key, drift=tuple(drift), rollouts=outcomes)
        state.write(self._front.folder)
        self._front.route(routes)

    def _change(
        self, one: _Running, state: State, candidate: str | None = None, done: str | None = None
    ) -> None:
        one.state, one.candidate = state, candidate
        if done is not None:
            one.outcomes[done] = one.outcomes.get(done, 0) + 1
            self._lead()
        self._renew(one)

    def _renew(self, one: _Running) -> None:
        """Tell in the registry how it stands; one that cannot be written is followed all the same."""
        with self._telling, self._unwritten():
            record = ServiceRecord(
                id=self._id,
                url=self._url,
                alias=one.model.alias or "",
                version=one.version,
                state=one.state,
                candidate=one.candidate,
                refused=one.refused,
                why=without_places(one.why),
                requests=one.requests,
            )
            write_record(one.registry, one.model.name, record)

    @contextmanager
    def _unwritten(self) -> Iterator[None]:
        """A registry that cannot be written, and is read all the same."""
        try:
            yield
        except (AgeSearchError, OSError) as error:
            _LOG.info("No record in the registry: %s", error)


def _drift(name: str, trial: _Trial) -> list[Drift]:
    measures = () if trial.finding is None else trial.finding.measures
    return [
        Drift(
            name=name,
            version=trial.canary.version,
            measure=found.name,
            low=found.low,
            high=found.high,
            limit=found.limit,
        )
        for found in measures
    ]
