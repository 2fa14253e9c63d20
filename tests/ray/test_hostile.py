"""A thousand bad and odd files through the real ingest: each ends as the right face or with its reason."""

from __future__ import annotations

import csv
import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from hostile_files import NAMES, RAW_NAMES, Content, Odd, contents, not_files
from PIL import Image
from typer.testing import CliRunner

from agesearch.cli.main import app
from agesearch.data.dataset.arrays import Pixels, read_arrays
from agesearch.data.dataset.identity import sample_id_of
from agesearch.data.dataset.records import Split
from agesearch.data.images.crop import crop_face, decode_crop, encode_crop
from agesearch.data.reading.demo_pack import demo_pack
from agesearch.specs import CropSpec
from agesearch.storage import Location

pytestmark = pytest.mark.usefixtures("ray_local")

COUNT = 1000
CROP = CropSpec(detector="none", size=64)
#: A worker holds Ray, OpenCV and Arrow (about 350 MB) and one image; a bomb would be gigabytes.
MAX_WORKER_BYTES = 1_000_000_000


@pytest.fixture(scope="module")
def faces() -> Pixels:
    return read_arrays(demo_pack(), Split.VAL).images


def _ingest(*arguments: str, detector: str = "none") -> dict:
    options = ("--detector", detector, "--size", str(CROP.size), "--json")
    done = CliRunner().invoke(app, ["data", "ingest", *arguments, *options], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)["manifest"]


def _crops(dataset: Path) -> dict[str, Pixels]:
    rows = Location.of(dataset / "shards").read_table(["sample_id", "image"]).to_pylist()
    return {row["sample_id"]: decode_crop(row["image"]) for row in rows}


def _reasons(dataset: Path) -> list[tuple[str, str]]:
    rows = Location.of(dataset / "quarantine.parquet").read_table().to_pylist()
    assert all(row["reason"] and row["detail"] for row in rows)
    return [(row["path"], row["reason"]) for row in rows]


def _wrong(content: Content, crop: Pixels | None, reason: str | None) -> str | None:
    """What is wrong with the end of a file; None where nothing is."""
    if crop is None:
        return None if reason in content.reasons else f"{content.kind}: left out as {reason}"
    if content.pixels is None:
        return f"{content.kind}: became a face" if not content.reasons & {"corrupt"} else None
    height, width = content.pixels.shape[:2]
    clean = decode_crop(encode_crop(crop_face(content.pixels, (0.0, 0.0, width, height), CROP), CROP))
    distance = float(np.abs(crop.astype(int) - clean.astype(int)).mean())
    return None if distance <= content.tolerance else f"{content.kind}: differs by {distance:.1f}"


@contextmanager
def _peak_of_workers() -> Iterator[list[int]]:
    """By how much the resident memory, in bytes, of a worker has grown at most.

    Not its whole memory: Ray may take up a worker that an earlier test has left idle, torch and all.
    """
    peak, stop = [0], threading.Event()
    before: dict[int, int] = {}

    def watch() -> None:
        while not stop.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                try:
                    if "ray::" in process.name() or "ray::" in " ".join(process.cmdline()):
                        used = process.memory_info().rss
                        peak[0] = max(peak[0], used - before.setdefault(process.pid, used))
                except psutil.Error:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


def _tree(root: Path, faces: Pixels) -> tuple[dict[str, Content], list[Odd]]:
    """``root`` with a folder of 1,000 files and, beside it, an image that a link points to."""
    made = list(contents(faces, COUNT, seed=3))
    names = [name.encode() for name in NAMES] + RAW_NAMES
    good = [
        number for number, content in enumerate(made) if content.pixels is not None and not content.reasons
    ]
    names_of = dict(zip(good, names, strict=False))
    folder = os.fsencode(root / "30")
    os.makedirs(folder)
    by_id = {}
    for number, content in enumerate(made):
        name = names_of.get(number, b"%04d" % number) + content.suffix.encode()
        with open(os.path.join(folder, name), "wb") as stream:
            stream.write(content.data)
        by_id[sample_id_of(content.data)] = content
    outside = root.parent / "outside"
    outside.mkdir()
    Image.fromarray(255 - faces[0]).save(outside / "linked.png")
    odd = not_files(root / "31", outside)
    os.symlink(outside / "linked.png", root / "31" / "out of the tree.png")
    linked = (outside / "linked.png").read_bytes()
    by_id[sample_id_of(linked)] = Content("link", ".png", linked, 255 - faces[0])
    return by_id, odd


def test_a_thousand_bad_files_end_as_right_faces_or_with_a_reason(tmp_path: Path, faces: Pixels) -> None:
    by_id, odd = _tree(tmp_path / "photos", faces)
    with _peak_of_workers() as peak:
        manifest = _ingest("folder", str(tmp_path / "photos"), "--out", str(tmp_path / "ds"))
    crops, left = _crops(tmp_path / "ds"), _reasons(tmp_path / "ds")
    entries = sum(len(names) for _, _, names in os.walk(os.fsencode(tmp_path / "photos")))
    links = 2  # to folders: os.walk counts them as folders
    assert manifest["counts"]["train"] + manifest["counts"]["val"] + manifest["counts"]["test"] == len(crops)
    assert len(crops) + len(left) == entries + links
    assert len({path for path, _ in left}) == len(left)
    assert {item.path: item.reason for item in odd}.items() <= dict(left).items()
    assert crops.keys() <= by_id.keys()
    on_disk = _ids_by_path(tmp_path / "photos" / "30")
    reason_of = {on_disk[path]: reason for path, reason in left if path in on_disk and reason != "duplicate"}
    wrong = [_wrong(content, crops.get(key), reason_of.get(key)) for key, content in by_id.items()]
    assert not [fault for fault in wrong if fault]
    assert 0 < peak[0] < MAX_WORKER_BYTES


def _ids_by_path(folder: Path) -> dict[str, str]:
    found = {}
    for name in os.listdir(os.fsencode(folder)):
        path = os.path.join(os.fsencode(folder), name)
        with open(path, "rb") as stream:
            found[os.fsdecode(path)] = sample_id_of(stream.read())
    return found


def test_a_csv_may_name_anything(tmp_path: Path, faces: Pixels) -> None:
    images, outside = tmp_path / "images", tmp_path / "outside"
    outside.mkdir()
    odd = [item for item in not_files(images, outside) if item.reason not in ("hidden", "not_an_image_name")]
    odd = [replace(item, reason="not_a_file") if item.reason == "linked_folder" else item for item in odd]
    rows = [(item.path, item.reason) for item in odd]
    rows += [
        ("empty folder.jpg", "not_a_file"),
        ("n" * 300 + ".jpg", "unreadable"),
        ("nul\0.jpg", "unreadable"),
    ]
    rows += [
        ("a/" * 3000 + "b.jpg", "unreadable"),
        ("nosuch://host/a.jpg", "unreadable"),
        ("absent.jpg", "missing_file"),
    ]
    rows += [
        ("notes.txt/a.jpg", "missing_file"),
        (".", "no_path"),  # a word for "missing"
        (".", "no_path"),  # a word for "missing"
        ("/proc/self/mem", "unreadable"),
    ]
    good = {}
    for number, (place, name) in enumerate(
        [(images, name) for name in NAMES] + [(outside, "absolute"), (outside, "above")]
    ):
        path = place / f"{name}.png"
        Image.fromarray(faces[number]).save(path)
        written = {"absolute": str(path), "above": f"../outside/{path.name}"}.get(name, path.name)
        good[sample_id_of(path.read_bytes())] = Content(name, ".png", b"", faces[number])
        rows.append((written, ""))
    with open(tmp_path / "faces.csv", "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("file", "age"), *((path, 30) for path, _ in rows)])
    manifest = _ingest(
        "csv", str(tmp_path / "faces.csv"), "--images", str(images), "--out", str(tmp_path / "ds")
    )
    crops = _crops(tmp_path / "ds")
    assert not [fault for key, item in good.items() if (fault := _wrong(item, crops.get(key), None))]
    assert manifest["left_out"] == dict(sorted(Counter(reason for _, reason in rows if reason).items()))
    assert len(crops) == len(good)
    assert len(crops) + len(_reasons(tmp_path / "ds")) == len(rows)


def test_files_without_one_clear_face_are_left_out(tmp_path: Path, faces: Pixels) -> None:
    face = np.pad(faces[0], ((40, 40), (40, 40), (0, 0)), mode="edge")
    many = np.hstack([face, face[:, ::-1], face])
    plain = np.full((200, 200, 3), 127, np.uint8)
    (tmp_path / "30").mkdir()
    for name, pixels in (("one", face), ("many", many), ("none", plain), ("upside down", face[::-1])):
        exif = Image.Exif()
        exif[0x0112] = 4 if name == "upside down" else 1
        image = Image.fromarray(np.ascontiguousarray(pixels))
        image.save(tmp_path / "30" / f"{name}.png", exif=exif)
    _ingest("folder", str(tmp_path), "--out", str(tmp_path / "ds"), detector="auto")
    found = {Path(path).stem: reason for path, reason in _reasons(tmp_path / "ds") if "/30/" in path}
    assert found == {"many": "several_faces", "none": "no_face"}
    first, second = _crops(tmp_path / "ds").values()
    assert np.array_equal(first, second)  # the orientation is undone before the face is sought
