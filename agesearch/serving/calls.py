"""What the clients of the service share: the requests, which error each answer becomes, and when to ask
again. They differ in how they send and wait, in a thread or in an event loop.
"""

from __future__ import annotations

import os
import random
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from agesearch.data.images.decode import MAX_IMAGE_BYTES
from agesearch.errors import AgeSearchError, InputError
from agesearch.serving.auth import client_token
from agesearch.serving.schema import ErrorAnswer, Models, ModelSummary, Prediction, Predictions
from agesearch.storage import Location

Image = bytes | str | os.PathLike[str]
FacesMode = Literal["detect", "whole"]
Outcome = httpx.Response | httpx.HTTPError | httpx.InvalidURL
_Document = TypeVar("_Document", bound=BaseModel)
_Answer = TypeVar("_Answer")

#: The first bytes of the formats that the service takes, and their content types.
_SIGNATURES = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG": "image/png",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
    b"RIFF": "image/webp",
}
#: Words of OpenSSL's that httpx passes on.
_UNTRUSTED, _NO_TLS = "certificate verify failed", "WRONG_VERSION_NUMBER"


class RefusedImage(InputError):  # noqa: N818 - named for what it is, like BadImage
    """An image that the service did not take; ``code`` is the service's short name for the reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Call(Generic[_Answer]):
    """A request, the service it goes to, for the words of errors, and how its answer is read."""

    url: str
    method: str
    path: str
    options: Mapping[str, Any]
    read: Callable[[httpx.Response], _Answer]

    def answer(self, outcome: Outcome) -> _Answer:
        """The answer where it is a success; else the error that the user gets."""
        if isinstance(outcome, httpx.TimeoutException):
            raise AgeSearchError(f"The service at {self.url} did not answer in time.") from outcome
        if isinstance(outcome, httpx.HTTPError | httpx.InvalidURL):
            raise InputError(_unreachable(self.url, outcome)) from outcome
        if outcome.is_success:
            return self.read(outcome)
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


@dataclass
class Attempts:
    """When a request is sent again: up to ``retries`` times within ``timeout_s``.

    Asking is harmless, so a connection that broke is tried again, too; one that nobody takes is not.
    """

    retries: int
    timeout_s: float
    made: int = 0
    began: float = field(default_factory=time.monotonic)

    def pause_after(self, outcome: Outcome) -> float | None:
        """Seconds until the next attempt; None where the outcome stands."""
        pause = None if self.made >= self.retries else _pause_of(outcome)
        if pause is None:
            return None
        # All clients were told the same second: they come back spread over the next half.
        pause = pause * (1 + random.random() / 2) * 1.5**self.made
        self.made += 1
        return pause if time.monotonic() - self.began + pause < self.timeout_s else None


class Calls:
    """The calls of a service, and what a connection to it needs (``_options``, for ``httpx``)."""

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

    def _attempts(self) -> Attempts:
        return Attempts(self._retries, self._timeout_s)

    def _predict(
        self, image: Image, faces: FacesMode, challenge_age: float | None, model: str | None
    ) -> Call[Prediction]:
        data = _bytes_of(image)
        sent = {"content": data, "headers": {"Content-Type": _content_type(data)}}
        params = _asked(faces, challenge_age, model)
        return self._call(partial(self._parsed, Prediction), "POST", "/v1/predict", params=params, **sent)

    def _predict_many(
        self, images: Sequence[Image], faces: FacesMode, challenge_age: float | None, model: str | None
    ) -> Call[list[Prediction | RefusedImage]]:
        files = [("image", (f"{index}", _bytes_of(image))) for index, image in enumerate(images)]
        # One image has its answer alone.
        read = self._list_of_one if len(images) == 1 else self._list
        params = _asked(faces, challenge_age, model)
        return self._call(read, "POST", "/v1/predict", params=params, files=files)

    def _models(self) -> Call[list[ModelSummary]]:
        return self._call(lambda answer: self._parsed(Models, answer).models, "GET", "/v1/models")

    def _model(self, name: str | None) -> Call[dict[str, Any]]:
        path = "/v1/model" if name is None else f"/v1/models/{quote(name, safe='')}"
        return self._call(self._manifest, "GET", path)

    def _call(
        self, read: Callable[[httpx.Response], _Answer], method: str, path: str, **options: Any
    ) -> Call[_Answer]:
        return Call(self.url, method, path, options, read)

    def _list_of_one(self, response: httpx.Response) -> list[Prediction | RefusedImage]:
        return [self._parsed(Prediction, response)]

    def _list(self, response: httpx.Response) -> list[Prediction | RefusedImage]:
        return [
            answer
            if isinstance(answer, Prediction)
            else RefusedImage(answer.error.code, answer.error.message)
            for answer in self._parsed(Predictions, response).predictions
        ]

    def _parsed(self, kind: type[_Document], response: httpx.Response) -> _Document:
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            raise AgeSearchError(
                f"What answers at {self.url} is not an agesearch service: its answer has another form."
            ) from error

    def _manifest(self, response: httpx.Response) -> dict[str, Any]:
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise AgeSearchError(f"'{self.url}' answered with something that is no manifest.")
        return answer


def _unreachable(url: str, error: Exception) -> str:
    """Why no request comes to a service, and what to do."""
    said = str(error) or type(error).__name__
    if _UNTRUSTED in said:
        reason = said.partition(f"{_UNTRUSTED}: ")[2].partition(" (_ssl.c")[0] or "it is not trusted"
        return (
            f"The certificate of the service at {url} is refused ({reason}): name a file with it or its "
            "issuer's with --ca (ca_file)."
        )
    if _NO_TLS in said:
        return f"What answers at {url} speaks no TLS: give its address as http://..."
    return (
        f"No service answers at {url} ({said}): "
        "start one with 'agesearch serve NAME', or give its address with --url."
    )


def _pause_of(outcome: Outcome) -> float | None:
    """Seconds that an outcome asks to wait before the next attempt; None where it asks for none."""
    if isinstance(outcome, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError):
        return 0.1
    if not isinstance(outcome, httpx.Response) or outcome.status_code not in (429, 503):
        return None
    header = outcome.headers.get("retry-after")
    return None if header is None else _retry_after(header)


def _trusting(ca_file: str) -> ssl.SSLContext:
    """Trust the certificates in a PEM file, and no others."""
    try:
        return ssl.create_default_context(cafile=str(Path(ca_file).expanduser()))
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or "no certificate in PEM form"
        raise InputError(f"The file of certificates '{ca_file}' cannot be used: {reason}.") from error


def _asked(faces: FacesMode, challenge_age: float | None, model: str | None) -> dict[str, str]:
    given = {"challenge_age": challenge_age, "model": model}
    return {"faces": faces} | {name: str(value) for name, value in given.items() if value is not None}


def _bytes_of(image: Image) -> bytes:
    return image if isinstance(image, bytes) else Location.of(image).read_bytes(MAX_IMAGE_BYTES)


def _retry_after(header: str) -> float:
    """Seconds; a date, or what is neither, is taken for one second."""
    return float(header) if header.isascii() and header.isdigit() else 1.0


def _checked_url(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InputError(f"The service's address '{url}' is not a URL: {error}.") from error
    if parsed.userinfo:
        raise InputError("The service's address holds a name or a password: leave them out; a token lets in.")
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
