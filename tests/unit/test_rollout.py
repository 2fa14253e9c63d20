"""A service that follows an alias: versions taken, refused and tried, without Ray or HTTP."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from followed_service import URL, Service, canary, fine, registry, service

from agesearch.deploy.registry import CHAMPION, Registry
from agesearch.serving.rollout import follower
from agesearch.serving.rollout.groups import Group, Replicas
from agesearch.serving.rollout.judge import Seen
from agesearch.serving.rollout.records import ServiceRecord, followers, write_record
from agesearch.serving.rollout.scaling import WAITING, replicas_wanted, wanted_for

__all__ = ["registry", "service"]


def test_a_service_takes_the_version_that_its_alias_comes_to_point_to(
    registry: Registry, service: Service
) -> None:
    service.step(3)
    assert service.fleet.running() == ["0001"]
    registry.move_alias(registry.find("ages:2"), CHAMPION)
    service.step()
    assert (service.version, service.fleet.running()) == ("0002", ["0002"])
    ((_, replicas),) = service.fleet.live.values()
    assert replicas == Replicas(2, 2, 2)
    (served,) = service.state().models
    assert (served.version, served.role, served.share, served.alias) == ("0002", "live", 1.0, CHAMPION)
    assert service.state().rollouts == {"ages": {"taken": 1}}
    (record,) = followers(registry, "ages", CHAMPION)
    assert (record.version, record.url, record.state) == ("0002", URL, "serving")
    assert followers(registry, "ages", "candidate") == []


def test_a_version_that_does_not_start_or_is_damaged_changes_nothing(
    registry: Registry, service: Service
) -> None:
    service.fleet.broken.add("0002")
    registry.move_alias(registry.find("ages:2"), CHAMPION)
    service.step(3)
    assert (service.version, service.fleet.running()) == ("0001", ["0001"])
    assert [route.group for route in service.front.routes] == ["1"]
    (record,) = followers(registry, "ages", CHAMPION)
    assert (record.refused, record.why) == ("0002", "it has no replicas")
    third = registry.find("ages:3")
    (third.folder / "manifest.json").write_text("{}")
    registry.move_alias(third, CHAMPION)
    service.step()
    assert service.fleet.running() == ["0001"]
    (record,) = followers(registry, "ages", CHAMPION)
    assert (
        "'manifest.json' was changed" in record.why
    )  # whoever reads the registry learns no folder of this machine
    registry.move_alias(registry.find("ages:1"), CHAMPION, why=f"back: '{third.folder}' is damaged")
    assert registry.alias("ages", CHAMPION).history[-1].why == "back: '0003' is damaged"


def test_a_canary_that_fails_is_refused_and_the_history_says_why(
    registry: Registry, service: Service
) -> None:
    registry.try_beside("ages", CHAMPION, canary("0002"), "tried")
    service.step()
    assert service.fleet.running() == ["0001", "0002"]
    (route,) = service.front.routes
    assert (route.group, route.share) == ("1", 0.2)
    live, tried = service.state().models
    assert (live.share, tried.share, tried.role) == (0.8, 0.2, "canary")
    service.step()
    assert service.fleet.running() == ["0001", "0002"]  # no requests: nothing is decided
    service.front.counts = {False: (900, 0), True: (100, 90)}
    service.step()
    alias = registry.alias("ages", CHAMPION)
    assert (alias.version, alias.canary) == ("0001", None)
    assert service.fleet.running() == ["0001"]
    assert [move.step for move in alias.history] == ["move", "canary", "refuse"]
    assert alias.history[-1].why.startswith("after 100 requests: failed requests +")
    assert service.state().rollouts == {"ages": {"refused": 1}}


def test_a_canary_that_does_as_well_is_promoted_and_its_replicas_stay(
    registry: Registry, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counts:
        requests = 0

        def __init__(self, _: Path) -> None:
            pass

        def of(self, name: str, version: str, *, shadow: bool = False) -> Seen:
            return fine(self.requests)

    monkeypatch.setattr(follower, "Counts", Counts)
    registry.try_beside("ages", CHAMPION, canary("0002"), "tried")
    service.step()
    (tried,) = (name for name, (number, _) in service.fleet.live.items() if number == "0002")
    Counts.requests, service.front.counts = 5000, {False: (20_000, 0), True: (5000, 0)}
    service.step(8)
    alias = registry.alias("ages", CHAMPION)
    assert (alias.version, alias.canary) == ("0002", None)
    assert alias.history[-1].step == "promote"
    assert service.fleet.live == {tried: ("0002", Replicas(2, 2, 2))}
    assert [route.group for route in service.front.routes] == [tried]
    assert {found.measure for found in service.state().drift} == set()


def test_a_trial_that_decides_nothing_in_time_changes_nothing(registry: Registry, service: Service) -> None:
    registry.try_beside("ages", CHAMPION, canary("0002", shadow=True, minutes=1e-9), "tried")
    service.step()
    assert [route.canary for route in service.front.routes] == [None]  # nobody gets a shadow's answers
    assert service.state().models[1].role == "shadow"
    service.step()
    assert service.fleet.running() == ["0001"]
    assert "decide nothing" in registry.alias("ages", CHAMPION).history[-1].why


def test_a_service_is_known_while_a_version_takes_long_to_start(
    registry: Registry, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else ``promote`` would take it for one that is gone, and the change for done."""
    begun, release = threading.Event(), threading.Event()
    start = service.fleet.start

    def slowly(wanted: Any) -> list[Group]:
        begun.set()
        release.wait(30)
        return start(wanted)

    monkeypatch.setattr(service.fleet, "start", slowly)
    monkeypatch.setattr(follower, "RENEWED_S", 0.01)
    monkeypatch.setattr(follower, "_LOCAL_S", 0.01)
    with service.running():
        registry.move_alias(registry.find("ages:2"), CHAMPION)
        assert begun.wait(30)
        seen = {record.seen for record in followers(registry, "ages", CHAMPION)}
        deadline = time.monotonic() + 30
        while len(seen) < 3 and time.monotonic() < deadline:
            (record,) = followers(registry, "ages", CHAMPION)
            assert (record.version, record.state, record.candidate) == ("0001", "rolling", "0002")
            seen.add(record.seen)
        release.set()
        while service.version != "0002" and time.monotonic() < deadline:
            time.sleep(0.005)
    assert len(seen) == 3
    assert service.version == "0002"
    assert followers(registry, "ages", CHAMPION) == []


def test_the_record_of_a_service_that_was_killed_goes_with_the_next_look(registry: Registry) -> None:
    for name in ("lives", "killed"):
        record = ServiceRecord(id=name, url=URL, alias="candidate", version="0001")
        write_record(registry, "ages", record)
    services = registry.folder("ages") / "services"
    killed = services / "killed.json"
    killed.write_json(killed.read_json() | {"seen": "2026-01-01T00:00:00+00:00"})
    assert followers(registry, "ages", CHAMPION) == []
    assert [file.name for file in services.children()] == ["lives.json"]
    assert [one.id for one in followers(registry, "ages", "candidate")] == ["lives"]


def test_counts_that_begin_anew_are_no_evidence(registry: Registry, service: Service) -> None:
    service.front.counts = {False: (900, 0), True: (0, 0)}
    registry.try_beside("ages", CHAMPION, canary("0002"), "tried")
    service.step()
    service.front.counts = {False: (10, 10), True: (400, 0)}  # HAProxy was killed and came back
    service.step()
    service.front.counts = {False: (910, 10), True: (500, 99)}
    service.step()
    assert "after 100 requests" in registry.alias("ages", CHAMPION).history[-1].why


def test_a_new_version_begins_with_as_many_replicas_as_answer() -> None:
    assert [Replicas(1, 4).beginning_with(count).first for count in (0, 3, 9)] == [1, 3, 4]


def test_replicas_follow_what_waits_in_them() -> None:
    assert wanted_for([], 2) == 2
    assert wanted_for([8.0], 1) == 3
    assert wanted_for([0.0, 0.0], 2) == 1
    assert wanted_for([1.5, 1.2], 2) == 2  # at the border it stays

    class Context:
        aggregated_metrics = {WAITING: {"a": 4.0, "b": 3.0}}
        target_num_replicas = 2

    assert replicas_wanted(Context()) == (3, {})
