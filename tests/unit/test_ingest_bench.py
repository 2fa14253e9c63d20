"""What the ingest's measurements and its index stand on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agesearch.bench.photos import write_photos, write_tiny
from agesearch.bench.process_tree import tree_pss
from agesearch.data.dataset.disk_set import DiskSet
from agesearch.data.dataset.records import SourceRecord
from agesearch.data.images.detectors import open_detector
from agesearch.data.ingest.extract import face_row
from agesearch.data.sources import SourceOptions, source_named
from agesearch.specs import CropSpec, SplitSpec
from agesearch.storage import Location


def _records(csv: Path) -> list[SourceRecord]:
    options = SourceOptions(Location.of(csv), Location.of(csv.parent / "photos"))
    return [item for item in source_named("csv").read(options) if isinstance(item, SourceRecord)]


def test_a_face_is_found_in_every_photograph_and_none_is_twice(tmp_path: Path) -> None:
    records = _records(write_photos(tmp_path, 8))
    detector, crop = open_detector("auto"), CropSpec()
    rows = [face_row(record, detector, crop, SplitSpec()) for record in records]
    assert all(isinstance(row, dict) for row in rows)
    assert len({row["sample_id"] for row in rows if isinstance(row, dict)}) == 8


def test_tiny_images_are_all_different_and_sound(tmp_path: Path) -> None:
    records = _records(write_tiny(tmp_path, 5))
    detector, crop = open_detector("none"), CropSpec(detector="none", size=48)
    rows = [face_row(record, detector, crop, SplitSpec()) for record in records]
    assert len({row["sample_id"] for row in rows if isinstance(row, dict)}) == 5


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's smaps_rollup")
def test_a_tree_s_memory_counts_children_and_shared_pages_once() -> None:
    # 64 MiB that a child inherits without writing to them: shared, so the pair has them once.
    code = """
import os, sys
block = bytearray(b"x" * 2**26)
child = os.fork()
if child == 0:
    sys.stdin.readline()
    os._exit(0)
print("ready", flush=True)
sys.stdin.readline()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    found = tree_pss(process.pid)
    process.communicate("\n\n")
    assert found.processes == 2
    assert 64 < found.mib < 2 * 64


def test_a_set_on_disk_counts_each_key_once() -> None:
    seen = DiskSet(cache_kib=64)
    keys = [os.urandom(16) for _ in range(3000)]
    assert all(seen.add(key) for key in keys)
    assert not any(seen.add(key) for key in keys)
    assert len(seen) == 3000


def test_keys_of_object_stores_are_taken_as_they_are_written() -> None:
    options = "endpoint_override=127.0.0.1:9&scheme=http&region=eu-1"
    folder = Location.of(f"s3://bucket/set?{options}")
    for name in ("with space.png", "50%20.png", "what?.png", "ä=b.png"):
        place = folder / name
        assert place.path == f"bucket/set/{name}"
        assert Location.of(str(place)) == place
        assert place.parent == folder
