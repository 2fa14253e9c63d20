"""Tokens: where they come from, who may read them, and what a request must show."""

from __future__ import annotations

import inspect
import pickle
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from agesearch.cli import serve
from agesearch.errors import InputError
from agesearch.serving import ports
from agesearch.serving.app import ServiceOptions
from agesearch.serving.auth import (
    TOKEN_VARIABLE,
    TokenCheck,
    client_token,
    is_loopback,
    require_given_token,
    service_token,
)
from agesearch.serving.rollout import models

GOOD = "a-token-of-enough-length"


def test_a_service_makes_a_private_token_once_and_a_client_finds_it(tmp_path: Path) -> None:
    place = str(tmp_path / "new" / "token")
    made = service_token(None, {}, place)
    again = service_token(None, {}, place)
    assert made.is_new
    assert not again.is_new
    assert made.value == again.value == client_token(None, {}, place).value
    assert stat.S_IMODE(Path(place).stat().st_mode) == 0o600
    assert len(made.value) >= 40


def test_a_given_token_wins_over_the_environment_and_the_default(tmp_path: Path) -> None:
    given, default = tmp_path / "given", str(tmp_path / "default")
    given.write_text(f"{GOOD}-file\n")
    environment = {TOKEN_VARIABLE: f"{GOOD}-env"}
    assert service_token(str(given), environment, default).value == f"{GOOD}-file"
    assert service_token(None, environment, default).value == f"{GOOD}-env"
    assert not Path(default).exists()


@pytest.mark.parametrize(
    "content", ["", "short", "two words are not a token", "x" * 600, "ünïcode-is-not-a-token"]
)
def test_an_unusable_token_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="usable token"):
        service_token(str(file), {})
    with pytest.raises(InputError, match=TOKEN_VARIABLE):
        client_token(None, {TOKEN_VARIABLE: content})


def test_a_missing_token_says_where_tokens_may_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--token-file"):
        client_token(None, {}, str(tmp_path / "none"))
    with pytest.raises(InputError, match="cannot be read"):
        client_token(str(tmp_path / "none"), {})


def test_other_machines_need_a_token_that_someone_chose(tmp_path: Path) -> None:
    require_given_token("127.0.0.1", None, {})
    require_given_token("0.0.0.0", None, {TOKEN_VARIABLE: GOOD})
    with pytest.raises(InputError, match="other machines"):
        require_given_token("0.0.0.0", None, {})


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("localhost", True)]
    + [("0.0.0.0", False), ("::", False), ("192.168.0.1", False), ("example.org", False)],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"Bearer {GOOD}", True),
        (f"bearer {GOOD}", True),
        (None, False),
        ("", False),
        (GOOD, False),
        (f"Basic {GOOD}", False),
        (f"Bearer {GOOD}x", False),
        (f"Bearer {GOOD[:-1]}", False),
        ("Bearer ", False),
        ("Bearer \udcff\udcfe", False),
    ],
)
def test_what_a_request_must_show(header: str | None, expected: bool) -> None:
    assert TokenCheck(GOOD).accepts(header) is expected


def test_neither_a_check_nor_a_repr_gives_the_token_away(tmp_path: Path) -> None:
    assert GOOD.encode() not in pickle.dumps(TokenCheck(GOOD))
    assert GOOD not in repr(client_token(None, {TOKEN_VARIABLE: GOOD}))


@pytest.mark.parametrize("token", [GOOD, f"{GOOD}x", "", "y" * 300])
def test_tokens_are_compared_in_constant_time(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    check = TokenCheck(GOOD)
    monkeypatch.setattr("agesearch.serving.auth.hmac.compare_digest", watched)
    assert check.accepts(f"Bearer {token}") is (token == GOOD)
    ((one, other),) = compared  # the one comparison there is, of digests, whose length tells nothing
    assert len(one) == len(other) == 32


def test_a_service_listens_on_this_machine_unless_it_is_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_loopback(ServiceOptions().host)
    assert is_loopback(inspect.signature(serve.serve).parameters["host"].default)
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    version = SimpleNamespace(name="ages", version="0001", folder=tmp_path)
    monkeypatch.setattr(models, "served_models", lambda *_: [version])
    monkeypatch.setattr(ports, "require_free", lambda *_: pytest.fail("it was about to listen"))
    with pytest.raises(InputError, match="other machines"):
        serve.serve(["ages"], host="0.0.0.0")
