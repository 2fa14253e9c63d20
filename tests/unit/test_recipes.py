"""Recipes of fine-tuning: the published values, what a user changes, and who is held out to validate."""

from typing import Any

import numpy as np
import pytest

from agesearch.ages import ADIENCE_GROUPS
from agesearch.data.dataset.records import Part
from agesearch.errors import InputError
from agesearch.measure.predictions import Labels, Picker
from agesearch.measure.protocols import Turn
from agesearch.models.manifest import ModelManifest
from agesearch.specs import CropSpec, ModelSpec, TrainSpec
from agesearch.storage import Location
from agesearch.training.protocols.finetune import _learnt_from, folder_name
from agesearch.training.protocols.recipes import finetune_spec, parse_changes, recipe_for

MODEL = Location.of("/models/teacher")


def _spec(protocol: str, arch: str = "mobilenetv2_100", scale: float = 1.0, **changes: Any) -> TrainSpec:
    model = ModelSpec(arch=arch, input_size=224, dropout=0.1)
    manifest = ModelManifest(kind="teacher", model=model, crop=CropSpec())
    return finetune_spec(recipe_for(protocol), MODEL, manifest, changes, scale)


def test_the_adience_recipe_is_the_published_one() -> None:
    spec = _spec("adience")
    optim, model = spec.optim, spec.model
    assert (model.head, model.groups, model.dropout) == ("groups", ADIENCE_GROUPS, 0.5)
    assert (model.init, model.weights, model.input_size) == ("model", "/models/teacher", 224)
    assert (optim.optimiser, optim.momentum, optim.weight_decay) == ("sgd", 0.9, 5e-4)
    assert (optim.learning_rate, optim.schedule, optim.decay, optim.decay_every) == (5e-4, "steps", 0.2, 20)
    assert (optim.epochs, optim.batch_size, optim.warmup_epochs) == (35, 32, 0.0)
    assert (spec.augment.policy, spec.augment.strength) == ("greco", 1.0)
    assert (spec.distill.label_weight, spec.distill.mean_weight, spec.distill.mse_weight) == (1.0, 0.0, 0.0)
    assert _spec("adience", "vgg16").optim.learning_rate == 5e-6


def test_the_lap_recipe_is_a_squared_error_and_the_plain_one_keeps_ages() -> None:
    spec = _spec("lap2016")
    assert (spec.distill.label_weight, spec.distill.mean_weight, spec.distill.mse_weight) == (0.0, 0.0, 1.0)
    assert (spec.optim.epochs, spec.optim.batch_size, spec.optim.learning_rate) == (70, 128, 5e-4)
    clipped = ModelManifest(
        kind="trial", model=ModelSpec(arch="vgg16", input_size=224, head="clipped"), crop=CropSpec()
    )
    assert finetune_spec(recipe_for("lap2016"), MODEL, clipped, {}).model.head == "clipped"
    plain = _spec("lopo")
    assert (plain.model.head, plain.optim.optimiser, plain.augment.policy) == ("softmax", "adamw", "default")


def test_scale_shortens_the_stairs_with_the_epochs_and_changes_come_last() -> None:
    spec = _spec("adience", scale=0.2, **{"optim.learning_rate": 0.01})
    assert (spec.optim.epochs, spec.optim.decay_every, spec.optim.learning_rate) == (7, 4, 0.01)
    assert _spec("adience", scale=0.001).optim.epochs == 1
    assert _spec("adience", scale=0.2, **{"optim.epochs": 3}).optim.epochs == 3
    with pytest.raises(InputError, match="--scale is 0, but must be > 0"):
        _spec("adience", scale=0.0)


def test_what_cannot_be_set_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="'model.arch' cannot be set"):
        _spec("adience", **{"model.arch": "vgg16"})
    with pytest.raises(InputError, match="'optim.rate' is not a field of TrainSpec"):
        _spec("adience", **{"optim.rate": 1})
    with pytest.raises(InputError, match=r"'model.head' must be 'softmax', 'groups', 'coral'"):
        _spec("adience", **{"model.head": "corral"})


def test_changes_are_read_as_yaml_values() -> None:
    written = ["optim.epochs=3", "augment.policy=greco", "optim.learning_rate = 1.0e-3"]
    assert parse_changes(written) == {
        "optim.epochs": 3,
        "augment.policy": "greco",
        "optim.learning_rate": 0.001,
    }
    for wrong, words in (("epochs", "is not NAME=VALUE"), ("a=[1", "is not a YAML value")):
        with pytest.raises(InputError, match=words):
            parse_changes([wrong])


def test_names_become_plain_folders_that_stay_apart() -> None:
    assert folder_name("fold-3_a.b") == "fold-3_a.b"
    names = ["fold 0", "fold-0 ", "../../etc", ".hidden", "", "a/b", "ä", "x" * 300]
    folders = [folder_name(name) for name in names]
    assert len(set(folders)) == len(names)
    assert all("/" not in name and not name.startswith(".") and len(name) < 70 for name in folders)
    assert folders[0].startswith("fold-0-")


def _labels(subjects: list[str | None]) -> Labels:
    count = len(subjects)
    numbers = {name: np.zeros(count, dtype=np.float32) for name in ("age", "age_std", "age_low", "age_high")}
    texts = {name: np.full(count, "x", dtype=object) for name in ("sample_id", "sex", "ethnicity", "source")}
    known = {"subject_id": np.array(subjects, dtype=object), "split": np.full(count, "train", dtype=object)}
    rest = {"fold": np.full(count, -1), "label_kind": np.full(count, "real", dtype=object)}
    return Labels(**numbers, **texts, **known, **rest)


def test_a_turn_without_validation_holds_out_a_tenth_of_its_training_persons() -> None:
    subjects: list[str | None] = [f"s{index % 40:02d}" for index in range(120)]
    labels = _labels([*subjects, None])
    picker = Picker(labels)
    turn = Turn(name="s07", train=Part(without=("s07",)), val=None, test=Part(subjects=("s07",)))
    train, val = _learnt_from(turn, picker, labels)
    parts = [set(labels.subject_id[picker.indices(part)]) for part in (train, val, turn.test)]
    assert [len(part) for part in parts] == [35, 4, 1]
    assert len(set.union(*parts)) == 40
    assert _learnt_from(turn, picker, labels) == (train, val)
    whole = Turn(name="fold", train=Part(), val=Part(folds=(1,)), test=Part(folds=(2,)))
    assert _learnt_from(whole, picker, labels) == (Part(), Part(folds=(1,)))


def test_a_turn_that_cannot_be_trained_says_so() -> None:
    labels = _labels([None, None])
    with pytest.raises(InputError, match="no persons known of whom some could be held out"):
        _learnt_from(Turn(name="fold 1", train=Part(), val=None, test=Part()), Picker(labels), labels)
    with pytest.raises(InputError, match="nothing to fine-tune: use 'agesearch evaluate'"):
        _learnt_from(Turn(name="whole", train=None, val=None, test=Part()), Picker(labels), labels)
