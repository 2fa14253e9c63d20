"""The weights of a foreign teacher, for a network of ours to start from: its convolutions in the order of its
graph, and the linear layer that its age comes from.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from agesearch.ages import AGES, FloatArray
from agesearch.errors import InputError
from agesearch.models.calibration.correction import AgeCorrection
from agesearch.models.foreign.document import (
    CalibratedTeacher,
    EnsembleTeacher,
    OnnxTeacher,
    ScalarOutput,
    is_teacher_file,
    members_of,
    read_teacher_file,
)
from agesearch.models.foreign.network import check_graph, read_onnx
from agesearch.models.identity import calibrated_digest
from agesearch.storage import Location


class ScalarHead(NamedTuple):
    """``age = weight . features + bias`` in years, and the standard deviation to assume of it."""

    weight: FloatArray
    bias: float
    spread: float

    def corrected(self, correction: AgeCorrection) -> ScalarHead:
        """The same, its age corrected by an affine map."""
        (x0, y0), (x1, y1) = correction.points
        slope = (y1 - y0) / (x1 - x0)
        return ScalarHead(self.weight * slope, y0 + (self.bias - x0) * slope, self.spread)

    def softmax(self) -> tuple[FloatArray, FloatArray]:
        """Weights ``[101, F]`` and biases ``[101]`` of a linear layer whose softmax is a Gaussian about the
        age, of width ``spread``: logit k is ``(k age - k^2 / 2) / spread^2``.
        """
        variance = self.spread**2
        weights = AGES[:, None] / variance * self.weight[None]
        return weights.astype(np.float32), ((AGES * self.bias - AGES**2 / 2) / variance).astype(np.float32)


class ForeignWeights(NamedTuple):
    """The document of a network, the tensors of its convolutions by name, in the graph's order, and its head.

    ``head`` is None where the age does not come from one linear layer as one number.
    """

    spec: OnnxTeacher
    convolutions: dict[str, FloatArray]
    head: ScalarHead | None


def foreign_start(where: str | Location) -> tuple[OnnxTeacher, Location, AgeCorrection | None]:
    """The one network behind a teacher's document, the document that names it, and the correction that stands
    before it; an ``InputError`` for what is no single foreign network.
    """
    spec = read_teacher_file(where)
    if isinstance(spec, OnnxTeacher):
        return spec, Location.of(where), None
    if isinstance(spec, EnsembleTeacher):
        raise InputError(
            f"'{where}' is an ensemble: a network starts from one network, so name one of its members."
        )
    [inner] = members_of(where, spec, 0)
    document = read_teacher_file(inner) if is_teacher_file(inner) else None
    if not isinstance(document, OnnxTeacher):
        raise InputError(
            f"'{where}' calibrates '{inner}', which is no ONNX file of other people: start from that."
        )
    _check_correction(where, spec)
    return document, inner, spec.calibration.correction


def read_foreign_weights(where: str | Location) -> ForeignWeights:
    """The weights behind a teacher's document, the file's SHA-256 checked, an affine correction of its age in
    the head; an ``InputError`` says what is wrong.
    """
    spec, document, correction = foreign_start(where)
    graph = check_graph(read_onnx(document, spec), str(document)).graph
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in graph.initializer}
    names = [name for node in graph.node if node.op_type == "Conv" for name in node.input[1:]]
    tensors = {name: np.array(numpy_helper.to_array(stored[name])) for name in names if name in stored}
    head = _head(graph, spec.output, stored) if isinstance(spec.output, ScalarOutput) else None
    if head is not None and correction is not None:
        head = head.corrected(correction)
    return ForeignWeights(spec, tensors, head)


def _check_correction(where: str | Location, spec: CalibratedTeacher) -> None:
    calibrated_digest(where, spec)
    correction = spec.calibration.correction
    if correction is not None and correction.kind != "affine":
        raise InputError(
            f"'{where}' corrects ages by an {correction.kind} map, which no linear head can hold: "
            "calibrate it with an affine one, or start from the teacher alone."
        )


def _head(graph: Any, output: ScalarOutput, stored: dict[str, Any]) -> ScalarHead | None:
    """The layer ``Gemm`` that gives the output; None where another one does."""
    from onnx import numpy_helper

    node = next((node for node in graph.node if output.name in node.output), None)
    if node is None or node.op_type != "Gemm" or any(name not in stored for name in node.input[1:]):
        return None
    options = {attribute.name: attribute for attribute in node.attribute}
    if any(name in options and options[name].f != 1.0 for name in ("alpha", "beta")):
        return None
    weight, *bias = (np.array(numpy_helper.to_array(stored[name])) for name in node.input[1:])
    if "transB" in options and options["transB"].i:
        weight = weight.T
    column = (weight[:, output.column] * output.scale).astype(np.float32)
    number = float(bias[0].reshape(-1)[output.column]) if bias else 0.0
    return ScalarHead(column, number * output.scale + output.offset, output.spread)
