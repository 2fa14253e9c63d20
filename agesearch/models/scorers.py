"""A model as it travels to whoever scores or times it: bytes and settings, no open session.

``scorer_of`` makes one from a model folder, a foreign teacher's manifest, or an ensemble's. A scorer can be
pickled, so Ray's workers and other processes open it themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from agesearch.ages import FloatArray
from agesearch.errors import InputError, first_line
from agesearch.models.calibration.correction import AgeCorrection
from agesearch.models.calibration.record import Calibration
from agesearch.models.foreign.document import (
    CalibratedTeacher,
    OnnxTeacher,
    is_teacher_file,
    members_of,
    read_teacher_file,
)
from agesearch.models.foreign.network import ForeignPredictor, crop_share, read_onnx
from agesearch.models.foreign.to_pmf import mixture
from agesearch.models.identity import calibrated_digest, read_model_manifest
from agesearch.models.manifest import WEIGHTS, folder_calibration
from agesearch.models.onnx import INPUT_NAME
from agesearch.models.predictors import (
    CorrectedPredictor,
    OnnxPredictor,
    Predictor,
    TorchPredictor,
    folder_onnx,
)
from agesearch.models.prepare import Images
from agesearch.models.runtimes import torch_cuda
from agesearch.models.runtimes.engines import DEFAULT, INT8, TORCH_CUDA, Engine, why_not
from agesearch.models.runtimes.sessions import Layers, executed, open_engine
from agesearch.specs import CropSpec
from agesearch.storage import Location

if TYPE_CHECKING:
    from agesearch.models.zoo import AgeNet

Call = Callable[[], Any]
#: A network -> the same in int8, as ONNX bytes.
Quantise = Callable[["OnnxScorer | ForeignScorer"], bytes]


class Scorer(Protocol):
    """A model that scores faces and can be timed; ``input_size`` is the side of its input in pixels."""

    @property
    def input_size(self) -> int:
        """The side of the network's input in pixels (of an ensemble: its largest)."""
        ...

    def open(self, threads: int = 1, engine: Engine = DEFAULT) -> Predictor:
        """The model ready to score, with so many threads."""
        ...

    def call(self, threads: int, batch: int, engine: Engine = DEFAULT) -> Call:
        """One run of the network alone on ``batch`` random faces, for timing."""
        ...

    def networks(self, engine: Engine = DEFAULT) -> list[bytes]:
        """The ONNX networks that an engine loads: as a rule one."""
        ...

    def layers(self, engine: Engine) -> Layers:
        """How many layers there are, and how many run in the engine's precision."""
        ...

    def with_int8(self, make: Quantise) -> Self:
        """The same with an int8 network beside each that has none; ``make`` is given the network."""
        ...


@dataclass(frozen=True)
class OnnxScorer:
    """A network of ours: its ONNX bytes, the side of its input in pixels, the bytes of its int8 form, and
    ``net``, which gives the network in torch (None: nobody can) and stays where it was made: workers need
    none, and it knows a place and how to reach it.
    """

    onnx: bytes
    input_size: int
    int8: bytes | None = None
    net: Callable[[], AgeNet] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"net": None}

    def open(self, threads: int = 1, engine: Engine = DEFAULT) -> OnnxPredictor | TorchPredictor:
        """A predictor with a session of its own."""
        if engine.runtime == TORCH_CUDA:
            return TorchPredictor(torch_cuda.on_gpu(self._torch(engine)), self.input_size)
        return OnnxPredictor(_content(self, engine), self.input_size, threads, engine)

    def call(self, threads: int, batch: int, engine: Engine = DEFAULT) -> Call:
        """One run on random faces."""
        if engine.runtime == TORCH_CUDA:
            return torch_cuda.timed_call(self._torch(engine), self.input_size, batch)
        return session_call(open_engine(_content(self, engine), engine, threads), self.input_size, batch)

    def networks(self, engine: Engine = DEFAULT) -> list[bytes]:
        """The network that an engine loads."""
        return [_content(self, engine)]

    def layers(self, engine: Engine) -> Layers:
        """How many layers there are, and how many run in the engine's precision."""
        if engine.runtime == TORCH_CUDA:
            count = torch_cuda.layers_of(self._torch(engine))
            return Layers(count, count)
        return executed(_content(self, engine), engine)

    def _torch(self, engine: Engine) -> AgeNet:
        reason = why_not(engine)
        if reason is not None or self.net is None:
            raise InputError(reason or "The network is known as an ONNX file only.")
        return self.net()

    def with_int8(self, make: Quantise) -> OnnxScorer:
        """The same with an int8 network."""
        return self if self.int8 is not None else replace(self, int8=make(self))


@dataclass(frozen=True)
class ForeignScorer:
    """A foreign teacher: its checked bytes, its manifest, the share of each crop that it looks at, and the
    bytes of its int8 form.
    """

    onnx: bytes
    spec: OnnxTeacher
    share: float
    int8: bytes | None = None

    @property
    def input_size(self) -> int:
        """The side of the network's input in pixels."""
        return self.spec.input.size

    def open(self, threads: int = 1, engine: Engine = DEFAULT) -> ForeignPredictor:
        """A predictor with a session of its own."""
        return ForeignPredictor(_content(self, engine), self.spec, self.share, threads, engine)

    def call(self, threads: int, batch: int, engine: Engine = DEFAULT) -> Call:
        """One run on random faces."""
        return self.open(threads, engine).call(batch)

    def networks(self, engine: Engine = DEFAULT) -> list[bytes]:
        """The network that an engine loads."""
        return [_content(self, engine)]

    def layers(self, engine: Engine) -> Layers:
        """How many layers there are, and how many run in the engine's precision."""
        return executed(_content(self, engine), engine)

    def with_int8(self, make: Quantise) -> ForeignScorer:
        """The same with an int8 network."""
        return self if self.int8 is not None else replace(self, int8=make(self))


@dataclass(frozen=True)
class EnsembleScorer:
    """Several models and their shares, which sum to one."""

    members: tuple[Scorer, ...]
    shares: tuple[float, ...]

    @property
    def input_size(self) -> int:
        """The largest input side of the members in pixels."""
        return max(member.input_size for member in self.members)

    def open(self, threads: int = 1, engine: Engine = DEFAULT) -> EnsemblePredictor:
        """All members, opened."""
        return EnsemblePredictor([member.open(threads, engine) for member in self.members], self.shares)

    def call(self, threads: int, batch: int, engine: Engine = DEFAULT) -> Call:
        """One run of every member, one after the other."""
        return partial(_each, [member.call(threads, batch, engine) for member in self.members])

    def networks(self, engine: Engine = DEFAULT) -> list[bytes]:
        """Those of all members."""
        return [each for member in self.members for each in member.networks(engine)]

    def layers(self, engine: Engine) -> Layers:
        """Those of all members."""
        found = [member.layers(engine) for member in self.members]
        return Layers(sum(each.count for each in found), sum(each.as_asked for each in found))

    def with_int8(self, make: Quantise) -> EnsembleScorer:
        """The same with an int8 network for each member."""
        return replace(self, members=tuple(member.with_int8(make) for member in self.members))


class EnsemblePredictor:
    """The mixture of what several models say (``to_pmf.mixture``)."""

    def __init__(self, members: Sequence[Predictor], shares: Sequence[float]) -> None:
        self.input_size = max(member.input_size for member in members)
        self._members, self._shares = members, shares

    def pmf(self, images: Images | Sequence[Images]) -> FloatArray:
        """RGB crops of any size -> PMFs ``float32 [N, 101]``."""
        return mixture([member.pmf(images) for member in self._members], self._shares)


@dataclass(frozen=True)
class CorrectedScorer:
    """A model with an age correction, which costs no time to speak of."""

    scorer: Scorer
    correction: AgeCorrection

    @property
    def input_size(self) -> int:
        """The side of the model's input in pixels."""
        return self.scorer.input_size

    def open(self, threads: int = 1, engine: Engine = DEFAULT) -> CorrectedPredictor:
        """The model ready to score, its ages corrected."""
        return CorrectedPredictor(self.scorer.open(threads, engine), self.correction)

    def call(self, threads: int, batch: int, engine: Engine = DEFAULT) -> Call:
        """One run of the network alone on random faces."""
        return self.scorer.call(threads, batch, engine)

    def networks(self, engine: Engine = DEFAULT) -> list[bytes]:
        """Those of the model."""
        return self.scorer.networks(engine)

    def layers(self, engine: Engine) -> Layers:
        """Those of the model."""
        return self.scorer.layers(engine)

    def with_int8(self, make: Quantise) -> CorrectedScorer:
        """The same with an int8 network."""
        return replace(self, scorer=self.scorer.with_int8(make))


def scorer_of(where: str | Location, crop: CropSpec | None = None, depth: int = 0) -> Scorer:
    """The model at a place: a folder, or a teacher's document.

    ``crop`` is how the faces to be scored were cropped, which foreign teachers need; None: as each teacher
    wants them. Raises ``InputError`` for a model that cannot be opened, and for crops narrower than a teacher
    wants.
    """
    if not is_teacher_file(where):
        manifest = read_model_manifest(where)
        net = partial(_net_of, where) if WEIGHTS in manifest.files else None
        network = OnnxScorer(folder_onnx(where, manifest), manifest.model.input_size, net=net)
        return _corrected(network, folder_calibration(where, manifest))
    spec = read_teacher_file(where)
    if isinstance(spec, OnnxTeacher):
        scorer = ForeignScorer(read_onnx(where, spec), spec, crop_share(spec, crop))
        scorer.open()  # says now what of the manifest does not fit the file
        return scorer
    if isinstance(spec, CalibratedTeacher):
        calibrated_digest(where, spec, depth)  # refuses another model than was calibrated
        [model] = members_of(where, spec, depth)
        return _corrected(scorer_of(model, crop, depth + 1), spec.calibration)
    members = tuple(scorer_of(member, crop, depth + 1) for member in members_of(where, spec, depth))
    return EnsembleScorer(members, tuple(spec.shares()))


def _net_of(where: str | Location) -> AgeNet:
    from agesearch.models.folder import load_net

    return load_net(where)


def _corrected(scorer: Scorer, calibration: Calibration | None) -> Scorer:
    if calibration is None or calibration.correction is None:
        return scorer
    return CorrectedScorer(scorer, calibration.correction)


def session_call(session: Any, input_size: int, batch: int) -> Call:
    """One run of a network of ours on ``batch`` random faces, for timing."""
    shape = (batch, 3, input_size, input_size)
    images = np.random.default_rng(0).integers(0, 256, size=shape).astype(np.float32)
    return partial(session.run, None, {INPUT_NAME: images})


def fault(scorer: Scorer, engine: Engine) -> str | None:
    """Why a model does not run on an engine; None where it does. Some networks are opened, and fail once they
    are run.
    """
    try:
        scorer.call(1, 1, engine)()
    except Exception as error:  # the kinds of the runtimes share no base
        return first_line(error).rstrip(".")
    return None


def int8_of(scorer: Scorer) -> bytes | None:
    """The int8 network of a model; None where it has none, or is an ensemble."""
    if isinstance(scorer, CorrectedScorer):
        return int8_of(scorer.scorer)
    return scorer.int8 if isinstance(scorer, OnnxScorer | ForeignScorer) else None


def _content(scorer: OnnxScorer | ForeignScorer, engine: Engine) -> bytes:
    """The network that an engine runs."""
    content = scorer.int8 if engine.precision == INT8 else scorer.onnx
    if content is None:
        raise InputError("This model has no int8 network: publish it, which makes one where it is as good.")
    return content


def _each(calls: Sequence[Call]) -> None:
    for call in calls:
        call()
