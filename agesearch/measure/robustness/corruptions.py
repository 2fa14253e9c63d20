"""The 19 image corruptions of Hendrycks & Dietterich 2019, with the same pixels on every run.

The package ``imagecorruptions-imaug`` takes no seed: it draws from NumPy's global generator, scikit-image's
own (impulse noise) and numba's (glass blur). Here each corrupted face has one seed, made from its sample id,
the corruption and the severity, so neither the order of the faces nor the process they run in matters; and
NumPy's global state is put back afterwards.

Strengths are in pixels. On small faces some of them break (motion leaves the picture, which turns dark; snow
does not cover it): a face of a side under 64 px is enlarged to 64, corrupted, and made small again, so that a
severity means there what it means at 64 px.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from agesearch.errors import InputError, unknown_name

Image = npt.NDArray[np.uint8]

CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
    "speckle_noise",
    "gaussian_blur",
    "spatter",
    "saturate",
)

#: What a report measures unless told otherwise: one kind each of noise, blur, light, low resolution and
#: compression, all of which cameras and uploads really do to faces.
REPORT_CORRUPTIONS = ("gaussian_noise", "motion_blur", "brightness", "pixelate", "jpeg_compression")
REPORT_SEVERITIES = (1, 3, 5)

#: The name under which faces that were left alone are scored, with severity 0.
CLEAN = "clean"

SEVERITIES = (1, 2, 3, 4, 5)
MIN_SIDE = 8
#: From this side on the strengths work as they are meant to.
WHOLE_SIDE = 64

#: These draw from generators of their own, and take their seed as an argument.
_SEEDED_BY_ARGUMENT = frozenset({"impulse_noise", "glass_blur"})

# NumPy's global generator is one per process: two threads inside ``corrupt`` would draw from each other's.
_GLOBAL_STATE = Lock()


def corrupt(rgb: Image, name: str, severity: int, sample_id: str) -> Image:
    """The face ``rgb`` uint8 ``[H, W, 3]`` corrupted, same shape; bit-identical for the same arguments.

    An unknown corruption, a severity outside 1..5, another image type, and a side under 8 px are an
    ``InputError``.
    """
    check_corruption(name, severity)
    check_face(rgb)
    height, width = rgb.shape[:2]
    small = min(height, width) < WHOLE_SIDE
    seed = corruption_seed(sample_id, name, severity)
    if not small:
        return by_package(rgb, name, severity, seed)
    scale = WHOLE_SIDE / min(height, width)
    size = (max(WHOLE_SIDE, round(width * scale)), max(WHOLE_SIDE, round(height * scale)))
    corrupted = by_package(
        cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR_EXACT).astype(np.uint8), name, severity, seed
    )
    return cv2.resize(corrupted, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)


def check_face(rgb: Image) -> None:
    """An ``InputError`` for an image that cannot be corrupted."""
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or min(rgb.shape[:2]) < MIN_SIDE:
        raise InputError(
            f"A face to corrupt must be uint8 [H, W, 3] of at least {MIN_SIDE} px a side, but is "
            f"{rgb.dtype} {list(rgb.shape)}."
        )


def check_corruption(name: str, severity: int) -> None:
    """An ``InputError`` for a corruption or severity that does not exist."""
    if name not in CORRUPTIONS:
        raise unknown_name("corruption", name, CORRUPTIONS)
    check_severity(severity)


def check_severity(severity: int) -> None:
    """An ``InputError`` for a severity that does not exist."""
    if severity not in SEVERITIES:
        raise InputError(f"The corruption severity is {severity}, but must be one of 1, 2, 3, 4, 5.")


def corruption_seed(sample_id: str, name: str, severity: int) -> int:
    """The seed of one corrupted face: 32 bits of a hash, since NumPy's legacy seeding takes no more."""
    digest = hashlib.sha256(f"{sample_id}\n{name}\n{severity}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def by_package(rgb: Image, name: str, severity: int, seed: int) -> Image:
    """A corruption of the package on a face of at least 64 px, drawn with a seed.

    Where its formula has no value the face stays as it is: spatter without a single drop divides nothing by
    nothing, and would leave a black picture.
    """
    import imagecorruptions
    from PIL import Image as PillowImage

    options: dict[str, Any] = {"seed": seed} if name in _SEEDED_BY_ARGUMENT else {}
    with _seeded_globally(seed), np.errstate(invalid="ignore"):
        found = np.asarray(
            imagecorruptions.corruption_dict[name](PillowImage.fromarray(rgb), severity, **options)
        )
    if found.dtype != np.uint8:
        found = np.where(np.isnan(found), rgb, found)
    return np.ascontiguousarray(found, dtype=np.uint8)


@contextmanager
def _seeded_globally(seed: int) -> Iterator[None]:
    with _GLOBAL_STATE:
        before = np.random.get_state()
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)
