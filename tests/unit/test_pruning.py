"""Channels pruned by least squares: what is told twice is not missed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from agesearch.models.architectures import poolings_of
from agesearch.models.backbones.xception import TinyXception
from agesearch.models.zoo import AgeNet, build
from agesearch.specs import ModelSpec
from agesearch.training.refit import run as refitting
from agesearch.training.refit.pruning import kept_channels, narrowed

DRAWN = np.random.default_rng(1)
DRAW = torch.Generator().manual_seed(0)
CROPS = list(np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), dtype=np.uint8))


def test_a_channel_that_others_tell_goes_first_and_costs_nothing() -> None:
    channels = torch.randn(200, 4, generator=DRAW, dtype=torch.float64)
    channels = torch.cat([channels, 2 * channels[:, :1] - channels[:, 3:]], dim=1)
    weight = torch.randn(3, 5, generator=DRAW, dtype=torch.float64)
    stay, solved = kept_channels(channels.T.cov(), weight, 4)
    assert set(stay) < set(range(5))
    assert {1, 2} < set(stay), "nothing else tells these"
    torch.testing.assert_close(channels[:, stay] @ solved.T, channels @ weight.T, rtol=1e-3, atol=1e-3)


def test_weights_make_up_for_what_is_taken_away() -> None:
    channels = torch.randn(300, 8, generator=DRAW, dtype=torch.float64) @ torch.randn(
        8, 8, generator=DRAW, dtype=torch.float64
    )
    weight = torch.randn(3, 8, generator=DRAW, dtype=torch.float64)
    centred = channels - channels.mean(0)
    stay, solved = kept_channels(channels.T.cov(), weight, 5)
    wanted = centred @ weight.T
    error, naive = (((centred[:, stay] @ each.T - wanted) ** 2).sum() for each in (solved, weight[:, stay]))
    least = centred[:, stay] @ torch.linalg.lstsq(centred[:, stay], wanted).solution
    best = ((least - wanted) ** 2).sum()
    assert error < naive / 2
    torch.testing.assert_close(error, best, rtol=1e-3, atol=1e-6)


def wide_and_redundant() -> AgeNet:
    """Inside each block, the second half of the channels is the first once more."""
    torch.manual_seed(0)
    net = build(ModelSpec(arch="xception_tiny", input_size=48)).eval()
    tensors = net.backbone.state_dict()
    for made, between, _ in net.backbone.inside():  # type: ignore[operator,union-attr]
        for name in (f"{made}.weight", f"{made}.bias", f"{between}.weight"):
            half = len(tensors[name]) // 2
            tensors[name][half:] = tensors[name][:half]
    net.backbone.load_state_dict(tensors)
    return net


def test_a_redundant_network_is_narrowed_to_one_that_answers_alike() -> None:
    net = wide_and_redundant()
    narrow = narrowed(net, "xception_tiny_050", [CROPS[:2], CROPS[2:]])
    images = torch.from_numpy(np.stack(CROPS)).permute(0, 3, 1, 2).float()
    assert narrow.parameter_count < 0.75 * net.parameter_count
    with torch.inference_mode():
        wanted, found = net.features(images), narrow.features(images)
    torch.testing.assert_close(found, wanted, rtol=1e-2, atol=1e-3 * float(wanted.abs().max()))
    same = build(ModelSpec(arch="xception_tiny_050", input_size=48))
    same.load_state_dict(narrow.state_dict())


def test_the_centred_of_the_last_map_is_told_beside_the_whole_of_it_by_the_same_tensors() -> None:
    torch.manual_seed(0)
    whole = build(ModelSpec(arch="xception_tiny", input_size=146)).eval()
    centred = build(ModelSpec(arch="xception_tiny_centred", input_size=146)).eval()
    centred.load_state_dict(whole.state_dict())
    images = torch.from_numpy(DRAWN.integers(0, 256, (2, 3, 146, 146))).float()
    with torch.inference_mode():
        both = whole.poolings(images)
        torch.testing.assert_close(both[:, 0], whole.features(images))
        torch.testing.assert_close(both[:, 1], centred.features(images))
        assert not torch.allclose(both[:, 0], both[:, 1], rtol=0.01)
        torch.testing.assert_close(centred.poolings(images), both[:, 1:])
        other = build(ModelSpec(arch="lcnet_035", input_size=48)).eval()
        assert other.poolings(images[..., :48, :48]).shape == (2, 1, 1280)
        maps = torch.ones(1, 512, 7, 7)
        maps[..., 3], maps[..., 0] = 7.0, 1e-3
        told = float(centred.backbone._about_middle(maps)[0, 0])  # type: ignore[operator]
        assert float(maps.mean()) < 1.8 < 2.2 < told
    assert poolings_of("xception_tiny_075") == ("xception_tiny_075", "xception_tiny_075_centred")
    assert poolings_of("xception_tiny_centred") == ("xception_tiny_centred",)


def test_a_share_of_the_channels_is_kept_in_sixteens() -> None:
    net = TinyXception(48, 0.875)
    made = [net.get_submodule(layers[0]) for layers in net.inside()]
    assert [layer.out_channels for layer in made] == [64, 112, 224, 112, 112, 112, 112]


@pytest.mark.parametrize(
    ("arch", "start", "of", "wide"),
    [
        ("xception_tiny_050", "teacher.yaml", "", "xception_tiny"),
        ("xception_tiny_050", "folder", "xception_tiny", "xception_tiny"),
        ("xception_tiny_050", "folder", "xception_tiny_050", None),
        ("xception_tiny_050_centred", "folder", "xception_tiny_050", None),
        ("xception_tiny", "teacher.yaml", "", None),
    ],
)
def test_only_a_wider_start_is_pruned(
    arch: str, start: str, of: str, wide: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = SimpleNamespace(model=SimpleNamespace(arch=of))
    monkeypatch.setattr(refitting, "read_model_manifest", lambda _: known)
    found = refitting._wide(ModelSpec(arch=arch, input_size=48, init="model", weights=start))
    assert (found and found.arch) == wide
