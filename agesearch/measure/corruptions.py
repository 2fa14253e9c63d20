"""The 19 image corruptions of Hendrycks & Dietterich 2019, with the same pixels on every run.

The package ``imagecorruptions-imaug`` takes no seed: it draws from NumPy's global generator, scikit-image's
own (impulse noise) and numba's (glass blur). Here each corrupted face has one seed, made from its sample id,
the corruption and the severity, so neither the order of the faces nor the process they run in matters; and
NumPy's global state is put back afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from agesearch.errors import InputError, unknown_name
from agesearch.specs import Spec

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
MIN_SIDE = 32

#: These draw from generators of their own, and take their seed as an argument.
_SEEDED_BY_ARGUMENT = frozenset({"impulse_noise", "glass_blur"})

# NumPy's global generator is one per process: two threads inside ``corrupt`` would draw from each other's.
_GLOBAL_STATE = Lock()


class RobustnessRow(Spec):
    """MAE in years of one model under one corruption, with its 95 % interval over ``persons`` (None: nobody
    is known, and faces were drawn).
    """

    model: str
    corruption: str
    severity: int
    mae_years: float
    mae_low: float
    mae_high: float
    faces: int
    persons: int | None = None


def corrupt(rgb: Image, name: str, severity: int, sample_id: str) -> Image:
    """The face ``rgb`` uint8 ``[H, W, 3]`` corrupted, same shape; bit-identical for the same arguments.

    An unknown corruption, a severity outside 1..5, another image type, and a side under 32 px are an
    ``InputError``.
    """
    check_corruption(name, severity)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or min(rgb.shape[:2]) < MIN_SIDE:
        raise InputError(
            f"A face to corrupt must be uint8 [H, W, 3] of at least {MIN_SIDE} px a side, but is "
            f"{rgb.dtype} {list(rgb.shape)}."
        )
    import imagecorruptions

    seed = corruption_seed(sample_id, name, severity)
    options: dict[str, Any] = {"seed": seed} if name in _SEEDED_BY_ARGUMENT else {}
    with _seeded_globally(seed):
        corrupted = imagecorruptions.corrupt(rgb, severity, name, **options)
    return np.ascontiguousarray(corrupted, dtype=np.uint8)


def check_corruption(name: str, severity: int) -> None:
    """An ``InputError`` for a corruption or severity that does not exist."""
    if name not in CORRUPTIONS:
        raise unknown_name("corruption", name, CORRUPTIONS)
    if severity not in SEVERITIES:
        raise InputError(f"The corruption severity is {severity}, but must be one of 1, 2, 3, 4, 5.")


def corruption_seed(sample_id: str, name: str, severity: int) -> int:
    """The seed of one corrupted face: 32 bits of a hash, since NumPy's legacy seeding takes no more."""
    digest = hashlib.sha256(f"{sample_id}\n{name}\n{severity}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


@contextmanager
def _seeded_globally(seed: int) -> Iterator[None]:
    with _GLOBAL_STATE:
        before = np.random.get_state()
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)
