"""From an image to the one square crop that training and service share: choose the face, align it, encode it.

The crop is a similarity transform of the image: a square whose centre is the box's, whose side is ``scale``
times the box's longer side, turned so that the eyes are level.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from agesearch.data.images.decode import BadImage, RgbImage
from agesearch.data.images.detectors import Detection, Detector, open_detector
from agesearch.errors import AgeSearchError, InputError
from agesearch.specs import CropSpec

__all__ = [
    "Detection",
    "Detector",
    "choose_face",
    "crop_face",
    "crop_side",
    "decode_crop",
    "encode_crop",
    "in_file_pixels",
    "open_detector",
    "scaled_box",
]

Box = tuple[float, float, float, float]

#: A detection is the face of a given box when they share this much (intersection over union).
_SAME_FACE_IOU = 0.25
#: Without a given box, a second face this prominent beside the first makes the label's owner uncertain.
_RIVAL_PROMINENCE = 0.5
#: The most source pixels along a crop pixel that the fine stage of recipe 1 averages.
_MAX_SUPERSAMPLING = 8
#: Recipe 2 halves the pixels under the square while so many or more lie along a crop pixel ...
_HALVED_FROM = 4.0
#: ... and samples up to so many along a crop pixel by cubic interpolation, as recipe 1 does any number.
_CUBIC_UP_TO = 2.0
#: Pixels around the square that interpolation reads.
_MARGIN = 2
_MAX_CROP_BYTES = 8 * 1024 * 1024


def choose_face(detections: list[Detection], given: Box | None, width: int, height: int) -> Detection:
    """Pick the labelled face among detections, most prominent (score x area) first, of a ``width`` x
    ``height`` image.

    With a box given by the source: the detection that overlaps it most, or the given box itself (without
    landmarks, hence not aligned) where none does, since the source's owner knows. Without: the most prominent
    face. ``BadImage`` with reason ``no_face``; ``several_faces`` where a rival is at least half as prominent;
    ``bad_box`` where the given box is not finite or lies outside the image.
    """
    if given is not None:
        if not _is_usable(given, width, height):
            raise BadImage("bad_box", f"The given box {given} has no part in the {width} x {height} image.")
        best = max(detections, key=lambda face: overlap(face.box, given), default=None)
        if best is not None and overlap(best.box, given) >= _SAME_FACE_IOU:
            return best
        return Detection(1.0, given)
    if not detections:
        raise BadImage("no_face", "No face was found.")
    first, *rest = detections
    if rest and rest[0].prominence >= _RIVAL_PROMINENCE * first.prominence:
        raise BadImage("several_faces", f"{len(detections)} faces were found and no box says which is meant.")
    return first


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes ``x, y, w, h``: 0..1."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (first[2] * first[3] + second[2] * second[3] - shared)


def scaled_box(box: Box, factor: float) -> Box:
    """A box in an image whose sides are ``factor`` times as long."""
    x, y, width, height = box
    return x * factor, y * factor, width * factor, height * factor


def in_file_pixels(face: Detection, reduction: int) -> Detection:
    """A face found in an image that was reduced while it was decoded (``Photograph.reduction``), in pixels of
    the file, whose sides are so many times as long.
    """
    if reduction == 1:
        return face
    # A landmark is a pixel's centre, which lies half a pixel from its edge.
    points = None if face.landmarks is None else (face.landmarks + 0.5) * reduction - 0.5
    return Detection(face.score, scaled_box(face.box, reduction), points)


def crop_face(rgb: RgbImage, face: Detection | Box, spec: CropSpec) -> RgbImage:
    """``uint8 [size, size, 3]`` RGB: the square around the face by the recipe of ``spec``.

    Pixels beyond the image repeat its edge. With the detector ``none`` the image is the crop, so ``scale`` is
    not applied. Every crop pixel averages the source pixels under it (no aliasing). Recipe 1 samples at the
    source's resolution or finer, and an exact area average brings that to ``size``: 25 ms for a large face.
    Recipe 2 reads the square's region only and halves it first (1 ms); where up to two source pixels lie
    along a crop pixel its crop is that of recipe 1, elsewhere a grey level or less away on average; beyond
    the image it repeats the edge of the halved one.
    """
    detection = face if isinstance(face, Detection) else Detection(1.0, face)
    square = _square(detection, spec)
    return (_sampled_finely if spec.recipe == 1 else _halved_and_sampled)(rgb, square, spec.size)


def crop_side(face: Detection, spec: CropSpec) -> float:
    """The side in pixels of the square that ``crop_face`` cuts out for a face."""
    return _square(face, spec).side


def encode_crop(rgb: RgbImage, spec: CropSpec) -> bytes:
    """A crop as JPEG bytes of ``spec.jpeg_quality``."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, spec.jpeg_quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), flags)
    if not done:
        raise AgeSearchError(f"A crop of shape {rgb.shape} could not be encoded as JPEG.")
    return bytes(data)


def decode_crop(data: bytes) -> RgbImage:
    """A stored crop as RGB ``uint8 [S, S, 3]``; a damaged one is an ``InputError``."""
    rgb = None
    if 0 < len(data) <= _MAX_CROP_BYTES:
        rgb = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if rgb is None:
        raise InputError("A crop of the dataset cannot be decoded: the dataset is damaged, ingest it again.")
    return np.asarray(rgb, np.uint8)


class _Square(NamedTuple):
    """What is cut out: centre (pixel coordinates), side in pixels, turn in radians."""

    centre: npt.NDArray[np.float64]
    side: float
    angle: float


def _square(face: Detection, spec: CropSpec) -> _Square:
    x, y, width, height = face.box
    scale = 1.0 if spec.detector == "none" else spec.scale
    # A box spans [x, x + w) in pixel edges; the centre of pixel 0 is at coordinate 0, its left edge at -0.5.
    centre = np.array([x + width / 2 - 0.5, y + height / 2 - 0.5])
    angle = 0.0
    if spec.align and face.landmarks is not None:
        across = (face.landmarks[1] - face.landmarks[0]).astype(np.float64)
        if np.hypot(*across) > 0.05 * width:  # a profile's eyes coincide, and their line says nothing
            angle = math.atan2(across[1], across[0])
    return _Square(centre, max(1.0, scale * max(width, height)), angle)


def _sampled_finely(rgb: RgbImage, square: _Square, size: int) -> RgbImage:
    """Recipe 1."""
    factor = square.side / size
    if factor > _MAX_SUPERSAMPLING:
        rgb, shrink = _shrunk(rgb, _MAX_SUPERSAMPLING / factor)
        centre = (square.centre + 0.5) * shrink - 0.5
        square = _Square(centre, square.side * float(shrink.mean()), square.angle)
        factor = square.side / size
    samples = max(1, min(_MAX_SUPERSAMPLING, math.ceil(factor - 1e-6)))
    return _sampled(rgb, square, size, samples, cv2.INTER_CUBIC)


def _halved_and_sampled(rgb: RgbImage, square: _Square, size: int) -> RgbImage:
    """Recipe 2."""
    factor = square.side / size
    halvings = int(math.log2(factor / _HALVED_FROM)) + 1 if factor >= _HALVED_FROM else 0
    if halvings:
        rgb, square = _halved_region(rgb, square, halvings)
        factor = square.side / size
    samples = max(1, math.ceil(factor - 1e-6))
    return _sampled(
        rgb, square, size, samples, cv2.INTER_CUBIC if factor <= _CUBIC_UP_TO else cv2.INTER_LINEAR
    )


def _sampled(rgb: RgbImage, square: _Square, size: int, samples: int, interpolation: int) -> RgbImage:
    """The square at ``samples`` points along a crop pixel, averaged to ``size``."""
    fine = size * samples
    warped: Any = cv2.warpAffine(
        rgb, _to_crop(square, fine), (fine, fine), flags=interpolation, borderMode=cv2.BORDER_REPLICATE
    )
    if samples > 1:
        warped = cv2.resize(warped, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(warped, np.uint8)


def _halved_region(rgb: RgbImage, square: _Square, halvings: int) -> tuple[RgbImage, _Square]:
    """The part of an image that lies under a square, each pixel the mean of ``2 ** halvings`` squared, and
    the square in its coordinates.
    """
    block = 2**halvings
    reach = square.side / 2 * (abs(math.cos(square.angle)) + abs(math.sin(square.angle))) + _MARGIN * block
    spans = [
        _span(middle, reach, length, block)
        for middle, length in zip(square.centre, rgb.shape[1::-1], strict=True)
    ]
    (left, right), (top, bottom) = spans
    region: Any = rgb[top:bottom, left:right]
    pad_x, pad_y = -(right - left) % block, -(bottom - top) % block
    if pad_x or pad_y:  # at the image's edge only
        region = cv2.copyMakeBorder(region, 0, pad_y, 0, pad_x, cv2.BORDER_REPLICATE)
    for _ in range(halvings):
        half = (region.shape[1] // 2, region.shape[0] // 2)
        region = cv2.resize(region, half, interpolation=cv2.INTER_AREA)
    centre = (square.centre - [left, top] + 0.5) / block - 0.5
    return region, _Square(centre, square.side / block, square.angle)


def _span(middle: float, reach: float, length: int, block: int) -> tuple[int, int]:
    """First pixel, and the one past the last, of those within ``reach``, in whole blocks but for the edge."""
    first = min(max(0, math.floor(middle - reach)), length - 1)
    past = max(first + 1, min(length, math.ceil(middle + reach)))
    return first, min(length, first - (first - past) // block * block)


def _to_crop(square: _Square, size: int) -> npt.NDArray[np.float64]:
    """The affine map ``[2, 3]`` from image coordinates to those of a ``size`` x ``size`` crop."""
    zoom = size / square.side
    cosine, sine = zoom * math.cos(square.angle), zoom * math.sin(square.angle)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    shift = (size - 1) / 2 - turn @ square.centre
    return np.concatenate([turn, shift[:, None]], axis=1)


def _shrunk(rgb: RgbImage, factor: float) -> tuple[RgbImage, npt.NDArray[np.float64]]:
    height, width = rgb.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small: Any = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), np.array([size[0] / width, size[1] / height])


def _is_usable(box: Box, width: int, height: int) -> bool:
    x, y, w, h = box
    inside = x < width and y < height and x + w > 0 and y + h > 0
    return all(math.isfinite(value) for value in box) and w >= 1 and h >= 1 and inside
