"""How a trained model is fine-tuned for a protocol: one table of recipes, and what a user changes in them.

Adding a recipe is one row of ``RECIPES``; a protocol without one is trained by ``PLAIN``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from agesearch.documents import parse_value
from agesearch.errors import InputError
from agesearch.models.manifest import ModelManifest
from agesearch.specs import ModelSpec, OrderTrainSpec, TrainSpec
from agesearch.storage import Location

Values = Mapping[str, Any]
Trained = TypeVar("Trained", TrainSpec, OrderTrainSpec)

#: What the model that is fine-tuned decides, so that no value may.
_FIXED = ("model.arch", "model.init", "model.weights", "model.pixels")


#: The head that gives ages in place of one that gives groups.
_AGES_OF = {"groups": "softmax"}


@dataclass(frozen=True)
class Recipe:
    """Values of a ``TrainSpec`` by their dotted names, and those of single architectures."""

    about: str
    values: Values
    by_arch: Mapping[str, Values] = field(default_factory=dict)


#: What the fine-tunings of Greco 2021 share; L2 is said for Adience only.
_GRECO: Values = {
    "optim.optimiser": "sgd",
    "optim.momentum": 0.9,
    "optim.learning_rate": 5e-4,
    "optim.schedule": "steps",
    "optim.decay": 0.2,
    "optim.decay_every": 20,
    "optim.warmup_epochs": 0.0,
    "augment.policy": "greco",
    "distill.mean_weight": 0.0,
}

PLAIN = Recipe(
    "label distribution learning (Gao 2018) with AdamW: agesearch's own, no published recipe",
    {"model.head": "softmax", "optim.learning_rate": 5e-4},
)

RECIPES: Mapping[str, Recipe] = {
    "adience": Recipe(
        "Greco 2021: 8-way softmax with dropout, cross-entropy, SGD",
        {
            **_GRECO,
            "model.head": "groups",
            "model.dropout": 0.5,
            "optim.weight_decay": 5e-4,
            "optim.epochs": 35,
            "optim.batch_size": 32,
        },
        by_arch={"vgg16": {"optim.learning_rate": 5e-6}},
    ),
    # The stairs are those of the base recipe: only the rate, epochs and batch of this one are published. The
    # head is the model's own, so that a student of Greco 2021 keeps its clipped one.
    "lap2016": Recipe(
        "Greco 2021: squared error to the mean apparent age, all layers, SGD",
        {
            **_GRECO,
            "distill.label_weight": 0.0,
            "distill.mse_weight": 1.0,
            "optim.weight_decay": 0.0,
            "optim.epochs": 70,
            "optim.batch_size": 128,
        },
    ),
}


def recipe_for(protocol: str) -> Recipe:
    """The recipe of a protocol; ``PLAIN`` where the table has none."""
    return RECIPES.get(protocol, PLAIN)


def finetune_spec(
    recipe: Recipe, model: Location, manifest: ModelManifest, changes: Values, scale: float = 1.0
) -> TrainSpec:
    """The spec that trains ``model`` on by a recipe.

    ``scale`` shortens it: epochs, stairs and warm-up are multiplied; then ``changes`` (by dotted names)
    count. A change of the network itself, or of a field that is unknown, is an ``InputError``.
    """
    for name in _FIXED:
        if name in changes:
            raise InputError(f"'{name}' cannot be set: the model that is fine-tuned decides it.")
    start = ModelSpec(
        arch=manifest.model.arch,
        input_size=manifest.model.input_size,
        init="model",
        weights=str(model),
        pixels=manifest.model.pixels,
        head=_AGES_OF.get(manifest.model.head, manifest.model.head),
        groups=manifest.model.groups,
        head_sigma=manifest.model.head_sigma,
    )
    values = {**recipe.values, **recipe.by_arch.get(start.arch, {})}
    return scaled(TrainSpec(model=start).with_values(values), scale).with_values(dict(changes))


def scaled(spec: Trained, scale: float) -> Trained:
    """The same training in ``scale`` times the epochs, one at least."""
    check_scale(scale)
    if scale == 1.0:
        return spec
    optim = spec.optim
    shorter = {
        "optim.epochs": max(1, round(optim.epochs * scale)),
        "optim.decay_every": max(1, round(optim.decay_every * scale)),
        "optim.warmup_epochs": optim.warmup_epochs * scale,
    }
    return spec.with_values(shorter)


def smaller(spec: Trained, scale: float) -> Trained:
    """The same training in ``scale`` times the epochs, one at least; then with ``fewer_faces``."""
    return fewer_faces(scaled(spec, scale), min(1.0, spec.optim.epochs * scale))


def fewer_faces(spec: Trained, share: float) -> Trained:
    """The same training with a share of the faces of an epoch: on fewer of them, or, where an epoch is no
    whole pass, in shorter epochs.
    """
    faces = spec.optim.epoch_faces
    if faces is None:
        return spec.with_values({"share_of_faces": spec.share_of_faces * share})
    return spec.with_values({"optim.epoch_faces": max(2, round(faces * share))})


def check_scale(scale: float) -> None:
    """An ``InputError`` where a scale is none."""
    if not 0.0 < scale <= 100.0:
        raise InputError(f"--scale is {scale:g}, but must be > 0 and at most 100.")


def parse_changes(written: Sequence[str]) -> dict[str, Any]:
    """``["optim.epochs=3", ...]`` as values by their dotted names; values are YAML, without tags."""
    changes: dict[str, Any] = {}
    for item in written:
        name, sign, value = item.partition("=")
        if not sign or not name.strip():
            raise InputError(f"--set '{item}' is not NAME=VALUE, such as optim.learning_rate=0.001.")
        changes[name.strip()] = parse_value(value)
    return changes
