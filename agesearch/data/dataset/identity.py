"""What makes a face and a photograph the same as another: digests of the file's bytes, taken in one pass."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_DIGITS = 32


@dataclass(frozen=True)
class FaceIdentity:
    """Which face: ``sample_id`` (32 hex digits) is of the bytes and the source's own box, ``photo_sha256``
    (64) of the bytes alone, whoever is shown.
    """

    sample_id: str
    photo_sha256: str

    @property
    def photo_digest(self) -> str:
        """32 hex digits that name the photograph; equal to ``sample_id`` where the source gives no box."""
        return self.photo_sha256[:_DIGITS]


def identify(data: bytes, box: Sequence[float] | None = None) -> FaceIdentity:
    """The identity of a face by its file's bytes and, where the source gives one, its box ``x, y, w, h``."""
    photo = hashlib.sha256(data)
    face = photo.copy()
    if box is not None:
        face.update(np.asarray(box, dtype="<f4").tobytes())
    return FaceIdentity(face.hexdigest()[:_DIGITS], photo.hexdigest())


def sample_id_of(data: bytes, box: Sequence[float] | None = None) -> str:
    """``identify(data, box).sample_id``."""
    return identify(data, box).sample_id
