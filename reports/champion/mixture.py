"""The most accurate thing found at any size: kernel regression on features of foreign and ImageNet networks.

    agesearch data ingest csv PHOTOS/portraits.csv --images PHOTOS/images --scale 2.0 --size 448 --out WIDE
    python reports/champion/mixture.py WIDE SHARED

SHARED holds teachers/ and backbones/. Five folds by person; in each, the variances of the kernels are chosen
by five folds of the other four. Prints MAE with intervals. Features are computed once (WIDE/features.npz).
Run from the repository's folder.

A face's age has the prior covariance a L(ages) + A M2(faceapi) + G (M(descriptor) + M(hidden)) + B
(M(imagenet) + L(imagenet) / 10) + A / 10 L(faceapi): L is linear, M Matern-3/2 of length 1.5 (M2: 2), both
on features of variance 1 / their number; its label is 6 years off, 6.9 for faces that were generated
(marginal likelihood).
"""

from __future__ import annotations

import csv
import itertools
import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pyarrow.parquet as pq
import torch
from scipy.linalg import cho_factor, cho_solve

from agesearch.data.images.crop import decode_crop
from agesearch.measure.intervals import Persons, estimate
from agesearch.models.zoo import build
from agesearch.specs import ModelSpec

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

FOLDS = 5
#: Times the box: what the foreign networks and the ImageNet ones are shown, as it is and mirrored.
FOREIGN_VIEWS, IMAGENET_VIEWS = (0.9, 1.0, 1.15, 1.3), (1.0, 1.4, 2.0)
IMAGENET = {
    "mobilenetv2_100": "mobilenet_v2-b0353104.pth",
    "efficientnet_lite0": "efficientnet-lite0-57934424.pth",
}
FACEAPI_MEAN = np.array([122.782, 117.001, 104.298], dtype=np.float32)
NOISE = {"congress": 6.0, "faker": 6.9}
GRID = list(itertools.product((0.15, 0.4, 1.0), (0.0, 0.3, 0.6, 1.2), (0.0, 0.08, 0.25)))


def view(wide: Pixels, scale: float, mirrored: bool, size: int = 224) -> Pixels:
    """The middle of crops of 2.0 x the box, as squares of ``scale`` x the box."""
    side = round(wide.shape[1] * scale / 2.0)
    first = (wide.shape[1] - side) // 2
    cut = wide[:, first : first + side, first : first + side]
    cut = np.stack([cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA) for face in cut])
    return cut[:, :, ::-1] if mirrored else cut


def outputs(network: Path, inner: dict[str, str], given: npt.NDArray[np.float32]) -> dict[str, Floats]:
    """Tensors of an ONNX network by name, rows flattened; ``inner`` renames them."""
    graph = onnx.load(str(network))
    known = {output.name for output in graph.graph.output}
    graph.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, 1, None) for name in inner.values() if name not in known
    )
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    [fed] = session.get_inputs()
    batches = [
        session.run(list(inner.values()), {fed.name: given[at : at + 16]}) for at in range(0, len(given), 16)
    ]
    return {
        name: np.concatenate([batch[k].reshape(len(batch[k]), -1) for batch in batches]).astype(np.float64)
        for k, name in enumerate(inner)
    }


def features(wide: Pixels, shared: Path) -> dict[str, Floats]:
    """All features ``[N, F]``, each the mean over its views."""
    found: dict[str, list[Floats]] = {}
    for scale, mirrored in itertools.product(FOREIGN_VIEWS, (False, True)):
        small, large = view(wide, scale, mirrored, 112), view(wide, scale, mirrored)
        given = ((small - FACEAPI_MEAN) / 255).transpose(0, 3, 1, 2).astype(np.float32)
        names = {"faceapi": "t99", "faceapi age": "age"}
        said = outputs(shared / "teachers" / "faceapi_age.onnx", names, given)
        names = {
            "descriptor": "global_pooling/Mean",
            "hidden": "feats/Relu",
            "faceres age": "age_pred/Softmax",
        }
        said |= outputs(shared / "teachers" / "faceres.onnx", names, large.astype(np.float32))
        said["faceres age"] = said["faceres age"] @ np.arange(1.0, 101.0)[:, None]
        for name, values in said.items():
            found.setdefault(name, []).append(values)
        print("foreign", scale, mirrored, flush=True)
    means = {name: np.mean(values, axis=0) for name, values in found.items()}
    parts = []
    for (arch, weights), scale in itertools.product(IMAGENET.items(), IMAGENET_VIEWS):
        spec = ModelSpec(arch=arch, input_size=224, init="file", weights=str(shared / "backbones" / weights))
        net, seen = build(spec).eval(), []
        for mirrored in (False, True):
            shown = torch.from_numpy(np.ascontiguousarray(view(wide, scale, mirrored))).permute(0, 3, 1, 2)
            with torch.inference_mode():
                seen.append(torch.cat([net.features(batch.float()) for batch in shown.split(16)]).numpy())
        mean = np.mean(seen, axis=0)
        parts.append(mean / mean.std())
        print(arch, scale, flush=True)
    return means | {"imagenet": np.concatenate(parts, axis=1)}


def kernels(found: dict[str, Floats]) -> dict[str, Floats]:
    """Covariances ``[N, N]``; means and variances of features are those of all faces, labels play no part."""

    def unit(values: Floats) -> Floats:
        scaled: Floats = (values - values.mean(0)) / (values.std(0) + 1e-6) / np.sqrt(values.shape[1])
        return scaled

    def linear(values: Floats) -> Floats:
        return unit(values) @ unit(values).T

    def matern(values: Floats, length: float = 1.5) -> Floats:
        inner = linear(values)
        apart = np.maximum(inner.diagonal()[:, None] + inner.diagonal()[None] - 2 * inner, 0.0)
        r = np.sqrt(3 * apart) / length
        return (1 + r) * np.exp(-r)

    ages = np.concatenate([found["faceapi age"], found["faceres age"]], axis=1)
    return {
        "ages": linear(ages),
        "faceapi": matern(found["faceapi"], 2.0) + 0.1 * linear(found["faceapi"]),
        "faceres": matern(found["descriptor"]) + matern(found["hidden"]),
        "imagenet": matern(found["imagenet"]) + 0.1 * linear(found["imagenet"]),
    }


def answer(covariance: Floats, noise: Floats, age: Floats, seen: npt.NDArray[np.int64]) -> Floats:
    """Expected ages ``[N]`` of all faces, given the labels of those ``seen``."""
    mean, spread = age[seen].mean(), age[seen].std()
    own = covariance[np.ix_(seen, seen)] + 0.05 + np.diag((noise[seen] / spread) ** 2)
    told: Floats = mean + spread * (covariance[:, seen] + 0.05) @ cho_solve(
        cho_factor(own), (age[seen] - mean) / spread
    )
    return told


def nested(choices: list[Floats], noise: Floats, age: Floats, folds: npt.NDArray[np.int64]) -> Floats:
    """Ages ``[N]``, each of a mixture that was chosen and learnt without its fold."""
    said = np.empty_like(age)
    for fold in range(FOLDS):
        seen = np.flatnonzero(folds != fold)
        inner = np.random.default_rng(fold).permutation(len(seen)) % FOLDS
        error = np.zeros(len(choices))
        for part, (at, choice) in itertools.product(range(FOLDS), enumerate(choices)):
            out = seen[inner == part]
            error[at] += np.abs(answer(choice, noise, age, seen[inner != part])[out] - age[out]).sum()
        said[folds == fold] = answer(choices[int(error.argmin())], noise, age, seen)[folds == fold]
    return said


def main(wide: Path, shared: Path) -> None:
    """Features where they are missing, then the nested figures with and without some of the networks."""
    rows = sorted(pq.read_table(str(wide / "shards")).to_pylist(), key=lambda row: str(row["subject_id"]))
    stored = wide / "features.npz"
    if not stored.exists():
        np.savez(stored, **features(np.stack([decode_crop(row["image"]) for row in rows]), shared))
    with np.load(stored) as found:
        parts = kernels(dict(found))
    with open(shared / "photos" / "portraits.csv", encoding="utf-8", newline="") as handle:
        order = [row["subject_id"] for row in csv.DictReader(handle)]
    age = np.array([row["age"] for row in rows], dtype=np.float64)
    noise = np.array([NOISE[row["source"]] for row in rows])
    place = {subject: at for at, subject in enumerate(order)}
    dealt = np.empty(len(order), dtype=np.int64)
    dealt[np.random.default_rng(0).permutation(len(order))] = np.arange(len(order)) % FOLDS
    folds = np.array([dealt[place[row["subject_id"]]] for row in rows])  # those of crossvalidate.py
    persons = Persons.of([row["sample_id"] for row in rows], [row["subject_id"] for row in rows])
    for name, kept in (
        ("all", GRID),
        ("without ImageNet's", [one for one in GRID if one[1] == 0]),
        ("without faceres' features", [one for one in GRID if one[2] == 0]),
    ):
        choices = [
            0.45 * parts["ages"] + a * parts["faceapi"] + b * parts["imagenet"] + g * parts["faceres"]
            for a, b, g in kept
        ]
        error = np.abs(nested(choices, noise, age, folds) - age)
        print(name, estimate(error, persons))
        for source in NOISE:
            own = np.array([row["source"] == source for row in rows])
            print(" ", source, estimate(error[own], persons.take(own)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
