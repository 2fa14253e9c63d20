"""Two faces as one picture: blended (mixup, Zhang 2018), or one with a rectangle of the other in it (cutmix,
Yun 2019). Plain arithmetic on whole numbers: the same on any machine.
"""

from __future__ import annotations

import math

import numpy as np

from agesearch.data.images.augment import Draws
from agesearch.data.images.transforms import Pixels

#: Left, top, right and bottom in pixels.
Rectangle = tuple[int, int, int, int]

#: The share that a blend has of its first face: never less than of the other.
SHARES = (0.5, 1.0)
#: The share of the picture that a pasted rectangle covers.
AREAS = (0.05, 0.4)
#: Its sides differ by this factor at most: with the largest area it still lies within the picture.
_ASPECT = 2.0


def drawn_share(draws: Draws) -> float:
    """Even over ``SHARES``."""
    return draws.between(*SHARES)


def drawn_rectangle(size: int, draws: Draws) -> Rectangle:
    """A rectangle within a picture of ``size`` pixels a side; its area is even over ``AREAS`` (to the pixel),
    the logarithm of its aspect and its place are even, too.
    """
    area, aspect = draws.between(*AREAS), _ASPECT ** draws.between(-1.0, 1.0)
    width = max(1, round(size * math.sqrt(area * aspect)))
    height = max(1, round(size * math.sqrt(area / aspect)))
    left, top = draws.whole(0, size - width), draws.whole(0, size - height)
    return left, top, left + width, top + height


def blended(face: Pixels, other: Pixels, share: float) -> Pixels:
    """``share`` of ``face`` and the rest of ``other``: ``uint8 [S, S, 3]`` each."""
    mixture = np.float32(share) * face + np.float32(1.0 - share) * other
    return np.rint(mixture).astype(np.uint8)


def pasted(face: Pixels, other: Pixels, where: Rectangle) -> Pixels:
    """``face`` with that part of ``other`` which lies in the rectangle: ``uint8 [S, S, 3]`` each."""
    left, top, right, bottom = where
    picture = face.copy()
    picture[top:bottom, left:right] = other[top:bottom, left:right]
    return picture
