"""Writing a network into a model folder, and loading it again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from agesearch.errors import InputError
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import MANIFEST, WEIGHTS, ModelManifest, library_versions, read_checked
from agesearch.models.zoo import AgeNet, build, untrained
from agesearch.provenance import now
from agesearch.storage import Location


def write_model(
    folder: str | Location, tensors: Mapping[str, Tensor], manifest: ModelManifest
) -> ModelManifest:
    """Write weights, then the manifest (the sign that the model is complete); returns it with the digests."""
    where = Location.of(folder)
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    (where / WEIGHTS).write_bytes(content)
    complete = manifest.model_copy(
        update={
            "files": {**manifest.files, WEIGHTS: hashlib.sha256(content).hexdigest()},
            "created": manifest.created or now(),
            "versions": manifest.versions or library_versions(),
        }
    )
    (where / MANIFEST).write_json(complete.model_dump(mode="json"))
    return complete


def load_net(folder: str | Location) -> AgeNet:
    """The network of a model folder with its weights, on the CPU, in evaluation mode."""
    where = Location.of(folder)
    manifest = read_model_manifest(where)
    content = read_checked(where, WEIGHTS, manifest=manifest)
    net = build(untrained(manifest.model))
    fill(net, content, f"'{where / WEIGHTS}' does not fit {manifest.model.arch}")
    return net.eval()


def fill(net: nn.Module, content: bytes, misfit: str) -> None:
    """Load safetensors bytes into a network; where they are not its tensors, an ``InputError`` says
    ``misfit`` and why.
    """
    try:
        net.load_state_dict(load(content))
    except (RuntimeError, SafetensorError) as error:
        last = (str(error).splitlines() or [""])[-1].strip()
        raise InputError(f"{misfit}: {last}") from error
