"""An order teacher: a backbone with one score a face, which sorts faces by age; and its folder.

The folder holds ``order.json`` and ``weights.safetensors``. It gives no age distributions, so it is no
teacher for ``agesearch tune --teacher``: what a student can learn from it are its features (Zhao 2020).
"""

from __future__ import annotations

import hashlib
from typing import Literal

import torch
from pydantic import Field
from safetensors.torch import save
from torch import Tensor, nn

from agesearch.artefacts import ORDER_TEACHER, not_one
from agesearch.models.folder import fill
from agesearch.models.manifest import ORDER_MANIFEST, WEIGHTS, library_versions, read_known
from agesearch.models.zoo import AgeNet, build, untrained
from agesearch.provenance import now
from agesearch.specs import CropSpec, ModelSpec, OrderTrainSpec, SharedRecord, digest_of, parse_spec
from agesearch.storage import Location

ORDER = ORDER_MANIFEST


class OrderManifest(SharedRecord):
    """What an order teacher is, how it was made, and how well it sorts the validation faces."""

    kind: Literal["order"] = "order"
    model: ModelSpec
    crop: CropSpec
    train: OrderTrainSpec
    metrics: dict[str, float]
    parameters: int
    data_digest: str
    spec_digest: str
    created: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)


class OrderNet(nn.Module):
    """``float32 [B, 3, S, S]`` RGB in 0..255 -> one score a face ``[B]``, greater for older faces."""

    scale: Tensor
    shift: Tensor

    def __init__(self, net: AgeNet, features: int) -> None:
        super().__init__()
        self.backbone = net.backbone
        self.score = nn.Linear(features, 1)
        self.register_buffer("scale", net.scale, persistent=False)
        self.register_buffer("shift", net.shift, persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """The pooled penultimate features ``[B, F]``: what a student is given as hints."""
        features: Tensor = self.backbone(images * self.scale + self.shift)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Images -> scores ``[B]``."""
        scores: Tensor = self.score(self.features(images)).squeeze(-1)
        return scores


def build_order(spec: ModelSpec) -> OrderNet:
    """A network with the backbone weights that ``spec.init`` asks for; see ``zoo.build`` for the errors."""
    net = build(spec)
    training = net.training
    with torch.no_grad():
        width = net.eval().features(torch.zeros(1, 3, spec.input_size, spec.input_size)).shape[1]
    net.train(training)
    return OrderNet(net, width)


def is_order_teacher(folder: str | Location) -> bool:
    """Whether a folder holds an order teacher."""
    return (Location.of(folder) / ORDER).exists()


def write_order(folder: Location, net: dict[str, Tensor], manifest: OrderManifest) -> OrderManifest:
    """Write the weights, then the manifest (the sign that the teacher is complete)."""
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in net.items()})
    (folder / WEIGHTS).write_bytes(content)
    complete = manifest.model_copy(
        update={
            "files": {WEIGHTS: hashlib.sha256(content).hexdigest()},
            "created": now(),
            "versions": library_versions(),
        }
    )
    (folder / ORDER).write_json(complete.model_dump(mode="json"))
    return complete


def read_order_manifest(folder: str | Location) -> OrderManifest:
    """The manifest of an order teacher; an ``InputError`` says where none is, or what is wrong with it."""
    where = Location.of(folder)
    if not is_order_teacher(where):
        raise not_one(where, ORDER_TEACHER, ORDER)
    return parse_spec(OrderManifest, (where / ORDER).read_json(), str(where / ORDER))


def load_order(folder: str | Location) -> OrderNet:
    """The network of an order teacher with its weights, on the CPU, in evaluation mode."""
    where = Location.of(folder)
    manifest = read_order_manifest(where)
    content = read_known(where / WEIGHTS, manifest.files.get(WEIGHTS), ORDER)
    net = build_order(untrained(manifest.model))
    fill(net, content, f"'{where / WEIGHTS}' does not fit {manifest.model.arch}")
    return net.eval()


def order_digest(folder: str | Location) -> str:
    """16 hex digits that name what an order teacher computes: architecture, input size, crop and weights."""
    manifest = read_order_manifest(folder)
    model = {"arch": manifest.model.arch, "input_size": manifest.model.input_size}
    return digest_of(["order", model, manifest.crop.model_dump(mode="json"), manifest.files.get(WEIGHTS, "")])
