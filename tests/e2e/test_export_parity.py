"""Publishing: the export must answer as the network does, and what is published is whole and says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch

from agesearch.ages import expected_age
from agesearch.data.dataset.records import MANIFEST, SCHEMA, SHARDS, Manifest
from agesearch.data.images.crop import encode_crop
from agesearch.deploy import export
from agesearch.deploy.export import Parity, export_checked, parity_crops
from agesearch.deploy.integrity import verify
from agesearch.deploy.publish import publish
from agesearch.deploy.registry import Registry
from agesearch.errors import AgeSearchError, InputError
from agesearch.models.folder import write_model
from agesearch.models.heads.table import HEADS
from agesearch.models.manifest import ModelManifest
from agesearch.models.predict import open_predictor
from agesearch.models.predictors import OnnxPredictor
from agesearch.models.prepare import prepare
from agesearch.models.zoo import AgeNet, build
from agesearch.specs import CropSpec, ModelSpec
from agesearch.storage import Location

CROP = CropSpec(detector="none", size=32)
SPEC = ModelSpec(arch="lcnet_035", input_size=32)


def opinionated_net(seed: int) -> AgeNet:
    """A net that is not trained, but whose answers depend on its weights: a new head is nearly uniform."""
    torch.manual_seed(seed)
    net = build(SPEC).eval()
    for parameter in net.head.parameters():
        torch.nn.init.normal_(parameter, std=1.0)
    return net


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Location:
    folder = Location.of(tmp_path_factory.mktemp("data") / "faces")
    draw = np.random.default_rng(0)
    rows = [
        {
            "sample_id": f"{index:03d}",
            "image": encode_crop(draw.integers(0, 255, (32, 32, 3), dtype=np.uint8), CROP),
            "age": float(index),
            "source": "noise",
            "split": "val",
        }
        for index in range(6)
    ]
    (folder / SHARDS / "0.parquet").write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    manifest = Manifest(name="noise", label_kind="synthetic", licence="CC0", crop=CROP, counts={"val": 6})
    (folder / MANIFEST).write_json(manifest.model_dump(mode="json"))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Location:
    folder = Location.of(tmp_path_factory.mktemp("model") / "tiny")
    manifest = ModelManifest(kind="teacher", model=SPEC, crop=CROP, metrics={"val_mae_years": 12.5})
    write_model(folder, opinionated_net(0).state_dict(), manifest)
    return folder


def test_a_faithful_export_is_published_with_its_proof_and_card(
    model: Location, dataset: Location, tmp_path: Path
) -> None:
    registry = str(tmp_path / "registry")
    published = publish(model, "ages", registry, dataset=dataset)
    assert published.is_new
    assert published.parity["faces"] == 6
    assert published.parity["age_max_difference_years"] <= published.parity["age_tolerance_years"]
    folder = published.version.folder
    verify(folder)
    manifest = published.version.manifest()
    assert (manifest.kind, manifest.name, manifest.version) == ("version", "ages", 1)
    assert manifest.licences == {"data": "CC0"}
    assert manifest.provenance["dataset"]["counts"] == {"val": 6}
    card = (folder / "card.md").read_text()
    assert "# ages 0001" in card
    assert "val_mae_years | 12.500" in card
    assert "noise, synthetic ages" in card
    crops = parity_crops(dataset)
    onnx, reference = open_predictor(folder, "onnx"), open_predictor(model, "torch")
    assert isinstance(onnx, OnnxPredictor)
    assert np.allclose(onnx.pmf(crops), reference.pmf(crops), atol=1e-4)

    again = publish(model, "ages", registry, dataset=dataset, alias="candidate")
    assert not again.is_new
    assert again.version.number == "0001"
    assert Registry(registry).find("ages@candidate").number == "0001"


#: How much raw outputs are spread over the crops, so that answers go over all ages.
SPREADS = {"coral": 8.0, "corn": 2.0, "gaussian": 2.0, "clipped": 40.0}


def disagreeing_net(spec: ModelSpec, crops: npt.NDArray[np.uint8]) -> AgeNet:
    """An untrained net whose answers differ much from crop to crop: its features hardly do."""
    torch.manual_seed(0)
    net = build(spec).eval()
    linear: torch.nn.Linear = net.head.linear  # type: ignore[assignment]
    with torch.no_grad():
        features = net.features(torch.from_numpy(prepare(crops, spec.input_size)))
        middle = features.mean(dim=0)
        torch.nn.init.normal_(linear.weight)
        raw = (features - middle) @ linear.weight.T
        linear.weight *= (SPREADS[spec.head] / raw.std(dim=0))[:, None]
        linear.bias -= linear.weight @ middle
    return net


@pytest.mark.parametrize("head", sorted(HEADS.keys() - {"softmax", "groups"}))  # these: test_heads_groups.py
def test_every_head_exports_to_the_same_pmf(head: str, tmp_path: Path) -> None:
    spec = ModelSpec(arch="lcnet_035", input_size=32, head=head, pixels="vggface2")  # type: ignore[arg-type]
    crops = np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3), dtype=np.uint8)
    net = disagreeing_net(spec, crops)
    manifest = ModelManifest(kind="teacher", model=spec, crop=CROP)
    write_model(str(tmp_path), net.state_dict(), manifest)
    graph, parity = export_checked(str(tmp_path), crops)
    assert parity.pmf_max_difference < 1e-4
    assert parity.age_max_difference_years < 1e-2
    predictor = OnnxPredictor(graph, 32)
    assert float(np.ptp(expected_age(predictor.pmf(crops)))) > 15.0
    again = build(spec.model_copy(update={"init": "model", "weights": str(tmp_path)}))
    assert again.loaded.head
    started = again.state_dict()
    assert all(torch.equal(started[name], tensor) for name, tensor in net.state_dict().items())


def test_an_export_that_answers_otherwise_is_not_published(
    model: Location, dataset: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = export.onnx_bytes(opinionated_net(1), 32)
    monkeypatch.setattr(export, "onnx_bytes", lambda _net, _size: other)
    with pytest.raises(AgeSearchError, match="does not answer as the network does"):
        publish(model, "ages", str(tmp_path / "registry"), dataset=dataset)
    assert Registry(str(tmp_path / "registry")).names() == []


def test_parity_that_is_not_a_number_does_not_hold() -> None:
    assert Parity(4, 0.0, 0.0).holds
    assert not Parity(4, float("nan"), 0.0).holds
    assert not Parity(4, 0.0, float("nan")).holds
    assert not Parity(4, 2e-3, 0.0).holds


def test_no_faces_no_proof(model: Location) -> None:
    with pytest.raises(InputError, match="no face"):
        export_checked(model, np.empty((0, 32, 32, 3), np.uint8))


def test_what_cannot_be_published_says_why(model: Location, dataset: Location, tmp_path: Path) -> None:
    registry = str(tmp_path / "registry")
    with pytest.raises(InputError, match="neither a study nor a model folder"):
        publish(str(tmp_path), "ages", registry, dataset=dataset)
    with pytest.raises(InputError, match="--data"):
        publish(model, "ages", registry)
    with pytest.raises(InputError, match="not there any more"):
        publish(model, "ages", registry, dataset=str(tmp_path / "gone"))
    with pytest.raises(InputError, match="model name"):
        publish(model, "../ages", registry, dataset=dataset)
    with pytest.raises(InputError, match="alias"):
        publish(model, "ages", registry, dataset=dataset, alias="a/b")
    assert not Path(registry).exists()
