"""Clients of the service: ``with Client(url, token) as client: client.predict("photo.jpg").faces``, and
``AsyncClient`` for event loops.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from agesearch.serving.calls import Call, Calls, FacesMode, Image, Outcome, RefusedImage
from agesearch.serving.ports import DEFAULT_URL
from agesearch.serving.schema import ModelSummary, Prediction

__all__ = ["AsyncClient", "Client", "RefusedImage"]

_Answer = TypeVar("_Answer")


class Client(Calls):
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
        return self._sent(self._predict(image, faces, challenge_age, model))

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
        return self._sent(self._predict_many(images, faces, challenge_age, model))

    def models(self) -> list[ModelSummary]:
        """The models that answer there."""
        return self._sent(self._models())

    def model(self, name: str | None = None) -> dict[str, Any]:
        """The manifest of a model, without a name of the only one."""
        return self._sent(self._model(name))

    def is_healthy(self) -> bool:
        """Whether the service is up."""
        try:
            return self._http.get("/healthz").status_code == 200
        except httpx.HTTPError:
            return False

    def _sent(self, call: Call[_Answer]) -> _Answer:
        attempts = self._attempts()
        while True:
            outcome: Outcome
            try:
                outcome = self._http.request(call.method, call.path, **call.options)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                outcome = error
            pause = attempts.pause_after(outcome)
            if pause is None:
                return call.answer(outcome)
            time.sleep(pause)


class AsyncClient(Calls):
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
        return await self._sent(self._predict(image, faces, challenge_age, model))

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
        return await self._sent(self._predict_many(images, faces, challenge_age, model))

    async def models(self) -> list[ModelSummary]:
        """As ``Client.models``."""
        return await self._sent(self._models())

    async def model(self, name: str | None = None) -> dict[str, Any]:
        """As ``Client.model``."""
        return await self._sent(self._model(name))

    async def is_healthy(self) -> bool:
        """As ``Client.is_healthy``."""
        try:
            return (await self._http.get("/healthz")).status_code == 200
        except httpx.HTTPError:
            return False

    async def _sent(self, call: Call[_Answer]) -> _Answer:
        attempts = self._attempts()
        while True:
            outcome: Outcome
            try:
                outcome = await self._http.request(call.method, call.path, **call.options)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                outcome = error
            pause = attempts.pause_after(outcome)
            if pause is None:
                return call.answer(outcome)
            await asyncio.sleep(pause)
