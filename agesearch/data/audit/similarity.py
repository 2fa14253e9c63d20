"""How alike two face crops are when small shifts, zooms and turns do not count, in whole batches at once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

import cv2
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

#: Sides in pixels of the stored thumbnails, of the crops that are registered, and of the views to be hashed.
SIDE, _WORK, _VIEW, _TEMPLATE = 24, 64, 32, 28
_MARGIN = 2
_ITERATIONS, _DAMPING = 5, 0.3
#: Detectors put the box of a copy off by a few per cent; more is no jitter but another picture.
_MAX_ZOOM, _MAX_SHIFT = 0.10, 2.0
#: Raw correlation below which two thumbnails are not worth the finer look.
_MIN_RAW = 0.75
_AT_ONCE = 512


class Thumbnails:
    """N thumbnails ``uint8 [24, 24]`` in a nameless file of the temporary folder: they need no memory."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this object
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, thumbs: Grey) -> None:
        """The next ones, ``[n, 24, 24]``."""
        self._file.write(thumbs.tobytes())
        self._size += len(thumbs)

    def __getitem__(self, where: npt.NDArray[np.int64]) -> Grey:
        """Those at some indices ``[n]``: ``[n, 24, 24]``."""
        self._file.flush()
        number, each = self._file.fileno(), SIDE * SIDE
        found = b"".join(os.pread(number, each, each * place) for place in where.tolist())
        return np.frombuffer(found, np.uint8).reshape(-1, SIDE, SIDE)


def thumbnail(grey: Grey) -> Grey:
    """``uint8 [24, 24]``, slightly blurred, so that gradients tell of small shifts."""
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 1.0), np.uint8)


def similarity(
    thumbs: Grey | Thumbnails,
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    mirrored: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64]:
    """Correlation of pairs of thumbnails, 0..1, ``[n]``; the second is mirrored where ``mirrored`` says so.

    The lower of both directions, each the share of one image that the other, its four tangents (shift, zoom,
    turn) and a constant explain. 0 where the raw correlation is too low for small motions to matter.
    """
    found = np.zeros(len(first))
    for start in range(0, len(first), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        a = thumbs[first[part]].astype(np.float32)
        b = thumbs[second[part]].astype(np.float32)
        flip = mirrored[part]
        b[flip] = b[flip][:, :, ::-1]
        a, b = _standard(a), _standard(b)
        near = np.flatnonzero((a * b).sum((1, 2)) >= _MIN_RAW)
        if near.size:
            a, b = a[near], b[near]
            tangents = _tangents(np.asarray((a + b) / 2, np.float32))
            found[start + near] = np.minimum(_explained(a, b, tangents), _explained(b, a, tangents))
    return found


def _standard(images: Floats) -> Floats:
    """Zero mean, unit norm."""
    centred = images - images.mean((1, 2), keepdims=True)
    norms = np.maximum(np.sqrt((centred**2).sum((1, 2), keepdims=True)), 1e-6)
    return np.asarray(centred / norms, np.float32)


def _tangents(images: Floats) -> Floats:
    """How ``[n, S, S]`` changes with small shifts, zoom and turn: ``[n, 4, S, S]``."""
    side = images.shape[1]
    down = np.gradient(images, axis=1)
    right = np.gradient(images, axis=2)
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2).astype(np.float32) / side
    return np.stack([right, down, x * right + y * down, x * down - y * right], axis=1)


def _explained(source: Floats, target: Floats, tangents: Floats) -> npt.NDArray[np.float64]:
    inner = slice(_MARGIN, -_MARGIN)
    count = len(source)
    basis = np.concatenate([source[:, None], tangents], axis=1)[:, :, inner, inner].reshape(count, 5, -1)
    basis = basis - basis.mean(2, keepdims=True)
    goal = target[:, inner, inner].reshape(count, -1, 1)
    goal = goal - goal.mean(1, keepdims=True)
    goal /= np.maximum(np.sqrt((goal**2).sum(1, keepdims=True)), 1e-6)
    gram = (basis @ basis.transpose(0, 2, 1)).astype(np.float64)
    gram[:, range(5), range(5)] = gram[:, range(5), range(5)] * 1.001 + 1e-9
    products = (basis @ goal).astype(np.float64)
    weights = np.linalg.solve(gram, products)
    explained = np.clip((products * weights).sum((1, 2)), 0.0, 1.0)
    return np.where(weights[:, 0, 0] > 0, np.sqrt(explained), 0.0)


@dataclass(frozen=True, eq=False)
class Registration:
    """Brings crops to the place of a template by a few Gauss-Newton steps over zoom, turn and shift."""

    template: Floats
    tangents: Floats
    inverse: Floats

    @classmethod
    def to_mean_of(cls, grey: Sequence[Grey]) -> Registration:
        """Registers to the mean of some faces and their mirror images, so that copies of either end alike."""
        mean = np.mean([_small(face, _TEMPLATE, 1.7).astype(np.float32) for face in grey], axis=0)
        mean = _standard((mean + mean[:, ::-1])[None])
        moves = _tangents(mean)[0] * _TEMPLATE
        moves[:2] /= _TEMPLATE  # shifts in pixels of the template, zoom and turn as fractions
        template = _inner(mean)[0]
        template /= max(float(np.linalg.norm(template)), 1e-6)
        tangents = _inner(moves)
        tangents = tangents - (tangents @ template)[:, None] * template
        gram = tangents @ tangents.T
        damped = gram + (_DAMPING * np.diag(gram) + 1e-9) * np.eye(4, dtype=np.float32)
        return cls(template, tangents, np.linalg.inv(damped).astype(np.float32))

    def views(self, grey: Sequence[Grey]) -> tuple[list[Grey], list[Grey]]:
        """Each crop as ``uint8 [32, 32]``: as it is, and registered."""
        sharp = [_small(face, _WORK, 0.7) for face in grey]
        soft = [np.asarray(cv2.GaussianBlur(face, (0, 0), 1.7), np.uint8) for face in sharp]
        motion = np.zeros((len(grey), 4), np.float32)
        limit = np.array([_MAX_SHIFT, _MAX_SHIFT, _MAX_ZOOM, _MAX_ZOOM], np.float32)
        for _ in range(_ITERATIONS):
            now = np.stack([_moved(face, row, _TEMPLATE) for face, row in zip(soft, motion, strict=True)])
            seen = _inner(now.astype(np.float32))
            seen /= np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-6)
            agreement = np.maximum(seen @ self.template, 0.3)[:, None]
            step = (seen / agreement - self.template) @ self.tangents.T @ self.inverse
            motion = np.clip(motion - np.clip(step, -limit / 2, limit / 2), -limit, limit)
        plain = [_moved(face, np.zeros(4, np.float32), _VIEW) for face in sharp]
        return plain, [_moved(face, row, _VIEW) for face, row in zip(sharp, motion, strict=True)]


def _small(grey: Grey, side: int, blur: float) -> Grey:
    small = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), blur), np.uint8)


def _inner(images: Floats) -> Floats:
    """Without the margin, flat and of zero mean: ``[n, pixels]``."""
    flat = images[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN].reshape(len(images), -1)
    return np.asarray(flat - flat.mean(1, keepdims=True), np.float32)


def _moved(face: Grey, motion: Floats, side: int) -> Grey:
    """A crop of 64 pixels seen through a motion (shift right and down in template pixels, zoom, turn)."""
    right, down, zoom, turn = (float(value) for value in motion)
    scale = face.shape[0] / side
    matrix = np.array([[1 + zoom, -turn], [turn, 1 + zoom]]) * scale
    pixel = face.shape[0] / _TEMPLATE
    target = (face.shape[0] - 1) / 2 + np.array([right, down]) * pixel
    shift = target - matrix @ np.full(2, (side - 1) / 2)
    placed = cv2.warpAffine(
        face,
        np.concatenate([matrix, shift[:, None]], axis=1),
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(placed, np.uint8)
