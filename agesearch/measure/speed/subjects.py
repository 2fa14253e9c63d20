"""What ``measure speed`` times: a model at a place, or an architecture of the zoo without weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agesearch.errors import InputError
from agesearch.measure.speed.latency_table import untrained_onnx
from agesearch.models.architectures import ARCHITECTURES
from agesearch.models.foreign.document import is_teacher_file
from agesearch.models.identity import read_model_manifest
from agesearch.models.predictors import folder_int8
from agesearch.models.runtimes.int8 import quantised
from agesearch.models.scorers import ForeignScorer, OnnxScorer, Scorer, scorer_of
from agesearch.specs import CropSpec, ModelSpec
from agesearch.storage import Location

#: Faces of noise that ranges are taken from where a network is quantised for its time alone.
_NOISE_FACES = 8

_UNTRAINED = re.compile(r"(?P<arch>[a-z0-9_]+)@(?P<size>\d+)")


@dataclass(frozen=True)
class Subject:
    """A model under measurement; ``crop`` is how its faces are cut."""

    name: str
    arch: str
    scorer: Scorer
    crop: CropSpec

    def with_int8(self) -> Subject:
        """The same with an int8 network, where it has none: from ranges of noise, so good for its time and
        for nothing else. Raises ``AgeSearchError`` where it cannot be quantised.
        """
        return replace(self, scorer=self.scorer.with_int8(_for_time_alone))


def subject_at(name: str, place: Location) -> Subject:
    """The model folder or foreign teacher's document at a place."""
    manifest, scorer = read_model_manifest(place), scorer_of(place)
    if isinstance(scorer, OnnxScorer) and not is_teacher_file(place):
        scorer = replace(scorer, int8=folder_int8(place, manifest))
    return Subject(name, manifest.model.arch, scorer, manifest.crop)


def untrained_subject(name: str) -> Subject | None:
    """``ARCH@SIZE``, such as ``vgg16@224``, as a network with random weights; None for another name.

    No alias of the registry is a number, so this names no version. Raises ``InputError`` for a side that the
    architecture does not take.
    """
    match = _UNTRAINED.fullmatch(name)
    if match is None or match["arch"] not in ARCHITECTURES:
        return None
    arch, size = match["arch"], int(match["size"])
    least, most = ARCHITECTURES[arch].min_size, 512
    if not least <= size <= most:
        raise InputError(f"'{name}' has an input of {size} px, but {arch} takes {least} to {most}.")
    model = ModelSpec(arch=arch, input_size=size)
    return Subject(name, arch, OnnxScorer(untrained_onnx(model), size), CropSpec())


def noise(count: int, side: int) -> Sequence[np.ndarray]:
    """Faces of noise: RGB ``uint8 [side, side, 3]`` each."""
    shape = (count, side, side, 3)
    return list(np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8))


def _for_time_alone(scorer: OnnxScorer | ForeignScorer) -> bytes:
    opened = scorer.open()
    faces = noise(_NOISE_FACES, scorer.input_size)
    return quantised(scorer.onnx, [opened.feed(face[None]) for face in faces])
