"""How good an order teacher is: Kendall's tau, exact matches, the MAE of a linear probe on its features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from agesearch.ages import MAX_AGE, FloatArray
from agesearch.data.dataset.arrays import numbers
from agesearch.data.dataset.records import Split, read_manifest
from agesearch.data.dataset.shards import row_batches
from agesearch.data.images.crop import decode_crop
from agesearch.data.reading.sequences import Sequences
from agesearch.distill.order_losses import exact_match, kendall_tau
from agesearch.errors import InputError
from agesearch.measure.intervals import Persons, estimate
from agesearch.models.manifest import WEIGHTS
from agesearch.models.order_net import OrderNet, load_order, order_digest, read_order_manifest
from agesearch.models.prepare import Images, prepare
from agesearch.progress import Listener, Progress, silent
from agesearch.specs import SharedRecord, Spec
from agesearch.storage import Location

#: Sequences that an order teacher is judged on.
SCORED_SEQUENCES = 500

_BATCH = 64
_PENALTIES = 10.0 ** np.arange(-3, 5)
_FOLDS = 5

Values = npt.NDArray[np.float64]


class OrderQuality(Spec):
    """How well sequences of ``length`` faces (at least ``gap`` years apart) of a split are sorted.

    ``probe_mae_years`` is the error of ages read linearly off the features, with its 95 % interval over
    ``persons`` (None: nobody is known, and faces were drawn); the probe learnt on the dataset's training
    faces. ``median_mae_years`` is that of always answering their median age.
    """

    dataset: str
    split: str
    length: int
    gap: float
    sequences: int
    faces: int
    persons: int | None = None
    kendall_tau: float
    exact_match: float
    probe_mae_years: float
    probe_interval: tuple[float, float]
    median_mae_years: float


class OrderFacts(SharedRecord):
    """What an order teacher is, and how good it is where a dataset was given."""

    path: str
    kind: str = "order"
    name: str
    input_size: int
    parameters: int
    bytes: int
    crop_scale: float
    crop_align: bool
    length: int
    gap: float
    loss: str
    temperature: float
    content_digest: str
    training: dict[str, float]
    quality: OrderQuality | None = None


@dataclass(frozen=True)
class Seen:
    """What an order teacher makes of N faces with ages [N]: scores [N] and features [N, F]."""

    persons: Persons
    age: FloatArray
    score: FloatArray
    features: FloatArray


def describe_order(
    where: str | Location,
    dataset: str | Location | None = None,
    split: Split = Split.VAL,
    *,
    on_progress: Listener = silent,
) -> OrderFacts:
    """The facts of an order teacher, and how well it sorts the faces of a dataset's split."""
    manifest = read_order_manifest(where)
    order = manifest.train.order
    quality = None
    if dataset is not None:
        net, size = load_order(where), manifest.model.input_size
        known = see(net, size, dataset, Split.TRAIN, on_progress)
        scored = see(net, size, dataset, split, on_progress)
        quality = quality_of(known, scored, Location.of(dataset).name, split, order.length, order.gap)
    return OrderFacts(
        path=Location.of(where).name,
        name=manifest.model.arch,
        input_size=manifest.model.input_size,
        parameters=manifest.parameters,
        bytes=(Location.of(where) / WEIGHTS).local().stat().st_size,
        crop_scale=manifest.crop.scale,
        crop_align=manifest.crop.align,
        length=order.length,
        gap=order.gap,
        loss=order.loss,
        temperature=order.temperature,
        content_digest=order_digest(where),
        training=manifest.metrics,
        quality=quality,
    )


def see(
    net: OrderNet, input_size: int, dataset: str | Location, split: Split, on_progress: Listener = silent
) -> Seen:
    """Scores and features of a split's faces that have an age; crops are streamed."""
    total = read_manifest(dataset).counts.get(split, 0)
    ages, scores, features, done = [], [], [], 0
    ids: list[str] = []
    subjects: list[str | None] = []
    for batch in row_batches(dataset, split, ["sample_id", "subject_id", "image", "age"], rows=512):
        age = numbers(batch.column("age"))
        crops = [
            decode_crop(crop.as_py()) for crop, a in zip(batch.column("image"), age, strict=True) if a == a
        ]
        if crops:
            found = answers(net, crops, input_size)
            ages.append(age[np.isfinite(age)])
            scores.append(found[0])
            features.append(found[1])
            known = batch.filter(pa.array(np.isfinite(age)))
            ids += known.column("sample_id").to_pylist()
            subjects += known.column("subject_id").to_pylist()
        done += len(age)
        on_progress(Progress(f"Faces, {split}", done, total))
    if not ages:
        raise InputError(f"'{dataset}' has no faces with an age in its split '{split}'.")
    persons = Persons.of(ids, subjects)
    return Seen(persons, np.concatenate(ages), np.concatenate(scores), np.concatenate(features))


def answers(net: OrderNet, images: Images | list[Images], input_size: int) -> tuple[FloatArray, FloatArray]:
    """Scores ``[N]`` and features ``[N, F]`` of RGB crops of any size."""
    device = next(net.parameters()).device
    scores, features = [], []
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH):
            pixels = torch.from_numpy(prepare(images[start : start + _BATCH], input_size)).to(device)
            found = net.features(pixels)
            features.append(found.float().cpu().numpy())
            scores.append(net.score(found).squeeze(-1).float().cpu().numpy())
    return np.concatenate(scores), np.concatenate(features)


def quality_of(
    known: Seen, scored: Seen, dataset: str, split: Split, length: int, gap: float
) -> OrderQuality:
    """How well ``judged`` is sorted, and how well a probe that learnt on ``known`` reads its ages."""
    tau, exact = sorting(scored, length, gap)
    error = np.abs(probe(known.features, known.age, scored.features) - scored.age)
    found = estimate(error.astype(np.float64), scored.persons)
    return OrderQuality(
        dataset=dataset,
        split=str(split),
        length=length,
        gap=gap,
        sequences=SCORED_SEQUENCES,
        faces=len(scored.age),
        persons=found.persons,
        kendall_tau=tau,
        exact_match=exact,
        probe_mae_years=found.value,
        probe_interval=(found.low, found.high),
        median_mae_years=float(np.abs(np.median(known.age) - scored.age).mean()),
    )


def sorting(scored: Seen, length: int, gap: float, seed: int = 0) -> tuple[float, float]:
    """Mean Kendall tau, and the share of ``SCORED_SEQUENCES`` seeded sequences sorted without a fault."""
    rows = Sequences(scored.age, length, gap).draw(SCORED_SEQUENCES, np.random.default_rng([seed, length]))
    scores, ages = torch.from_numpy(scored.score[rows]), torch.from_numpy(scored.age[rows])
    return float(kendall_tau(scores, ages).mean()), float(exact_match(scores, ages).mean())


def probe(known: FloatArray, ages: FloatArray, wanted: FloatArray) -> Values:
    """Ages in years ``[M]`` of features ``[M, F]``, by ridge regression on ``[N, F]`` with ages ``[N]``.

    Features are standardised; the penalty is the best of five folds of the known faces.
    """
    mean, std = known.mean(axis=0), known.std(axis=0) + 1e-6
    inputs, others = (known - mean) / std, (wanted - mean) / std
    folds = np.arange(len(inputs)) % min(_FOLDS, len(inputs))
    errors = np.zeros(len(_PENALTIES))
    for fold in np.unique(folds):
        held = folds == fold
        if held.all():
            break
        guesses = _ridge(inputs[~held], ages[~held], inputs[held])
        errors += np.abs(guesses - ages[held][:, None]).sum(axis=0)
    best = int(errors.argmin())
    found: Values = np.clip(_ridge(inputs, ages, others)[:, best], 0.0, MAX_AGE)
    return found


def _ridge(inputs: FloatArray, ages: FloatArray, wanted: FloatArray) -> Values:
    """Predictions ``[M, penalties]``, all penalties from one decomposition."""
    middle = inputs.mean(axis=0)
    left, singular, right = np.linalg.svd(inputs.astype(np.float64) - middle, full_matrices=False)
    centre = float(ages.mean())
    along = left.T @ (ages.astype(np.float64) - centre)
    shrunk = (singular * along)[:, None] / (singular[:, None] ** 2 + _PENALTIES * len(inputs) / 100.0)
    found: Values = centre + (wanted.astype(np.float64) - middle) @ right.T @ shrunk
    return found
