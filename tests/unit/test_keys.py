"""API keys: what is kept of them, what they allow and how often, and what an access log tells."""

from __future__ import annotations

import base64
import json
import pickle
import sqlite3
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from starlette.routing import BaseRoute
from starlette.testclient import TestClient
from test_auth_tokens import GOOD
from test_serving_api import PHOTO
from test_serving_http import JPEG, LIMITS, MANIFEST, TOKEN, Brightness, LeftAndRight
from typer.testing import CliRunner

from agesearch.cli.main import app as cli
from agesearch.errors import ConflictError, InputError
from agesearch.serving.access.check import Access
from agesearch.serving.access.keys import KeyFile, NewKey, Scope, checked_file, expiry, rate_limit
from agesearch.serving.access.log import ROUTES, AccessLog, entry
from agesearch.serving.access.rates import KeyRates, SharedCounts
from agesearch.serving.auth import TokenCheck
from agesearch.serving.estimator import AgeEstimator
from agesearch.serving.faces import FaceService
from agesearch.serving.ingress.config import IngressOptions, write_config
from agesearch.serving.schema import Refusal
from agesearch.serving.web.routes import create_app


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "own" / "keys.json")


def make(keys: KeyFile, name: str = "kiosk", scope: Scope = "predict", rate: str | None = None) -> NewKey:
    return keys.create(name, scope, None, rate)


def access(keys: KeyFile, monkeypatch: pytest.MonkeyPatch | None = None) -> Access:
    """One that looks at the file each time."""
    if monkeypatch is not None:
        monkeypatch.setattr("agesearch.serving.access.check._LOOK_S", 0.0)
    return Access(TokenCheck(GOOD), str(keys.path), keys.path.parent)


def code(own: Access, key: str, scope: Scope = "predict") -> str | None:
    try:
        own.admit(f"Bearer {key}", scope)
    except Refusal as refusal:
        return f"{refusal.status} {refusal.code}"
    return None


def test_the_file_holds_what_proves_a_key_and_never_the_key(keys: KeyFile) -> None:
    made = make(keys)
    text = keys.path.read_text()
    secret = made.value.split("_", 2)[2]
    assert len(secret) >= 43
    assert secret not in text
    assert made.record.sha256 in text
    assert secret not in repr(made)
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.path.parent.stat().st_mode) == 0o700
    assert secret.encode() not in pickle.dumps(access(keys))


def test_a_scope_allows_what_it_says(keys: KeyFile) -> None:
    own, kiosk = access(keys), make(keys)
    admin = make(keys, "owner", "admin")
    assert [code(own, kiosk.value, scope) for scope in ("predict", "admin")] == [None, "403 scope_missing"]
    assert [code(own, admin.value, scope) for scope in ("predict", "admin")] == [None, None]
    assert [code(own, GOOD, scope) for scope in ("predict", "admin")] == [None, None]


def test_only_the_whole_key_lets_in(keys: KeyFile) -> None:
    made = make(keys)
    own = access(keys)
    prefix, named, secret = made.value.split("_", 2)
    wrong = [
        "",
        "_",
        "__",
        made.value[:-1],
        f"{made.value}x",
        secret,
        f"{prefix}_{named}_",
        f"{prefix}_00000000_{secret}",
        f"other_{named}_{secret}",
        made.record.sha256,
        f"{prefix}_{named}_{made.record.sha256}",
        f"{prefix}_{named}_\udcff",
    ]
    assert {code(own, key) for key in wrong} == {"401 token_wrong"}
    with pytest.raises(Refusal) as caught:
        own.admit(f"Basic {made.value}", "predict")
    assert caught.value.status == 401
    assert code(Access(TokenCheck(GOOD)), made.value) == "401 token_wrong"  # a service without keys


def test_a_secret_is_compared_in_constant_time_also_where_nobody_has_the_id(
    keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, own = make(keys), access(keys)
    compared: list[tuple[str, str]] = []

    def watched(one: str, other: str) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("agesearch.serving.access.keys.hmac.compare_digest", watched)
    for key in (made.value, f"{made.value}x", "agesearch_00000000_x", "x"):
        compared.clear()
        code(own, key)
        assert [(len(one), len(other)) for one, other in compared if isinstance(one, str)] == [(64, 64)]


def test_keys_end_when_they_should_and_services_that_run_follow(
    keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = access(keys, monkeypatch)
    assert code(own, "agesearch_00000000_x") == "401 token_wrong"  # there is no file yet
    made = make(keys)
    over = keys.create("over", "predict", datetime.now(UTC) - timedelta(seconds=5), None)
    assert code(own, made.value) is None
    assert code(own, over.value) == "401 key_expired"
    assert keys.revoke("kiosk").id == made.record.id
    assert code(own, made.value) == "401 key_revoked"
    again = make(keys)  # the name is free again
    assert code(own, again.value) is None
    keys.path.write_text("{ no JSON")
    assert code(own, again.value) == "401 token_wrong"
    assert code(own, GOOD) is None


def test_names_are_in_use_once_and_what_is_not_there_cannot_be_revoked(keys: KeyFile) -> None:
    make(keys)
    with pytest.raises(ConflictError, match="revoke it first"):
        make(keys)
    for name in ("", "a b", "x" * 65, "-x", "a/b"):
        with pytest.raises(InputError, match="cannot be called"):
            make(keys, name)
    with pytest.raises(InputError, match="is none of"):
        keys.revoke("nobody")
    keys.revoke("kiosk")
    with pytest.raises(InputError, match="already"):
        keys.revoke("kiosk")
    keys.path.write_text("[]")
    with pytest.raises(InputError):
        checked_file(str(keys.path))


def test_replicas_count_together_and_say_when_to_come_back(keys: KeyFile) -> None:
    made, free = make(keys, rate="3/minute"), make(keys, "free")
    one, other = access(keys), access(keys)
    assert [code(own, made.value) for own in (one, other, one)] == [None] * 3
    with pytest.raises(Refusal) as caught:
        other.admit(f"Bearer {made.value}", "predict")
    assert (caught.value.status, caught.value.code) == (429, "rate_limited")
    assert 55 <= int(caught.value.headers["Retry-After"]) <= 61
    assert {code(one, free.value) for _ in range(9)} == {None}
    assert {code(one, GOOD) for _ in range(9)} == {None}


def test_a_count_begins_anew_when_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates, item = KeyRates(tmp_path / "counts"), rate_limit("2/second")
    assert item is not None
    clock = [1e9]
    monkeypatch.setattr("agesearch.serving.access.rates.time.time", lambda: clock[0])
    assert [rates.wait_s(item, "a") for _ in range(3)] == [0, 0, 1]
    assert rates.wait_s(item, "b") == 0
    clock[0] += 1.5
    assert [rates.wait_s(item, "a") for _ in range(3)] == [0, 0, 1]
    counts = SharedCounts(tmp_path / "counts")
    assert counts.check()
    assert counts.get("nobody") == 0
    assert counts.reset() == 2


@pytest.mark.parametrize("text", ["", "0/minute", "-1/minute", "minute", "5/fortnight", "many", "1/0"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no rate"):
        rate_limit(text)


@pytest.mark.parametrize("text", ["", "0d", "9y", "2001-01-01", "soon", "99999w9", "-1d"])
def test_what_is_no_time_to_come_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no time|is over"):
        expiry(text)


def test_times_and_rates_as_people_write_them() -> None:
    found = expiry("90d")
    assert found is not None
    assert timedelta(days=89) < found - datetime.now(UTC) <= timedelta(days=90)
    assert expiry("2999-01-31") == datetime(2999, 1, 31, tzinfo=UTC)
    assert expiry("2999-01-31T12:00+02:00") == datetime(2999, 1, 31, 10, tzinfo=UTC)
    assert expiry(None) is None
    assert rate_limit("none") is None
    assert rate_limit("100 per hour") is not None


@pytest.fixture
def web(keys: KeyFile) -> Iterator[TestClient]:
    service = FaceService(AgeEstimator(MANIFEST, Brightness(), LeftAndRight()), LIMITS)
    own = Access(TokenCheck(TOKEN), str(keys.path), keys.path.parent)
    with TestClient(create_app(service, own, LIMITS), raise_server_exceptions=False) as client:
        yield client


def test_the_routes_ask_for_the_scope_that_they_need(keys: KeyFile, web: TestClient) -> None:
    kiosk = {"Authorization": f"Bearer {make(keys, rate='3/minute').value}"}
    owner = {"Authorization": f"Bearer {make(keys, 'owner', 'admin').value}"}
    assert web.post("/v1/predict", content=PHOTO, headers=JPEG | kiosk).status_code == 200
    assert web.get("/v1/models", headers=kiosk).status_code == 200
    refused = web.get("/metrics", headers=kiosk)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "scope_missing")
    assert web.get("/metrics", headers=owner).status_code == 200
    answers = [web.post("/v1/predict", content=PHOTO, headers=JPEG | kiosk) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].headers["retry-after"]


def test_each_image_of_a_request_counts_however_they_come(keys: KeyFile, web: TestClient) -> None:
    def ask(key: NewKey, images: int, form: int) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key.value}"}
        if form:
            files = [("image", (f"{index}", PHOTO)) for index in range(images)]
            return web.post("/v1/predict", files=files, headers=headers)
        texts = [base64.b64encode(PHOTO).decode()] * images
        return web.post("/v1/predict", json={"images": texts}, headers=headers)

    made = [[make(keys, f"{name}-{form}", rate="2/hour") for name in ("key", "other")] for form in (0, 1)]
    for form, (key, other) in enumerate(made):
        assert ask(key, 2, form).status_code == 200
        refused = ask(key, 1, form)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
        never = ask(other, 3, form)
        assert (never.status_code, never.json()["error"]["code"]) == (413, "more_images_than_rate")
        assert "at most 2 at once" in never.json()["error"]["message"]
        assert "retry-after" not in never.headers  # waiting would not help
        late = ask(other, 2, form)  # what was refused counts one
        assert (late.status_code, int(late.headers["retry-after"]) > 3000) == (429, True)


def test_counts_that_cannot_be_written_now_are_a_refusal_that_may_be_tried_again(
    keys: KeyFile, web: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object) -> int:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(KeyRates, "wait_s", locked)
    headers = JPEG | {"Authorization": f"Bearer {make(keys, rate='2/hour').value}"}
    answer = web.post("/v1/predict", content=PHOTO, headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_the_verbs_show_a_key_once(tmp_path: Path) -> None:
    file, held = tmp_path / "keys.json", tmp_path / "kiosk.key"

    def call(*words: str) -> str:
        found = CliRunner().invoke(cli, ["keys", *words, "--keys", str(file)], catch_exceptions=False)
        assert found.exit_code == 0, found.output
        return found.stdout

    shown = call("create", "kiosk").strip()
    own = Access(TokenCheck(GOOD), str(file))
    assert code(own, shown) is None
    listed = call("list", "--json")
    assert json.loads(listed)[0]["name"] == "kiosk"
    assert shown.split("_", 2)[2] not in listed + call("list")
    assert "sha256" not in listed
    assert "key" not in json.loads(call("create", "owner", "--scope", "admin", "--out", str(held), "--json"))
    assert stat.S_IMODE(held.stat().st_mode) == 0o600
    assert json.loads(call("revoke", "kiosk", "--json"))["state"] == "revoked"


def test_a_line_of_the_access_log_holds_nothing_that_a_client_wrote() -> None:
    now = datetime(2030, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
    assert entry(b"answer 127.0.0.1 200 4 28123 412 POST /v1/predict", now) == {
        "time": "2030-01-31T12:00:00.123Z",
        "address": "127.0.0.1",
        "method": "POST",
        "route": "/v1/predict",
        "status": 200,
        "ms": 4,
        "bytes_in": 28123,
        "bytes_out": 412,
    }
    assert entry(b"answer ::1 404 0 1 2 GET /v1/models/secret-name", now)["route"] == "/v1/models/{name}"
    for told in (
        b"answer ::1 404 0 1 2 SECRET /secret/key",
        b"answer ::1 400 -1 0 9 <BADREQ> <BADREQ>",
        b"answer ::1 400 -1 0 9 secret \xff secret",
    ):
        line = json.dumps(entry(told, now))
        assert "secret" not in line.lower()
        assert "BADREQ" not in line
    for other in (b"", b"\xff secret", b"Proxy service started.", b"answer 127.0.0.1 200"):
        assert entry(other, now) is None


def test_the_access_log_knows_every_route(web: TestClient) -> None:
    def paths(routes: list[BaseRoute]) -> set[str]:
        return {path for route in routes for path in [getattr(route, "path", None)] if path}

    assert paths(web.app.routes) <= set(ROUTES)


def test_a_log_goes_on_in_a_new_file_where_it_is_moved_away(tmp_path: Path) -> None:
    import socket

    place, folder = tmp_path / "access.jsonl", tmp_path / "service"
    folder.mkdir()
    log = AccessLog(place)
    log.start(folder)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as haproxy:
        haproxy.connect(str(folder / "access.log"))
        haproxy.send(b"answer 127.0.0.1 200 4 1 2 GET /livez")
        deadline = time.monotonic() + 5
        while not place.read_text() and time.monotonic() < deadline:
            time.sleep(0.005)
        place.rename(tmp_path / "access.jsonl.1")
        haproxy.send(b"answer 127.0.0.1 200 4 1 2 GET /readyz")
    log.end()
    told = [json.loads((tmp_path / name).read_text())["route"] for name in ("access.jsonl.1", "access.jsonl")]
    assert told == ["/livez", "/readyz"]
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    with pytest.raises(InputError, match="access log"):
        AccessLog(tmp_path / "none" / "access.jsonl")


def test_haproxy_logs_nothing_unless_it_is_asked_to(tmp_path: Path) -> None:
    text = write_config(tmp_path, 3, IngressOptions()).read_text()
    assert "no log" in text
    assert "ssl" not in text
