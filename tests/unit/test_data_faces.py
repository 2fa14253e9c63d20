"""Choosing, aligning and cropping faces; detectors by name."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agesearch.data.images.crop import (
    Detection,
    choose_face,
    crop_face,
    decode_crop,
    encode_crop,
    find_face,
    open_detector,
    overlap,
)
from agesearch.data.images.decode import BadImage, decode_image
from agesearch.errors import InputError
from agesearch.specs import CropSpec


def _ramp(width: int = 200, height: int = 160) -> np.ndarray:
    """Red tells x, green tells y: a crop's pixel says where it came from."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 0] = np.arange(width)[None, :]
    rgb[..., 1] = np.arange(height)[:, None]
    return rgb


def _eyes(left: tuple[float, float], right: tuple[float, float]) -> np.ndarray:
    return np.array([left, right, (0, 0), (0, 0), (0, 0)], np.float32)


@given(
    x=st.integers(20, 60),
    y=st.integers(20, 40),
    side=st.integers(20, 60),
    scale=st.floats(0.6, 1.2),
    size=st.sampled_from([32, 48, 64]),
)
def test_crop_shows_the_scaled_square_around_the_box(
    x: int, y: int, side: int, scale: float, size: int
) -> None:
    crop = crop_face(_ramp(), (x, y, side, side), CropSpec(scale=scale, size=size))
    assert crop.shape == (size, size, 3)
    # The mean of a linear ramp over the square is its value at the square's centre, whatever the resampling.
    assert crop[..., 0].mean() == pytest.approx(x + side / 2 - 0.5, abs=1.0)
    assert crop[..., 1].mean() == pytest.approx(y + side / 2 - 0.5, abs=1.0)
    span = float(crop[:, -1, 0].mean()) - float(crop[:, 0, 0].mean())
    assert span == pytest.approx(side * scale * (size - 1) / size, abs=2.0)


@pytest.mark.parametrize("degrees", [-30.0, 15.0, 40.0])
def test_alignment_turns_the_eyes_level(degrees: float) -> None:
    turn = math.radians(degrees)
    centre, half = np.array([100.0, 80.0]), 15 * np.array([math.cos(turn), math.sin(turn)])
    face = Detection(1.0, (75.5, 55.5, 50.0, 50.0), _eyes(tuple(centre - half), tuple(centre + half)))
    rgb = np.zeros((160, 200, 3), np.uint8)
    for eye in face.landmarks[:2]:
        x, y = np.round(eye).astype(int)
        rgb[y - 1 : y + 2, x - 1 : x + 2] = 255
    rows, columns = np.nonzero(crop_face(rgb, face, CropSpec(scale=1.0, size=100))[..., 0] > 128)
    assert abs(rows[columns < 50].mean() - rows[columns >= 50].mean()) < 3.0  # eyes are drawn on whole pixels
    unaligned = np.nonzero(crop_face(rgb, face, CropSpec(scale=1.0, size=100, align=False))[..., 0] > 128)
    assert abs(unaligned[0][unaligned[1] < 50].mean() - unaligned[0][unaligned[1] >= 50].mean()) > 8.0


def test_large_faces_are_averaged_not_sampled() -> None:
    # One-pixel checks alias into stripes unless every source pixel counts; averaged they are mid-grey.
    checks = (np.indices((1800, 1800)).sum(axis=0) % 2 * 255).astype(np.uint8)
    rgb = np.repeat(checks[..., None], 3, axis=2)
    for side in (250.0, 900.0, 1700.0):
        crop = crop_face(rgb, (50.0, 50.0, side, side), CropSpec(scale=1.0, size=64))
        assert abs(float(crop.mean()) - 127.5) < 3
        assert crop.std() < 12


def test_none_takes_the_whole_image_as_crop() -> None:
    spec = CropSpec(detector="none", scale=1.3, size=80)
    rgb = _ramp(160, 160)
    face = find_face(rgb, open_detector("none"), spec)
    crop = crop_face(rgb, face, spec)
    assert crop[0, 0, 0] <= 2
    assert crop[0, -1, 0] >= 157


def _face(x: float, side: float, score: float = 0.9) -> Detection:
    return Detection(score, (x, 0.0, side, side))


def test_most_prominent_face_is_chosen_unless_a_rival_is_close() -> None:
    large, small, rival = _face(0, 50), _face(100, 20), _face(100, 45)
    assert choose_face([large, small], None, 200, 100) is large
    with pytest.raises(BadImage) as caught:
        choose_face([large, rival], None, 200, 100)
    assert caught.value.reason == "several_faces"
    with pytest.raises(BadImage) as caught:
        choose_face([], None, 200, 100)
    assert caught.value.reason == "no_face"


def test_given_box_decides() -> None:
    large, small = _face(0, 50), _face(100, 20)
    assert choose_face([large, small], (98.0, 0.0, 22.0, 22.0), 200, 100) is small
    kept = choose_face([large], (150.0, 50.0, 20.0, 20.0), 200, 100)
    assert kept.box == (150.0, 50.0, 20.0, 20.0)
    assert kept.landmarks is None
    for box in ((300.0, 0.0, 10.0, 10.0), (float("nan"), 0.0, 9.0, 9.0), (0.0, 0.0, 0.0, 5.0)):
        with pytest.raises(BadImage) as caught:
            choose_face([large], box, 200, 100)
        assert caught.value.reason == "bad_box"


def test_overlap_of_boxes() -> None:
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1.0
    assert overlap((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 10, 10), (10, 0, 10, 10)) == 0.0


def test_crop_survives_its_encoding() -> None:
    rgb = np.ascontiguousarray(_ramp(112, 112))
    decoded = decode_crop(encode_crop(rgb, CropSpec()))
    assert np.abs(decoded.astype(int) - rgb.astype(int)).mean() < 3
    with pytest.raises(InputError, match="damaged"):
        decode_crop(b"no jpeg")


def test_detectors_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'yuface'"):
        open_detector("yufase")
    with pytest.raises(InputError, match="no file"):
        open_detector(f"yunet:{tmp_path}/absent.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not an onnx file")
    with pytest.raises(InputError, match="not a YuNet"):
        open_detector(f"yunet:{tmp_path}/bad.onnx")


def test_detector_finds_a_portrait_in_original_pixels(shared: Path) -> None:
    detector = open_detector("auto")
    rgb = decode_image((shared / "photos" / "images" / "male_019.jpg").read_bytes())
    small = find_face(rgb, detector, CropSpec())
    large = find_face(np.ascontiguousarray(np.kron(rgb, np.ones((5, 5, 1), np.uint8))), detector, CropSpec())
    assert overlap(small.box, tuple(value / 5 for value in large.box)) > 0.7
    assert small.landmarks[0, 0] < small.landmarks[1, 0]
    assert small.landmarks[0, 1] < small.landmarks[3, 1]
    x, y, w, h = small.box
    assert ((small.landmarks >= (x, y)) & (small.landmarks <= (x + w, y + h))).all()
