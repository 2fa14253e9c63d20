"""Choosing, aligning and cropping faces; detectors by name."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agesearch.data.images import libfacedetection
from agesearch.data.images.crop import (
    Detection,
    choose_face,
    crop_face,
    decode_crop,
    encode_crop,
    open_detector,
    overlap,
)
from agesearch.data.images.decode import BadImage, Photograph, decode_image
from agesearch.data.images.locate import detect, locate
from agesearch.errors import InputError
from agesearch.specs import CropSpec


def _ramp(width: int = 200, height: int = 160) -> np.ndarray:
    """Red tells x, green tells y: a crop's pixel says where it came from."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 0] = np.arange(width)[None, :]
    rgb[..., 1] = np.arange(height)[:, None]
    return rgb


def _structured(width: int, height: int) -> np.ndarray:
    """Shapes of every size from 2 pixels up, the small ones fainter, as in photographs; noise over them."""
    draw = np.random.default_rng(5)
    layers = [draw.normal(0, 5 * by**0.5, (height // by + 1, width // by + 1, 3)) for by in (2, 8, 40)]
    summed = sum(cv2.resize(layer, (width, height), interpolation=cv2.INTER_CUBIC) for layer in layers)
    return np.clip(summed + draw.normal(127, 6, (height, width, 3)), 0, 255).astype(np.uint8)


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


@pytest.mark.parametrize("recipe", [1, 2])
def test_large_faces_are_averaged_not_sampled(recipe: int) -> None:
    # One-pixel checks alias into stripes unless every source pixel counts; averaged they are mid-grey.
    checks = (np.indices((1800, 1800)).sum(axis=0) % 2 * 255).astype(np.uint8)
    rgb = np.repeat(checks[..., None], 3, axis=2)
    for side in (250.0, 900.0, 1700.0):
        crop = crop_face(rgb, (50.0, 50.0, side, side), CropSpec(scale=1.0, size=64, recipe=recipe))
        assert abs(float(crop.mean()) - 127.5) < 3
        assert crop.std() < 12


@pytest.mark.parametrize("degrees", [0.0, 23.0])
@pytest.mark.parametrize(
    ("box", "levels"),
    [
        ((200.0, 150.0, 150.0, 160.0), 0.0),  # fewer than two pixels along a crop pixel: the same crop
        ((150.0, 120.0, 300.0, 260.0), 1.0),
        ((190.0, 110.0, 420.0, 430.0), 1.0),
        ((-200.0, -90.0, 700.0, 640.0), 4.0),  # the edge that is repeated is that of the halved image
        ((-3000.0, 20.0, 3001.0, 900.0), 8.0),
    ],
)
def test_the_fast_recipe_gives_the_crop_of_the_first(
    box: tuple[float, float, float, float], levels: float, degrees: float
) -> None:
    rgb = _structured(801, 667)
    x, y, width, height = box
    turn = math.radians(degrees)
    centre, half = (
        np.array([x + width / 2, y + height / 2]),
        width / 5 * np.array([math.cos(turn), math.sin(turn)]),
    )
    face = Detection(1.0, box, _eyes(tuple(centre - half), tuple(centre + half)))
    first, second = (crop_face(rgb, face, CropSpec(recipe=recipe)).astype(float) for recipe in (1, 2))
    off = np.abs(first - second)
    assert off.mean() <= levels  # of 255
    assert np.quantile(off, 0.99) <= 8.0 * levels


def test_a_face_is_cropped_from_a_reduced_image_only_where_it_is_large_there() -> None:
    asked: list[int | None] = []

    def decode(enough: int | None) -> Photograph:
        asked.append(enough)
        by = 4 if enough else 1
        return Photograph(np.zeros((2400 // by, 3200 // by, 3), np.uint8), 3200, 2400, by)

    class Finds:
        def __init__(self, *sides: float) -> None:
            self.sides = sides

        def detect(self, bgr: npt.NDArray[np.uint8], min_score: float) -> list[Detection]:
            by = 3200 / bgr.shape[1]
            return [Detection(1.0, (100 / by, 80 / by, side / by, side / by)) for side in self.sides]

    def located(*sides: float, recipe: int = 2) -> tuple[int, list[float]]:
        asked.clear()
        spec = CropSpec(recipe=recipe)
        photograph, faces = locate(decode, Finds(*sides), spec, lambda _, found: found)
        assert all(face.box[0] * photograph.reduction == 100 for face in faces)
        return photograph.reduction, [face.box[2] * photograph.reduction for face in faces]

    assert located(1600.0) == (4, [1600.0])
    assert located(1600.0, 300.0) == (1, [1600.0, 300.0])
    assert located() == (1, [])  # looked for in all pixels before it is said that there is none
    assert located(1600.0, recipe=1) == (1, [1600.0])
    assert asked == [None]


def test_none_takes_the_whole_image_as_crop() -> None:
    spec = CropSpec(detector="none", scale=1.3, size=80)
    rgb = _ramp(160, 160)
    (face,) = detect(Photograph.of(rgb), open_detector("none"), spec)
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


@pytest.mark.skipif(find_spec("yuface") is None, reason="yuface has wheels for Python 3.11 only")
def test_yuface_finds_the_same_with_and_without_its_binding(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = open_detector("yuface")
    rgb = decode_image((shared / "photos" / "images" / "male_019.jpg").read_bytes())
    bgr = np.ascontiguousarray(rgb[:, 5:-3, ::-1])
    assert libfacedetection.is_callable()
    found = detector.detect(bgr, 0.5)
    assert detector.detect(np.zeros((64, 64, 3), np.uint8), 0.5) == []
    monkeypatch.setattr(libfacedetection, "_function", lambda: None)
    (face,), (same,) = found, detector.detect(bgr, 0.5)
    assert (face.score, face.box) == (same.score, same.box)
    np.testing.assert_array_equal(face.landmarks, same.landmarks)


def test_detector_finds_a_portrait_in_original_pixels(shared: Path) -> None:
    detector = open_detector("auto")
    rgb = decode_image((shared / "photos" / "images" / "male_019.jpg").read_bytes())
    enlarged = np.ascontiguousarray(np.kron(rgb, np.ones((5, 5, 1), np.uint8)))
    (small,), (large,) = (detect(Photograph.of(image), detector, CropSpec()) for image in (rgb, enlarged))
    assert overlap(small.box, tuple(value / 5 for value in large.box)) > 0.7
    assert small.landmarks[0, 0] < small.landmarks[1, 0]
    assert small.landmarks[0, 1] < small.landmarks[3, 1]
    x, y, w, h = small.box
    assert ((small.landmarks >= (x, y)) & (small.landmarks <= (x + w, y + h))).all()
