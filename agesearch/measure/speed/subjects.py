"""What ``measure speed`` times: a model at a place, or an architecture of the zoo without weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from agesearch.measure.speed.gate import Gate
from agesearch.measure.speed.hardware import hardware_name
from agesearch.measure.speed.latency_table import int8_for_time_alone, untrained_onnx
from agesearch.models.architectures import Network
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import ModelManifest
from agesearch.models.predictors import folder_int8
from agesearch.models.scorers import OnnxScorer, Scorer, scorer_of
from agesearch.specs import NEWEST_CROP_RECIPE, CropSpec, ModelSpec
from agesearch.storage import Location

if TYPE_CHECKING:
    from agesearch.models.zoo import AgeNet


@dataclass(frozen=True)
class Subject:
    """A model under measurement; ``crop`` is how its faces are cut, ``gates`` what is known of its answers on
    the engines of this machine, ``manifest`` what it says of itself (None: it has no weights).
    """

    name: str
    arch: str
    scorer: Scorer
    crop: CropSpec
    gates: tuple[Gate, ...] = ()
    manifest: ModelManifest | None = None

    def with_int8(self) -> Subject:
        """The same with an int8 network, where it has none: from ranges of noise, so good for its time and
        for nothing else. Raises ``AgeSearchError`` where it cannot be quantised.
        """
        return replace(self, scorer=self.scorer.with_int8(int8_for_time_alone))


def subject_at(name: str, place: Location, crop: CropSpec | None = None) -> Subject:
    """The model folder or foreign document at a place; ``crop`` is how the faces that it shall score
    are cropped. Its gates are those that it was published with, where that was on this kind of machine.
    """
    manifest, scorer = read_model_manifest(place), scorer_of(place, crop)
    int8 = folder_int8(place, manifest)
    if int8 is not None:
        scorer = scorer.with_int8(lambda _: int8)
    gates = [Gate(**row) for row in manifest.precisions]
    here = tuple(gate for gate in gates if gate.hardware == hardware_name())
    return Subject(name, manifest.model.arch, scorer, manifest.crop, here, manifest)


def untrained_subject(name: str) -> Subject | None:
    """``ARCH@SIZE``, such as ``vgg16@224``, as a network with random weights; None for another name."""
    network = Network.named(name)
    if network is None:
        return None
    scorer = untrained_scorer(network.model())
    return Subject(name, network.arch, scorer, CropSpec(recipe=NEWEST_CROP_RECIPE))


def untrained_scorer(model: ModelSpec) -> OnnxScorer:
    """The network of a model with random weights, which take as long as any."""
    return OnnxScorer(untrained_onnx(model), model.input_size, net=partial(_untrained, model))


def _untrained(model: ModelSpec) -> AgeNet:
    from agesearch.models.zoo import build, untrained

    return build(untrained(model))
