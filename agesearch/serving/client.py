"""A client of the service: ``with Client(url, token) as client: client.predict("photo.jpg").faces``."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, Literal, Self

import httpx
from pydantic import ValidationError

from agesearch.data.images.decode import MAX_IMAGE_BYTES
from agesearch.errors import AgeSearchError, InputError
from agesearch.serving.auth import client_token
from agesearch.serving.ports import DEFAULT_URL
from agesearch.serving.schema import ErrorAnswer, Prediction
from agesearch.storage import Location

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


class Client:
    """Talks to one service over one connection; use it in a ``with`` block.

    >>> with agesearch.Client(url, token) as client:
    ...     client.is_healthy()
    ...     prediction = client.predict("photo.jpg", faces="whole")
    True
    >>> prediction.faces[0].age  # years
    50.0

    Without a ``token`` it is the one that ``agesearch query`` finds: ``AGESEARCH_TOKEN``, else
    ``~/.agesearch/token``. A service that cannot be reached and a wrong token are an ``InputError``, an image
    it refuses is a ``RefusedImage``, and a service that fails an ``AgeSearchError``. ``transport`` replaces
    the network.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        token: str | None = None,
        timeout_s: float = 60.0,
        *,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = _checked_url(url)
        token = token or client_token(None, os.environ).value
        # Environment proxies are for the web, not for a service on this machine.
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout_s,
            trust_env=False,
            transport=transport,
        )

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
        image: bytes | str | os.PathLike[str],
        *,
        faces: Literal["detect", "whole"] = "detect",
        challenge_age: float | None = None,
    ) -> Prediction:
        """Ages of the faces of an encoded image (JPEG, PNG, WebP, ...), or of such a file.

        ``faces="whole"``: the image is one face crop already. With a ``challenge_age`` in years each face has
        a ``decision``: ``pass``, ``refuse`` or ``unsure``.
        """
        data = image if isinstance(image, bytes) else Location.of(image).read_bytes(MAX_IMAGE_BYTES)
        response = self._request(
            "POST",
            "/v1/predict",
            params={"faces": faces}
            | ({} if challenge_age is None else {"challenge_age": str(challenge_age)}),
            content=data,
            headers={"Content-Type": _content_type(data)},
        )
        return self._parsed(Prediction, response)

    def model(self) -> dict[str, Any]:
        """The manifest of the model that answers."""
        answer = self._request("GET", "/v1/model").json()
        if not isinstance(answer, dict):
            raise AgeSearchError(f"'{self.url}' answered with something that is no manifest.")
        return answer

    def is_healthy(self) -> bool:
        """Whether the service is up."""
        try:
            return self._http.get("/healthz").status_code == 200
        except httpx.HTTPError:
            return False

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TimeoutException as error:
            raise AgeSearchError(f"The service at {self.url} did not answer in time.") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise InputError(
                f"No service answers at {self.url} ({error or type(error).__name__}): "
                "start one with 'agesearch serve NAME', or give its address with --url."
            ) from error
        if response.is_success:
            return response
        raise self._refusal(response)

    def _refusal(self, response: httpx.Response) -> AgeSearchError:
        code, message = _explanation(response)
        if response.status_code == 401:
            return InputError(
                f"The service at {self.url} does not accept this token: give its own with --token-file."
            )
        if response.status_code in (400, 413, 415, 422):
            return RefusedImage(code, message)
        if response.status_code == 404 and code != "not_found":
            return InputError(f"What answers at {self.url} is not an agesearch service (404).")
        return AgeSearchError(f"The service at {self.url} failed: {response.status_code}: {message}")

    def _parsed(self, kind: type[Prediction], response: httpx.Response) -> Prediction:
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            raise AgeSearchError(
                f"What answers at {self.url} is not an agesearch service: its answer has another form."
            ) from error


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
