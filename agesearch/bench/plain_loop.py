"""The search that one would write without agesearch: Optuna, PyTorch, timm and OpenCV, in a loop.

One trial after the other, with all threads. The work is the search's: the same networks from the same seed,
losses, faces, augmentation, steps and validation. The code around it is what a careful user writes: faces
decoded and resized once a trial, a teacher's answers kept, AdamW with a warm-up and a cosine, clipped
gradients, the best epoch's weights kept in memory, nothing written until the end.

With a ``cache`` it is the loop of someone who knows PyTorch well: weights and images channels-last, and the
fixed views of a face drawn once for all trials, with a teacher's answer for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from agesearch.ages import AGES
from agesearch.data.images.augment import augmenter_of
from agesearch.distill.losses import Targets
from agesearch.distill.task import DistillTask
from agesearch.models.prepare import Images, resized
from agesearch.models.zoo import AgeNet, build
from agesearch.specs import TrainSpec
from agesearch.training.faces.batches import label_pmf, label_prior
from agesearch.training.optim import MAX_GRADIENT_NORM

Columns = Mapping[str, npt.NDArray[Any]]

#: Fixed views of all faces, by input side and number.
Views = dict[tuple[int, int], Images]

_VALIDATION_BATCH = 64


def plain_search(specs: Sequence[TrainSpec], train: Columns, val: Columns) -> list[list[float]]:
    """Train every configuration in turn, asked for by Optuna's TPE; the validation error in years after each
    epoch of each.

    ``train`` and ``val`` hold decoded faces (``image`` uint8 [N, S, S, 3]), labels, and ``teacher_pmf``.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        directions=["minimize", "minimize"], sampler=optuna.samplers.TPESampler(seed=0)
    )
    curves = []
    for index in range(len(specs)):
        study.enqueue_trial({"configuration": index})
        trial = study.ask()
        spec = specs[trial.suggest_int("configuration", 0, len(specs) - 1)]
        curves.append(train_plainly(spec, train, val))
        study.tell(trial, [min(curves[-1]), float(index)])
    return curves


def train_plainly(
    spec: TrainSpec,
    train: Columns,
    val: Columns,
    *,
    cache: Views | None = None,
    goes_on: Callable[[int, float], bool] = lambda epoch, error: True,
) -> list[float]:
    """One student, as ``plain_search`` says; the validation error in years after each epoch.

    ``goes_on`` is asked after each epoch but the last, by its number and the error.
    """
    torch.manual_seed(spec.seed)
    net = build(spec.model)
    if cache is not None:
        net = net.to(memory_format=torch.channels_last)
    prior = label_prior([train], spec.distill.label_sigma)
    if prior is not None:
        net.head.start_from(prior)
    task = DistillTask(net, spec.distill, has_labels=prior is not None, has_teacher="teacher_pmf" in train)
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=spec.optim.learning_rate, weight_decay=spec.optim.weight_decay
    )
    seen = _Seen(train, spec, cache)
    shown = torch.from_numpy(resized(val["image"], spec.model.input_size)).permute(0, 3, 1, 2).contiguous()
    steps = math.ceil(len(train["image"]) / spec.optim.batch_size)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps, spec))
    curve, best = list[float](), dict[str, Tensor]()
    for epoch in range(spec.optim.epochs):
        net.train()
        for images, batch in seen.batches(epoch, steps):
            optimiser.zero_grad()
            task(images, batch)["loss"].backward()
            nn.utils.clip_grad_norm_(net.parameters(), MAX_GRADIENT_NORM)
            optimiser.step()
            rate.step()
        curve.append(_error(net, shown, val["age"]))
        if curve[-1] == min(curve):
            best = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        if epoch + 1 < spec.optim.epochs and not goes_on(epoch + 1, curve[-1]):
            break
    net.load_state_dict(best)
    return curve


def _rate(step: int, steps: int, spec: TrainSpec) -> float:
    warmup = round(spec.optim.warmup_epochs * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps * spec.optim.epochs - warmup, 1)))


def _targets(train: Columns, spec: TrainSpec, view: int) -> Targets:
    """All faces' targets as tensors, with a teacher's answers for one view of them."""
    teacher = None
    if "teacher_pmf" in train:
        answers = train["teacher_pmf"].reshape(len(train["age"]), -1, len(AGES))
        wide = answers[:, min(view, answers.shape[1] - 1)].astype(np.float32)
        teacher = torch.from_numpy(wide / wide.sum(axis=-1, keepdims=True))
    return Targets(
        age=torch.from_numpy(train["age"].astype(np.float32)),
        label_pmf=torch.from_numpy(label_pmf(train, spec.distill.label_sigma)),
        teacher_pmf=teacher,
    )


class _Seen:
    """The faces of a training as its epochs see them: drawn anew each time, or fixed views from the cache."""

    def __init__(self, train: Columns, spec: TrainSpec, cache: Views | None) -> None:
        self._spec, self._train, self._cache = spec, train, cache
        self._augment = augmenter_of(spec.augment, spec.seed if cache is None else spec.augment.view_seed)
        self._views = 1 if cache is None else max(1, spec.augment.fixed_views)
        self._faces = resized(train["image"], spec.model.input_size) if cache is None else None
        self._targets = [_targets(train, spec, view) for view in range(self._views)]

    def batches(self, epoch: int, steps: int) -> Iterator[tuple[Tensor, Targets]]:
        """Shuffled, augmented batches of equal size."""
        view = epoch % self._views
        targets = self._targets[view]
        order = np.random.default_rng([self._spec.seed, epoch]).permutation(len(self._train["image"]))
        for rows in np.array_split(order, steps):
            index = torch.from_numpy(rows)
            yield (
                self._images(rows, epoch, view),
                Targets(
                    age=targets.age[index],
                    label_pmf=targets.label_pmf[index],
                    teacher_pmf=None if targets.teacher_pmf is None else targets.teacher_pmf[index],
                ),
            )

    def _images(self, rows: npt.NDArray[np.intp], epoch: int, view: int) -> Tensor:
        if self._faces is not None:
            images = np.stack([self._augment(self._faces[row], epoch, str(row)) for row in rows])
            return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float()
        # uint8 [B, S, S, 3] seen as [B, 3, S, S] is channels-last as it is
        return torch.from_numpy(self._view(view)[rows]).permute(0, 3, 1, 2).float()

    def _view(self, view: int) -> Images:
        assert self._cache is not None
        size = self._spec.model.input_size
        if (size, view) not in self._cache:
            ids = self._train["sample_id"].tolist()
            drawn = self._augment.each(self._train["image"], view, ids)
            self._cache[size, view] = resized(np.asarray(drawn), size)
        return self._cache[size, view]


def _error(net: AgeNet, shown: Tensor, age: npt.NDArray[Any]) -> float:
    net.eval()
    with torch.no_grad():
        answers = [torch.softmax(net(part.float()), dim=-1) for part in torch.split(shown, _VALIDATION_BATCH)]
    years = torch.cat(answers) @ torch.from_numpy(AGES)
    return float(np.nanmean(np.abs(years.numpy() - age)))
