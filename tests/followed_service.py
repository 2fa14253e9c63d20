"""A registry and a service without replicas that follows its champion, one step at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agesearch.deploy.aliases import Canary
from agesearch.deploy.registry import CHAMPION, Registry
from agesearch.errors import AgeSearchError
from agesearch.models.manifest import ModelManifest
from agesearch.serving.ingress.config import Route
from agesearch.serving.rollout.follower import Follower
from agesearch.serving.rollout.groups import METRICS, Group, Replicas
from agesearch.serving.rollout.judge import Histogram, Seen
from agesearch.serving.rollout.models import served_models
from agesearch.serving.rollout.state import ServiceState
from agesearch.specs import CropSpec, ModelSpec

URL = "http://127.0.0.1:8000"


def ages_registry(folder: Path) -> Registry:
    """``ages`` with three versions, the first of which is the champion."""
    store = Registry(str(folder))
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


def canary(number: str, **rest: Any) -> Canary:
    return Canary(version=number, began="2030-01-01", share=rest.pop("share", 0.2), **rest)


def fine(requests: int) -> Seen:
    seconds = Histogram((0.01, 0.1), (requests, 0, 0))
    ages = Histogram(tuple(map(float, range(5, 101, 5))), (0, 0, 0, requests, *([0] * 17)))
    return Seen(requests, 0, seconds, ages)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """With ``ages``."""
    return ages_registry(tmp_path / "registry")


@pytest.fixture
def service(registry: Registry, tmp_path: Path) -> Service:
    """It follows the champion of ``ages``."""
    return Service(registry, tmp_path / "service")
