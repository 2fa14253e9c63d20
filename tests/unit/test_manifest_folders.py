"""Model folders: written whole, checked when read."""

from pathlib import Path

import numpy as np
import pytest
import torch

from agesearch.errors import InputError
from agesearch.models.folder import load_net, write_model
from agesearch.models.identity import model_digest, read_model_manifest
from agesearch.models.manifest import ModelManifest
from agesearch.models.predict import open_predictor
from agesearch.models.zoo import AgeNet, build
from agesearch.specs import CropSpec, ModelSpec
from agesearch.storage import Location

MODEL = ModelSpec(arch="lcnet_035", input_size=32)


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, AgeNet]:
    torch.manual_seed(0)
    net = build(MODEL).eval()
    manifest = ModelManifest(kind="teacher", model=MODEL, crop=CropSpec(), metrics={"val_mae_years": 5.0})
    write_model(str(tmp_path / "t"), net.state_dict(), manifest)
    return tmp_path / "t", net


def test_a_network_comes_back_with_its_weights(written: tuple[Path, AgeNet]) -> None:
    folder, net = written
    images = torch.rand(2, 3, 32, 32) * 255
    with torch.no_grad():
        assert torch.equal(load_net(str(folder))(images), net(images))
    found = read_model_manifest(str(folder))
    assert found.metrics == {"val_mae_years": 5.0}
    assert found.versions["torch"]


def test_both_runtimes_agree(written: tuple[Path, AgeNet]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    by_runtime = [open_predictor(str(written[0]), runtime).pmf(images) for runtime in ("onnx", "torch")]
    np.testing.assert_allclose(*by_runtime, atol=1e-5)


def test_changed_weights_are_noticed(written: tuple[Path, AgeNet]) -> None:
    file = written[0] / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="damaged: its SHA-256"):
        load_net(str(written[0]))


def test_the_digest_names_weights_and_crop_not_metrics(written: tuple[Path, AgeNet], tmp_path: Path) -> None:
    folder, net = written
    again = ModelManifest(kind="trial", model=MODEL, crop=CropSpec(), metrics={"val_mae_years": 9.0})
    write_model(str(tmp_path / "b"), net.state_dict(), again)
    wider = again.model_copy(update={"crop": CropSpec(scale=1.5)})
    write_model(str(tmp_path / "c"), net.state_dict(), wider)
    digests = [model_digest(str(where)) for where in (folder, tmp_path / "b", tmp_path / "c")]
    assert digests[0] == digests[1] != digests[2]


def test_a_folder_without_a_model_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a model.*agesearch teach"):
        load_net(Location.of(tmp_path / "none"))
