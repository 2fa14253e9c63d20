"""``POST /v1/predict`` as a bare ASGI endpoint: what a request costs besides the model stays under 0.2 ms."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Protocol

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from agesearch.serving.access.check import Access
from agesearch.serving.batches import Answer, Batches
from agesearch.serving.faces import Asked
from agesearch.serving.images import ImageLimits
from agesearch.serving.schema import Predictions, Refusal, RefusedItem
from agesearch.serving.web.bodies import BodyBudget, Question, read_question
from agesearch.serving.web.metrics import ServiceMetrics

_LOG = logging.getLogger("ray.serve")

#: Bytes of bodies that one process holds at once.
_MAX_HELD_BYTES = 256 * 1024 * 1024
#: Bodies up to this size come from the ingress in one piece, or not at all.
_IN_ONE_PIECE_BYTES = 60 * 1024
#: Seconds that the rest of a refused body may take.
_DROPPED_S = 5.0


class Models(Protocol):
    """Which models answer here."""

    def require(self, name: str | None) -> None:
        """Refuse (404) a request to a model that this replica is not; None asks for any."""
        ...


class Shadows(Protocol):
    """Who else is asked what was answered."""

    def offer(self, question: Question, answers: Sequence[Answer]) -> None:
        """Hear of an answered question; this never waits."""
        ...


class Predicting:
    """Token, room, body, batch, answer, in this order: whoever may not or cannot be served costs nothing."""

    def __init__(
        self,
        access: Access,
        limits: ImageLimits,
        batches: Batches,
        metrics: ServiceMetrics,
        models: Models,
        shadows: Shadows | None = None,
    ) -> None:
        self._access = access
        self._limits = limits
        self._batches = batches
        self._metrics = metrics
        self._models = models
        self._shadows = shadows
        self._budget = BodyBudget(_MAX_HELD_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        sent = _Body(receive)
        try:
            status, body, headers = 200, await self._answer(scope, sent), None
        except Refusal as refusal:
            self._metrics.refused(refusal)
            status, body, headers = refusal.status, _json_of(refusal), refusal.headers
        except _Gone:
            return
        except Exception:
            # The cause is in the replica's log; a stranger is told nothing of the inside.
            _LOG.exception("A request failed.")
            status, body, headers = 500, _json_of(failed()), None
        self._metrics.ended(status, time.perf_counter() - began)
        if sent.is_whole or not _is_long(scope):
            await respond(send, status, body, headers)
            return
        # The refusal goes out at once. The rest of the body is read and dropped, not cut off: an answer that
        # comes together with its connection's end HAProxy hands to the kernel as one with more to come, which
        # waits 200 ms for that; and a client that is still sending would see the connection break.
        await respond(send, status, body, {**(headers or {}), "Connection": "close"}, is_last=False)
        await sent.drop(_DROPPED_S, self._limits.max_body_bytes)
        await send({"type": "http.response.body", "body": b""})

    async def _answer(self, scope: Scope, sent: _Body) -> bytes:
        # The first of each name, as Starlette's own mapping says, which looks through all of them each time.
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"][::-1]}
        key = self._access.admit(headers.get("authorization"), "predict")
        self._models.require(scope.get("path_params", {}).get("name"))
        self._metrics.came(self._batches.waiting)
        self._batches.require_room()
        with self._budget.body() as held:
            query = scope["query_string"].decode("latin-1")
            question = await read_question(headers, query, sent.parts(), self._limits, held)
            self._models.require(question.model)
            self._access.count_more(key, len(question.images) - 1)
            whole, age, now = question.faces == "whole", question.challenge_age, time.perf_counter()
            answers = await self._batches.ask([Asked(data, whole, age, now) for data in question.images])
            if self._shadows is not None:
                self._shadows.offer(question, answers)
        return self._told(question, answers)

    def _told(self, question: Question, answers: Sequence[Answer]) -> bytes:
        self._metrics.answered(answer for answer in answers if not isinstance(answer, Refusal))
        if not question.is_list:
            (answer,) = answers
            if isinstance(answer, Refusal):
                raise answer
            return answer.model_dump_json().encode()
        for answer in answers:
            if isinstance(answer, Refusal):
                self._metrics.refused(answer)
        items = [
            RefusedItem(error=answer.answer().error) if isinstance(answer, Refusal) else answer
            for answer in answers
        ]
        return Predictions(predictions=items).model_dump_json().encode()


def _is_long(scope: Scope) -> bool:
    """Whether a body may still be on its way when its first part is here."""
    length = Headers(scope=scope).get("content-length", "")
    return not length.isdigit() or int(length) > _IN_ONE_PIECE_BYTES


class _Gone(Exception):  # noqa: N818 - not a fault
    """The client left before its body had come."""


class _Body:
    """What a client sends; ``is_whole`` once its last part has come."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_whole = False

    async def parts(self) -> AsyncIterator[bytes]:
        """Its parts as they come."""
        while not self.is_whole:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            self.is_whole = not message.get("more_body", False)
            yield message.get("body", b"")

    async def drop(self, seconds: float, most_bytes: int) -> None:
        """Read what still comes, for so long and so much at most, and forget it."""
        dropped = 0
        with suppress(TimeoutError, _Gone):
            async with asyncio.timeout(seconds):
                async for part in self.parts():
                    dropped += len(part)
                    if dropped > most_bytes:
                        return


def failed() -> Refusal:
    """What a stranger is told of a fault inside."""
    return Refusal(500, "internal", "The service failed to answer; its log says why.")


def _json_of(refusal: Refusal) -> bytes:
    return refusal.answer().model_dump_json().encode()


async def respond(
    send: Send, status: int, body: bytes, headers: dict[str, str] | None, *, is_last: bool = True
) -> None:
    """Send a JSON answer; where that is not ``is_last``, the caller ends it."""
    pairs = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    pairs += [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body, "more_body": not is_last})
