"""What an image may cost, and decoding within that."""

from __future__ import annotations

from dataclasses import dataclass

from agesearch.data.images.decode import BadImage, Photograph, decode_photograph
from agesearch.serving.schema import Refusal

#: Statuses of ``BadImage`` reasons; any other is 422: the bytes came whole, but are no usable image.
_STATUS = {"too_many_bytes": 413, "too_many_pixels": 413}


@dataclass(frozen=True)
class ImageLimits:
    """What one request may cost: bytes of an image and of a body of several, pixels (a JPEG with more is
    reduced while it is decoded), faces of an image, images, and seconds until its body has arrived.
    """

    max_bytes: int = 16 * 1024 * 1024
    max_body_bytes: int = 32 * 1024 * 1024
    max_images: int = 16
    max_pixels: int = 50_000_000
    max_faces: int = 64
    body_timeout_s: float = 20.0


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
