"""The HTTP face of the service: routes, statuses and OpenAPI, on any ASGI server.

It knows nothing of Ray, so that it can be tested and mounted anywhere; ``agesearch.serving.app`` runs it in
replicas of Ray Serve. The token is checked before a byte of the body is read. A request that would wait too
long is told at once to come back (503).
"""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import cv2
import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.routing import Route
from starlette.types import Receive, Send
from starlette.types import Scope as Call

from agesearch.ages import MAX_AGE
from agesearch.provenance import VERSION
from agesearch.serving.access.check import Access
from agesearch.serving.access.keys import Scope
from agesearch.serving.auth import TokenCheck
from agesearch.serving.batches import Answering, Batches
from agesearch.serving.faces import Asked
from agesearch.serving.images import ImageLimits
from agesearch.serving.rollout.state import StateReader
from agesearch.serving.schema import (
    ErrorAnswer,
    Health,
    ModelName,
    Models,
    ModelSummary,
    Prediction,
    Predictions,
    Refusal,
)
from agesearch.serving.web.metrics import ServiceMetrics
from agesearch.serving.web.pages import docs_page, try_page
from agesearch.serving.web.peers import Peers
from agesearch.serving.web.predicting import Predicting, failed
from agesearch.serving.web.shadowing import SHADOW_PATH, AskedBesides, ShadowAnswers

FacesMode = Literal["detect", "whole"]
_Faces = Annotated[FacesMode, Query(description="find the faces, or take the whole image as one face crop")]
_ChallengeAge = Annotated[
    float | None,
    Query(ge=0.0, le=MAX_AGE, description="decide at this age in years: pass, refuse or unsure"),
]

#: Seconds for which an answer of the model stands as proof that it can answer: a probe costs no more.
_READY_S = 1.0

_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "a form or a JSON document that cannot be read"},
    401: {"model": ErrorAnswer, "description": "the bearer token or key is missing, wrong or expired"},
    403: {"model": ErrorAnswer, "description": "the key's scope does not allow it"},
    404: {"model": ErrorAnswer, "description": "there is no such model here"},
    408: {"model": ErrorAnswer, "description": "the body did not arrive in time"},
    413: {
        "model": ErrorAnswer,
        "description": "too many bytes or pixels, or more images than the key's rate",
    },
    415: {"model": ErrorAnswer, "description": "a content type or content encoding that is not taken"},
    422: {"model": ErrorAnswer, "description": "not an image that can be decoded, or a wrong parameter"},
    429: {"model": ErrorAnswer, "description": "more than the key's rate: wait as Retry-After says"},
    503: {"model": ErrorAnswer, "description": "too many requests at once: wait as Retry-After says"},
}
#: What a call that wants a token or a key may answer.
_GUARDED = (401, 403, 429)
_CODES = {404: "not_found", 405: "method_not_allowed"}
_PROBE = ["GET", "HEAD"]
_PREDICT = "/v1/predict"


class AgeService(Answering, Protocol):
    """What the routes need: answers for images, and what the model is."""

    def manifest(self) -> dict[str, Any]:
        """The manifest of the model that answers."""
        ...

    def summary(self) -> ModelSummary:
        """The model in short."""
        ...

    def card(self) -> str:
        """The model card as Markdown."""
        ...


def create_app(
    service: AgeService, access: Access | TokenCheck, limits: ImageLimits, group: Path | None = None
) -> FastAPI:
    """The application for one model. Predictions run on one thread of their own, in order of arrival.

    ``group`` is the folder of this replica and its like, in that of a service of several versions or models.
    """
    access = Access(access) if isinstance(access, TokenCheck) else access
    summary = service.summary()
    metrics = ServiceMetrics(ModelName(name=summary.name, version=summary.version))
    peers = Peers(summary, None if group is None else StateReader(group, summary))
    batches = Batches(service, metrics.batch)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        batches.close()

    app = _Application(
        title="agesearch",
        version=VERSION,
        summary="Estimates the age of each face in an image.",
        lifespan=lifespan,
        # FastAPI's own pages load their scripts from the web, so they stay blank on a machine without it.
        docs_url=None,
        redoc_url=None,
        # A redirect would name the scheme and host that a client, or whoever wrote its address, named.
        redirect_slashes=False,
    )
    _add_error_handlers(app)
    shadows = None
    if peers.reader is not None:
        shadows = AskedBesides(peers.reader, summary.name, metrics)
        app.router.routes.append(
            Route(SHADOW_PATH, ShadowAnswers(peers.reader, batches, metrics), methods=["POST"])
        )
    predicting = Predicting(access, limits, batches, metrics, peers, shadows)
    for path in (_PREDICT, "/v1/models/{name}/predict"):
        app.router.routes.append(Route(path, predicting, methods=["POST"]))
    app.state.batches = batches
    app.state.predicting = predicting
    _add_open_routes(app, batches)
    guarded = APIRouter(prefix="/v1", dependencies=[Depends(_Guard(access, "predict"))])
    _document_predict(guarded)
    _add_model_routes(guarded, service, peers)
    app.include_router(guarded)
    _add_metrics(app, access, metrics, peers)
    return app


class _Application(FastAPI):
    """Answers the call that a service is there for without the layers that FastAPI puts before a route: a
    fiftieth of what a face crop costs, and ``Predicting`` needs none of them.
    """

    async def __call__(self, scope: Call, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == _PREDICT and scope["method"] == "POST":
            await self.state.predicting(scope, receive, send)
            return
        await super().__call__(scope, receive, send)


def _add_open_routes(app: FastAPI, batches: Batches) -> None:
    """What needs no token: the documentation and the probes."""
    probe = _Probe(batches)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return docs_page()

    @app.get("/", include_in_schema=False)
    async def root() -> HTMLResponse:
        return try_page()

    @app.head("/livez", include_in_schema=False)
    @app.get("/livez", summary="Whether the process is alive (no token needed)")
    async def livez() -> Health:
        return Health(status="ok")

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", summary="Whether the model answers, by running it (no token)", responses=_only(503))
    async def readyz() -> Health:
        await probe.require_answer()
        return Health(status="ok")

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", summary="As /livez, the name of before (no token needed)", deprecated=True)
    async def healthz() -> Health:
        return Health(status="ok")


class _Probe:
    """Runs the model on a grey image, at most once a second whoever asks."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._answered = float("-inf")

    async def require_answer(self) -> None:
        """Raise a ``Refusal`` (503) where the model does not answer."""
        if time.monotonic() - self._answered < _READY_S:
            return
        try:
            (answer,) = await self._batches.ask([Asked(_grey_image(), whole=True)])
        except Refusal:  # as many wait as may: the model is at work
            return
        except Exception as error:
            raise _not_ready() from error
        if isinstance(answer, Refusal):
            raise _not_ready()
        self._answered = time.monotonic()


def _not_ready() -> Refusal:
    return Refusal(503, "not_ready", "The model does not answer.", headers={"Retry-After": "1"})


def _document_predict(router: APIRouter) -> None:
    """Put the call that ``Predicting`` answers into OpenAPI: its route stands before this one."""

    said: dict[str, Any] = {"responses": _REFUSALS, "openapi_extra": _body()}

    @router.post("/predict", summary="The age of each face in an image, or in several", **said)
    async def predict(
        faces: _Faces = "detect",
        challenge_age: _ChallengeAge = None,
        model: Annotated[
            str | None, Query(description="the model that is asked; without, the first of /v1/models")
        ] = None,
    ) -> Prediction | Predictions:
        raise failed()

    @router.post("/models/{name}/predict", summary="The same of the model of that name", **said)
    async def predict_by(
        name: str, faces: _Faces = "detect", challenge_age: _ChallengeAge = None
    ) -> Prediction | Predictions:
        raise failed()


def _add_model_routes(router: APIRouter, service: AgeService, peers: Peers) -> None:
    @router.get("/models", summary="The models that answer here", responses=_only(*_GUARDED))
    async def models() -> Models:
        return Models(models=peers.summaries())

    @router.get("/models/{name}", summary="The manifest of a model", responses=_only(*_GUARDED, 404))
    async def model_named(name: str) -> dict[str, Any]:
        peers.require(name)
        return service.manifest()

    @router.get(
        "/models/{name}/card",
        summary="The card of a model, as Markdown",
        responses=_text("text/markdown") | _only(*_GUARDED, 404),
        response_class=Response,
    )
    async def card_of(name: str) -> Response:
        peers.require(name)
        return Response(service.card(), media_type="text/markdown; charset=utf-8")

    @router.get(
        "/model",
        summary="The manifest of the model that answers",
        responses=_only(*_GUARDED),
        deprecated=True,
    )
    async def model() -> dict[str, Any]:
        return service.manifest()


def _add_metrics(app: FastAPI, access: Access, metrics: ServiceMetrics, peers: Peers) -> None:
    @app.get(
        "/metrics",
        summary="Counts and times, as Prometheus reads them",
        responses=_text("text/plain") | _only(*_GUARDED),
        response_class=Response,
        dependencies=[Depends(_Guard(access, "admin"))],
    )
    async def tell() -> Response:
        return Response(metrics.text(peers.state(), peers.replicas), media_type="text/plain; version=0.0.4")


class _Guard(HTTPBearer):
    """Refuses requests that may not do what belongs to ``scope``; OpenAPI shows bearer authentication."""

    def __init__(self, access: Access, scope: Scope) -> None:
        super().__init__(
            scheme_name="token",
            auto_error=False,
            description="the token that 'agesearch serve' names, or a key of 'agesearch keys create'",
        )
        self._access = access
        self._scope = scope

    async def __call__(self, connection: HTTPConnection) -> None:
        self._access.admit(connection.headers.get("authorization"), self._scope)


@cache
def _grey_image() -> bytes:
    """A small JPEG of nothing."""
    return bytes(cv2.imencode(".jpg", np.full((32, 32, 3), 127, np.uint8))[1])


def _body() -> dict[str, Any]:
    """The bodies of a predict request, with an example that works as it stands."""
    grey = base64.b64encode(_grey_image()).decode()
    text, binary = {"type": "string", "format": "byte"}, {"type": "string", "format": "binary"}
    document = {
        "type": "object",
        "description": "exactly one of image and images",
        "properties": {
            "image": text,
            "images": {"type": "array", "items": text, "minItems": 1},
            "faces": {"type": "string", "enum": ["detect", "whole"]},
            "challenge_age": {"type": "number", "minimum": 0, "maximum": MAX_AGE},
        },
        "additionalProperties": False,
    }
    form = {
        "type": "object",
        "description": "one file or several; the answers to several are a list",
        "properties": {"image": {"type": "array", "items": binary}},
        "required": ["image"],
    }
    examples = {
        "one": {"summary": "one face crop", "value": {"image": grey, "faces": "whole"}},
        "two": {
            "summary": "two, decided at 25",
            "value": {"images": [grey, grey], "faces": "whole", "challenge_age": 25},
        },
    }
    content = {
        "image/*": {"schema": binary},
        "multipart/form-data": {"schema": form},
        "application/json": {"schema": document, "examples": examples},
    }
    return {"requestBody": {"required": True, "content": content}}


def _text(kind: str) -> dict[int | str, dict[str, Any]]:
    """A success that is text, not JSON."""
    return {200: {"content": {kind: {"schema": {"type": "string"}}}}}


def _only(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: _REFUSALS[status] for status in statuses}


def _add_error_handlers(app: FastAPI) -> None:
    """Every error is the same small JSON, also those that the framework raises itself."""

    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refusal)
        return _response(error)

    async def framework(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = _CODES.get(error.status_code, "http_error")
        return _response(Refusal(error.status_code, code, str(error.detail), dict(error.headers or {})))

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _response(Refusal(422, "bad_parameter", f"'{where}': {first['msg']}."))

    async def internal(_: Request, error: Exception) -> JSONResponse:
        return _response(failed())

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, internal)


def _response(refusal: Refusal) -> JSONResponse:
    return JSONResponse(refusal.answer().model_dump(), refusal.status, refusal.headers)
