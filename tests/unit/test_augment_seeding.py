"""Augmentation: decided by the seed alone, and nothing at strength zero."""

from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import numpy as np
import pytest

from agesearch.data.images.augment import POLICIES, Augmenter, Draws
from agesearch.specs import AugmentSpec

FACE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)

UNITS = [0.9947155207628384, 0.6442510831402615, 0.05158511956688017]
WARPS = {
    "default": [0.973106965, 0.047341623, -4.971307957, -0.085639273, 0.930301042, 4.378565958],
    "greco": [-0.976758929, -0.111863041, 91.257406601, -0.030662866, 0.974209855, -1.825193055],
}
MEANS = {"default": [117.82, 148.85, 65.0], "greco": [72.78, 88.08, 67.48]}


def _spec(policy: str, strength: float) -> AugmentSpec:
    return AugmentSpec.model_validate({"policy": policy, "strength": strength})


def test_specs_name_exactly_the_policies_of_the_table() -> None:
    assert set(get_args(AugmentSpec.model_fields["policy"].annotation)) == set(POLICIES)


@pytest.mark.parametrize("policy", POLICIES)
def test_strength_zero_changes_nothing(policy: str) -> None:
    assert Augmenter(_spec(policy, 0.0), seed=1)(FACE, 0, "a") is FACE


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_epoch_and_sample_give_the_same_pixels_in_any_order(policy: str) -> None:
    spec = _spec(policy, 1.5)
    keys = [(epoch, sample) for epoch in range(3) for sample in ("a", "b", "c")]
    one = Augmenter(spec, seed=7)
    forward = {key: one(FACE, *key) for key in keys}
    other = Augmenter(spec, seed=7)
    backward = {key: other(FACE, *key) for key in reversed(keys)}
    for key in keys:
        np.testing.assert_array_equal(forward[key], backward[key])
    assert len({image.tobytes() for image in forward.values()}) == len(keys)
    assert not np.array_equal(Augmenter(spec, seed=8)(FACE, 0, "a"), forward[0, "a"])


@pytest.mark.parametrize("policy", POLICIES)
def test_threads_may_share_an_augmenter(policy: str) -> None:
    augment = Augmenter(_spec(policy, 2.0), seed=3)
    names = [str(index) for index in range(200)]
    alone = [augment(FACE, 0, name) for name in names]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda name: augment(FACE, 0, name), names))
    np.testing.assert_array_equal(together, alone)


def test_what_a_key_draws_is_the_same_for_ever() -> None:
    """On any machine, in any process and under any version of Python: the numbers come from a hash."""
    draws = Draws(7, 2, "a/face.jpg")
    assert [draws.unit() for _ in range(3)] == UNITS
    found = {
        policy: [round(value, 9) for value in POLICIES[policy](1.0, 96, Draws(0, 1, "b")).warp or ()]
        for policy in POLICIES
    }
    assert found == WARPS


@pytest.mark.parametrize("policy", POLICIES)
def test_a_face_looks_as_it_always_did(policy: str) -> None:
    """Means of three faces, which no rounding of another OpenCV moves by a level."""
    ramp = np.tile(np.arange(48, dtype=np.uint8)[:, None, None] * 5, (1, 48, 3))
    augment = Augmenter(_spec(policy, 1.0), seed=0)
    means = [float(augment(ramp, 0, name).mean()) for name in ("a", "b", "c")]
    assert means == pytest.approx(MEANS[policy], abs=0.5)


@pytest.mark.parametrize("policy", POLICIES)
def test_faces_are_not_changed_in_place(policy: str) -> None:
    before = FACE.copy()
    Augmenter(_spec(policy, 3.0), seed=0).each([FACE] * 50, 0, [str(index) for index in range(50)])
    np.testing.assert_array_equal(FACE, before)


@pytest.mark.parametrize("policy", POLICIES)
def test_faces_keep_shape_and_type_and_strength_scales_the_change(policy: str) -> None:
    smooth = np.tile(np.linspace(0, 255, 48, dtype=np.uint8)[:, None, None], (1, 48, 3))
    changes = []
    for strength in (0.2, 1.0, 3.0):
        augment = Augmenter(_spec(policy, strength), seed=0)
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


def test_the_published_policy_turns_at_most_ten_degrees_and_flips_half_the_faces() -> None:
    """A bright bar on grey, wider to the right: its direction and its side tell rotation and flip."""
    face = np.full((96, 96, 3), 100, dtype=np.uint8)
    face[44:52, 20:60] = 160
    augment = Augmenter(AugmentSpec(policy="greco"), seed=0)
    angles, flipped = [], []
    for index in range(300):
        grey = augment(face, 0, str(index))[..., 0].astype(np.float64)
        ys, xs = np.nonzero(grey > (grey.min() + grey.max()) / 2)
        slope = np.cov(xs, ys)[0, 1] / np.var(xs)
        angles.append(np.degrees(np.arctan(slope)))
        flipped.append(xs.mean() > 47.5)
    assert 9.0 < np.abs(angles).max() < 11.5  # 10 degrees, and a pixel's rounding
    assert np.std(angles) == pytest.approx(
        4.4, abs=0.6
    )  # N(0, 5) clipped at two sigma has 4.8; shear lowers it
    assert np.mean(flipped) == pytest.approx(0.5, abs=0.1)


def test_the_published_policy_bounds_contrast_and_brightness() -> None:
    """Two grey levels, 40 apart about mid-grey: their distance is the contrast, their middle the light."""
    half = np.full((32, 32, 3), 108, dtype=np.uint8)
    half[16:] = 148
    augment = Augmenter(AugmentSpec(policy="greco"), seed=0)
    images = [augment(half, 0, str(index)) for index in range(400)]
    contrast = [(np.percentile(i, 95).astype(float) - np.percentile(i, 5)) / 40 for i in images]
    light = [(np.percentile(i, 95).astype(float) + np.percentile(i, 5)) / 2 - 128 for i in images]
    assert min(contrast) == pytest.approx(0.5, abs=0.06)
    assert max(contrast) == pytest.approx(1.5, abs=0.06)
    assert min(light) == pytest.approx(-48, abs=1.5)
    assert max(light) == pytest.approx(48, abs=1.5)
    assert abs(np.corrcoef(contrast, light)[0, 1]) < 0.15
