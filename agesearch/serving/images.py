"""From a request's body to a decoded image, with a limit on everything a stranger could make large.

The body is counted while it arrives, so a body that is too large is refused before it is held in memory, also
when it comes in chunks without a length.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from agesearch.data.images.decode import BadImage, Photograph, decode_photograph
from agesearch.serving.schema import Refusal

#: What the boundary lines and headers of a multipart body may add to the image.
_MULTIPART_SLACK = 64 * 1024
_MULTIPART = "multipart/form-data"

#: Statuses of ``BadImage`` reasons; any other is 422: the bytes came whole, but are no usable image.
_STATUS = {"too_many_bytes": 413, "too_many_pixels": 413}


@dataclass(frozen=True)
class ImageLimits:
    """What one request may cost: bytes, pixels (a JPEG with more is reduced while it is decoded), faces, and
    seconds until its body has arrived.
    """

    max_bytes: int = 16 * 1024 * 1024
    max_pixels: int = 50_000_000
    max_faces: int = 64
    body_timeout_s: float = 20.0


async def read_image_bytes(
    headers: Mapping[str, str], stream: AsyncIterable[bytes], limits: ImageLimits
) -> bytes:
    """The image of a raw ``image/*`` body or of a multipart body's one file; a ``Refusal`` for anything else.

    Statuses: 415 wrong content type, 413 too large, 408 too slow, 400 a multipart body without one image.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.startswith("image/") and kind != _MULTIPART:
        raise Refusal(
            415,
            "unsupported_media_type",
            f"The content type is '{kind[:80] or 'missing'}', but must be image/* (the file's bytes as body) "
            f"or {_MULTIPART} (one file).",
        )
    slack = _MULTIPART_SLACK if kind == _MULTIPART else 0
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            body = await _read_limited(headers.get("content-length"), stream, limits.max_bytes + slack)
    except TimeoutError as error:
        raise Refusal(
            408, "body_timeout", f"The body did not arrive within {limits.body_timeout_s:g} seconds."
        ) from error
    return await _file_of_form(headers["content-type"], body) if slack else body


def decode(data: bytes, limits: ImageLimits, enough: int | None = None) -> Photograph:
    """The upright image, reduced where it is a JPEG above ``max_pixels``, or ``enough`` pixels stay on its
    longer side; a ``Refusal`` (413 or 422) names what is wrong with it.
    """
    try:
        return decode_photograph(
            data, max_bytes=limits.max_bytes, max_pixels=limits.max_pixels, enough=enough
        )
    except BadImage as error:
        raise Refusal(_STATUS.get(error.reason, 422), error.reason, str(error)) from error


async def _read_limited(length: str | None, stream: AsyncIterable[bytes], limit: int) -> bytes:
    if length is not None and length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    total = 0
    async for part in stream:
        total += len(part)
        if total > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def _too_large(limit: int) -> Refusal:
    return Refusal(413, "too_many_bytes", f"The body is larger than the {limit} bytes allowed.")


async def _file_of_form(content_type: str, body: bytes) -> bytes:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    # The parser would move large files to disk; the body is in memory already and bounded.
    parser = MultiPartParser(Headers({"content-type": content_type}), whole(), max_files=8, max_fields=8)
    parser.spool_max_size = len(body) + 1
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        message = getattr(error, "message", "") or "its boundary is missing or broken"
        raise Refusal(400, "bad_multipart", f"The multipart body cannot be read: {message}.") from error
    files = [value for value in form.values() if isinstance(value, UploadFile)]
    try:
        if len(files) != 1:
            raise Refusal(
                400,
                "one_file_expected",
                f"The multipart body has {len(files)} files, but must have one image.",
            )
        return await files[0].read()
    finally:
        await form.close()
