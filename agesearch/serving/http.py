"""The HTTP face of the service: routes, statuses and OpenAPI, on any ASGI server.

It knows nothing of Ray, so that it can be tested and mounted anywhere; ``agesearch.serving.app`` runs it on
Ray Serve. The token is checked before a byte of the body is read. Only a few requests are let in at once, so
the bodies held in memory are bounded, and the others are told to come back (503).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from agesearch.ages import MAX_AGE
from agesearch.provenance import VERSION
from agesearch.serving.auth import TokenCheck
from agesearch.serving.images import ImageLimits, read_image_bytes
from agesearch.serving.schema import ErrorAnswer, Health, Prediction, Refusal

#: Requests that may hold a body in memory at once.
MAX_ADMITTED = 16

FacesMode = Literal["detect", "whole"]

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"image": {"type": "string", "format": "binary"}},
                    "required": ["image"],
                }
            },
        },
    }
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "a multipart body without exactly one file"},
    401: {"model": ErrorAnswer, "description": "the bearer token is missing or wrong"},
    408: {"model": ErrorAnswer, "description": "the body did not arrive in time"},
    413: {"model": ErrorAnswer, "description": "too many bytes or pixels"},
    415: {"model": ErrorAnswer, "description": "neither image/* nor multipart/form-data"},
    422: {"model": ErrorAnswer, "description": "not an image that can be decoded, or a wrong parameter"},
    503: {"model": ErrorAnswer, "description": "too many requests at once: wait as Retry-After says"},
}
_PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src blob:; connect-src 'self'"
)
_CODES = {404: "not_found", 405: "method_not_allowed"}


class AgeService(Protocol):
    """What the routes need: predictions from an image's bytes, and the model's manifest as JSON."""

    def predict(self, data: bytes, *, whole: bool, challenge_age: float | None = None) -> Prediction:
        """Ages of the faces of an encoded image; with ``whole`` the image itself is one face crop. With a
        challenge age (years) each face has a decision.
        """
        ...

    def manifest(self) -> dict[str, Any]:
        """The manifest of the model that answers."""
        ...


def create_app(service: AgeService, token: TokenCheck, limits: ImageLimits) -> FastAPI:
    """The application for one service. Predictions run on one thread of their own, in order of arrival."""
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        worker.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title="agesearch",
        version=VERSION,
        summary="Estimates the age of each face in an image.",
        lifespan=lifespan,
        # FastAPI's own pages load their scripts from the web, so they stay blank on a machine without it.
        docs_url=None,
        redoc_url=None,
    )
    _add_error_handlers(app)
    _add_open_routes(app)
    guarded = APIRouter(prefix="/v1", dependencies=[Depends(_Guard(token))])
    _add_model_routes(guarded, service, limits, worker)
    app.include_router(guarded)
    return app


def _add_open_routes(app: FastAPI) -> None:
    """What needs no token: the documentation and the health check."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        page = (files("agesearch.serving") / "templates" / "docs.html").read_text("utf-8")
        return HTMLResponse(page, headers={"Content-Security-Policy": _PAGE_POLICY})

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("docs")

    @app.get("/healthz", summary="Whether the service is up (no token needed)")
    async def healthz() -> Health:
        return Health(status="ok")


def _add_model_routes(router: APIRouter, service: AgeService, limits: ImageLimits, worker: Executor) -> None:
    gate = _Gate(MAX_ADMITTED)

    @router.get("/model", summary="The manifest of the model that answers", responses=_only(401))
    async def model() -> dict[str, Any]:
        return service.manifest()

    @router.post(
        "/predict", summary="The age of each face in an image", responses=_REFUSALS, openapi_extra=_BODY
    )
    async def predict(
        request: Request,
        faces: Annotated[
            FacesMode, Query(description="find the faces, or take the whole image as one face crop")
        ] = "detect",
        challenge_age: Annotated[
            float | None,
            Query(ge=0.0, le=MAX_AGE, description="decide at this age in years: pass, refuse or unsure"),
        ] = None,
    ) -> Prediction:
        with gate:
            data = await read_image_bytes(request.headers, request.stream(), limits)
            loop = asyncio.get_running_loop()
            whole = faces == "whole"
            return await loop.run_in_executor(
                worker, lambda: service.predict(data, whole=whole, challenge_age=challenge_age)
            )


class _Guard(HTTPBearer):
    """Refuses requests without the token; OpenAPI shows it as bearer authentication."""

    def __init__(self, token: TokenCheck) -> None:
        super().__init__(
            scheme_name="token", auto_error=False, description="the token that 'agesearch serve' names"
        )
        self._token = token

    async def __call__(self, connection: HTTPConnection) -> None:
        header = connection.headers.get("authorization")
        if self._token.accepts(header):
            return
        code = "token_wrong" if header else "token_missing"
        message = "The bearer token is wrong." if header else "Send the header 'Authorization: Bearer TOKEN'."
        raise Refusal(401, code, message, headers={"WWW-Authenticate": "Bearer"})


class _Gate:
    """Counts the requests inside; one more than ``capacity`` is refused."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._inside = 0

    def __enter__(self) -> None:
        if self._inside >= self._capacity:
            raise Refusal(
                503, "busy", "Too many requests at once: try again in a second.", headers={"Retry-After": "1"}
            )
        self._inside += 1

    def __exit__(self, *_: object) -> None:
        self._inside -= 1


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

    async def failed(_: Request, error: Exception) -> JSONResponse:
        # The cause is in the replica's log; a stranger is told nothing of the inside.
        return _response(Refusal(500, "internal", "The service failed to answer; its log says why."))

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, failed)


def _response(refusal: Refusal) -> JSONResponse:
    return JSONResponse(refusal.answer().model_dump(), refusal.status, refusal.headers)
