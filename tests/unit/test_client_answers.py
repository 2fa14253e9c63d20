"""The client: what it sends, and which error each answer becomes."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from agesearch.errors import AgeSearchError, InputError
from agesearch.serving.client import AsyncClient, Client, RefusedImage
from agesearch.serving.schema import Prediction

TOKEN = "a-token-of-enough-length"
ANSWER = {
    "model": {"name": "ages", "version": "0001", "added_later": 1},
    "image": {"width": 10, "height": 20},
    "faces": [{"age": 30.5, "interval": [25, 36], "spread": 4.2, "box": [1, 2, 3, 4], "score": None}],
    "timing": {"decode_ms": 1, "detect_ms": 2, "forward_ms": 3},
}


@pytest.fixture(autouse=True)
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between two attempts, which nobody waits for."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("agesearch.serving.client.time.sleep", pauses.append)
    monkeypatch.setattr("agesearch.serving.client.asyncio.sleep", pause)
    return pauses


def client(answer: httpx.Response | Exception, seen: list[httpx.Request] | None = None) -> Client:
    def handle(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Client("http://service:1/", TOKEN, transport=httpx.MockTransport(handle))


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"\xff\xd8\xff\xe0", "image/jpeg"), (b"\x89PNG\r\n", "image/png"), (b"??", "image/unknown")],
)
def test_it_sends_the_token_the_type_and_the_mode(data: bytes, kind: str) -> None:
    seen: list[httpx.Request] = []
    prediction = client(httpx.Response(200, json=ANSWER), seen).predict(data, faces="whole")
    assert prediction.faces[0].age == 30.5
    (request,) = seen
    assert str(request.url) == "http://service:1/v1/predict?faces=whole"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["content-type"] == kind
    assert request.content == data


def refusal(status: int, code: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": code, "message": "Why."}})


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (refusal(401, "token_wrong"), InputError, "--token-file"),
        (refusal(413, "too_many_bytes"), RefusedImage, "Why"),
        (refusal(422, "not_an_image"), RefusedImage, "Why"),
        (refusal(503, "busy"), AgeSearchError, "503: Why"),
        (httpx.Response(503, text="Request dropped due to backpressure"), AgeSearchError, "backpressure"),
        (httpx.Response(404, text="nginx"), InputError, "not an agesearch service"),
        (httpx.Response(200, json={"hello": 1}), AgeSearchError, "not an agesearch service"),
        (httpx.ConnectError("refused"), InputError, "agesearch serve"),
        (httpx.ReadTimeout("slow"), AgeSearchError, "in time"),
        (
            httpx.ConnectError(
                "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed (_ssl.c:1)"
            ),
            InputError,
            r"service:1 is refused \(self-signed\): .*--ca",
        ),
        (httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong"), InputError, "speaks no TLS"),
    ],
)
def test_each_failure_is_one_clear_error(
    answer: httpx.Response | Exception, kind: type[AgeSearchError], text: str
) -> None:
    with pytest.raises(AgeSearchError, match=text) as error:
        client(answer).predict(b"x")
    assert type(error.value) is kind


@pytest.mark.parametrize("url", ["service:1", "ftp://service", "http://", "http://service:port"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="address"):
        Client(url, TOKEN)


def test_an_address_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match="password") as error:
        Client("https://ada:secret-word@service:1", TOKEN)
    assert "secret-word" not in str(error.value)


def test_health_is_a_question_not_an_error() -> None:
    assert client(httpx.Response(200, json={"status": "ok"})).is_healthy()
    assert not client(httpx.ConnectError("refused")).is_healthy()


BUSY = {
    "status_code": 503,
    "headers": {"Retry-After": "2"},
    "json": {"error": {"code": "busy", "message": "Later."}},
}


@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_it_comes_back_when_it_is_told_to(breaks: bool, is_async: bool, waited: list[float]) -> None:
    first = httpx.RemoteProtocolError("gone") if breaks else httpx.Response(**BUSY)
    outcomes = [first, httpx.Response(200, json=ANSWER)]

    def handle(_: httpx.Request) -> httpx.Response:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def ask() -> Prediction:
        async with AsyncClient("http://service:1", TOKEN, transport=httpx.MockTransport(handle)) as asking:
            return await asking.predict(b"x")

    if is_async:
        answer = asyncio.run(ask())
    else:
        answer = Client("http://service:1", TOKEN, transport=httpx.MockTransport(handle)).predict(b"x")
    assert answer.faces[0].age == 30.5
    (pause,) = waited
    least = 0.1 if breaks else 2.0
    assert least <= pause <= 1.5 * least


def test_it_gives_up_in_time(waited: list[float]) -> None:
    seen: list[httpx.Request] = []
    with pytest.raises(AgeSearchError, match="503: Later"):
        client(httpx.Response(**BUSY), seen).predict(b"x")
    assert len(seen) == 5
    assert len(waited) == 4
    long = httpx.Response(**(BUSY | {"headers": {"Retry-After": "100"}}))
    with pytest.raises(AgeSearchError, match="503"):
        client(long).predict(b"x")
    assert len(waited) == 4


def test_several_images_get_an_answer_each_in_their_order() -> None:
    seen: list[httpx.Request] = []
    refused = {"error": {"code": "not_an_image", "message": "Why."}}
    answer = httpx.Response(200, json={"predictions": [ANSWER, refused]})
    first, second = client(answer, seen).predict_many([b"one", b"two"], challenge_age=25)
    assert isinstance(first, Prediction)
    assert isinstance(second, RefusedImage)
    assert second.code == "not_an_image"
    assert seen[0].headers["content-type"].startswith("multipart/form-data")
    assert seen[0].content.index(b"one") < seen[0].content.index(b"two")
    assert client(httpx.Response(500)).predict_many([]) == []
