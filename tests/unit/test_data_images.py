"""Safe decoding: every kind of file becomes upright 8-bit RGB or a ``BadImage`` with its reason."""

from __future__ import annotations

import io
import pickle
import struct
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hostile_files import MAKERS
from hypothesis import given, settings
from hypothesis import strategies as st
from phone_files import (
    google_motion,
    huge_jpeg,
    jpeg_of,
    many_scans,
    multi_picture,
    samsung_motion,
    video,
    with_thumbnail,
)
from PIL import Image, ImageOps

from agesearch.data.images.decode import ARCHIVE_FORMATS, BadImage, decode_image, decode_photograph


def _quadrants(size: int = 32) -> np.ndarray:
    """Red, green / blue, white: an image whose orientation can be told."""
    rgb = np.zeros((size, size, 3), np.uint8)
    half = size // 2
    rgb[:half, :half], rgb[:half, half:] = (250, 0, 0), (0, 250, 0)
    rgb[half:, :half], rgb[half:, half:] = (0, 0, 250), (250, 250, 250)
    return rgb


def _file(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _close(first: np.ndarray, second: np.ndarray, tolerance: int = 12) -> bool:
    """Quadrant centres agree; codecs blur only the borders."""
    centres = [(8, 8), (8, 24), (24, 8), (24, 24)]
    return all(np.abs(first[c].astype(int) - second[c].astype(int)).max() <= tolerance for c in centres)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_formats(kind: str) -> None:
    data = _file(Image.fromarray(_quadrants()), kind)
    assert _close(decode_image(data, formats=ARCHIVE_FORMATS), _quadrants(), 16)


@pytest.mark.parametrize("kind", ["TIFF", "PPM"])
def test_the_web_may_not_pick_archive_decoders(kind: str) -> None:
    with pytest.raises(BadImage) as caught:
        decode_image(_file(Image.fromarray(_quadrants()), kind))
    assert caught.value.reason == "not_an_image"


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, 1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a, -1)),
    ],
)
def test_exif_orientation(orientation: int, turn) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    # ``turn`` is how the camera stored the upright picture.
    stored = Image.fromarray(np.ascontiguousarray(turn(_quadrants())))
    assert np.array_equal(decode_image(_file(stored, "PNG", exif=exif)), _quadrants())


def test_broken_exif_does_not_cost_the_image() -> None:
    data = _file(Image.fromarray(_quadrants()), "JPEG", exif=b"Exif\x00\x00garbage" + b"\xff" * 40)
    assert _close(decode_image(data), _quadrants(), 16)


def test_cmyk_palette_alpha_and_grey() -> None:
    image = Image.fromarray(_quadrants())
    assert _close(decode_image(_file(image.convert("CMYK"), "JPEG")), _quadrants(), 40)
    assert _close(
        decode_image(_file(image.convert("P", palette=Image.Palette.ADAPTIVE), "PNG")), _quadrants()
    )
    grey = decode_image(_file(image.convert("L"), "PNG"))
    assert grey.shape == (32, 32, 3)
    assert np.array_equal(grey[..., 0], np.asarray(image.convert("L")))
    clear = image.convert("RGBA")
    clear.putalpha(0)
    assert (decode_image(_file(clear, "PNG")) == 255).all()


def test_sixteen_bits_keep_the_high_byte() -> None:
    deep = (np.arange(32 * 32, dtype=np.uint32).reshape(32, 32) * 64).astype(np.uint16)
    assert np.array_equal(
        decode_image(_file(Image.fromarray(deep), "PNG"))[..., 1], (deep >> 8).astype(np.uint8)
    )


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.fromarray(_quadrants()), Image.new("RGB", (32, 32))]
    data = _file(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert _close(decode_image(data), _quadrants())


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"not an image at all", "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        (b"\xff\xd8\xff\xe0" + b"\x00" * 30, "not_an_image"),
        (_png_header(50_000, 50_000), "too_many_pixels"),
        (_png_header(40_000, 20), "too_many_pixels"),
        (_png_header(8, 800), "too_small"),
        (_png_header(100, 100), "truncated"),
    ],
)
def test_bad_files_have_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage) as caught:
        decode_image(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_truncated_files_are_refused(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = _file(Image.fromarray(noise), kind)
    with pytest.raises(BadImage) as caught:
        decode_image(data[: len(data) // 2])
    assert caught.value.reason in ("truncated", "corrupt", "not_an_image")


def test_limits_are_the_callers() -> None:
    data = _file(Image.fromarray(_quadrants()), "PNG")
    for limits, reason in (({"max_bytes": 10}, "too_many_bytes"), ({"max_pixels": 1000}, "too_many_pixels")):
        with pytest.raises(BadImage) as caught:
            decode_image(data, **limits)
        assert caught.value.reason == reason


def test_scan_bomb_is_refused() -> None:
    data = jpeg_of(_quadrants(), progressive=True)
    for hidden in (many_scans(data, 100), google_motion(many_scans(data, 100))):
        with pytest.raises(BadImage, match="scans"):
            decode_image(hidden)


def test_a_jpeg_of_endless_segments_is_refused_before_they_are_read() -> None:
    data = jpeg_of(_quadrants())
    with pytest.raises(BadImage, match="segments"):
        decode_image(data[:2] + b"\xff\xfe\x00\x02" * 5000 + data[2:])


_SMALL = jpeg_of(np.full((64, 64, 3), 7, np.uint8))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(
    "as_phones_do",
    [
        samsung_motion,
        google_motion,
        partial(with_thumbnail, thumbnail=_SMALL),
        partial(with_thumbnail, thumbnail=many_scans(jpeg_of(_quadrants(16), progressive=True), 70)),
        partial(multi_picture, others=[_SMALL]),
        partial(multi_picture, others=[_SMALL, jpeg_of(_quadrants(), progressive=True)]),
        partial(multi_picture, others=[_SMALL, _SMALL], broken=True),
        lambda jpeg: google_motion(multi_picture(jpeg, [_SMALL])),
        lambda jpeg: jpeg + b"\xff\xda\x00\x08" * 500,
        lambda jpeg: jpeg + b"\x00" * 4096,
        lambda jpeg: jpeg + many_scans(jpeg_of(_quadrants(), progressive=True), 100),
    ],
)
def test_what_phones_write_around_a_picture_changes_nothing(
    as_phones_do: Callable[[bytes], bytes], progressive: bool
) -> None:
    plain = jpeg_of(_quadrants(), progressive=progressive)
    file = as_phones_do(plain)
    assert file != plain
    assert np.array_equal(decode_image(file), decode_image(plain))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_bytes_behind_other_pictures_change_nothing(kind: str) -> None:
    plain = _file(Image.fromarray(_quadrants()), kind)
    behind = plain + video(10_000)
    formats = ARCHIVE_FORMATS
    assert np.array_equal(decode_image(behind, formats=formats), decode_image(plain, formats=formats))


def test_a_photograph_of_108_megapixels_is_reduced_while_it_is_decoded() -> None:
    photograph = decode_photograph(huge_jpeg(12_000, 9_000, grey=90))
    assert (photograph.width, photograph.height, photograph.reduction) == (12_000, 9_000, 2)
    assert photograph.pixels.shape == (4_500, 6_000, 3)
    assert np.ptp(photograph.pixels) == 0
    assert abs(int(photograph.pixels[0, 0, 0]) - 90) <= 2


@pytest.mark.parametrize(("side", "reduction"), [(63, 1), (64, 1), (65, 2), (100, 2), (143, 4)])
def test_the_least_reduction_that_fits_is_taken(side: int, reduction: int) -> None:
    tall = np.repeat(_quadrants(side), 2, axis=0)
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph = decode_photograph(jpeg_of(tall, exif=exif), max_pixels=64 * 128)
    assert (photograph.width, photograph.height) == (2 * side, side)
    assert photograph.reduction == reduction
    assert photograph.pixels.shape == (-(-side // reduction), -(-2 * side // reduction), 3)


def test_what_is_too_large_stays_refused() -> None:
    refused = [
        huge_jpeg(20_000, 20_000),  # 400 million pixels in 6 MB
        huge_jpeg(40_000, 16),
        jpeg_of(np.full((150, 150, 3), 9, np.uint8)),
        _file(Image.new("RGB", (100, 90)), "PNG"),
        _png_header(16_320, 12_240),
    ]
    for index, data in enumerate(refused):
        limit = {} if index in (0, 1, 4) else {"max_pixels": 4_000}
        with pytest.raises(BadImage) as caught:
            decode_image(data, **limit)
        assert caught.value.reason == "too_many_pixels"


def test_a_progressive_jpeg_that_no_reduction_makes_small_is_refused() -> None:
    data = jpeg_of(_quadrants(), progressive=True)
    frame = data.index(b"\xff\xc2")
    large = data[: frame + 5] + struct.pack(">HH", 14_000, 20_000) + data[frame + 9 :]
    with pytest.raises(BadImage, match="scans|progressive"):
        decode_image(large)


def test_bad_image_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(BadImage("no_face", "No face was found.")))
    assert (error.reason, str(error)) == ("no_face", "No face was found.")


_SEEDS = [
    _file(Image.fromarray(_quadrants()), kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=150)
@given(seed=st.sampled_from(_SEEDS), data=st.data())
def test_damaged_files_never_raise_anything_else(seed: bytes, data: st.DataObject) -> None:
    damaged = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(seed) - 1))] = data.draw(st.integers(0, 255))
    try:
        rgb = decode_image(bytes(damaged), max_pixels=1_000_000, formats=ARCHIVE_FORMATS)
    except BadImage:
        return
    assert rgb.dtype == np.uint8
    assert rgb.ndim == 3
    assert rgb.shape[2] == 3


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("index", range(len(MAKERS)))
def test_every_kind_of_file_becomes_its_picture_or_a_reason(index: int) -> None:
    smooth = np.asarray(Image.fromarray(_quadrants()).resize((96, 96), Image.Resampling.BICUBIC))
    for seed in range(3):
        content = MAKERS[index](smooth, np.random.default_rng(seed))
        rgb, reason = _decoded(content.data)
        if rgb is None:
            assert reason in content.reasons, content.kind
            continue
        assert content.pixels is not None or "corrupt" in content.reasons, content.kind
        if content.pixels is not None:
            assert np.abs(rgb.astype(int) - content.pixels.astype(int)).mean() <= content.tolerance


def _decoded(data: bytes) -> tuple[np.ndarray | None, str]:
    try:
        return decode_image(data, formats=ARCHIVE_FORMATS), ""
    except BadImage as error:
        return None, error.reason


@pytest.mark.parametrize("orientation", range(1, 9))
def test_bands_of_a_turned_image_fall_into_place(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.random.default_rng(0).integers(0, 255, (600, 40, 3), np.uint8)
    image = Image.fromarray(stored)
    data = _file(image, "PNG", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(decode_image(data), np.asarray(upright))


def test_deep_grey_is_scaled_by_the_whole_image_not_by_its_bands() -> None:
    levels = np.full((600, 20), 0.5, np.float32)
    levels[-1] = 200.0
    rgb = decode_image(_file(Image.fromarray(levels), "TIFF"), formats=ARCHIVE_FORMATS)
    assert rgb[0].max() == 0
    assert rgb[-1].min() == 200


def test_plain_text_images_are_limited() -> None:
    data = b"P3\n1000 1000\n255\n" + b"100 " * 4_500_000
    with pytest.raises(BadImage) as caught:
        decode_image(data, formats=ARCHIVE_FORMATS)
    assert caught.value.reason == "too_many_bytes"
