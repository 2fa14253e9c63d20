"""Promote, roll back, try: the registry, the service that follows it and the command, without Ray or HTTP."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agesearch.cli.main import app
from agesearch.cli.promote import share_of
from agesearch.cli.serve import replica_range
from agesearch.deploy.aliases import Canary
from agesearch.deploy.registry import CHAMPION, Registry
from agesearch.errors import AgeSearchError, ConflictError, InputError
from agesearch.models.manifest import ModelManifest
from agesearch.serving.ingress.config import Route
from agesearch.serving.rollout import follower, promotion
from agesearch.serving.rollout.follower import Follower
from agesearch.serving.rollout.groups import METRICS, Group, Replicas
from agesearch.serving.rollout.judge import Histogram, Seen
from agesearch.serving.rollout.models import require_opens, served_models
from agesearch.serving.rollout.promotion import Trial, promote, rollback
from agesearch.serving.rollout.records import ServiceRecord, followers, write_record
from agesearch.serving.rollout.scaling import WAITING, replicas_wanted, wanted_for
from agesearch.serving.rollout.state import ServiceState
from agesearch.specs import CropSpec, ModelSpec

URL = "http://127.0.0.1:8000"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """``ages`` with three versions, the first of which is the champion."""
    store = Registry(str(tmp_path / "registry"))
    for number in (1, 2, 3):
        spec = {"model": ModelSpec(arch="lcnet_035"), "crop": CropSpec(), "provenance": {}}
        manifest = ModelManifest(kind="version", name="ages", version=number, **spec)
        store.add("ages", number, {"manifest.json": manifest.model_dump_json().encode()})
    store.move_alias(store.find("ages:1"), CHAMPION)
    return store


class Fleet:
    """Notes what is started, scaled and stopped; ``broken`` versions do not start."""

    def __init__(self) -> None:
        self.live: dict[str, tuple[str, Replicas]] = {"1": ("0001", Replicas())}
        self.broken: set[str] = set()
        self.started = 1

    def start(self, wanted: Sequence[tuple[str, Any, Replicas]]) -> list[Group]:
        ((label, _, replicas),) = wanted
        number = label.partition(":")[2]
        if number in self.broken:
            raise AgeSearchError("it has no replicas")
        self.started += 1
        name = str(self.started)
        self.live[name] = (number, replicas)
        return [Group(name, name, "")]

    def scale(self, group: Group, replicas: Replicas) -> None:
        self.live[group.name] = (self.live[group.name][0], replicas)

    def stop(self, group: Group) -> None:
        del self.live[group.name]

    def running(self) -> list[str]:
        return [number for number, _ in self.live.values()]


class Front:
    """Notes the routes; ``counts`` are answers and failures of the live version, and of the one tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / METRICS).mkdir(parents=True)
        self.counts = {False: (0, 0), True: (0, 0)}
        self.routes: list[Route] = []

    def route(self, routes: Sequence[Route]) -> None:
        self.routes = list(routes)

    def wait_for(self, replicas: int, seconds: float, group: str = "") -> None:
        assert not group or group in [route.group for route in self.routes]

    def answered(self, model: str, *, canary: bool = False) -> tuple[int, int]:
        return self.counts[canary]

    def sockets_of(self, group: str) -> list[Path]:
        return [Path("a.sock"), Path("b.sock")]


class Service:
    """A service without replicas that follows ages@champion; its steps are made one by one."""

    def __init__(self, registry: Registry, folder: Path) -> None:
        self.fleet, self.front, self.told = Fleet(), Front(folder), []
        model = served_models(["ages"], str(registry.root))
        running = [(model[0], Group("1", "1", ""))]
        self._follower = Follower(
            running, self.fleet, self.front, Replicas.of(2), URL, "key", self.told.append
        )
        self._running = self._follower._running[0]
        self._follower._renew(self._running)

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self._follower.step(self._running)

    def running(self) -> Follower:
        """Steps by itself, for the length of a block."""
        return self._follower

    @property
    def version(self) -> str:
        return self._running.version

    def state(self) -> ServiceState:
        return ServiceState.model_validate_json((self.front.folder / "state.json").read_text())


@pytest.fixture
def service(registry: Registry, tmp_path: Path) -> Service:
    return Service(registry, tmp_path / "service")


@pytest.fixture
def following(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The service steps by itself."""
    monkeypatch.setattr(promotion, "_LOOK_S", 0.01)
    over = threading.Event()

    def run() -> None:
        while not over.wait(0.01):
            try:
                service.step()
            except ConflictError:
                continue

    thread = threading.Thread(target=run)
    thread.start()
    yield service
    over.set()
    thread.join()


def canary(number: str, **rest: Any) -> Canary:
    return Canary(version=number, began="2030-01-01", share=rest.pop("share", 0.2), **rest)


def fine(requests: int) -> Seen:
    seconds = Histogram((0.01, 0.1), (requests, 0, 0))
    ages = Histogram(tuple(map(float, range(5, 101, 5))), (0, 0, 0, requests, *([0] * 17)))
    return Seen(requests, 0, seconds, ages)


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
    for service in ("lives", "killed"):
        record = ServiceRecord(id=service, url=URL, alias="candidate", version="0001")
        write_record(registry, "ages", record)
    services = registry.folder("ages") / "services"
    killed = services / "killed.json"
    killed.write_json(killed.read_json() | {"seen": "2026-01-01T00:00:00+00:00"})
    assert followers(registry, "ages", CHAMPION) == []
    assert [file.name for file in services.children()] == ["lives.json"]
    assert [one.id for one in followers(registry, "ages", "candidate")] == ["lives"]


def test_promote_waits_for_the_service_and_rollback_goes_back_step_by_step(
    registry: Registry, following: Service
) -> None:
    change = promote(registry, "ages", "2", why="better")
    assert (change.before, change.version, change.services) == ("0001", "0002", [URL])
    assert following.version == "0002"
    promote(registry, "ages", "3")
    assert rollback(registry, "ages").version == "0002"
    assert rollback(registry, "ages").version == following.version == "0001"
    with pytest.raises(InputError, match="no version before"):
        rollback(registry, "ages")
    moves = registry.alias("ages", CHAMPION).history
    assert [move.step for move in moves] == ["move", "promote", "promote", "rollback", "rollback"]
    assert moves[1].why == "better"


def test_promote_takes_back_what_the_service_cannot_start(registry: Registry, following: Service) -> None:
    following.fleet.broken.add("0002")
    with pytest.raises(AgeSearchError, match="cannot take ages:0002: it has no replicas"):
        promote(registry, "ages", "2")
    alias = registry.alias("ages", CHAMPION)
    assert (alias.version, alias.history[-1].step) == ("0001", "rollback")
    following.fleet.broken.clear()
    assert promote(registry, "ages", "2").version == "0002"  # it may be tried anew


def test_rollback_leaves_the_alias_where_a_service_cannot_go_back(
    registry: Registry, following: Service
) -> None:
    for number in ("2", "3"):
        promote(registry, "ages", number)
    following.fleet.broken.add("0002")
    with pytest.raises(AgeSearchError, match="cannot take ages:0002: it has no replicas"):
        rollback(registry, "ages")
    assert (registry.alias("ages", CHAMPION).version, following.version) == ("0003", "0003")
    following.fleet.broken.clear()
    assert [rollback(registry, "ages").version for _ in range(2)] == ["0002", "0001"]


def test_a_version_that_cannot_be_opened_is_told_before_anything_moves(
    registry: Registry, service: Service
) -> None:
    document = registry.find("ages:3").manifest().model_dump() | {"version": 4}
    manifest = ModelManifest(**document | {"files": {"model.onnx": hashlib.sha256(b"none").hexdigest()}})
    registry.add("ages", 4, {"manifest.json": manifest.model_dump_json().encode(), "model.onnx": b"none"})
    for trial in (None, Trial(0.5)):
        with pytest.raises(InputError, match="ages:0004 cannot be opened: .*not an ONNX model"):
            promote(registry, "ages", "4", trial=trial, check=require_opens)
    alias = registry.alias("ages", CHAMPION)
    assert ([move.step for move in alias.history], alias.canary) == (["move"], None)


def test_a_failed_trial_is_a_failed_promotion(registry: Registry, following: Service) -> None:
    following.fleet.broken.add("0002")
    with pytest.raises(AgeSearchError, match="ages:0002 is not taken: it does not start"):
        promote(registry, "ages", "2", trial=Trial(0.5))
    assert registry.alias("ages", CHAMPION).version == "0001"


def test_a_trial_is_broken_off_by_rollback(registry: Registry, following: Service) -> None:
    promote(registry, "ages", "2", trial=Trial(0.5), wait=False)
    with pytest.raises(ConflictError, match="being tried"):
        promote(registry, "ages", "3")
    assert rollback(registry, "ages").version == "0001"
    assert registry.alias("ages", CHAMPION).canary is None


def run(registry: Registry, *words: str) -> Any:
    return CliRunner().invoke(app, [*words, "--registry", str(registry.root)])


def test_without_a_service_promote_moves_the_alias_and_says_so(registry: Registry) -> None:
    told = run(registry, "promote", "ages", "2")
    assert told.exit_code == 0, told.output
    assert "champion pointed to 0001 and now points to 0002." in told.output
    assert "No running service follows it" in told.output
    assert "0001 -> 0002 (promote)" in run(registry, "models", "ages").output


@pytest.mark.parametrize(
    ("name", "number", "rest", "message"),
    [
        ("ages", "1", {}, "points to 0001 already"),
        ("ages", "7", {}, "Unknown version"),
        ("nobody", "1", {}, "Unknown model"),
        ("ages", "2", {"trial": Trial(0.1)}, "no requests to try"),
        ("ages", "2", {"trial": Trial(1.0, shadow=True)}, "no requests to try"),
        ("ages", "2", {"alias": "v2"}, "reads as the number"),
    ],
)
def test_what_cannot_be_promoted_is_refused_and_nothing_moves(
    registry: Registry, name: str, number: str, rest: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        promote(registry, name, number, **rest)
    with pytest.raises(InputError, match="no version before"):
        rollback(registry, "ages")
    assert registry.alias("ages", CHAMPION).version == "0001"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["promote", "ages", "2", "--canary", "110%"], "above 0%"),
        (["serve", "ages", "ages:2"], "named twice"),
    ],
)
def test_bad_input_is_an_error_of_input(registry: Registry, words: list[str], message: str) -> None:
    found = run(registry, *words)
    assert isinstance(found.exception, InputError)
    assert message in str(found.exception)


def test_shares_and_ranges_are_read_as_people_write_them() -> None:
    assert (share_of("10%"), share_of("0.25"), share_of(" 2.5% ")) == (0.1, 0.25, 0.025)
    assert (replica_range("3"), replica_range("1-4")) == ((3, 3), (1, 4))
    for share in ("0%", "100%", "ten", "", "nan", "-5%"):
        with pytest.raises(InputError, match="--canary"):
            share_of(share)
    for wrong in ("", "0", "-1", "1-", "a-b", "1-2-3", "9999", "1-300"):
        with pytest.raises(InputError, match="--replicas"):
            replica_range(wrong)


def test_a_new_version_begins_with_as_many_replicas_as_answer() -> None:
    assert [Replicas(1, 4).beginning_with(count).first for count in (0, 3, 9)] == [1, 3, 4]


def test_counts_that_begin_anew_are_no_evidence(registry: Registry, service: Service) -> None:
    service.front.counts = {False: (900, 0), True: (0, 0)}
    registry.try_beside("ages", CHAMPION, canary("0002"), "tried")
    service.step()
    service.front.counts = {False: (10, 10), True: (400, 0)}  # HAProxy was killed and came back
    service.step()
    service.front.counts = {False: (910, 10), True: (500, 99)}
    service.step()
    assert "after 100 requests" in registry.alias("ages", CHAMPION).history[-1].why


def test_replicas_follow_what_waits_in_them() -> None:
    assert wanted_for([], 2) == 2
    assert wanted_for([8.0], 1) == 3
    assert wanted_for([0.0, 0.0], 2) == 1
    assert wanted_for([1.5, 1.2], 2) == 2  # at the border it stays

    class Context:
        aggregated_metrics = {WAITING: {"a": 4.0, "b": 3.0}}
        target_num_replicas = 2

    assert replicas_wanted(Context()) == (3, {})


def test_a_registry_of_before_opens_and_its_aliases_keep_their_form(registry: Registry) -> None:
    file = registry.root / "ages" / "aliases" / "champion.json"
    document = file.read_json()
    assert set(document) == {"alias", "version", "history"}
    assert set(document["history"][0]) == {"when", "who", "from", "to"}


def test_a_model_of_the_package_is_served_whole_and_follows_no_alias(tmp_path: Path) -> None:
    (model,) = served_models(["portraits"], str(tmp_path / "registry"))
    assert (model.name, model.version, model.alias) == ("portraits", "0003", None)
    assert sum(file.size_bytes or 0 for file in model.folder.children()) < 10e6
