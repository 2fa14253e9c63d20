"""Refits the age layer of face-api's network on labelled faces: what the published model 'portraits' is.

    python reports/champion/probe.py FACES OUT

FACES is a dataset (`agesearch data ingest --size 146`), of which all faces are used. OUT/start.yaml becomes
a teacher's document, and start.onnx beside it face-api's network with the new layer, which `init: model`
takes; OUT/model a model folder by search_spaces/champion.yaml, which starts there and goes no further.

A linear probe (Kumar et al. 2022): the network stays as it is, and one linear layer on its 512 features is
solved for in closed form. Ridge shrinks it towards the old layer, whose slope and offset are free: with few
faces the answer is that of the old layer, calibrated. Run from the repository's folder.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow.parquet as pq
import torch
from onnx import numpy_helper

from agesearch.data.dataset.records import SHARDS, Part, Split, read_manifest
from agesearch.data.images.crop import decode_crop
from agesearch.data.reading.loading import SplitFaces
from agesearch.data.reading.stored_faces import StoredFaces
from agesearch.documents import load_spec
from agesearch.measure.robustness.corruptions import corrupt
from agesearch.models.foreign.document import OnnxTeacher, read_teacher_file
from agesearch.models.foreign.start import read_foreign_weights
from agesearch.models.trained_on import trained_on
from agesearch.models.zoo import build
from agesearch.specs import ModelSpec, StudySpec
from agesearch.storage import Location
from agesearch.training.run import train_student

DOCUMENT = "search_spaces/teachers/faceapi.yaml"
INPUT_PX = 146
#: Of the features, each of variance 1, in a loss summed over faces; 100 to 2,000 differ little (README.md).
RIDGE = 300.0
#: Corruptions (and their severities) that the layer shall stand: without them noise costs twice as much.
CORRUPTED = (("gaussian_noise", 1), ("gaussian_noise", 2), ("defocus_blur", 2))
#: How often each view counts: the face, its mirror image, and those.
VIEW_WEIGHTS = (12, 12, 1, 1, 1)
#: Standard deviation in years to assume of the answers: their root mean square error on unseen faces.
SPREAD = 7.3

_AT_ONCE = 32

Floats = npt.NDArray[np.float64]


def fit(faces: Path, seen: Part, tested: Part, out: Path, known: dict[str, Floats] | None = None) -> Path:
    """A model folder: the layer refitted on the faces ``seen``; those ``tested`` choose nothing.

    ``known`` has the features of faces, where they were computed before.
    """
    start, model = out / "start.yaml", out / "model"
    if not start.exists():
        rows = rows_of(faces, seen)
        age = np.array([row["age"] for row in rows], dtype=np.float64)
        found = known or features(rows)
        write_start(*refit(np.stack([found[row["sample_id"]] for row in rows]), age), start)
    spec = load_spec(StudySpec, "search_spaces/champion.yaml").student
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"weights": str(start)})})
    manifest = read_manifest(faces)
    train_student(
        spec,
        *(SplitFaces(StoredFaces.of(faces, part)) for part in (seen, tested)),
        Location.of(model),
        manifest.crop,
        data_digest=manifest.content_digest,
        trained_on=trained_on(manifest, seen, tested),
    )
    return model


def rows_of(faces: Path, part: Part) -> list[dict[str, Any]]:
    """The rows of a dataset of a split or of folds."""
    rows = pq.read_table(str(faces / SHARDS)).to_pylist()
    return [
        row
        for row in rows
        if part.split in (None, row["split"]) and (part.folds is None or row["fold"] in part.folds)
    ]


def pixels(rows: list[dict[str, Any]]) -> npt.NDArray[np.uint8]:
    """Their crops ``[N, 146, 146, 3]``."""
    return np.stack([decode_crop(row["image"]) for row in rows])


def features(rows: list[dict[str, Any]]) -> dict[str, Floats]:
    """Features ``[V, 512]`` of the views of each face by its id: as it is, mirrored, and ``CORRUPTED``."""
    faces = pixels(rows)
    views = [faces, faces[:, :, ::-1]]
    for name, severity in CORRUPTED:
        named = zip(faces, rows, strict=True)
        views.append(
            np.stack([corrupt(face, name, severity, f"probe {row['sample_id']}") for face, row in named])
        )
    net = build(ModelSpec(arch="xception_tiny", input_size=INPUT_PX, init="model", weights=DOCUMENT)).eval()
    found = []
    for view in views:
        batches = torch.from_numpy(np.ascontiguousarray(view)).permute(0, 3, 1, 2).split(_AT_ONCE)
        with torch.inference_mode():
            found.append(torch.cat([net.features(batch.float()) for batch in batches]).double().numpy())
    return {row["sample_id"]: seen for row, seen in zip(rows, np.stack(found, axis=1), strict=True)}


def refit(seen: Floats, age: Floats) -> tuple[Floats, float]:
    """Features ``[N, V, F]`` of V views and ages ``[N]`` -> weights ``[F]`` and bias of the new layer."""
    old = read_foreign_weights(DOCUMENT).head
    assert old is not None
    times = np.repeat(seen, VIEW_WEIGHTS, axis=1)
    rows, wanted = times.reshape(-1, seen.shape[2]), np.repeat(age, times.shape[1])
    weight = old.weight.astype(np.float64)
    columns = np.column_stack([rows, rows @ weight])
    mean, scale = columns.mean(0), columns.std(0) + 1e-2
    design = (columns - mean) / scale
    ridge = np.full(design.shape[1], RIDGE * times.shape[1])
    ridge[-1] = 1.0  # the old answer
    found = np.linalg.solve(design.T @ design + np.diag(ridge), design.T @ (wanted - wanted.mean())) / scale
    return found[:-1] + found[-1] * weight, float(wanted.mean() - mean @ found)


def write_start(weight: Floats, bias: float, out: Path) -> None:
    """Face-api's network with this age layer, as ``out`` (YAML) and an ONNX file beside it."""
    document = read_teacher_file(DOCUMENT)
    assert isinstance(document, OnnxTeacher)
    graph = onnx.load(str(Path(DOCUMENT).parent / document.file))
    node = next(node for node in graph.graph.node if document.output.name in node.output)
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    for name, values in zip(node.input[1:], (weight, np.array([bias])), strict=True):
        shape = numpy_helper.to_array(stored[name]).shape
        stored[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32).reshape(shape), name))
    content = graph.SerializeToString()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".onnx").write_bytes(content)
    text = Path(DOCUMENT).read_text(encoding="utf-8")
    for field, value in (
        ("file", out.with_suffix(".onnx").name),
        ("sha256", hashlib.sha256(content).hexdigest()),
    ):
        text = re.sub(rf"(?m)^{field}: .*$", f"{field}: {value}", text)
    out.write_text(re.sub(r"spread: [\d.]+", f"spread: {SPREAD}", text), encoding="utf-8")


def main(faces: Path, out: Path) -> None:
    """The model of all faces of a dataset."""
    print(fit(faces, Part(), Part(Split.VAL), out))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
