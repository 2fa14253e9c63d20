"""Reading weights into a network: from a model folder, safetensors, or a ``.pth`` state dict read with
``weights_only``.

A file's tensors are matched by name; where the names differ (torchvision against timm), by order and shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import Tensor, nn

from agesearch.errors import InputError
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import MAX_WEIGHTS_BYTES, WEIGHTS, read_checked
from agesearch.specs import ModelSpec

_HEAD = "head."
_CLASSIFIER_PARTS = frozenset({"classifier", "fc", "_fc", "head", "linear"})

StateDict = dict[str, Tensor]


@dataclass(frozen=True)
class Loaded:
    """What was read into a network: the number of its tensors, and whether its head is among them."""

    tensors: int = 0
    head: bool = False


def read_state_dict(path: str | Path) -> StateDict:
    """Named tensors of a ``.safetensors`` or ``.pth``/``.pt`` file; nothing else in it is ever run."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"There is no weights file '{file}'.")
    if file.stat().st_size > MAX_WEIGHTS_BYTES:
        raise InputError(f"The weights file '{file}' is larger than {MAX_WEIGHTS_BYTES // 1024**3} GiB.")
    try:
        if file.suffix == ".safetensors":
            return dict(load_file(str(file)))
        content = torch.load(file, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise InputError(f"'{file}' is not a safetensors file: {error}") from error
    except Exception as error:
        # torch reports a bad archive, a pickle with code and an empty file as unrelated kinds of error.
        raise InputError(
            f"'{file}' is not a PyTorch state dict that can be read safely ({type(error).__name__}): "
            "expected tensors by name, and nothing else."
        ) from error
    return _tensors(content, file)


def load_backbone_file(backbone: nn.Module, path: str, arch: str) -> int:
    """Load a weights file into a backbone without classifier; returns how many tensors were loaded.

    The file may hold an ``AgeNet`` (its head is left out), a timm model, or another library's model with the
    same tensors in the same order. A tensor that does not fit is an ``InputError`` that names it.
    """
    tensors = read_state_dict(path)
    if any(name.startswith("backbone.") for name in tensors):
        tensors = {
            name.removeprefix("backbone."): tensor
            for name, tensor in tensors.items()
            if name.startswith("backbone.")
        }
    wanted = backbone.state_dict()
    matched = _by_name(wanted, tensors) or _by_order(wanted, tensors, f"'{path}' as {arch}")
    for name, tensor in matched.items():
        if tensor.shape != wanted[name].shape:
            raise InputError(
                f"'{path}' does not fit {arch}: tensor '{name}' is {_shape(tensor)} there, "
                f"but the architecture has {_shape(wanted[name])}."
            )
    backbone.load_state_dict(matched)
    return len(matched)


def load_model_tensors(net: nn.Module, folder: str, spec: ModelSpec) -> Loaded:
    """Load the weights of a model folder, digests checked, into a whole network of the same architecture.

    Where the folder's head is another one than ``spec`` asks for, the backbone alone is loaded. A folder of
    another architecture, or tensors that do not fit, are an ``InputError``.
    """
    manifest = read_model_manifest(folder)
    if manifest.model.arch != spec.arch:
        raise InputError(
            f"The model '{folder}' is a {manifest.model.arch}, but the network to start is a {spec.arch}."
        )
    if manifest.model.pixels != spec.pixels:
        raise InputError(
            f"The model '{folder}' learnt from pixels: {manifest.model.pixels}, but the network to start has "
            f"pixels: {spec.pixels}."
        )
    try:
        tensors = load(read_checked(folder, WEIGHTS, manifest=manifest))
    except SafetensorError as error:
        raise InputError(f"'{folder}/{WEIGHTS}' is not a safetensors file: {error}") from error
    with_head = _head_of(manifest.model) == _head_of(spec)
    wanted = {n: t for n, t in net.state_dict().items() if with_head or not n.startswith(_HEAD)}
    for name, tensor in wanted.items():
        found = tensors.get(name)
        if found is None or found.shape != tensor.shape:
            there = "missing" if found is None else _shape(found)
            raise InputError(
                f"'{folder}' does not fit {spec.arch}: tensor '{name}' is {there} there, but the network has "
                f"{_shape(tensor)}."
            )
    net.load_state_dict({name: tensors[name] for name in wanted}, strict=False)
    return Loaded(len(wanted), with_head)


def _head_of(spec: ModelSpec) -> tuple[object, ...]:
    return (spec.head, spec.groups if spec.head == "groups" else None)


def _by_name(wanted: StateDict, tensors: StateDict) -> StateDict | None:
    if any(name not in tensors for name in wanted):
        return None
    return {name: tensors[name] for name in wanted}


def _by_order(wanted: StateDict, tensors: StateDict, what: str) -> StateDict:
    names = [name for name in tensors if not _is_classifier(name)]
    targets = list(wanted)
    if _has_counters(targets) != _has_counters(names):  # files of PyTorch before 0.4.1 have none
        targets = [name for name in targets if not name.endswith("num_batches_tracked")]
        names = [name for name in names if not name.endswith("num_batches_tracked")]
    for target, name in zip(targets, names, strict=False):
        if wanted[target].shape != tensors[name].shape:
            raise InputError(
                f"{what} does not fit: tensor '{name}' is {_shape(tensors[name])}, "
                f"but '{target}' in its place is {_shape(wanted[target])}."
            )
    if len(targets) != len(names):
        raise InputError(
            f"{what} does not fit: the file has {len(names)} backbone tensors, "
            f"but the architecture has {len(targets)}."
        )
    matched = {target: tensors[name] for target, name in zip(targets, names, strict=True)}
    return {name: matched.get(name, tensor) for name, tensor in wanted.items()}


def _has_counters(names: list[str]) -> bool:
    return any(name.endswith("num_batches_tracked") for name in names)


def _is_classifier(name: str) -> bool:
    return name.split(".")[0] in _CLASSIFIER_PARTS


def _tensors(content: object, file: Path) -> StateDict:
    for key in ("state_dict", "model", "state_dict_ema"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"'{file}' holds no state dict: expected tensors by name.")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))
