"""Copies among faces are found, strangers are not, and the search loses no close pair that it promises."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from agesearch.data.audit import near_duplicates
from agesearch.data.audit.near_duplicates import BITS, RADIUS, Fingerprints, close_pairs, groups_of
from agesearch.data.dataset.arrays import Pixels, read_arrays
from agesearch.data.dataset.records import Split
from agesearch.data.reading.demo_pack import demo_pack


@pytest.fixture(scope="module")
def faces() -> Pixels:
    return read_arrays(demo_pack(), Split.TEST).images[:60]


def _groups(images: Pixels) -> list[list[int]]:
    fingerprints = Fingerprints(len(images))
    fingerprints.add(images)
    return groups_of(len(images), fingerprints.matches())


def _moved(image: np.ndarray, zoom: float, turn: float, right: float) -> np.ndarray:
    side = image.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), turn, zoom)
    matrix[0, 2] += right
    return cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)


def _compressed(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def test_strangers_are_no_copies(faces: Pixels) -> None:
    assert _groups(faces) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: _compressed(image, 20),
        lambda image: cv2.resize(cv2.resize(image, (40, 40)), (112, 112)),
        lambda image: np.clip(image * 1.25, 0, 255).astype(np.uint8),
        lambda image: _moved(image, 1.04, 1.5, 2.0),
        lambda image: image[:, ::-1],
        lambda image: _moved(_compressed(image[:, ::-1], 50), 0.97, -1.0, 1.0),
    ],
    ids=[
        "same",
        "compressed",
        "resized",
        "brighter",
        "cropped anew",
        "mirrored",
        "mirrored and cropped anew",
    ],
)
def test_copies_are_found(faces: Pixels, change) -> None:
    copies = np.stack([change(image) for image in faces[:10]])
    assert _groups(np.concatenate([faces, copies])) == [[number, 60 + number] for number in range(10)]


def test_matches_say_which_copy_is_mirrored_and_how_alike(faces: Pixels) -> None:
    images = np.concatenate([faces[:20], faces[3:4], faces[5:6, :, ::-1]])
    fingerprints = Fingerprints(len(images))
    fingerprints.add(images)
    found = sorted(fingerprints.matches(), key=lambda match: match.first)
    assert [(match.first, match.second, match.mirrored) for match in found] == [(3, 20, False), (5, 21, True)]
    assert all(match.similarity > 0.995 and match.distance <= RADIUS for match in found)


def test_many_copies_of_one_picture_become_one_group_in_little_work(faces: Pixels) -> None:
    fingerprints = Fingerprints(150)
    fingerprints.add(np.repeat(faces[:1], 150, axis=0))
    matches = fingerprints.matches()
    assert groups_of(150, matches) == [list(range(150))]
    assert len(matches) < 2 * 150  # of 11,175 pairs


def test_plain_areas_are_no_face_and_no_trouble() -> None:
    flat = np.zeros((3, 64, 64, 3), np.uint8)
    flat[1:] = 200
    assert _groups(flat) == []


@pytest.mark.parametrize("block", [2_000_000, 41])
def test_close_pairs_are_those_that_agree_in_the_sampled_bits(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_duplicates, "_BLOCK", block)
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 300, dtype=np.uint64)
    for number in range(200, 300):  # neighbours at 0 to 12 bits
        flips = rng.choice(BITS, number % 13, replace=False).astype(np.uint64)
        hashes[number] = hashes[number - 200] ^ np.bitwise_xor.reduce(
            np.uint64(1) << flips, initial=np.uint64(0)
        )
    bits = rng.choice(BITS, 16, replace=False)
    mask = np.bitwise_or.reduce(np.uint64(1) << bits.astype(np.uint64))
    expected = {
        (a, b): int(np.bitwise_count(hashes[a] ^ hashes[b]))
        for a in range(300)
        for b in range(a + 1, 300)
        if not (hashes[a] ^ hashes[b]) & mask and np.bitwise_count(hashes[a] ^ hashes[b]) <= RADIUS
    }
    found = {}
    for first, second, distance in close_pairs(hashes, bits):
        pairs = zip(first.tolist(), second.tolist(), distance.tolist(), strict=True)
        found |= {(min(a, b), max(a, b)): d for a, b, d in pairs}
    assert found == expected
    assert len(expected) > 10


def test_hashes_are_those_of_the_library(faces: Pixels) -> None:
    import imagehash
    from PIL import Image

    fingerprints = Fingerprints(1)
    fingerprints.add(faces[:1])
    grey = cv2.cvtColor(faces[0], cv2.COLOR_RGB2GRAY)
    whole = imagehash.phash(Image.fromarray(grey)).hash
    stored = np.unpackbits(np.array([fingerprints._hashes[0, 0]], ">u8").view(np.uint8)).astype(bool)
    # The view that is hashed is resampled once more than the library would: bits at the median may differ.
    assert int((stored != whole.ravel()).sum()) <= 6
