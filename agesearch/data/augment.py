"""Seeded augmentation of face crops: the same pixels for (seed, epoch, sample) on any machine and any run."""

from __future__ import annotations

import hashlib
import random
import struct
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from agesearch.specs import AugmentSpec

Pixels = npt.NDArray[np.uint8]


class Augmenter:
    """Flip, rotation, shift, scale and shear, light and colour, now and then blur, noise, JPEG or a patch.

    ``strength`` scales every range; 0 changes nothing at all. About 0.6 ms a face at 96 px on one core, a
    tenth of the training step of a small network.
    """

    def __init__(self, spec: AugmentSpec, seed: int) -> None:
        self._seed = seed
        self._numbers = np.random.Generator(np.random.PCG64(0))
        self._choices = random.Random(0)
        self._transform: Any = None
        if spec.strength > 0:
            self._transform = _compose(spec.strength)
            # One generator for all transforms: `set_random_seed` would give each its own with the same
            # seed, so that brightness would follow rotation; and it takes 0.3 ms a face.
            self._transform.set_random_state(self._numbers, self._choices)

    def __call__(self, image: Pixels, epoch: int, sample_id: str) -> Pixels:
        """``uint8 [S, S, 3]`` RGB -> the same shape."""
        if self._transform is None:
            return image
        self._reseed(epoch, sample_id)
        changed: Pixels = self._transform(image=image)["image"]
        return changed

    def _reseed(self, epoch: int, sample_id: str) -> None:
        key = struct.pack("<qq", self._seed, epoch) + sample_id.encode("utf-8")
        digest = hashlib.blake2b(key, digest_size=40).digest()
        state = {
            "state": int.from_bytes(digest[:16], "little"),
            "inc": int.from_bytes(digest[16:32], "little") | 1,
        }
        self._numbers.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": state,
            "has_uint32": 0,
            "uinteger": 0,
        }
        self._choices.seed(int.from_bytes(digest[32:], "little"))


def _compose(strength: float) -> Any:
    import os

    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import asks the network for news
    import albumentations as A  # noqa: N812 - the name its documentation uses

    often, rare = min(0.8, 0.8 * strength), min(0.2, 0.1 * strength)
    light = min(0.25 * strength, 0.7)
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(
                rotate=(-10 * strength, 10 * strength),
                scale=(1 / (1 + 0.1 * strength), 1 + 0.1 * strength),
                translate_percent=(-0.05 * strength, 0.05 * strength),
                shear=(-3 * strength, 3 * strength),
                border_mode=cv2.BORDER_REFLECT_101,
                p=0.9,
            ),
            A.RandomBrightnessContrast(light, light, p=often),
            A.HueSaturationValue(round(5 * strength), round(20 * strength), 0, p=0.25 * often),
            A.RandomGamma((100 - 20 * min(strength, 2), 100 + 25 * strength), p=0.25 * often),
            A.OneOf(
                [
                    A.GaussianBlur(blur_limit=(3, 5)),
                    A.GaussNoise(std_range=(0.01, 0.03 + 0.02 * strength)),
                    A.ImageCompression(quality_range=(40, 90)),
                ],
                p=rare,
            ),
            A.CoarseDropout(
                num_holes_range=(1, 1),
                hole_height_range=(0.1, 0.3),
                hole_width_range=(0.1, 0.3),
                fill=127,
                p=2 * rare,
            ),
        ]
    )
