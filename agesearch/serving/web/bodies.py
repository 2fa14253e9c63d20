"""From a request's body to the images in it, with a limit on everything a stranger could make large.

The body is counted while it arrives, so a body that is too large is refused before it is held in memory, also
when it comes in chunks without a length; and the bodies that are held at once have a limit together.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from agesearch.ages import MAX_AGE
from agesearch.serving.batches import busy
from agesearch.serving.images import ImageLimits
from agesearch.serving.schema import Refusal

#: What the boundary lines and headers of a multipart body, or the names of a JSON one, may add to the images.
_SLACK = 64 * 1024
_MULTIPART, _JSON = "multipart/form-data", "application/json"
_TAKES = f"image/* (one file's bytes as body), {_MULTIPART} (files) or {_JSON} (images in base64)"
FACES_MODES = ("detect", "whole")


@dataclass(frozen=True)
class Question:
    """The images of a request and what is asked of each, and of which model (None: of the first);
    ``is_list``: they came as a list, and so are the answers, where one image gets its answer alone.
    """

    images: list[bytes]
    faces: str = "detect"
    challenge_age: float | None = None
    model: str | None = None
    is_list: bool = False


@dataclass
class BodyBudget:
    """Bytes of the bodies that a process holds at once; one more than ``limit`` is refused (503)."""

    limit: int
    held: int = 0

    def body(self) -> _Held:
        """The bytes of one body: given back at the end of the block."""
        return _Held(self)


@dataclass
class _Held:
    budget: BodyBudget
    bytes: int = field(default=0)

    def take(self, more: int) -> None:
        if self.budget.held + more > self.budget.limit:
            raise busy()
        self.budget.held += more
        self.bytes += more

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.budget.held -= self.bytes


async def read_question(
    headers: Mapping[str, str], query: str, stream: AsyncIterable[bytes], limits: ImageLimits, held: _Held
) -> Question:
    """The images of a body and what is asked of them; a ``Refusal`` for anything else.

    A raw ``image/*`` body is one image; of a form each file is one; a JSON document has ``image`` or a list
    ``images`` in base64, and may have ``faces`` and ``challenge_age``, which else stand in the query, as
    ``model`` does.
    Statuses: 415 wrong content type or encoding, 413 too large, 408 too slow, 400 a body that cannot be read,
    422 a wrong parameter, 503 too much at once.
    """
    kind = _kind_of(headers)
    asked = dict(_asked_in(query))
    # A list of images may weigh more than one; base64 adds a third.
    limit = limits.max_bytes if kind.startswith("image/") else limits.max_body_bytes + _SLACK
    body = await _read_in_time(headers, stream, limit, limits.body_timeout_s, held)
    if kind == _MULTIPART:
        images = await _files_of_form(headers["content-type"], body, limits.max_images)
        return Question(images, **asked, is_list=len(images) > 1)
    if kind == _JSON:
        return _of_json(body, asked, limits.max_images)
    return Question([body], **asked)


def _kind_of(headers: Mapping[str, str]) -> str:
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Refusal(
            415,
            "unsupported_content_encoding",
            f"The content encoding is '{encoding[:80]}', but images are taken as they are: send none.",
            headers={"Accept-Encoding": "identity"},
        )
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.startswith("image/") and kind not in (_MULTIPART, _JSON):
        raise Refusal(
            415,
            "unsupported_media_type",
            f"The content type is '{kind[:80] or 'missing'}', but must be {_TAKES}.",
        )
    return kind


@lru_cache(maxsize=256)
def _asked_in(query: str) -> Mapping[str, Any]:
    """What a query asks; most are the same one."""
    return _parameters(dict(_pairs(query)))


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=8)
    except ValueError as error:
        raise _wrong("query", "it has too many parameters") from error
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _wrong(twice, "it is given twice")
    return pairs


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """``faces``, ``challenge_age`` and ``model``, checked; a name that is none of them is refused, lest a
    misspelt one be left out in silence.
    """
    asked: dict[str, Any] = {}
    for name, value in given.items():
        if name == "faces":
            if value not in FACES_MODES:
                raise _wrong(name, "it must be detect or whole")
            asked[name] = value
        elif name == "challenge_age":
            asked[name] = _age(name, value)
        elif name == "model":
            asked[name] = str(value)
        else:
            raise _wrong(
                str(name)[:80], "there is no such parameter: there are faces, challenge_age and model"
            )
    return asked


def _age(name: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        age = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        age = float("nan")
    if not math.isfinite(age) or not 0.0 <= age <= MAX_AGE:
        raise _wrong(name, f"it must be an age in years from 0 to {MAX_AGE}")
    return age


def _wrong(name: str, why: str) -> Refusal:
    return Refusal(422, "bad_parameter", f"'{name}': {why}.")


async def _read_in_time(
    headers: Mapping[str, str], stream: AsyncIterable[bytes], limit: int, seconds: float, held: _Held
) -> bytes:
    length = headers.get("content-length")
    if length is not None and length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    total = 0
    try:
        async with asyncio.timeout(seconds):
            async for part in stream:
                total += len(part)
                if total > limit:
                    raise _too_large(limit)
                held.take(len(part))
                parts.append(part)
    except TimeoutError as error:
        raise Refusal(408, "body_timeout", f"The body did not arrive within {seconds:g} seconds.") from error
    return b"".join(parts)


def _too_large(limit: int) -> Refusal:
    return Refusal(413, "too_many_bytes", f"The body is larger than the {limit} bytes allowed.")


def _of_json(body: bytes, asked: dict[str, Any], most: int) -> Question:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "bad_json", "The body is not a JSON document.") from error
    if not isinstance(document, dict) or ("image" in document) == ("images" in document):
        raise Refusal(400, "bad_json", "The JSON body must be an object with 'image' or a list 'images'.")
    rest = {name: value for name, value in document.items() if name not in ("image", "images")}
    asked = asked | _parameters(rest)
    if "image" in document:
        return Question([_of_base64(document["image"])], **asked)
    texts = document["images"]
    if not isinstance(texts, list) or not 1 <= len(texts) <= most:
        raise Refusal(400, "bad_json", f"'images' must be a list of 1 to {most} images in base64.")
    return Question([_of_base64(text) for text in texts], **asked, is_list=True)


def _of_base64(text: Any) -> bytes:
    try:
        return base64.b64decode(text if isinstance(text, str) else "?", validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(400, "bad_base64", "An image of the JSON body is no base64.") from error


async def _files_of_form(content_type: str, body: bytes, most: int) -> list[bytes]:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    # The parser would move large files to disk; the body is in memory already and bounded.
    parser = MultiPartParser(Headers({"content-type": content_type}), whole(), max_files=most, max_fields=8)
    parser.spool_max_size = len(body) + 1
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        message = getattr(error, "message", "") or "its boundary is missing or broken"
        raise Refusal(400, "bad_multipart", f"The multipart body cannot be read: {message}.") from error
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise Refusal(400, "one_file_expected", "The multipart body has no file, but must have an image.")
        return [await file.read() for file in files]
    finally:
        await form.close()
