"""The epoch loop: one process, or several with DDP when torch's process group is up. Pure torch.

Each epoch trains, validates, keeps the best weights, writes a checkpoint and reports; a long one writes
checkpoints within, too. A run that is started again with the same spec goes on from the last of them, with
the same result as an undisturbed one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from agesearch import metrics
from agesearch.ages import FloatArray
from agesearch.distill.losses import Targets
from agesearch.distill.task import DistillTask
from agesearch.errors import AgeSearchError
from agesearch.measure.intervals import Persons
from agesearch.models.zoo import AgeNet
from agesearch.specs import TrainSpec
from agesearch.storage import Location
from agesearch.training.checkpoint import (
    RunningMeans,
    TrainState,
    delete_state,
    load_state,
    random_states,
    restore_random,
    save_state,
)
from agesearch.training.curve import append_row, keep_epochs
from agesearch.training.faces.batches import Batch, BatchSource, Faces
from agesearch.training.lookout import Action, Lookout, look_seconds
from agesearch.training.optim import MAX_GRADIENT_NORM, make_optimiser, rate_factor, set_rate
from agesearch.training.standing import EpochProgress
from agesearch.training.steps.averaging import WeightAverage
from agesearch.training.steps.workers import (
    gathered,
    is_first_worker,
    of_all_workers,
    rank,
    share_buffers,
    summed,
    world,
)
from agesearch.training.stopping import TrainingStopped, stop_requested
from agesearch.training.validation import Target, interval, limited, validation_target

VALIDATION_BATCH = 64

Report = Callable[[dict[str, float]], None]


class TrainingDiverged(AgeSearchError):  # noqa: N818 - named for what happened
    """The loss is no longer a number; the learning rate is too high for this network and data."""


@dataclass(frozen=True)
class Fitted:
    """The best epoch's weights and metrics (``val_mae_years``, ``val_cs5``, or ``val_top1`` where only groups
    are known; ``epoch``), and its answers for the validation faces (None: an older checkpoint has none).
    """

    weights: dict[str, Tensor]
    metrics: dict[str, float]
    answers: FloatArray | None = None


@dataclass(frozen=True)
class Place:
    """Where a worker stands: its rank among ``world`` workers, and its device (None: ``pick_device``)."""

    rank: int = 0
    world: int = 1
    device: torch.device | None = None


#: The only worker.
ALONE = Place()


def pick_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def use_threads(threads: int) -> None:
    """Let torch and OpenCV use this many threads in this process."""
    import cv2

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


class Trainer:
    """Trains ``net`` on ``source`` and validates on ``val``; ``out`` holds the curve and the checkpoint.

    ``subjects`` are the persons of the validation faces (None: not known), for the interval of their error.
    """

    def __init__(
        self,
        net: AgeNet,
        task: DistillTask,
        source: BatchSource,
        val: Faces,
        spec: TrainSpec,
        out: Location,
        *,
        device: torch.device | None = None,
        resume: bool = True,
        subjects: npt.NDArray[np.object_] | None = None,
    ) -> None:
        if dist.is_initialized() and (source.rank, source.world) != (rank(), world()):
            raise AgeSearchError(
                f"Worker {rank()} of {world()} was given the faces of worker {source.rank} of "
                f"{source.world}: each must have its own share."
            )
        self.device = device or pick_device()
        self.net = net.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.spec = spec
        self.source = source
        self.val = val
        self._subjects = subjects
        self.out = out
        self._own = task.to(self.device)
        self.optimiser = make_optimiser(task, spec.optim)
        self._average = WeightAverage(self.net, spec.optim.averaging)
        self._progress = EpochProgress(out)
        asked = partial(stop_requested, out)
        self._lookout = Lookout(spec.compute.checkpoint_minutes, asked, self.device, look_s=look_seconds(out))
        self._validated_in = 0.0
        self._answered = torch.empty(0)  # by the faces' rows, whoever answered for them
        #: Of the epoch that a resumed run is in the middle of.
        self._means: RunningMeans | None = None
        self.state = self._restored() if resume else TrainState(spec.digest())
        if spec.compute.compile:
            self.net.backbone.compile()
        self.task: nn.Module = DistributedDataParallel(task) if dist.is_initialized() else task

    def fit(self, report: Report) -> Fitted:
        """Train what is left of the epochs; ``report`` gets each epoch's metrics, as in ``curve.jsonl``;
        those of the first worker alone count.

        Raises ``TrainingDiverged`` where the loss stops being a number, and ``TrainingStopped`` where the
        training was asked to stop (``training.stopping``), after writing a checkpoint.
        """
        if is_first_worker():
            shown = self._means.shown if self._means else 0
            self.state.curve = keep_epochs(self.out, self.state.epochs, self.state.curve, shown)
            self._progress.end()  # what a killed run left
        self._lookout.saved()
        for epoch in range(self.state.epochs, self.spec.optim.epochs):
            row = self._whole_epoch(epoch)
            if is_first_worker():
                append_row(self.out, row)
            report(row)
        if is_first_worker():
            self._progress.end()
        if not self.state.best:
            raise TrainingDiverged(f"No epoch of {self.spec.model.arch} has a finite {self.target.best_by}.")
        kept = self.state.best_answers
        return Fitted(self.state.best, self.state.best_metrics, None if kept is None else kept.numpy())

    def _whole_epoch(self, epoch: int) -> dict[str, float]:
        """Train, validate and keep an epoch; its row of the curve."""
        losses = self.train_epoch(epoch)
        if not all(math.isfinite(value) for value in losses.values()):
            raise self._diverged(epoch)
        began = time.perf_counter()
        share_buffers(self.net)
        with self._average.applied():
            scores = self.validate()
            self._keep_weights(epoch, scores)
        self._validated_in = time.perf_counter() - began
        row = {metrics.EPOCH: float(epoch + 1), **losses, **scores}
        row[metrics.EPOCH_SECONDS] = round(self._progress.seconds, 3)
        self.state.curve.append(row)
        self.state.after_epoch(epoch + 1)
        if self.state.epochs < self.spec.optim.epochs:
            self._save()
        return row

    @cached_property
    def target(self) -> Target:
        """What the validation faces are judged by; an ``InputError`` where none has a label."""
        target = validation_target(self.val.columns, self.spec.model)
        count = self.spec.val_faces
        return target if count is None else limited(target, self.val.ids, count)

    def validate(self) -> dict[str, float]:
        """MAE in years and CS@5 on the validation faces that have an age; where only groups are known, the
        share of right ones. Of ``val_faces`` of them the first worker tells the interval, too.
        """
        answers, true = self._answers()
        self._answered = torch.from_numpy(answers[np.argsort(self._answered_rows)])
        scores = self.target.scores(answers, true)
        if self.spec.val_faces is not None and is_first_worker():
            scores |= interval(self.target, answers, true, self._persons)
        return scores

    @cached_property
    def _persons(self) -> Persons:
        """Who the answers are of, in their order: worker by worker."""
        rows = self._answered_rows
        ids = self.val.ids[rows]
        return Persons.of(ids, [None] * len(rows) if self._subjects is None else self._subjects[rows])

    @cached_property
    def _answered_rows(self) -> npt.NDArray[np.intp]:
        """Which validation faces the answers are for, in the order that workers give them in."""
        return np.concatenate([self.target.rows[rank :: world()] for rank in range(world())])

    def variety(self, fitted: Fitted) -> tuple[float, float]:
        """The standard deviation of the best epoch's answers for the validation faces (years, where ages are
        known), and the share of the most frequent true answer (of interest where groups are).
        """
        self.net.load_state_dict(fitted.weights)
        answers, true = self._answers()
        _, counts = np.unique(true, return_counts=True)
        return float(np.std(answers)), float(counts.max() / len(true))

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """One epoch over the source, or what is left of it, without validation; the mean loss a face and its
        parts.
        """
        self.net.train()
        first, means = (self.state.step, self._means) if self._means else (0, RunningMeans())
        self._means = None
        seconds = self.state.seconds if first else 0.0
        self._progress.begin(epoch, self.source.faces, faces=means.shown, seconds=seconds)
        self._lookout.begin()
        steps = self.source.steps
        for step, batch in enumerate(self.source.epoch(epoch, first), start=first):
            share = rate_factor(epoch * steps + step, steps, self.spec.optim)
            set_rate(self.optimiser, share * self.spec.optim.learning_rate)
            means.add(self._step(batch), len(batch.sample_id), batch.of_faces)
            self._after_step(epoch, step + 1, means)
        faces = torch.tensor(float(means.faces))
        sums = summed(torch.stack([*means.sums.values(), faces]).to(self.device))
        named = dict(zip(means.sums, (sums[:-1] / sums[-1]).tolist(), strict=True))
        return {metrics.TRAIN_LOSS: named.pop("loss"), **{f"train_{name}": v for name, v in named.items()}}

    def _after_step(self, epoch: int, steps: int, means: RunningMeans) -> None:
        """Tell where the epoch stands after so many steps; write a checkpoint, or stop, where it is time."""
        if is_first_worker() and self._progress.is_due:
            self._progress.now(means.shown, means.loss)
        last = steps == self.source.steps
        action = self._lookout.after_step(
            last=last,
            diverged=lambda: not math.isfinite(means.loss),
            ahead_s=self._validated_in if last else 0.0,
        )
        if action is Action.GO_ON:
            return
        if action is Action.DIVERGED:
            raise self._diverged(epoch)
        self.state.within(epoch, steps, self.source.steps, self._progress.seconds)
        self.state.means = of_all_workers(vars(means))
        self._save()
        if is_first_worker():
            self._progress.keep(means.shown, means.loss)
        if action is Action.STOP:
            if is_first_worker():
                self._progress.end()
            raise TrainingStopped.within(epoch)

    def _step(self, batch: Batch) -> dict[str, Tensor]:
        """One step towards the mean loss of the faces that all workers have: DDP takes the mean over workers,
        whose parts of a batch differ by a face where it does not divide.
        """
        inputs, targets = self._to_device(batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._in_bfloat16):
            terms: dict[str, Tensor] = self.task(inputs, targets)
        self.optimiser.zero_grad(set_to_none=True)
        share = len(batch.sample_id) * self.source.world / batch.of_faces
        (terms["loss"] * share).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.task.parameters(), MAX_GRADIENT_NORM)
        self.optimiser.step()
        self._average.update()
        return terms

    @property
    def _in_bfloat16(self) -> bool:
        wanted = self.spec.compute.precision
        return wanted == "bfloat16" or (wanted == "auto" and self.device.type == "cuda")

    def _to_device(self, batch: Batch) -> tuple[Tensor, Targets]:
        # uint8 [B, S, S, 3] seen as [B, 3, S, S] is already channels-last: no copy before the conversion
        images = torch.from_numpy(batch.images).to(self.device).permute(0, 3, 1, 2).float()
        targets = Targets(
            age=self._on_device(batch.age),
            label_pmf=self._on_device(batch.label_pmf),
            teacher_pmf=None if batch.teacher_pmf is None else self._on_device(batch.teacher_pmf),
            teacher_features=None
            if batch.teacher_features is None
            else self._on_device(batch.teacher_features),
            weight=self._on_device(batch.weight),
        )
        return images, targets

    def _on_device(self, values: FloatArray) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    def _answers(self) -> tuple[FloatArray, FloatArray]:
        """What the network says of each validation face, and what is true."""
        share = slice(rank(), None, world())
        mine = self.target.rows[share]
        self.net.eval()
        parts = []
        with torch.inference_mode():
            for start in range(0, len(mine), VALIDATION_BATCH):
                pixels = torch.from_numpy(self.val.images(mine[start : start + VALIDATION_BATCH]))
                logits = self.net(pixels.to(self.device).permute(0, 3, 1, 2).float())
                parts.append(self.target.answer(torch.softmax(logits.float(), dim=-1)).cpu().numpy())
                if is_first_worker():
                    self._progress.validating(min(1.0, (start + VALIDATION_BATCH) / len(mine)))
        answers = np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)
        return gathered(answers), gathered(self.target.true[share])

    def _keep_weights(self, epoch: int, scores: dict[str, float]) -> None:
        name = self.target.best_by
        sign = 1.0 if name in metrics.MINIMISED else -1.0
        best = self.state.best_metrics.get(name, sign * math.inf)
        if self.spec.optim.keep == "last" or sign * scores[name] < sign * best:
            self.state.best, self.state.best_answers = self._weights(), self._answered
            self.state.best_metrics = {**scores, metrics.EPOCH: float(epoch + 1)}

    def _save(self) -> None:
        """Write the checkpoint; all workers come here together, and the first one writes."""
        began = time.monotonic()
        self.state.random = of_all_workers(random_states())
        if is_first_worker():
            self.state.student = self._weights()
            self.state.task = self._own.own_state()
            self.state.average = self._average.state()
            self.state.optimiser = self.optimiser.state_dict()
            save_state(self.out, self.state)
        self._lookout.saved(time.monotonic() - began)

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu().clone() for name, tensor in self.net.state_dict().items()}

    def _restored(self) -> TrainState:
        state = load_state(self.out, self.spec.digest())
        if state is None:
            return TrainState(self.spec.digest())
        self.net.load_state_dict(state.student)
        self._own.load_own_state(state.task)
        self._average.load(state.average)
        self.optimiser.load_state_dict(state.optimiser)
        if state.random:  # fewer than workers where the run began with fewer
            restore_random(state.random[rank() % len(state.random)])
        if state.steps == self.source.steps:  # of tiny sets, more workers have fewer
            self._means = RunningMeans.of(state.means, rank(), world())
        return state

    def _diverged(self, epoch: int) -> TrainingDiverged:
        delete_state(self.out)
        return TrainingDiverged(
            f"The loss of {self.spec.model.arch} is not a number in epoch {epoch + 1}: "
            f"lower the learning rate (it is {self.spec.optim.learning_rate:g})."
        )
