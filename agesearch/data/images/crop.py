"""From an image to the one square crop that training and service share: choose the face, align it, encode it.

The crop is a similarity transform of the image: a square whose centre is the box's, whose side is ``scale``
times the box's longer side, turned so that the eyes are level.
"""

from __future__ import annotations

import math
from typing import Any

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
    "decode_crop",
    "encode_crop",
    "find_face",
    "in_file_pixels",
    "open_detector",
    "scaled_box",
]

Box = tuple[float, float, float, float]

#: A detection is the face of a given box when they share this much (intersection over union).
_SAME_FACE_IOU = 0.25
#: Without a given box, a second face this prominent beside the first makes the label's owner uncertain.
_RIVAL_PROMINENCE = 0.5
#: The most source pixels along a crop pixel that the fine stage of the warp averages.
_MAX_SUPERSAMPLING = 8
_MAX_CROP_BYTES = 8 * 1024 * 1024


def find_face(rgb: RgbImage, detector: Detector, spec: CropSpec, given: Box | None = None) -> Detection:
    """The one face of an image that a label belongs to; see ``choose_face`` for the rule and the errors."""
    detections = detector.detect(np.ascontiguousarray(rgb[..., ::-1]), spec.min_score)
    return choose_face(detections, given, rgb.shape[1], rgb.shape[0])


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
    the file.
    """
    if reduction == 1:
        return face
    # A landmark is a pixel's centre, which lies half a pixel from its edge.
    points = None if face.landmarks is None else (face.landmarks + 0.5) * reduction - 0.5
    return Detection(face.score, scaled_box(face.box, reduction), points)


def crop_face(rgb: RgbImage, face: Detection | Box, spec: CropSpec) -> RgbImage:
    """``uint8 [size, size, 3]`` RGB: the square around the face by the recipe of ``spec``.

    Pixels beyond the image repeat its edge. With the detector ``none`` the image is the crop, so ``scale`` is
    not applied. Every crop pixel averages the source pixels under it (no aliasing): the warp samples at the
    source's resolution or finer, and an exact area average brings it to ``size``.
    """
    detection = face if isinstance(face, Detection) else Detection(1.0, face)
    centre, side, angle = _square(detection, spec)
    factor = side / spec.size
    if factor > _MAX_SUPERSAMPLING:
        rgb, shrink = _shrunk(rgb, _MAX_SUPERSAMPLING / factor)
        centre, side = (centre + 0.5) * shrink - 0.5, side * float(shrink.mean())
        factor = side / spec.size
    samples = max(1, min(_MAX_SUPERSAMPLING, math.ceil(factor - 1e-6)))
    fine = spec.size * samples
    matrix = _to_crop(centre, side, angle, fine)
    warped: Any = cv2.warpAffine(
        rgb, matrix, (fine, fine), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    if samples > 1:
        warped = cv2.resize(warped, (spec.size, spec.size), interpolation=cv2.INTER_AREA)
    return np.asarray(warped, np.uint8)


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


def _square(face: Detection, spec: CropSpec) -> tuple[npt.NDArray[np.float64], float, float]:
    """Centre (pixel coordinates), side in pixels and turn in radians of the square to cut out."""
    x, y, width, height = face.box
    scale = 1.0 if spec.detector == "none" else spec.scale
    # A box spans [x, x + w) in pixel edges; the centre of pixel 0 is at coordinate 0, its left edge at -0.5.
    centre = np.array([x + width / 2 - 0.5, y + height / 2 - 0.5])
    angle = 0.0
    if spec.align and face.landmarks is not None:
        across = (face.landmarks[1] - face.landmarks[0]).astype(np.float64)
        if np.hypot(*across) > 0.05 * width:  # a profile's eyes coincide, and their line says nothing
            angle = math.atan2(across[1], across[0])
    return centre, max(1.0, scale * max(width, height)), angle


def _to_crop(
    centre: npt.NDArray[np.float64], side: float, angle: float, size: int
) -> npt.NDArray[np.float64]:
    """The affine map ``[2, 3]`` from image coordinates to those of a ``size`` x ``size`` crop."""
    zoom = size / side
    cosine, sine = zoom * math.cos(angle), zoom * math.sin(angle)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    shift = (size - 1) / 2 - turn @ centre
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
