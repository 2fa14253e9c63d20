"""Shadowing: a version is asked besides what another one has answered; its answers go to nobody, and are
compared face by face.

The replica that answered asks, after its answer, over the Unix socket of the shadow's replica; where more
images come than the shadow can take, they are left out, and no client waits for any of it.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Sequence
from urllib.parse import parse_qs, urlencode

import httpx
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agesearch.serving.batches import Answer, Batches
from agesearch.serving.faces import Asked
from agesearch.serving.rollout.state import ServedVersion, StateReader
from agesearch.serving.schema import Prediction, Refusal
from agesearch.serving.web.bodies import Question
from agesearch.serving.web.metrics import ServiceMetrics

SHADOW_PATH = "/shadow"
_KEY_HEADER = "x-agesearch-key"
_LOG = logging.getLogger("ray.serve")
#: Images that one replica has under way to a shadow, and the seconds that it waits for each.
_AT_ONCE, _TIMEOUT_S = 4, 5.0
#: Seconds between two looks whether there is a shadow.
_LOOK_S = 0.1


class ShadowAnswers:
    """The shadow's side, an ASGI endpoint: an image and the service's own key, which no client knows."""

    def __init__(self, reader: StateReader, batches: Batches, metrics: ServiceMetrics) -> None:
        self._reader, self._batches, self._metrics = reader, batches, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (await self._response(Request(scope, receive)))(scope, receive, send)

    async def _response(self, request: Request) -> Response:
        began = time.perf_counter()
        key = self._reader.state().key
        given = request.headers.get(_KEY_HEADER, "")
        if not key or not hmac.compare_digest(given.encode(), key.encode()):
            return Response(status_code=404)
        whole = parse_qs(request.url.query).get("faces") == ["whole"]
        try:
            (answer,) = await self._batches.ask([Asked(await request.body(), whole)])
        except Refusal as refusal:
            return Response(status_code=refusal.status)
        if isinstance(answer, Refusal):
            return Response(status_code=answer.status)
        self._metrics.answered([answer])
        self._metrics.took(time.perf_counter() - began)
        return Response(answer.model_dump_json(), media_type="application/json")


class AskedBesides:
    """The side of the replica that answered."""

    def __init__(self, reader: StateReader, model: str, metrics: ServiceMetrics) -> None:
        self._reader, self._model, self._metrics = reader, model, metrics
        self._tasks: set[asyncio.Task[None]] = set()
        self._due, self._asked_so_far = 0.0, 0
        self._shadow: ServedVersion | None = None
        self._looked = float("-inf")

    def offer(self, question: Question, answers: Sequence[Answer]) -> None:
        """Ask the shadow, if there is one, a share of what was answered."""
        shadow = self._shadow_now()
        if shadow is None:
            return
        for image, answer in zip(question.images, answers, strict=True):
            if isinstance(answer, Refusal):
                continue
            self._due += shadow.share
            if self._due < 1.0:
                continue
            self._due -= 1.0
            if len(self._tasks) >= _AT_ONCE:
                return
            task = asyncio.get_running_loop().create_task(
                self._compare(shadow, image, question.faces, answer)
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _shadow_now(self) -> ServedVersion | None:
        """Whom to ask; looked up now and then, since every answer comes by here."""
        now = time.monotonic()
        if now - self._looked > _LOOK_S:
            self._shadow, self._looked = self._reader.shadow_of(self._model), now
        return self._shadow

    async def _compare(self, shadow: ServedVersion, image: bytes, faces: str, answer: Prediction) -> None:
        sockets = self._reader.sockets(shadow)
        if not sockets:
            return
        self._asked_so_far += 1
        socket = str(sockets[self._asked_so_far % len(sockets)])
        try:
            other = await self._asked(socket, image, faces)
        except (httpx.HTTPError, ValidationError) as error:
            _LOG.warning("A shadow failed: %s", type(error).__name__)
            self._metrics.shadowed(shadow.version, None)
            return
        if other is not None:
            pairs = zip(other.faces, answer.faces, strict=False)
            self._metrics.shadowed(shadow.version, [theirs.age - ours.age for theirs, ours in pairs])

    async def _asked(self, socket: str, image: bytes, faces: str) -> Prediction | None:
        """The shadow's answer; None where it has no room, which is no fault."""
        transport = httpx.AsyncHTTPTransport(uds=socket)
        headers = {_KEY_HEADER: self._reader.state().key}
        async with httpx.AsyncClient(transport=transport, timeout=_TIMEOUT_S) as client:
            url = f"http://shadow{SHADOW_PATH}?{urlencode({'faces': faces})}"
            response = await client.post(url, content=image, headers=headers)
        if response.status_code == 503:
            return None
        return Prediction.model_validate_json(response.raise_for_status().content)
