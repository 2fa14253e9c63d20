"""Starting from a foreign network's weights: parity with its file, the derived head, what is refused."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper

from agesearch.ages import expected_age
from agesearch.errors import InputError
from agesearch.models.backbones.xception import TinyXception, seen_side
from agesearch.models.calibration.correction import AgeCorrection
from agesearch.models.foreign.document import start_named
from agesearch.models.foreign.start import ScalarHead
from agesearch.models.runtimes.engines import DEFAULT, FP32, OPENVINO, Engine, why_not
from agesearch.models.runtimes.sessions import open_engine
from agesearch.models.tracing import onnx_bytes
from agesearch.models.weights import Loaded, check_start, start_licences, weights_digest
from agesearch.models.zoo import build
from agesearch.specs import ModelSpec
from agesearch.training.refit.run import starting_network

SIDE = 64
ROOT = Path(__file__).resolve().parents[2]
FACEAPI = ROOT / "search_spaces" / "teachers" / "faceapi.yaml"
SHARED = ROOT.parent / "shared"

Make = Callable[..., Path]


@pytest.fixture
def document(tmp_path: Path) -> Make:
    """Writes the manifest of an ONNX file with the convolutions given and a head of one number."""

    def make(net: torch.nn.Module, head: ScalarHead, **changes: object) -> Path:
        convolutions = [layer for layer in net.modules() if isinstance(layer, torch.nn.Conv2d)]
        nodes, stored, last = [], [], "images"
        for number, layer in enumerate(convolutions):
            names = [f"w{number}", f"b{number}"][: 1 + (layer.bias is not None)]
            tensors = [layer.weight, layer.bias][: len(names)]
            stored += [
                numpy_helper.from_array(t.detach().numpy(), n) for t, n in zip(tensors, names, strict=True)
            ]
            nodes.append(helper.make_node("Conv", [last, *names], [f"t{number}"], group=layer.groups))
            last = f"t{number}"
        stored += [
            numpy_helper.from_array(head.weight[:, None], "w"),
            numpy_helper.from_array(np.float32([head.bias]), "b"),
        ]
        nodes += [
            helper.make_node("GlobalAveragePool", [last], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "w", "b"], ["age"]),
        ]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("images", "age")]
        content = helper.make_model(
            helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
        ).SerializeToString()
        (tmp_path / "net.onnx").write_bytes(content)
        told = yaml.safe_load(FACEAPI.read_text(encoding="utf-8"))
        told |= {"file": "net.onnx", "sha256": hashlib.sha256(content).hexdigest()} | changes
        place = tmp_path / "net.yaml"
        place.write_text(yaml.safe_dump(told), encoding="utf-8")
        return place

    return make


def _head(features: int = 512) -> ScalarHead:
    return ScalarHead(np.linspace(-1, 1, features, dtype=np.float32), 40.0, 8.0)


def _spec(place: Path, **changes: object) -> ModelSpec:
    fields = {"arch": "xception_tiny", "input_size": SIDE, "init": "model", "weights": str(place)}
    return ModelSpec.model_validate(fields | changes)


def test_the_network_sees_the_centre_of_its_input_alone() -> None:
    assert [seen_side(side) for side in (146, 112, 145)] == [112, 86, 111]
    net = build(ModelSpec(arch="xception_tiny", input_size=SIDE)).eval()
    images = torch.rand(1, 3, SIDE, SIDE) * 255
    edged = images.clone()
    margin = (SIDE - seen_side(SIDE)) // 2
    edged[:, :, :margin], edged[:, :, :, -margin:] = 0, 0
    with torch.no_grad():
        assert torch.equal(net.features(images), net.features(edged))
        edged[:, :, margin] = 0
        assert not torch.equal(net.features(images), net.features(edged))
    assert net.parameter_count < 0.5e6


@pytest.mark.parametrize(
    ("side", "engine"), [(64, DEFAULT), (145, DEFAULT), (64, Engine(OPENVINO, FP32))], ids=str
)
def test_the_export_answers_as_the_network_does(side: int, engine: Engine) -> None:
    if reason := why_not(engine):
        pytest.skip(reason)
    net = build(ModelSpec(arch="xception_tiny", input_size=side)).eval()
    images = torch.rand(2, 3, side, side) * 255
    session = open_engine(onnx_bytes(net, side), engine, 1)
    with torch.no_grad():
        wanted = torch.softmax(net(images), dim=-1).numpy()
    np.testing.assert_allclose(session.run(["pmf"], {"images": images.numpy()})[0], wanted, atol=1e-5)


def test_a_scalar_head_becomes_a_gaussian_about_its_corrected_age() -> None:
    correction = AgeCorrection(kind="affine", points=((0.0, 5.0), (100.0, 95.0)))
    weights, biases = _head(4).corrected(correction).softmax()
    features = np.float32([[1, 2, 3, 4]])
    age = 5.0 + 0.9 * (features[0] @ _head(4).weight + 40.0)
    pmf = torch.softmax(torch.from_numpy(features @ weights.T + biases), dim=-1).numpy()
    assert float(expected_age(pmf)[0]) == pytest.approx(age, abs=0.01)
    assert float((pmf[0] @ (np.arange(101) - age) ** 2) ** 0.5) == pytest.approx(8.0, abs=0.05)


def test_a_network_starts_from_a_foreign_file_with_its_head_and_licence(document: Make) -> None:
    other = TinyXception(SIDE)
    place = document(other, _head())
    net = build(_spec(place))
    assert net.loaded == Loaded(len(other.state_dict()) + 2, head=True)
    for name, tensor in other.state_dict().items():
        assert torch.equal(net.backbone.state_dict()[name], tensor), name
    assert start_named(str(place)) == {"init": "model", "weights": str(place)}
    assert start_named("w.pth") == {"init": "file", "weights": "w.pth"}
    assert not build(_spec(place, head="gaussian")).loaded.head
    (told,) = start_licences(_spec(place)).items()
    assert told[0] == "start faceapi"
    assert told[1].startswith("MIT; its makers name UTKFace")  # what it was trained on goes with it
    assert told[1].endswith("(npm package @vladmandic/face-api, age_gender model)")
    assert weights_digest(_spec(place)) == yaml.safe_load(place.read_text())["sha256"]


def test_a_foreign_file_that_does_not_fit_is_refused(document: Make, tmp_path: Path) -> None:
    place = document(TinyXception(SIDE), _head())
    with pytest.raises(
        InputError, match=r"net.yaml' as lcnet_035 does not fit: tensor 'w0' is \[32, 3, 3, 3\]"
    ):
        build(_spec(place, arch="lcnet_035"))
    narrow = _spec(place, arch="xception_tiny_075")
    with pytest.raises(
        InputError, match=f"does not fit.*refit xception_tiny_075@{SIDE} --init {place} --data"
    ):
        build(narrow)
    with pytest.raises(InputError, match="pixels are normalised in another way"):
        build(_spec(place, pixels="vggface2"))
    with pytest.raises(InputError, match="does not fit xception_tiny: its age comes from 7 features"):
        build(_spec(document(TinyXception(SIDE), _head(7))))
    with pytest.raises(InputError, match="has the SHA-256"):
        check_start(_spec(document(TinyXception(SIDE), _head(), sha256="0" * 64)))
    pair = tmp_path / "pair.yaml"
    members = [{"teacher": "net.yaml"}, {"teacher": "net.yaml"}]
    pair.write_text(
        yaml.safe_dump({"kind": "ensemble", "name": "pair", "members": members}), encoding="utf-8"
    )
    with pytest.raises(InputError, match="is an ensemble: a network starts from one network"):
        check_start(_spec(pair))


@pytest.mark.skipif(not (SHARED / "teachers").is_dir(), reason="needs face-api's file in ../shared")
def test_the_start_answers_as_the_file_of_face_api_does() -> None:
    import onnxruntime
    from PIL import Image

    files = sorted((SHARED / "photos" / "images").glob("*.jpg"))[:3]
    faces = np.stack([np.asarray(Image.open(file).convert("RGB").resize((146, 146))) for file in files])
    images = torch.from_numpy(faces.astype(np.float32)).permute(0, 3, 1, 2)
    told = yaml.safe_load(FACEAPI.read_text(encoding="utf-8"))
    mean = torch.tensor(told["input"]["mean"]).view(1, 3, 1, 1)
    session = onnxruntime.InferenceSession(FACEAPI.parent / told["file"])
    centre = ((images[:, :, 17:129, 17:129] - mean) / 255).numpy()
    wanted = np.concatenate([session.run(["age"], {"images": face[None]})[0] for face in centre])[:, 0]
    with torch.no_grad():  # the age that a head derived from a scalar one means, from its first two logits
        logits = build(_spec(FACEAPI, input_size=146)).eval()(images).double().numpy()
    found = (logits[:, 1] - logits[:, 0]) * told["output"]["spread"] ** 2 + 0.5
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_a_refit_starts_from_the_network_that_holds_the_teachers_or_says_what_else_helps(
    document: Make, tmp_path: Path
) -> None:
    found = starting_network(str(document(TinyXception(146), _head())))
    assert (found.arch, found.input_size, found.init) == ("xception_tiny", 146, "model")
    other = document(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)), _head(4))
    with pytest.raises(InputError, match="cannot be refitted: no architecture of ours.*agesearch calibrate"):
        starting_network(str(other))
