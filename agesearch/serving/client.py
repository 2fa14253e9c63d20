"""Clients of the service: ``with Client(url, token) as client: client.predict("photo.jpg").faces``, and
``AsyncClient`` for event loops.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from agesearch.data.images.decode import MAX_IMAGE_BYTES
from agesearch.errors import AgeSearchError, InputError
from agesearch.serving.auth import client_token
from agesearch.serving.ports import DEFAULT_URL
from agesearch.serving.schema import ErrorAnswer, Models, ModelSummary, Prediction, Predictions
from agesearch.storage import Location

Image = bytes | str | os.PathLike[str]
FacesMode = Literal["detect", "whole"]
_Outcome = httpx.Response | httpx.HTTPError | httpx.InvalidURL
_AnswerType = TypeVar("_AnswerType", bound=BaseModel)

#: The first bytes of the formats that the service takes, and their content types.
_SIGNATURES = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG": "image/png",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
    b"RIFF": "image/webp",
}


class RefusedImage(InputError):  # noqa: N818 - named for what it is, like BadImage
    """An image that the service did not take; ``code`` is the service's short name for the reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class _Call:
    """A request, and the service it goes to, for the words of errors."""

    url: str
    method: str
    path: str
    options: Mapping[str, Any]

    def judged(self, outcome: httpx.Response | httpx.HTTPError | httpx.InvalidURL) -> httpx.Response:
        """The response where it is a success; else the error that the user gets."""
        if isinstance(outcome, httpx.TimeoutException):
            raise AgeSearchError(f"The service at {self.url} did not answer in time.") from outcome
        if isinstance(outcome, httpx.HTTPError | httpx.InvalidURL):
            raise InputError(
                f"No service answers at {self.url} ({outcome or type(outcome).__name__}): "
                "start one with 'agesearch serve NAME', or give its address with --url."
            ) from outcome
        if outcome.is_success:
            return outcome
        raise self._refusal(outcome)

    def _refusal(self, response: httpx.Response) -> AgeSearchError:
        code, message = _explanation(response)
        if response.status_code == 401:
            return InputError(
                f"The service at {self.url} does not accept this token: give its own, or a key that is "
                "valid, with --token-file."
            )
        if response.status_code == 403:
            return InputError(f"The service at {self.url} refuses: {message}")
        if response.status_code in (400, 413, 415, 422):
            return RefusedImage(code, message)
        if response.status_code == 404 and code == "no_such_model":
            return InputError(f"The service at {self.url} has no such model: {message}")
        if response.status_code == 404 and code != "not_found":
            return InputError(f"What answers at {self.url} is not an agesearch service (404).")
        return AgeSearchError(f"The service at {self.url} failed: {response.status_code}: {message}")

    def parsed(self, kind: type[_AnswerType], response: httpx.Response) -> _AnswerType:
        """The answer in its type."""
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            raise AgeSearchError(
                f"What answers at {self.url} is not an agesearch service: its answer has another form."
            ) from error

    def document(self, response: httpx.Response) -> dict[str, Any]:
        """The answer as a JSON object."""
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise AgeSearchError(f"'{self.url}' answered with something that is no manifest.")
        return answer


class _Calls:
    """What a client sends and how it waits, whether it waits in a thread or in an event loop."""

    def __init__(
        self, url: str, token: str | None, timeout_s: float, retries: int, ca_file: str | None
    ) -> None:
        self.url = _checked_url(url)
        self._retries = retries
        self._timeout_s = timeout_s
        token = token or client_token(None, os.environ).value
        self._options: dict[str, Any] = {
            "base_url": self.url,
            "headers": {"Authorization": f"Bearer {token}"},
            "timeout": timeout_s,
            # Environment proxies are for the web, not for a service on this machine.
            "trust_env": False,
            "verify": True if ca_file is None else _trusting(ca_file),
        }

    def _predict(
        self, image: Image, faces: FacesMode, challenge_age: float | None, model: str | None
    ) -> _Call:
        data = _bytes_of(image)
        headers = {"Content-Type": _content_type(data)}
        params = _asked(faces, challenge_age, model)
        return self._call("POST", "/v1/predict", params=params, content=data, headers=headers)

    def _predict_many(
        self, images: Sequence[Image], faces: FacesMode, challenge_age: float | None, model: str | None
    ) -> _Call:
        files = [("image", (f"{index}", _bytes_of(image))) for index, image in enumerate(images)]
        return self._call("POST", "/v1/predict", params=_asked(faces, challenge_age, model), files=files)

    def _call(self, method: str, path: str, **options: Any) -> _Call:
        return _Call(self.url, method, path, options)

    def _pause(self, attempt: int, began: float, outcome: _Outcome) -> float | None:
        """Seconds until a request is sent again; None where its outcome stands.

        Asking is harmless, so a connection that broke is tried again, too; one that nobody takes is not.
        """
        if attempt >= self._retries:
            return None
        if isinstance(outcome, httpx.Response):
            if outcome.status_code not in (429, 503) or "retry-after" not in outcome.headers:
                return None
            pause = _retry_after(outcome.headers["retry-after"])
        elif isinstance(outcome, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError):
            pause = 0.1
        else:
            return None
        # All clients were told the same second: they come back spread over the next half.
        pause = pause * (1 + random.random() / 2) * 1.5**attempt
        return pause if time.monotonic() - began + pause < self._timeout_s else None


class Client(_Calls):
    """Talks to one service over one connection; use it in a ``with`` block.

    >>> with agesearch.Client(url, token) as client:
    ...     client.is_healthy()
    ...     prediction = client.predict("photo.jpg", faces="whole")
    True
    >>> prediction.faces[0].age  # years
    50.0

    Without a ``token`` it is the one that ``agesearch query`` finds: ``AGESEARCH_TOKEN``, else
    ``~/.agesearch/token``. A service that is busy is asked again after the time that it names, up to
    ``retries`` times within ``timeout_s``; so is one whose connection breaks. A service that cannot be
    reached and a wrong token are an ``InputError``, an image it refuses is a ``RefusedImage``, and a service
    that fails an ``AgeSearchError``. ``ca_file`` (PEM) holds the certificates that an ``https`` service is
    known by, instead of the public ones; ``transport`` replaces the network.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        token: str | None = None,
        timeout_s: float = 60.0,
        *,
        retries: int = 4,
        ca_file: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(url, token, timeout_s, retries, ca_file)
        self._http = httpx.Client(**self._options, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def predict(
        self,
        image: Image,
        *,
        faces: FacesMode = "detect",
        challenge_age: float | None = None,
        model: str | None = None,
    ) -> Prediction:
        """Ages of the faces of an encoded image (JPEG, PNG, WebP, ...), or of such a file.

        ``faces="whole"``: the image is one face crop already. With a ``challenge_age`` in years each face has
        a ``decision``: ``pass``, ``refuse`` or ``unsure``. ``model`` names one of several; without, the first
        answers.
        """
        call = self._predict(image, faces, challenge_age, model)
        return call.parsed(Prediction, self._sent(call))

    def predict_many(
        self,
        images: Sequence[Image],
        *,
        faces: FacesMode = "detect",
        challenge_age: float | None = None,
        model: str | None = None,
    ) -> list[Prediction | RefusedImage]:
        """The same for several images in one request, in their order; a ``RefusedImage`` stands in the place
        of one that the service did not take.
        """
        if not images:
            return []
        call = self._predict_many(images, faces, challenge_age, model)
        return _answers_of(call, self._sent(call), len(images))

    def models(self) -> list[ModelSummary]:
        """The models that answer there."""
        call = self._call("GET", "/v1/models")
        return call.parsed(Models, self._sent(call)).models

    def model(self, name: str | None = None) -> dict[str, Any]:
        """The manifest of a model, without a name of the only one."""
        call = self._call("GET", _model_path(name))
        return call.document(self._sent(call))

    def is_healthy(self) -> bool:
        """Whether the service is up."""
        try:
            return self._http.get("/healthz").status_code == 200
        except httpx.HTTPError:
            return False

    def _sent(self, call: _Call) -> httpx.Response:
        began, attempt = time.monotonic(), 0
        while True:
            outcome: _Outcome
            try:
                outcome = self._http.request(call.method, call.path, **call.options)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                outcome = error
            pause = self._pause(attempt, began, outcome)
            if pause is None:
                return call.judged(outcome)
            time.sleep(pause)
            attempt += 1


class AsyncClient(_Calls):
    """``Client`` for an event loop: the same calls, to be awaited, in an ``async with`` block.

    >>> async def ages(photos):
    ...     async with agesearch.AsyncClient(url, token) as client:
    ...         found = await asyncio.gather(*(client.predict(photo, faces="whole") for photo in photos))
    ...     return [answer.faces[0].age for answer in found]
    >>> import asyncio
    >>> asyncio.run(ages(["photo.jpg", "photo.jpg"]))
    [50.0, 50.0]
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        token: str | None = None,
        timeout_s: float = 60.0,
        *,
        retries: int = 4,
        ca_file: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, token, timeout_s, retries, ca_file)
        self._http = httpx.AsyncClient(**self._options, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def predict(
        self,
        image: Image,
        *,
        faces: FacesMode = "detect",
        challenge_age: float | None = None,
        model: str | None = None,
    ) -> Prediction:
        """As ``Client.predict``."""
        call = self._predict(image, faces, challenge_age, model)
        return call.parsed(Prediction, await self._sent(call))

    async def predict_many(
        self,
        images: Sequence[Image],
        *,
        faces: FacesMode = "detect",
        challenge_age: float | None = None,
        model: str | None = None,
    ) -> list[Prediction | RefusedImage]:
        """As ``Client.predict_many``."""
        if not images:
            return []
        call = self._predict_many(images, faces, challenge_age, model)
        return _answers_of(call, await self._sent(call), len(images))

    async def models(self) -> list[ModelSummary]:
        """As ``Client.models``."""
        call = self._call("GET", "/v1/models")
        return call.parsed(Models, await self._sent(call)).models

    async def model(self, name: str | None = None) -> dict[str, Any]:
        """As ``Client.model``."""
        call = self._call("GET", _model_path(name))
        return call.document(await self._sent(call))

    async def is_healthy(self) -> bool:
        """As ``Client.is_healthy``."""
        try:
            return (await self._http.get("/healthz")).status_code == 200
        except httpx.HTTPError:
            return False

    async def _sent(self, call: _Call) -> httpx.Response:
        began, attempt = time.monotonic(), 0
        while True:
            outcome: _Outcome
            try:
                outcome = await self._http.request(call.method, call.path, **call.options)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                outcome = error
            pause = self._pause(attempt, began, outcome)
            if pause is None:
                return call.judged(outcome)
            await asyncio.sleep(pause)
            attempt += 1


def _trusting(ca_file: str) -> ssl.SSLContext:
    """Trust the certificates in a PEM file, and no others."""
    try:
        return ssl.create_default_context(cafile=str(Path(ca_file).expanduser()))
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or "no certificate in PEM form"
        raise InputError(f"The file of certificates '{ca_file}' cannot be used: {reason}.") from error


def _answers_of(call: _Call, response: httpx.Response, images: int) -> list[Prediction | RefusedImage]:
    if images == 1:  # it has its answer alone
        return [call.parsed(Prediction, response)]
    return [
        answer if isinstance(answer, Prediction) else RefusedImage(answer.error.code, answer.error.message)
        for answer in call.parsed(Predictions, response).predictions
    ]


def _asked(faces: FacesMode, challenge_age: float | None, model: str | None) -> dict[str, str]:
    given = {"challenge_age": challenge_age, "model": model}
    return {"faces": faces} | {name: str(value) for name, value in given.items() if value is not None}


def _bytes_of(image: Image) -> bytes:
    return image if isinstance(image, bytes) else Location.of(image).read_bytes(MAX_IMAGE_BYTES)


def _model_path(name: str | None) -> str:
    return "/v1/model" if name is None else f"/v1/models/{quote(name, safe='')}"


def _retry_after(header: str) -> float:
    """Seconds; a date, or what is neither, is taken for one second."""
    return float(header) if header.isascii() and header.isdigit() else 1.0


def _checked_url(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InputError(f"The service's address '{url}' is not a URL: {error}.") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InputError(f"The service's address is '{url}', but must be like http://127.0.0.1:8000.")
    return url.rstrip("/")


def _content_type(data: bytes) -> str:
    for signature, kind in _SIGNATURES.items():
        if data.startswith(signature):
            return kind
    return "image/unknown"


def _explanation(response: httpx.Response) -> tuple[str, str]:
    """Code and message of an error; Ray Serve's own refusals (408, 503) are plain text."""
    try:
        error = ErrorAnswer.model_validate_json(response.content).error
    except ValidationError:
        return "", (response.text.strip().splitlines() or [response.reason_phrase])[0][:300]
    return error.code, error.message
