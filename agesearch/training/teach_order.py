"""Training an order teacher (Zhao 2020): sequences of faces, shuffled, whose order by age is to be recovered.

The paper's network, loss and sequence length are not public; this is our own formulation. One process; run
again with the same settings and data, a killed training goes on from its last checkpoint, within an epoch
too.
"""

from __future__ import annotations

import math
import time
from functools import partial

import numpy as np
import torch
from torch import nn

from agesearch import metrics
from agesearch.artefacts import begin_run, own_run, with_weights
from agesearch.data.dataset.arrays import FaceArrays, read_arrays
from agesearch.data.dataset.records import Split, read_manifest
from agesearch.data.images.augment import Augmenter
from agesearch.data.reading.sequences import Rows, Sequences
from agesearch.distill.order_losses import order_loss
from agesearch.distill.sorting import Seen, answers, quality_of, sorting
from agesearch.measure.intervals import Persons
from agesearch.models.architectures import architecture
from agesearch.models.order_net import (
    ORDER,
    OrderManifest,
    OrderNet,
    build_order,
    read_order_manifest,
    write_order,
)
from agesearch.models.prepare import resized
from agesearch.models.weights import check_start, weights_digest
from agesearch.progress import Listener, silent, waiting
from agesearch.specs import OrderTrainSpec
from agesearch.storage import Location, exclusive
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
from agesearch.training.lookout import Action, Lookout, look_seconds
from agesearch.training.loop import TrainingDiverged, pick_device, use_threads
from agesearch.training.optim import MAX_GRADIENT_NORM, make_optimiser, rate_factor, set_rate
from agesearch.training.standing import EpochProgress, followed
from agesearch.training.stopping import TrainingStopped, signals_stop, stop_requested


def teach_order(
    spec: OrderTrainSpec,
    dataset: str | Location,
    out: str | Location,
    *,
    threads: int = 1,
    on_progress: Listener = silent,
) -> OrderManifest:
    """Train an order teacher on the ages of a dataset and leave its folder in ``out``; returns its manifest.

    The epoch with the best Kendall tau on the validation faces is kept. A finished teacher of the same run is
    returned as it is; a folder that holds anything else is a ``ConflictError``. Ages too close together for
    the sequences asked for are an ``InputError``. Ctrl-C and SIGTERM write a checkpoint first, within an
    epoch too, and raise ``KeyboardInterrupt``.
    """
    folder, target = Location.of(dataset), Location.of(out)
    manifest = read_manifest(folder)
    architecture(spec.model.arch)
    order_loss(spec.order.loss)
    identity = with_weights(
        {"spec": spec.identity(), "data": manifest.content_digest}, weights_digest(spec.model)
    )
    if ORDER in own_run(target, "an order teacher", identity):
        return read_order_manifest(target)
    check_start(spec.model)
    with waiting(on_progress, "reading faces"):
        train, val = read_arrays(folder, Split.TRAIN), read_arrays(folder, Split.VAL)
    for faces in (train, val):
        Sequences(faces.age, spec.order.length, spec.order.gap)  # says now what is wrong with them
    with exclusive(target, "The teacher"):
        if ORDER in own_run(target, "an order teacher", identity):  # another run may have come in between
            return read_order_manifest(target)
        use_threads(threads)
        sorter = _Sorter(spec, train, val, target)
        begin_run(target, identity)
        with signals_stop(target), followed(target, spec.optim.epochs, on_progress):
            weights, best = sorter.fit()
        sorter.net.load_state_dict(weights)
        found = quality_of(
            sorter.seen(train), sorter.seen(val), folder.name, Split.VAL, spec.order.length, spec.order.gap
        )
        probed = {
            metrics.VAL_PROBE_MAE_YEARS: found.probe_mae_years,
            metrics.VAL_MAE_MEDIAN_YEARS: found.median_mae_years,
        }
        written = write_order(
            target,
            weights,
            OrderManifest(
                model=spec.model,
                crop=manifest.crop,
                train=spec,
                metrics={**best, **probed},
                parameters=sum(parameter.numel() for parameter in sorter.net.parameters()),
                data_digest=manifest.content_digest,
                spec_digest=spec.digest(),
            ),
        )
        delete_state(target)
        return written


class _Sorter:
    """The network in training, its faces, and where it stands."""

    def __init__(self, spec: OrderTrainSpec, train: FaceArrays, val: FaceArrays, out: Location) -> None:
        self._spec, self._out = spec, out
        self._device = pick_device()
        size = spec.model.input_size
        self._pixels = resized(train.images, size)
        self._ids = [str(sample_id) for sample_id in train.sample_id]
        self._ages, self._val = train.age, val
        self._sequences = Sequences(train.age, spec.order.length, spec.order.gap)
        self._augment = Augmenter(spec.augment, spec.seed)
        torch.manual_seed(spec.seed)
        self.net: OrderNet = build_order(spec.model).to(self._device)
        self._optimiser = make_optimiser(self.net, spec.optim)
        self._progress = EpochProgress(out)
        asked = partial(stop_requested, out)
        self._lookout = Lookout(spec.checkpoint_minutes, asked, look_s=look_seconds(out))
        self._means: RunningMeans | None = None  # of the epoch that a resumed run is in the middle of
        self._state = self._restored()
        # A step's sequences hold the faces of a batch; an epoch shows as many faces as there are.
        self._count = max(1, spec.optim.batch_size // spec.order.length)
        shown = spec.optim.epoch_faces or round(self._sequences.faces * spec.share_of_faces)
        self._steps = max(1, shown // (self._count * spec.order.length))

    def fit(self) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """Train what is left of the epochs; the best epoch's weights and metrics.

        Raises ``TrainingDiverged``, and ``TrainingStopped`` where it was asked to stop.
        """
        shown = self._means.shown if self._means else 0
        self._state.curve = keep_epochs(self._out, self._state.epochs, self._state.curve, shown)
        self._progress.end()  # what a killed run left
        self._lookout.saved()
        for epoch in range(self._state.epochs, self._spec.optim.epochs):
            loss = self._epoch(epoch)
            tau, exact = self._sorted()
            scores = {metrics.VAL_KENDALL_TAU: tau, metrics.VAL_EXACT_MATCH: exact}
            row = {metrics.EPOCH: float(epoch + 1), metrics.TRAIN_LOSS: loss, **scores}
            row[metrics.EPOCH_SECONDS] = round(self._progress.seconds, 3)
            self._state.curve.append(row)
            self._keep(epoch, scores)
            append_row(self._out, row)
        self._progress.end()
        return self._state.best, self._state.best_metrics

    def seen(self, faces: FaceArrays) -> Seen:
        """Scores and features of the faces that have an age."""
        known = np.flatnonzero(np.isfinite(faces.age))
        self.net.eval()
        scores, features = answers(
            self.net, [faces.images[row] for row in known], self._spec.model.input_size
        )
        persons = Persons.of(faces.sample_id[known], faces.subject_id[known])
        return Seen(persons, faces.age[known], scores, features)

    def _sorted(self) -> tuple[float, float]:
        return sorting(self.seen(self._val), self._spec.order.length, self._spec.order.gap)

    def _epoch(self, epoch: int) -> float:
        """The mean loss a sequence, of an epoch or what is left of it."""
        first, means = (self._state.step, self._means) if self._means else (0, RunningMeans())
        self._means = None
        length = self._spec.order.length
        generator = np.random.default_rng([self._spec.seed, epoch])
        for _ in range(first):  # the draws of the steps before: cheap beside one step
            self._sequences.draw(self._count, generator)
        self.net.train()
        faces, seconds = self._steps * self._count * length, self._state.seconds if first else 0.0
        self._progress.begin(epoch, faces, faces=means.shown, seconds=seconds)
        self._lookout.begin()
        for step in range(first, self._steps):
            share = rate_factor(epoch * self._steps + step, self._steps, self._spec.optim)
            set_rate(self._optimiser, share * self._spec.optim.learning_rate)
            loss = self._step(self._sequences.draw(self._count, generator), epoch)
            means.add({"loss": loss}, 1, self._count * length)
            self._after_step(epoch, step + 1, means)
        if not math.isfinite(means.loss):
            raise self._diverged(epoch)
        return means.loss

    def _after_step(self, epoch: int, steps: int, means: RunningMeans) -> None:
        """Tell where the epoch stands after so many steps; write a checkpoint, or stop, where it is time."""
        if self._progress.is_due:
            self._progress.now(means.shown, means.loss)
        action = self._lookout.after_step(
            last=steps == self._steps, diverged=lambda: not math.isfinite(means.loss)
        )
        if action is Action.GO_ON:
            return
        if action is Action.DIVERGED:
            raise self._diverged(epoch)
        self._state.within(epoch, steps, self._steps, self._progress.seconds)
        self._state.means = [vars(means)]
        self._save()
        self._progress.keep(means.shown, means.loss)
        if action is Action.STOP:
            self._progress.end()
            raise TrainingStopped.within(epoch)

    def _diverged(self, epoch: int) -> TrainingDiverged:
        delete_state(self._out)
        return TrainingDiverged(
            f"The loss of {self._spec.model.arch} is not a number in epoch {epoch + 1}: lower the "
            f"learning rate (it is {self._spec.optim.learning_rate:g})."
        )

    def _step(self, rows: Rows, epoch: int) -> torch.Tensor:
        order = self._spec.order
        flat = rows.reshape(-1)
        pixels = np.stack([self._augment(self._pixels[row], epoch, self._ids[row]) for row in flat])
        images = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2).float()
        ages = torch.from_numpy(self._ages[rows]).to(self._device)
        scores = self.net(images).reshape(rows.shape)
        loss = order_loss(order.loss)(scores, ages, order.temperature).mean()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.net.parameters(), MAX_GRADIENT_NORM)
        self._optimiser.step()
        return loss.detach()

    def _keep(self, epoch: int, scores: dict[str, float]) -> None:
        if scores[metrics.VAL_KENDALL_TAU] > self._state.best_metrics.get(metrics.VAL_KENDALL_TAU, -2.0):
            self._state.best = self._weights()
            self._state.best_metrics = {**scores, metrics.EPOCH: float(epoch + 1)}
        self._state.after_epoch(epoch + 1)
        self._save()

    def _save(self) -> None:
        began = time.monotonic()
        self._state.student = self._weights()
        self._state.optimiser = self._optimiser.state_dict()
        self._state.random = [random_states()]
        save_state(self._out, self._state)
        self._lookout.saved(time.monotonic() - began)

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().cpu().clone() for name, tensor in self.net.state_dict().items()}

    def _restored(self) -> TrainState:
        state = load_state(self._out, self._spec.digest())
        if state is None:
            return TrainState(self._spec.digest())
        self.net.load_state_dict(state.student)
        self._optimiser.load_state_dict(state.optimiser)
        if state.random:
            restore_random(state.random[0])
        self._means = RunningMeans.of(state.means, 0, 1)
        return state
