"""``agesearch data synth``: the same faces on any number of workers, and faces that a detector finds."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from agesearch.data.dataset.records import SHARDS
from agesearch.data.images.detectors import open_detector
from agesearch.data.synthetic.actor import Studio, open_studio
from agesearch.data.synthetic.generate import SynthSpec, synthesize
from agesearch.data.synthetic.mesh import find_data
from agesearch.data.synthetic.scene import render_face
from agesearch.errors import ConflictError
from agesearch.storage import Location

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("anny") is None, reason="needs the optional package anny"
)


@pytest.fixture(scope="module")
def studio() -> Studio:
    return open_studio(find_data())


def _rows(dataset: Path) -> pa.Table:
    return (Location.of(dataset) / SHARDS).read_table()


@pytest.mark.usefixtures("ray_local")
def test_workers_do_not_change_a_byte(tmp_path: Path) -> None:
    spec = SynthSpec(count=23, seed=5, size=48)
    one = synthesize(spec, tmp_path / "one", workers=1)
    two = synthesize(spec, tmp_path / "two", workers=2)
    assert _rows(tmp_path / "one").equals(_rows(tmp_path / "two"))
    assert one.manifest.content_digest == two.manifest.content_digest
    assert one.manifest.faces == 23
    assert one.manifest.subjects == 23
    assert one.is_new
    again = synthesize(spec, tmp_path / "one")
    assert not again.is_new
    assert again.manifest == one.manifest
    with pytest.raises(ConflictError, match="another recipe"):
        synthesize(SynthSpec(count=4, seed=6, size=48), tmp_path / "one")


def test_a_face_does_not_depend_on_those_before_it(studio: Studio) -> None:
    alone = render_face(studio, 9, 3, 64)
    assert not np.array_equal(render_face(studio, 9, 2, 64).image, alone.image)
    np.testing.assert_array_equal(render_face(studio, 9, 3, 64).image, alone.image)


def test_a_detector_finds_the_faces_where_they_are(studio: Studio) -> None:
    pytest.importorskip("yuface")
    detector = open_detector("yuface")
    found = 0
    for index in range(12):
        face = render_face(studio, 21, index, 160)
        best = detector.detect(np.ascontiguousarray(face.image[..., ::-1]), 0.5)[:1]
        if best and best[0].landmarks is not None:
            found += int(np.abs(best[0].landmarks - face.landmarks).max() < 16)
    assert found >= 10
