"""Augmentation: decided by the seed alone, and nothing at strength zero."""

import numpy as np

from agesearch.data.augment import Augmenter
from agesearch.specs import AugmentSpec

FACE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)


def test_strength_zero_changes_nothing() -> None:
    assert Augmenter(AugmentSpec(strength=0.0), seed=1)(FACE, 0, "a") is FACE


def test_the_same_seed_epoch_and_sample_give_the_same_pixels_in_any_order() -> None:
    spec = AugmentSpec(strength=1.5)
    keys = [(epoch, sample) for epoch in range(3) for sample in ("a", "b", "c")]
    one = Augmenter(spec, seed=7)
    forward = {key: one(FACE, *key) for key in keys}
    other = Augmenter(spec, seed=7)
    backward = {key: other(FACE, *key) for key in reversed(keys)}
    for key in keys:
        np.testing.assert_array_equal(forward[key], backward[key])
    assert len({image.tobytes() for image in forward.values()}) == len(keys)
    assert not np.array_equal(Augmenter(spec, seed=8)(FACE, 0, "a"), forward[0, "a"])


def test_faces_keep_shape_and_type_and_strength_scales_the_change() -> None:
    smooth = np.tile(np.linspace(0, 255, 48, dtype=np.uint8)[:, None, None], (1, 48, 3))
    changes = []
    for strength in (0.2, 1.0, 3.0):
        augment = Augmenter(AugmentSpec(strength=strength), seed=0)
        images = [augment(smooth, 0, str(index)) for index in range(40)]
        assert all(image.shape == smooth.shape and image.dtype == np.uint8 for image in images)
        changes.append(np.mean([np.abs(image.astype(float) - smooth).mean() for image in images]))
    assert changes[0] < changes[1] < changes[2]


def test_light_does_not_follow_rotation() -> None:
    """One stream of numbers feeds all transforms: a shared seed a transform would tie them together."""
    grey = np.full((48, 48, 3), 128, dtype=np.uint8)
    ramp = np.tile(np.arange(48, dtype=np.uint8)[None, :, None] * 5, (48, 1, 3))
    augment = Augmenter(AugmentSpec(strength=1.0), seed=0)
    light = [augment(grey, 0, str(index)).mean() for index in range(120)]
    tilt = [
        float(np.diff(augment(ramp, 0, str(index))[12:36, 12:36].mean(axis=(1, 2))).mean())
        for index in range(120)
    ]
    assert abs(np.corrcoef(light, tilt)[0, 1]) < 0.35
