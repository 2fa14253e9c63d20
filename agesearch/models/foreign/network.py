"""Running an ONNX file of other people by its manifest: checked bytes, prepared pixels, PMFs out.

The file comes from outside, so it is bounded in size, known by its SHA-256, whole in itself (no external
data), and made of standard operators only. Nothing in it can name a file or load code.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from agesearch.ages import BINS, FloatArray
from agesearch.data.images.crop import crop_face
from agesearch.errors import AgeSearchError, InputError, first_line
from agesearch.models.foreign.document import GroupsOutput, OnnxTeacher, PmfOutput, ScalarOutput, beside
from agesearch.models.foreign.to_pmf import ages_matrix, groups_matrix, scalar_pmf, softmax
from agesearch.models.prepare import Images, resized
from agesearch.models.runtimes.engines import DEFAULT, Engine
from agesearch.models.runtimes.sessions import open_engine
from agesearch.specs import CropSpec
from agesearch.storage import Location

#: The largest file that is taken: some 250 million parameters.
MAX_FILE_BYTES = 1024**3

#: Operators of the standard, and those that ONNX Runtime itself adds (quantised and fused layers).
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})

_BATCH = 32
_TYPES = {"float32": "tensor(float)", "float16": "tensor(float16)", "uint8": "tensor(uint8)"}


def read_onnx(where: str | Location, spec: OnnxTeacher) -> bytes:
    """The file that a teacher's document names, checked; each fault is an ``InputError`` that says which."""
    place = beside(where, spec.file)
    if not place.exists():
        raise InputError(
            f"The file '{place}' of the teacher '{where}' is missing: set 'file' to where it is."
        )
    content = place.read_bytes(MAX_FILE_BYTES)
    found = hashlib.sha256(content).hexdigest()
    if found != spec.sha256:
        raise InputError(f"'{place}' has the SHA-256 {found}, but '{where}' says {spec.sha256}.")
    check_graph(content, str(place))
    return content


def check_graph(content: bytes, where: str) -> Any:
    """The parsed model, once it is sure that it is whole in itself and has standard operators only."""
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own kinds differ between its implementations
        raise InputError(f"'{where}' is not an ONNX file: {first_line(error)}") from error
    own = {function.domain for function in model.functions}
    for node in _nodes(model):
        if node.domain not in _DOMAINS | own:
            raise InputError(
                f"'{where}' needs the custom operator {node.domain}.{node.op_type}, which would have to load "
                "code: only standard operators are run."
            )
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise InputError(
                f"'{where}' keeps its tensor '{tensor.name}' in another file, which is not read: save the "
                "model as one file."
            )
    return model


def parameters_of(content: bytes) -> int:
    """The numbers stored in a checked file: its weights and constants of two or more elements."""
    model = check_graph(content, "the model")
    sizes = [int(np.prod(tensor.dims)) for tensor in model.graph.initializer]
    return sum(size for size in sizes if size > 1)


def crop_share(spec: OnnxTeacher, crop: CropSpec | None) -> float:
    """The side of the teacher's square as a share of the stored crop's, in (0, 1].

    ``crop`` None: the faces come as the teacher wants them. A dataset whose images are the crops (detector
    none) has no scale that could be known, and is taken whole. A crop that is too narrow is an
    ``InputError``.
    """
    if crop is None or crop.detector == "none":
        return 1.0
    share = spec.crop.scale / crop.scale
    if share > 1.0 + 1e-6:
        raise InputError(
            f"The teacher '{spec.name}' wants crops of {spec.crop.scale:g} x the face's box, but the "
            f"dataset's are {crop.scale:g} x: ingest it again with --scale {spec.crop.scale:g} or more."
        )
    return min(share, 1.0)


def central(images: Images | Sequence[Images], share: float, size: int) -> Images:
    """The central square of ``share`` times each image's side, as ``uint8 [N, size, size, 3]``.

    The square's edges may lie between pixels. It is cut like a face out of a photograph (``crop_face``), so
    that every pixel averages what lies under it.
    """
    if share >= 1.0 - 1e-6:
        return resized(images, size)
    recipe = CropSpec(size=size, scale=1.0, align=False)
    out = np.empty((len(images), size, size, 3), dtype=np.uint8)
    for index, image in enumerate(images):
        side = share * image.shape[0]
        edge = (image.shape[0] - side) / 2
        out[index] = crop_face(image, (edge, edge, side, side), recipe)
    return out


class ForeignPredictor:
    """A foreign network on an engine, with the pixels and outputs that its manifest describes.

    ``share`` is the part of each given crop that the teacher looks at (``crop_share``). Input or output that
    the file does not have as described is an ``InputError``.
    """

    def __init__(
        self,
        content: bytes,
        spec: OnnxTeacher,
        share: float = 1.0,
        threads: int = 1,
        engine: Engine = DEFAULT,
    ) -> None:
        self.input_size = spec.input.size
        self._spec, self._share = spec, share
        self._session = open_engine(content, engine, threads)
        self._batch = _batch_of(self._session, spec)
        self._pmf = _converter(self._session, spec)

    def pmf(self, images: Images | Sequence[Images]) -> FloatArray:
        """RGB crops of any size -> PMFs ``float32 [N, 101]``."""
        size = self._batch or _BATCH
        parts = [self._part(images[start : start + size]) for start in range(0, len(images), size)]
        return np.concatenate(parts) if parts else np.empty((0, BINS), dtype=np.float32)

    def call(self, batch: int) -> Callable[[], Any]:
        """One run of the network alone on ``batch`` random faces, for timing."""
        shape = (batch, self.input_size, self.input_size, 3)
        faces = np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8)
        fed = [
            self._fed(faces[start : start + self._step(batch)])
            for start in range(0, batch, self._step(batch))
        ]
        return partial(_run_all, [partial(self._session.run, [self._spec.output.name], feed) for feed in fed])

    def feed(self, images: Images | Sequence[Images]) -> dict[str, npt.NDArray[Any]]:
        """RGB crops of any size, of one batch, as the network's input."""
        return self._fed(central(images, self._share, self.input_size))

    def _step(self, batch: int) -> int:
        return self._batch or batch

    def _part(self, images: Images | Sequence[Images]) -> FloatArray:
        faces = central(images, self._share, self.input_size)
        raw = self._session.run([self._spec.output.name], self._fed(faces))[0][: len(faces)]
        if not np.isfinite(raw).all():
            raise AgeSearchError(
                f"The teacher '{self._spec.name}' answered with a value that is not a number."
            )
        return self._pmf(np.asarray(raw))

    def _fed(self, faces: Images) -> dict[str, npt.NDArray[Any]]:
        """RGB ``uint8 [n, S, S, 3]`` -> the network's input; a fixed batch is filled up with black."""
        spec = self._spec.input
        if self._batch and len(faces) < self._batch:
            black = np.zeros((self._batch - len(faces), *faces.shape[1:]), dtype=np.uint8)
            faces = np.concatenate([faces, black])
        values: npt.NDArray[Any] = faces if spec.channels == "rgb" else faces[..., ::-1]
        if spec.dtype != "uint8":
            mean, std = np.asarray(spec.mean, np.float32), np.asarray(spec.std, np.float32)
            values = ((values.astype(np.float32) * np.float32(spec.scale) - mean) / std).astype(spec.dtype)
        if spec.layout == "nchw":
            values = values.transpose(0, 3, 1, 2)
        return {spec.name: np.ascontiguousarray(values)}


def _run_all(calls: Sequence[Callable[[], Any]]) -> None:
    for call in calls:
        call()


def _batch_of(session: Any, spec: OnnxTeacher) -> int | None:
    """The batch that the file fixes, None where it leaves it open; checks the input against the manifest."""
    known = {value.name: value for value in session.get_inputs()}
    wanted, size = spec.input, spec.input.size
    if wanted.name not in known or len(known) > 1:
        raise InputError(
            f"The teacher '{spec.name}' must have the one input '{wanted.name}', but the file's inputs are: "
            f"{', '.join(known)}."
        )
    found = known[wanted.name]
    shape = (3, size, size) if wanted.layout == "nchw" else (size, size, 3)
    fits = len(found.shape) == 4 and all(
        want == have for want, have in zip(shape, found.shape[1:], strict=True) if isinstance(have, int)
    )
    if not fits or found.type != _TYPES[wanted.dtype]:
        raise InputError(
            f"The teacher '{spec.name}' feeds {wanted.dtype} [n, {', '.join(map(str, shape))}], but the "
            f"file's input '{found.name}' is {found.type} {found.shape}: correct layout, size or dtype."
        )
    return found.shape[0] if isinstance(found.shape[0], int) else None


def _converter(session: Any, spec: OnnxTeacher) -> Callable[[npt.NDArray[Any]], FloatArray]:
    """What turns the named output into PMFs; checks its name and, where the file says it, its width."""
    known = {value.name: value for value in session.get_outputs()}
    output = spec.output
    if output.name not in known:
        raise InputError(
            f"The teacher '{spec.name}' has no output '{output.name}'; the file's are: {', '.join(known)}."
        )
    if isinstance(output, ScalarOutput):
        convert = partial(_from_scalar, spec.name, output)
        expected = partial(_check_column, spec.name, output)
    else:
        matrix = ages_matrix(output.values) if output.kind == "pmf" else groups_matrix(output.groups)
        convert = partial(_from_probabilities, spec.name, output, matrix)
        expected = partial(_check_width, spec.name, output, len(matrix))
    values = known[output.name].shape[1:]
    if all(isinstance(size, int) for size in values):
        expected(math.prod(values))
    return convert


def _check_column(teacher: str, output: ScalarOutput, values: int) -> None:
    """Raise ``InputError`` where an output of so many ``values`` a face lacks the scalar's column."""
    if output.column >= values:
        raise InputError(
            f"The teacher '{teacher}' has {values} values a face in '{output.name}', so there is no "
            f"column {output.column} (the first is 0)."
        )


def _check_width(teacher: str, output: PmfOutput | GroupsOutput, named: int, values: int) -> None:
    """Raise ``InputError`` where an output of so many ``values`` a face does not hold the ``named`` ones."""
    have = f"The teacher '{teacher}' has {values} values a face in '{output.name}'"
    if output.columns is not None:
        first, end = output.columns
        if end > values:
            raise InputError(f"{have}, so there are no columns [{first}, {end}) (the first is 0).")
    elif values != named:
        things = "ages" if output.kind == "pmf" else "groups"
        raise InputError(
            f"{have}, but its manifest names {named} {things}: where other heads share the output, set "
            f"'columns: [first, end]' to the age's."
        )


def _from_scalar(teacher: str, output: ScalarOutput, raw: npt.NDArray[Any]) -> FloatArray:
    """``[N, ...]`` raw values -> PMFs ``float32 [N, 101]``."""
    values = raw.reshape(len(raw), -1).astype(np.float64)
    _check_column(teacher, output, values.shape[1])
    return scalar_pmf(values[:, output.column] * output.scale + output.offset, output.spread)


def _from_probabilities(
    teacher: str, output: PmfOutput | GroupsOutput, matrix: FloatArray, raw: npt.NDArray[Any]
) -> FloatArray:
    """``[N, ...]`` raw values, by ``matrix`` ``[K, 101]`` -> PMFs ``float32 [N, 101]``."""
    values = raw.reshape(len(raw), -1).astype(np.float64)
    _check_width(teacher, output, len(matrix), values.shape[1])
    values = values if output.columns is None else values[:, slice(*output.columns)]
    mass = softmax(values) if output.logits else values
    sums = mass.sum(axis=1)
    if mass.min(initial=0.0) < -1e-3 or np.abs(sums - 1.0).max(initial=0.0) > 0.02:
        raise InputError(
            f"The teacher '{teacher}' does not answer with probabilities (they sum to {sums.min():.3g}.."
            f"{sums.max():.3g}): set 'logits: true' where its output comes before a softmax."
        )
    spread = np.maximum(mass, 0.0) @ matrix
    pmf: FloatArray = (spread / spread.sum(axis=1, keepdims=True)).astype(np.float32)
    return pmf


def _nodes(model: Any) -> Iterator[Any]:
    for holder in (model.graph, *model.functions):
        yield from _nodes_in(holder)


def _nodes_in(holder: Any) -> Iterator[Any]:
    for node in holder.node:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes_in(graph)


def _tensors(model: Any) -> Iterator[Any]:
    yield from _stored(model.graph)
    for node in _nodes(model):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                yield from _stored(graph)


def _stored(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
