"""From an image's bytes to the faces in it, decoded no further than the crop's recipe needs.

Detectors search an image of 512 pixels, and a crop has about 100. By recipe 2 a JPEG is decoded at 1/2, 1/4
or 1/8 of its sides (by its transform, libjpeg's scaling) where that leaves the detector all it looks at;
where a face is then too small for its crop, or none is found, the image is decoded whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from agesearch.data.images.crop import crop_side, in_file_pixels
from agesearch.data.images.decode import Photograph
from agesearch.data.images.detectors import SEARCH_SIDES, Detection, Detector
from agesearch.specs import CropSpec

#: Decodes: the image whole (None), or reduced with this many pixels left on its longer side.
Decode = Callable[[int | None], Photograph]
#: Which of the faces of a photograph are meant; raises where that cannot be said.
Choose = Callable[[Photograph, list[Detection]], Sequence[Detection]]

#: A crop is taken from a reduced image where so many of its pixels lie along a crop pixel, or more.
_LEAST_OVERSAMPLING = 2.0


class Located(NamedTuple):
    """A decoded image and the faces that are meant, in its pixels (not those of the file)."""

    photograph: Photograph
    faces: Sequence[Detection]


def locate(decode: Decode, detector: Detector, crop: CropSpec, choose: Choose) -> Located:
    """The faces that ``choose`` takes of an image, and the image as far decoded as their crops need."""
    photograph = decode(enough_for(crop))
    found = detect(photograph, detector, crop)
    if not found and photograph.reduction > 1:
        photograph, by = _whole(decode, photograph)
        found = detect(photograph, detector, crop) if by > 1 else found
    faces = choose(photograph, found)
    least = _LEAST_OVERSAMPLING * crop.size
    if photograph.reduction > 1 and any(crop_side(face, crop) < least for face in faces):
        photograph, by = _whole(decode, photograph)
        faces = [in_file_pixels(face, by) for face in faces]
    return Located(photograph, faces)


def enough_for(crop: CropSpec) -> int | None:
    """Pixels of an image's longer side in which faces are looked for first; None: in all."""
    return None if crop.recipe == 1 or crop.detector == "none" else SEARCH_SIDES[0]


def detect(photograph: Photograph, detector: Detector, crop: CropSpec) -> list[Detection]:
    """All faces in a decoded image, most prominent first."""
    bgr = cv2.cvtColor(photograph.pixels, cv2.COLOR_RGB2BGR)
    return detector.detect(np.asarray(bgr, np.uint8), crop.min_score)


def _whole(decode: Decode, reduced: Photograph) -> tuple[Photograph, int]:
    """The image decoded without need to reduce it, and how much longer its sides are than before."""
    whole = decode(None)
    return whole, reduced.reduction // whole.reduction
