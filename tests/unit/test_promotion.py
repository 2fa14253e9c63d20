"""Promote and roll back: the registry, the service that follows it and the command, without Ray or HTTP."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from followed_service import URL, Service, registry, service
from typer.testing import CliRunner

from agesearch.cli.main import app
from agesearch.cli.promote import share_of
from agesearch.cli.serve import replica_range
from agesearch.deploy.registry import CHAMPION, Registry
from agesearch.errors import AgeSearchError, ConflictError, InputError
from agesearch.models.manifest import ModelManifest
from agesearch.serving.rollout import promotion
from agesearch.serving.rollout.models import require_opens
from agesearch.serving.rollout.promotion import Trial, promote, rollback

__all__ = ["registry", "service"]


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


def test_a_registry_of_before_opens_and_its_aliases_keep_their_form(registry: Registry) -> None:
    file = registry.root / "ages" / "aliases" / "champion.json"
    document = file.read_json()
    assert set(document) == {"alias", "version", "history"}
    assert set(document["history"][0]) == {"when", "who", "from", "to"}
