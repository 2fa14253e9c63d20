"""Corruptions: the same pixels in every process and order, different ones for different faces."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest

from agesearch.errors import InputError
from agesearch.measure.robustness.corruptions import (
    CORRUPTIONS,
    REPORT_CORRUPTIONS,
    REPORT_SEVERITIES,
    SEVERITIES,
    corrupt,
    corruption_seed,
)
from agesearch.measure.robustness.lfwc import LFWC, corrupt_lfwc
from agesearch.measure.robustness.protocol import CorruptionLevel, corrupted


def face(side: int = 48) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", [n for n in CORRUPTIONS if n != "glass_blur"])  # compiles for seconds
def test_each_changes_the_face_and_keeps_its_shape(name: str) -> None:
    original = face(33)
    kept = original.copy()
    result = corrupt(original, name, 3, "face")
    assert result.shape == original.shape
    assert result.dtype == np.uint8
    assert np.array_equal(original, kept)
    assert not np.array_equal(result, original)


@pytest.mark.parametrize(
    ("of", "name", "whole", "small"),
    [
        ("hendrycks", "gaussian_noise", "75e79a61f58b", "7549c3320804"),
        ("hendrycks", "impulse_noise", "297b6ba284d2", "2e41a0702bd3"),
        ("hendrycks", "motion_blur", "2ecca3c66216", "2f8bf0a6e8d4"),
        ("hendrycks", "pixelate", "53500f141c96", "e084547bf974"),
        ("lfwc", "shot_noise", "97d765be20bb", "df90bb2c1552"),
        ("lfwc", "brightness_minus", "5ab7fcab53ff", "357782e5b7df"),
        ("lfwc", "zoom_blur", "5f3231eae46e", "a97ef7ba6dce"),
    ],
)
def test_pixels_are_the_same_on_every_machine(of: str, name: str, whole: str, small: str) -> None:
    for side, digest in ((64, whole), (40, small)):
        rgb = np.random.default_rng(11).integers(0, 256, (side, side, 3), dtype=np.uint8)
        found = corrupted(rgb, CorruptionLevel(name, 3, of), "face")
        assert hashlib.sha256(found.tobytes()).hexdigest()[:12] == digest


@pytest.mark.parametrize("name", [n for n in CORRUPTIONS if n != "glass_blur"])
def test_a_severity_on_a_small_face_is_what_it_is_at_64_px(name: str) -> None:
    small = np.kron(np.random.default_rng(2).integers(60, 200, (4, 4, 3)), np.ones((4, 4, 1))).astype(
        np.uint8
    )
    large = cv2.resize(small, (64, 64), interpolation=cv2.INTER_LINEAR_EXACT).astype(np.uint8)
    expected = cv2.resize(corrupt(large, name, 5, "face"), (16, 16), interpolation=cv2.INTER_AREA)
    assert np.array_equal(corrupt(small, name, 5, "face"), expected)


@pytest.mark.parametrize("name", LFWC)
def test_lfwc_corrupts_at_256_px_whatever_the_crop(name: str) -> None:
    result = corrupt_lfwc(face(40), name, 2, "face")
    assert (result.shape, result.dtype) == ((256, 256, 3), np.uint8)
    assert not np.array_equal(result, corrupt_lfwc(face(40), name, 5, "face"))


def test_brighter_is_more_value_of_the_same_hue() -> None:
    flat = np.zeros((256, 256, 3), np.uint8)
    flat[:] = 100, 50, 25
    assert corrupt_lfwc(flat, "brightness_plus", 2, "face")[0, 0].tolist() == [151, 76, 38]
    assert corrupt_lfwc(flat, "brightness_minus", 2, "face")[0, 0].tolist() == [49, 24, 12]
    assert corrupt_lfwc(flat, "brightness_minus", 5, "face").max() == 0


@pytest.mark.parametrize("name", ["gaussian_noise", "impulse_noise", "elastic_transform", "frost"])
def test_random_ones_differ_between_faces(name: str) -> None:
    assert not np.array_equal(corrupt(face(), name, 3, "a"), corrupt(face(), name, 3, "b"))


def test_a_seed_is_its_own_for_each_face_corruption_and_severity() -> None:
    seeds = {corruption_seed(i, n, s) for i in "abcdef" for n in CORRUPTIONS for s in SEVERITIES}
    assert len(seeds) == 6 * len(CORRUPTIONS) * len(SEVERITIES)
    assert corruption_seed("face", "fog", 2) == 1654963816  # pinned: published figures depend on it


def test_the_global_generator_is_put_back() -> None:
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    corrupt(face(), "gaussian_noise", 1, "face")
    assert np.array_equal(np.random.random(3), expected)


def test_the_reports_choice_exists() -> None:
    assert set(REPORT_CORRUPTIONS) <= set(CORRUPTIONS)
    assert len(REPORT_CORRUPTIONS) == 5
    assert REPORT_SEVERITIES == (1, 3, 5)


def test_the_names_are_the_packages_own() -> None:
    import imagecorruptions

    assert tuple(imagecorruptions.get_corruption_names("all")) == CORRUPTIONS


@pytest.mark.parametrize(
    ("name", "severity", "side", "words"),
    [
        ("gausian_noise", 1, 48, "Did you mean 'gaussian_noise'"),
        ("fog", 6, 48, "severity is 6"),
        ("fog", 1, 7, "at least 8 px"),
    ],
)
def test_wrong_arguments_get_one_clear_line(name: str, severity: int, side: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        corrupt(face(side), name, severity, "face")
