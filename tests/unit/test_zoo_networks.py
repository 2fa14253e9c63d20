"""The zoo: names, sizes, starting weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from agesearch.ages import expected_age, gaussian_pmf
from agesearch.errors import InputError
from agesearch.models.architectures import ARCHITECTURES
from agesearch.models.folder import load_net, write_model
from agesearch.models.identity import model_digest
from agesearch.models.manifest import ModelManifest
from agesearch.models.weights import Loaded, load_backbone_file
from agesearch.models.zoo import build, untrained
from agesearch.specs import CropSpec, ModelSpec

SMALL = ModelSpec(arch="lcnet_035", input_size=32)


def test_at_least_fourteen_architectures_of_several_families() -> None:
    assert len(ARCHITECTURES) >= 14
    families = (
        "mobilenetv2",
        "mobilenetv3_small",
        "mobilenetv3_large",
        "mobilenetv4",
        "efficientnet",
        "resnet",
    )
    assert all(any(name.startswith(family) for name in ARCHITECTURES) for family in families)


def test_every_architecture_of_timm_is_known_to_it() -> None:
    import timm

    named = {name for row in ARCHITECTURES.values() if (name := row.timm_name)}
    assert named <= set(timm.list_models())


@pytest.mark.parametrize("arch", ["lcnet_035", "mobilenetv4_conv_small_035"])
def test_images_become_one_logit_an_age(arch: str) -> None:
    net = build(ModelSpec(arch=arch, input_size=64)).eval()
    with torch.no_grad():
        assert net(torch.full((2, 3, 64, 64), 128.0)).shape == (2, 101)
    assert net.parameter_count == sum(p.numel() for p in net.parameters())


def test_a_cut_network_starts_from_the_weights_of_the_whole_one(tmp_path: Path) -> None:
    whole = build(ModelSpec(arch="mobilenetv2_100", input_size=64)).backbone.eval()
    file = tmp_path / "whole.safetensors"
    save_file(whole.state_dict(), file)
    spec = ModelSpec(arch="mobilenetv2_100_cut", input_size=64, init="file", weights=str(file))
    cut = build(spec).eval()
    assert cut.loaded.tensors == len(whole.state_dict())
    images = torch.rand(1, 3, 64, 64)
    maps = [net.blocks[:5](net.bn1(net.conv_stem(images))) for net in (whole, cut.backbone)]
    torch.testing.assert_close(*maps)
    assert cut.features(images).shape == (1, 160)
    assert cut.parameter_count < 1.1e6


def test_an_unknown_name_lists_the_known_ones_and_guesses() -> None:
    with pytest.raises(InputError, match=r"Unknown architecture 'resnet81'.*resnet18.*Did you mean"):
        build(ModelSpec(arch="resnet81"))


def test_an_input_too_small_for_the_network_is_refused() -> None:
    with pytest.raises(InputError, match="vgg16 needs an input of at least 224 px, but input_size is 96"):
        build(ModelSpec(arch="vgg16", input_size=96))


def test_normalisation_is_in_the_graph() -> None:
    net = build(SMALL).eval()
    seen: list[torch.Tensor] = []
    net.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    mean = torch.tensor(net.backbone.pretrained_cfg["mean"]).view(1, 3, 1, 1) * 255
    std = torch.tensor(net.backbone.pretrained_cfg["std"]).view(1, 3, 1, 1) * 255
    net(mean.expand(2, 3, 32, 32) + std)
    torch.testing.assert_close(seen[0], torch.ones(2, 3, 32, 32))


def test_grecos_pixels_lose_the_mean_colour_of_vggface2_and_are_not_scaled() -> None:
    net = build(SMALL.model_copy(update={"pixels": "vggface2"})).eval()
    seen: list[torch.Tensor] = []
    net.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pixels = torch.tensor([200.0, 100.0, 50.0]).view(1, 3, 1, 1).expand(2, 3, 32, 32)  # red, green, blue
    net(pixels)
    bgr = seen[0][0, :, 0, 0].flip(0)
    torch.testing.assert_close(bgr, torch.tensor([50 - 91.4953, 100 - 103.8827, 200 - 131.0912]))


#: Millions of numbers as Greco 2021 counts them: batch statistics included, with a head of one unit.
GRECO = {
    "vgg16": (224, 134.3),
    "seresnet50": (224, 26.1),
    "densenet121": (224, 7.0),
    "mobilenetv2_100": (224, 2.3),
    "mobilenetv2_075": (96, 1.4),
    "mobilenetv3_large_100": (224, 4.2),
    "mobilenetv3_small_100": (224, 1.5),
}


@pytest.mark.parametrize("arch", sorted(GRECO))
def test_the_networks_of_greco_have_the_published_sizes(arch: str) -> None:
    size, millions = GRECO[arch]
    with torch.device("meta"):
        net = build(ModelSpec(arch=arch, input_size=size, head="clipped"))
    numbers = [tensor.numel() for tensor in net.state_dict().values() if tensor.is_floating_point()]
    assert round(sum(numbers) / 1e6, 1) == millions
    if arch == "vgg16":  # the head sits on fc2
        assert net.head.linear.in_features == 4096  # type: ignore[union-attr]
        assert net.backbone.pre_logits.fc2.out_channels == 4096  # type: ignore[union-attr]


def test_a_head_started_from_a_prior_answers_about_it() -> None:
    net = build(SMALL).eval()
    prior = gaussian_pmf(40.0, 8.0)
    net.head.start_from(prior)
    with torch.no_grad():
        pmf = torch.softmax(net(torch.rand(1, 3, 32, 32) * 255), dim=-1).numpy()[0]
    assert float(expected_age(pmf)) == pytest.approx(40.0, abs=2.0)


def test_the_seed_decides_the_weights() -> None:
    nets = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        nets.append(build(SMALL).head.linear.weight)  # type: ignore[union-attr]
    assert torch.equal(nets[0], nets[1])
    assert not torch.equal(nets[0], nets[2])


def test_weights_are_matched_by_name_from_an_agenet(tmp_path: Path) -> None:
    source = build(SMALL)
    save_file(source.state_dict(), tmp_path / "a.safetensors")
    spec = ModelSpec(arch="lcnet_035", init="file", weights=str(tmp_path / "a.safetensors"))
    copy = build(spec)
    assert torch.equal(copy.backbone.conv_stem.weight, source.backbone.conv_stem.weight)  # type: ignore[union-attr,arg-type]
    assert untrained(spec).weights is None


def _folder(where: Path, spec: ModelSpec = SMALL) -> str:
    net = build(spec)
    torch.nn.init.normal_(net.head.linear.weight)  # type: ignore[union-attr,arg-type]
    write_model(str(where), net.state_dict(), ModelManifest(kind="trial", model=spec, crop=CropSpec()))
    return str(where)


def test_a_network_starts_from_a_model_folder_with_its_head(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "m")
    spec = ModelSpec(arch="lcnet_035", input_size=48, init="model", weights=folder, dropout=0.2)
    net = build(spec)
    source = load_net(folder).state_dict()
    assert net.loaded == Loaded(len(source), head=True)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, source[name]), name


def test_another_head_starts_fresh_on_the_backbone_of_a_model_folder(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "m")
    net = build(ModelSpec(arch="lcnet_035", init="model", weights=folder, head="groups"))
    source = load_net(folder)
    assert net.loaded == Loaded(len(source.backbone.state_dict()), head=False)
    assert torch.equal(net.backbone.conv_stem.weight, source.backbone.conv_stem.weight)  # type: ignore[union-attr,arg-type]
    assert net.head.linear.out_features == 8  # type: ignore[union-attr]
    other = ModelSpec(arch="lcnet_035", head="groups", groups=((0, 30), (31, 60), (61, 100)))
    halves = other.model_copy(update={"groups": ((0, 40), (41, 80), (81, 100))})
    start = halves.model_copy(update={"init": "model", "weights": _folder(tmp_path / "g", other)})
    assert not build(start).loaded.head  # as many groups, but others


@pytest.mark.parametrize(
    ("arch", "wide", "is_pruned"),
    [
        ("xception_tiny_050", "xception_tiny", True),
        ("xception_tiny_050", "lcnet_035", False),
        ("lcnet_035", "xception_tiny", False),
    ],
)
def test_a_narrower_network_is_told_how_it_is_pruned_from_a_wide_one(
    arch: str, wide: str, is_pruned: bool, tmp_path: Path
) -> None:
    folder = _folder(tmp_path / "m", ModelSpec(arch=wide, input_size=48))
    with pytest.raises(InputError, match=f"is a {wide}, but the network to start is a {arch}") as told:
        build(ModelSpec(arch=arch, input_size=48, init="model", weights=folder))
    assert (f"agesearch refit {arch}@48 --init {folder}" in str(told.value)) == is_pruned


def test_a_model_folder_that_is_damaged_or_of_another_network_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "m")
    with pytest.raises(InputError, match="is a lcnet_035, but the network to start is a lcnet_100"):
        build(ModelSpec(arch="lcnet_100", init="model", weights=folder))
    weights = tmp_path / "m" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="is damaged: its SHA-256"):
        build(ModelSpec(arch="lcnet_035", init="model", weights=folder))


def test_a_model_folder_of_other_pixels_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "m")
    with pytest.raises(InputError, match="learnt from pixels: imagenet, .* has pixels: vggface2"):
        build(ModelSpec(arch="lcnet_035", init="model", weights=folder, pixels="vggface2"))


def test_the_digest_of_a_model_tells_pixels_and_the_clipped_width_apart(tmp_path: Path) -> None:
    clipped = SMALL.model_copy(update={"head": "clipped"})
    tensors = build(clipped).state_dict()
    digests = set()
    for index, changes in enumerate(({}, {"head_sigma": 3.0}, {"pixels": "vggface2"})):
        spec = clipped.model_copy(update=changes)
        manifest = ModelManifest(kind="trial", model=spec, crop=CropSpec())
        write_model(str(tmp_path / str(index)), tensors, manifest)
        digests.add(model_digest(str(tmp_path / str(index))))
    assert len(digests) == 3


def test_the_digest_of_a_model_tells_its_groups_apart(tmp_path: Path) -> None:
    halves = SMALL.model_copy(update={"head": "groups", "groups": ((0, 50), (51, 100))})
    thirds = halves.model_copy(update={"groups": ((0, 33), (34, 100))})
    tensors = build(halves).state_dict()
    digests = set()
    for name, spec in (("a", halves), ("b", thirds)):
        write_model(str(tmp_path / name), tensors, ModelManifest(kind="trial", model=spec, crop=CropSpec()))
        digests.add(model_digest(str(tmp_path / name)))
    assert len(digests) == 2


def test_weights_are_matched_by_order_without_classifier(tmp_path: Path) -> None:
    source = build(SMALL).backbone.state_dict()
    renamed = {
        f"stage{index}.{name.rsplit('.', maxsplit=1)[-1]}": tensor
        for index, (name, tensor) in enumerate(source.items())
    }
    renamed["classifier.weight"] = torch.zeros(10, 4)
    torch.save(renamed, tmp_path / "other.pth")
    target = build(SMALL).backbone
    assert load_backbone_file(target, str(tmp_path / "other.pth"), "lcnet_035") == len(source)
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, source[name])


def test_weights_that_do_not_fit_name_the_tensor(tmp_path: Path) -> None:
    save_file(build(SMALL).backbone.state_dict(), tmp_path / "small.safetensors")
    spec = ModelSpec(arch="lcnet_100", init="file", weights=str(tmp_path / "small.safetensors"))
    with pytest.raises(InputError, match=r"'conv_stem.weight' is \[8, 3, 3, 3\].*\[16, 3, 3, 3\]"):
        build(spec)


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must never run",)


@pytest.mark.parametrize("content", [{"w": _Payload()}, {"epoch": 3}, [1, 2]])
def test_a_file_with_anything_but_tensors_is_refused(tmp_path: Path, content: object, capsys) -> None:  # type: ignore[no-untyped-def]
    torch.save(content, tmp_path / "bad.pth")
    with pytest.raises(InputError, match="expected tensors by name"):
        build(ModelSpec(arch="lcnet_035", init="file", weights=str(tmp_path / "bad.pth")))
    assert capsys.readouterr().out == ""


def test_missing_and_damaged_weights_are_told(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    for name, message in (("none.pth", "no weights file"), ("w.safetensors", "not a safetensors file")):
        with pytest.raises(InputError, match=message):
            build(ModelSpec(arch="lcnet_035", init="file", weights=str(tmp_path / name)))


def test_a_download_without_network_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def offline(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr("agesearch.models.zoo.pretrained_file", lambda _: None)  # its host has answered
    with pytest.raises(InputError, match="could not be downloaded.*check the network"):
        build(ModelSpec(arch="lcnet_035", init="pretrained"))


def test_torchvision_weights_give_the_same_features(shared: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    file = shared / "backbones" / "mobilenet_v2-b0353104.pth"
    net = build(ModelSpec(arch="mobilenetv2_100", input_size=64, init="file", weights=str(file))).eval()
    original = torchvision.models.mobilenet_v2()
    original.load_state_dict(torch.load(file, weights_only=True))
    images = torch.from_numpy(np.random.default_rng(0).uniform(-2, 2, (1, 3, 64, 64)).astype(np.float32))
    with torch.no_grad():
        ours = net.backbone(images)
        theirs = original.eval().features(images).mean(dim=(2, 3))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_efficientnet_lite_weights_recognise_what_portraits_show(shared: Path) -> None:
    """ImageNet's own classifier on our features: official portraits show suits (834) and ties (906)."""
    cv2 = pytest.importorskip("cv2")
    file = shared / "backbones" / "efficientnet-lite0-57934424.pth"
    net = build(ModelSpec(arch="efficientnet_lite0", input_size=224, init="file", weights=str(file))).eval()
    tensors = torch.load(file, weights_only=True)
    portraits = sorted((shared / "photos" / "images").glob("A0*.jpg"))[:3]
    images = np.stack([cv2.resize(cv2.imread(str(path)), (224, 224))[..., ::-1] for path in portraits])
    with torch.no_grad():
        features = net.features(torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2))
        classes = (features @ tensors["_fc.weight"].T + tensors["_fc.bias"]).topk(5).indices
    assert sum(bool({834, 906} & set(row.tolist())) for row in classes) >= 2
