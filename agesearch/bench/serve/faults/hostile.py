"""Requests that nobody means well with, drawn from a seed: broken HTTP, bodies, images that are none."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

Drawn = np.random.Generator

_KINDS = (
    "image/jpeg",
    "image/png",
    "image/svg+xml",
    "application/json",
    "text/html",
    "multipart/form-data",
    "",
)
_QUERIES = (
    "",
    "?faces=whole",
    "?faces=%00",
    "?challenge_age=nan",
    "?challenge_age=1e309",
    "?faces=whole&faces=detect",
    "?x=" + "y" * 3000,
    "?%F0%9F%92%A9=1",
)
_PATHS = (
    "/v1/predict",
    "/v1/models/../../etc/passwd",
    "/v1/models/%2e%2e%2f",
    "/v1/models/x" + "y" * 4000,
    "/metrics",
    "//",
    "/v1/predict/",
    "/docs/../v1/model",
    "*",
)
_METHODS = ("POST", "GET", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW", "post")


def hostile_requests(count: int, authorization: str, seed: int = 0) -> Iterator[bytes]:
    """``count`` requests as raw bytes, the same for the same seed; about half of them have the token."""
    drawn = np.random.default_rng(seed)
    for index in range(count):
        make = _MAKERS[index % len(_MAKERS)]
        yield make(drawn, authorization if drawn.random() < 0.75 else "Bearer wrong")


def _request(
    drawn: Drawn, authorization: str, kind: str, body: bytes, path: str = "/v1/predict", method: str = "POST"
) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: {authorization}\r\n"
    head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode("utf-8", "replace") + body


def _noise(drawn: Drawn, authorization: str) -> bytes:
    return bytes(drawn.integers(0, 256, int(drawn.integers(1, 3000)), np.uint8)) + b"\r\n\r\n"


def _odd_call(drawn: Drawn, authorization: str) -> bytes:
    path = str(drawn.choice(_PATHS)) + str(drawn.choice(_QUERIES))
    return _request(drawn, authorization, "image/jpeg", b"x", path, str(drawn.choice(_METHODS)))


def _odd_kind(drawn: Drawn, authorization: str) -> bytes:
    body = bytes(drawn.integers(0, 256, int(drawn.integers(0, 4000)), np.uint8))
    return _request(drawn, authorization, str(drawn.choice(_KINDS)), body)


def _odd_framing(drawn: Drawn, authorization: str) -> bytes:
    """Lengths that contradict, chunks that are none, headers that are too many or too long."""
    head = f"POST /v1/predict HTTP/1.1\r\nHost: bench\r\nAuthorization: {authorization}\r\n".encode()
    odd = (
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 99999999999999999999\r\n\r\nx",
        b"Content-Length: 3\r\nContent-Encoding: gzip\r\nContent-Type: image/png\r\n\r\nabc",
        b"Expect: 100-continue\r\nContent-Length: 1\r\nContent-Type: image/png\r\n\r\nx",
        b"X: " + b"y" * 70_000 + b"\r\n\r\n",
        b"".join(b"X-%d: y\r\n" % number for number in range(300)) + b"\r\n",
        b"X\x00Y: z\r\n\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    )
    return head + odd[int(drawn.integers(len(odd)))]


def _odd_json(drawn: Drawn, authorization: str) -> bytes:
    grey = base64.b64encode(_photo("JPEG", 24)).decode()
    odd = (
        b"[" * 50_000,
        b'{"image": ' + b'{"a":' * 2000 + b"1" + b"}" * 2001,
        b'{"image": 1e999, "images": []}',
        json.dumps({"image": grey, "faces": None}).encode(),
        json.dumps({"images": [grey] * 40}).encode(),
        json.dumps({"image": grey[:-3] + "***"}).encode(),
        json.dumps({"images": [grey, 5, None, {}]}).encode(),
        b'\xff\xfe{"image": "x"}',
        b'{"image": "x", "image": "y"}',
        b"null",
    )
    return _request(drawn, authorization, "application/json", odd[int(drawn.integers(len(odd)))])


def _odd_form(drawn: Drawn, authorization: str) -> bytes:
    part = b'Content-Disposition: form-data; name="image"; filename="../../x"\r\n\r\n'
    odd = (
        b"--b\r\n" + part,
        b"--b\r\n" + part + b"x\r\n--b--",
        (b"--b\r\n" + part + b"x\r\n") * 100 + b"--b--",
        b"--b\r\n" + b"X: y\r\n" * 3000 + b"\r\nx\r\n--b--",
        b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--",
        b"",
    )
    body = odd[int(drawn.integers(len(odd)))]
    return _request(drawn, authorization, "multipart/form-data; boundary=b", body)


def _odd_image(drawn: Drawn, authorization: str) -> bytes:
    """Cut, flipped, and larger than what they hold says."""
    form = str(drawn.choice(["JPEG", "PNG", "GIF", "WEBP", "BMP"]))
    image = bytearray(_photo(form, int(drawn.integers(1, 200))))
    if drawn.random() < 0.5:
        image = image[: int(drawn.integers(1, len(image) + 1))]
    for place in drawn.integers(0, len(image), int(drawn.integers(1, 20))):
        image[place] ^= int(drawn.integers(1, 256))
    query = str(drawn.choice(_QUERIES[:2]))
    return _request(drawn, authorization, f"image/{form.lower()}", bytes(image), f"/v1/predict{query}")


def _bomb(drawn: Drawn, authorization: str) -> bytes:
    """A PNG of a few bytes that says it has up to 10^10 pixels."""
    side = int(drawn.choice([1, 8000, 30_000, 100_000]))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 100_000)
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    body = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(held)) + name + held + struct.pack(">I", zlib.crc32(name + held))
        for name, held in chunks
    )
    return _request(drawn, authorization, "image/png", body)


def _photo(form: str, side: int) -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (side, side), (120, 110, 100)).save(held, form)
    return held.getvalue()


_MAKERS: tuple[Callable[[Drawn, str], bytes], ...] = (
    _noise,
    _odd_call,
    _odd_kind,
    _odd_framing,
    _odd_json,
    _odd_form,
    _odd_image,
    _odd_image,
    _bomb,
)
