"""Seeded augmentation of face crops: the same pixels for (seed, epoch, sample) on any machine and any run."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from agesearch.provenance import installed
from agesearch.specs import AugmentSpec, digest_of

Pixels = npt.NDArray[np.uint8]

#: One random change of a face, ``uint8 [S, S, 3]`` RGB -> the same shape.
Change = Callable[[Pixels], Pixels]

#: What a policy draws from: reseeded for each face, so that a draw depends on nothing before it.
Numbers = np.random.Generator

#: Raise it whenever a policy or the way seeds are drawn changes what a view looks like.
_VIEWS_RECIPE = 1


class Augmenter:
    """Changes faces by the policy of ``spec``; a row of ``POLICIES``.

    ``strength`` scales every range; 0 changes nothing at all.
    """

    def __init__(self, spec: AugmentSpec, seed: int) -> None:
        self._seed = seed
        self._numbers = np.random.Generator(np.random.PCG64(0))
        self._choices = random.Random(0)
        self._change: Change | None = None
        if spec.strength > 0:
            self._change = POLICIES[spec.policy](spec.strength, self._numbers, self._choices)

    def __call__(self, image: Pixels, epoch: int, sample_id: str) -> Pixels:
        """``uint8 [S, S, 3]`` RGB -> the same shape."""
        if self._change is None:
            return image
        self._reseed(epoch, sample_id)
        return self._change(image)

    def each(
        self, images: Pixels | Sequence[Pixels], epoch: int, ids: Sequence[str]
    ) -> Pixels | Sequence[Pixels]:
        """The faces of a batch, changed one by one."""
        if self._change is None:
            return images
        return [self(image, epoch, sample_id) for image, sample_id in zip(images, ids, strict=True)]

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


def augmenter_of(spec: AugmentSpec, seed: int) -> Augmenter:
    """What changes the faces of a training with this seed; fixed views have their own, shared by all."""
    return Augmenter(spec, spec.view_seed if spec.fixed_views else seed)


def views_key(spec: AugmentSpec) -> str:
    """16 hex digits that name the pixels of the fixed views of ``spec``, whatever their number.

    The versions of the libraries that draw and warp belong to them: another may round otherwise.
    """
    versions = {"cv2": cv2.__version__}
    if spec.policy == "default":
        versions |= installed(("albumentations",))
    return digest_of([_VIEWS_RECIPE, spec.policy, spec.strength, spec.view_seed, versions])


def default_policy(strength: float, numbers: Numbers, choices: random.Random) -> Change:
    """Flip, rotation, shift, scale and shear, light and colour, now and then blur, noise, JPEG or a patch.

    About 0.6 ms a face at 96 px on one core, a tenth of the training step of a small network.
    """
    transform = _compose(strength)
    # One generator for all transforms: `set_random_seed` would give each its own with the same seed, so that
    # brightness would follow rotation; and it takes 0.3 ms a face.
    transform.set_random_state(numbers, choices)

    def change(image: Pixels) -> Pixels:
        changed: Pixels = transform(image=image)["image"]
        return changed

    return change


def greco_policy(strength: float, numbers: Numbers, _: random.Random) -> Change:
    """The augmentation of Greco 2021: rotation, shear, jitter of the face's box, contrast, brightness, flip.

    Every normal is clipped at two sigma: rotation N(0, 5 degrees), shear |N(0, .05)|, each of the box's
    centre and side N(0, .045 heights), contrast about mid-grey N(1, .25), brightness N(0, 24) of 255.
    ``strength`` multiplies the sigmas. What lies beyond the stored crop is its mirror image.
    """

    def normal(sigma: float) -> float:
        limit = 2.0 * sigma * strength
        return float(np.clip(numbers.normal(0.0, sigma * strength), -limit, limit))

    def change(image: Pixels) -> Pixels:
        size = image.shape[0]
        angle, shear = normal(5.0), abs(normal(0.05))
        shift, grow = (normal(0.045), normal(0.045)), 1.0 + normal(0.045)
        flip = -1.0 if numbers.random() < 0.5 else 1.0
        contrast, brightness = max(1.0 + normal(0.25), 0.0), normal(24.0)
        warp = _about_centre(size, angle, shear, shift, grow, flip)
        warped = cv2.warpAffine(
            image, warp, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        lit = (warped.astype(np.float32) - 128.0) * contrast + (128.0 + brightness)
        return np.clip(np.round(lit), 0, 255).astype(np.uint8)

    return change


def _about_centre(
    size: int, angle: float, shear: float, shift: tuple[float, float], grow: float, flip: float
) -> npt.NDArray[np.float64]:
    """The affine map [2, 3] of a crop about its centre; ``shift`` in sides, ``grow`` that of the box."""
    turn = np.deg2rad(angle)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = np.diag([flip, 1.0]) @ rotation @ np.array([[1.0, shear], [0.0, 1.0]]) / grow
    centre = np.full(2, (size - 1) / 2)
    offset = centre - linear @ (centre + size * np.array(shift))
    return np.column_stack([linear, offset])


#: Adding a policy is a function, a row here, and its name in ``AugmentSpec``.
POLICIES: dict[str, Callable[[float, Numbers, random.Random], Change]] = {
    "default": default_policy,
    "greco": greco_policy,
}


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
