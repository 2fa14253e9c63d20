"""Reading weights into a network: from a model folder, the document of a foreign teacher, safetensors, or a
``.pth`` state dict read with ``weights_only``.

A file's tensors are matched by name; where the names differ (torchvision against timm), by order and shape.
Pretrained weights come from timm's publishers. The hub's client tries for minutes to reach a network that is
not there, so it is asked for only once its host has answered; what lies in its cache needs no network.
"""

from __future__ import annotations

import hashlib
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import Tensor, nn

from agesearch.errors import InputError, command, first_line
from agesearch.models.architectures import WIDE, architecture, evenly_pooled
from agesearch.models.foreign.document import is_teacher_file
from agesearch.models.foreign.start import ForeignWeights, foreign_start, read_foreign_weights
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import MAX_WEIGHTS_BYTES, WEIGHTS, read_checked
from agesearch.specs import ModelSpec

_HEAD = "head."
_CLASSIFIER_PARTS = frozenset({"classifier", "fc", "_fc", "head", "linear"})

#: Seconds in which a download's host must answer.
ANSWER_S = 5.0

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_ELSE = "start from a weights file, --init FILE (in YAML: init: file, weights: FILE)"

StateDict = dict[str, Tensor]


@dataclass(frozen=True)
class Loaded:
    """What was read into a network: the number of its tensors, and whether its head is among them."""

    tensors: int = 0
    head: bool = False


def check_start(spec: ModelSpec) -> None:
    """An ``InputError`` where the weights that a network starts from are not there, and cannot be had now."""
    if spec.init == "pretrained":
        pretrained_file(spec.arch)
    elif spec.init == "file":
        _weights_file(str(spec.weights))
    elif spec.init == "model" and is_teacher_file(str(spec.weights)):
        read_foreign_weights(str(spec.weights))
    elif spec.init == "model":
        read_model_manifest(str(spec.weights))


def pretrained_file(arch: str) -> str | None:
    """The weights of an architecture in the hub's cache; None where they have to be downloaded.

    ``InputError`` where nobody publishes any, or where their host does not answer within seconds.
    """
    import timm

    name = architecture(arch).timm_name
    config: Any = None if name is None else timm.get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url):
        raise InputError(f"Nobody publishes pretrained weights of {arch}: {_ELSE}, or from init: random.")
    cached = _cached(config)
    if cached is None:
        host = _hub() if config.hf_hub_id else str(config.url)
        silence = _silence(host)
        if silence:
            raise InputError(
                f"The pretrained weights of {arch} cannot be downloaded: {host} does not answer ({silence}). "
                f"Connect this machine, or {_ELSE}."
            )
    return cached


def weights_digest(spec: ModelSpec) -> str:
    """The SHA-256 of the weights that a network starts from; nothing where they are drawn or downloaded."""
    if spec.init == "model":
        if is_teacher_file(str(spec.weights)):
            return foreign_start(str(spec.weights))[0].sha256
        return read_model_manifest(str(spec.weights)).files.get(WEIGHTS, "")
    if spec.init != "file":
        return ""
    file = _weights_file(str(spec.weights))
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def start_licences(spec: ModelSpec) -> dict[str, str]:
    """The licences of the model that a network's weights start from, by ``start NAME``; none of its data."""
    if spec.init != "model":
        return {}
    place = str(spec.weights)
    if is_teacher_file(place):
        foreign = foreign_start(place)[0]
        return {f"start {foreign.name}": f"{foreign.licence} ({foreign.source or foreign.name})"}
    return {name: text for name, text in read_model_manifest(place).licences.items() if name != "data"}


def read_state_dict(path: str | Path) -> StateDict:
    """Named tensors of a ``.safetensors`` or ``.pth``/``.pt`` file; nothing else in it is ever run."""
    file = _weights_file(path)
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
    if evenly_pooled(manifest.model.arch) != evenly_pooled(spec.arch):
        raise InputError(
            f"The model '{folder}' is a {manifest.model.arch}, but the network to start is a {spec.arch}."
            + _how_pruned(spec, folder, manifest.model.arch)
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


def load_foreign_tensors(net: nn.Module, document: str, spec: ModelSpec) -> Loaded:
    """Load a foreign teacher's convolutions, by order and shape, into the backbone of a network, and into a
    softmax head the layer that its age comes from (``ScalarHead.softmax``).

    A network of other pixels, or whose tensors do not fit, is an ``InputError``.
    """
    found = read_foreign_weights(document)
    backbone: Any = net.backbone
    tensors = {name: torch.from_numpy(tensor) for name, tensor in found.convolutions.items()}
    try:
        matched = _by_order(backbone.state_dict(), tensors, f"'{document}' as {spec.arch}")
    except InputError as error:
        raise InputError(f"{error}{_how_pruned(spec, document)}") from error
    _check_pixels(net, found, document, spec.arch)
    backbone.load_state_dict(matched)
    with_head = found.head is not None and spec.head == "softmax"
    if found.head is not None and with_head:
        head: Any = net.head
        linear = head.linear
        weights, biases = (torch.from_numpy(tensor) for tensor in found.head.softmax())
        if weights.shape != linear.weight.shape:
            raise InputError(
                f"'{document}' does not fit {spec.arch}: its age comes from {weights.shape[1]} features, but "
                f"the network has {linear.weight.shape[1]}."
            )
        linear.load_state_dict({"weight": weights, "bias": biases})
    return Loaded(len(matched) + 2 * with_head, with_head)


def _how_pruned(spec: ModelSpec, start: str, arch: str = WIDE) -> str:
    """What to do where a narrower network was to start from a wide one, whose channels it cannot all take."""
    if evenly_pooled(arch) != WIDE or architecture(spec.arch).kept == 1.0:
        return ""
    how = command("refit", f"{spec.arch}@{spec.input_size}", "--init", start, "--data", "FACES", "--out", "M")
    return f" A narrower network is pruned from a wide one by: {how}"


def _check_pixels(net: nn.Module, found: ForeignWeights, document: str, arch: str) -> None:
    given = found.spec.input
    mean, std = (torch.tensor(value, dtype=torch.float64).expand(3) for value in (given.mean, given.std))
    own = [tensor.double().flatten() for tensor in (net.scale, net.shift)]  # type: ignore[operator]
    theirs = [given.scale / std, -mean / std]
    same = all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(own, theirs, strict=True))
    if given.channels != "rgb" or not same:
        raise InputError(
            f"'{document}' does not fit {arch}: its pixels are normalised in another way (its input: "
            "channels, scale, mean, std)."
        )


def _cached(config: Any) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    if not config.hf_hub_id:
        return None
    names = (config.hf_hub_filename,) if config.hf_hub_filename else _HUB_FILES
    found = [try_to_load_from_cache(config.hf_hub_id, name) for name in names]
    return next((file for file in found if isinstance(file, str)), None)


def _hub() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


@lru_cache(maxsize=8)
def _silence(host: str) -> str:
    """Why a host does not answer; nothing where it does, with whatever status."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    said = [f"no answer in {ANSWER_S:g} s"]

    def ask() -> None:
        try:
            # Through the proxy that the environment names, if any, as the download goes.
            urllib.request.urlopen(urllib.request.Request(host, method="HEAD"), timeout=ANSWER_S).close()
            said[0] = ""
        except urllib.error.HTTPError:
            said[0] = ""
        except (OSError, ValueError) as error:
            said[0] = first_line(getattr(error, "reason", None) or error)

    # A name that no server resolves takes longer than any timeout of a connection.
    thread = threading.Thread(target=ask, name="pretrained weights", daemon=True)
    thread.start()
    thread.join(ANSWER_S)
    return said[0]


def _weights_file(path: str | Path) -> Path:
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"There is no weights file '{file}'.")
    return file


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
