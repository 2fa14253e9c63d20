"""Search spaces: what is accepted, and how clearly the rest is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from agesearch.errors import InputError
from agesearch.models.architectures import Network
from agesearch.search.space.space import (
    check_space,
    field_names,
    load_space,
    networks,
    optuna_distributions,
    trial_name,
    trial_spec,
)
from agesearch.specs import Choices, ModelSpec, Range, StudySpec, TrainSpec

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = [ROOT / "search_spaces" / "quick.yaml", ROOT / "agesearch" / "assets" / "demo.yaml"]

GOOD = """\
student:
  model: {arch: mobilenetv2_100, input_size: 96}
space:
  model.arch: {choices: [mobilenetv2_100, resnet18]}
  model.input_size: {low: 64, high: 96, step: 16, integer: true}
  optim.learning_rate: {low: 0.001, high: 0.01, log: true}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_spaces_are_sound_and_every_corner_makes_a_trial(path: Path) -> None:
    study = load_space(path)
    for ends in (0, -1):
        params = {
            field: dim.choices[ends] if isinstance(dim, Choices) else (dim.low, dim.high)[ends]
            for field, dim in study.space.items()
        }
        spec = trial_spec(study, params)
        assert all(read(spec, field) == value for field, value in params.items())


def read(spec: TrainSpec, dotted: str) -> object:
    value: object = spec
    for part in dotted.split("."):
        value = getattr(value, part)
    return value


def test_the_quick_space_searches_what_the_issue_asks_for() -> None:
    study = load_space(SHIPPED[0])
    archs = study.space["model.arch"]
    assert isinstance(archs, Choices)
    assert len(archs.choices) >= 8
    for family in (
        "mobilenetv2",
        "mobilenetv3_small",
        "mobilenetv3_large",
        "mobilenetv4",
        "efficientnet_lite",
    ):
        assert any(str(arch).startswith(family) for arch in archs.choices)
    searched = {"model.input_size", "distill.temperature", "distill.kd_weight", "distill.label_sigma"}
    searched |= {"optim.learning_rate", "optim.weight_decay", "augment.strength"}
    assert searched <= set(study.space)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("optim.learning_rate:", "optim.learnin_rate:", 6, "Did you mean 'optim.learning_rate'?"),
        ("[mobilenetv2_100, resnet18]", "[mobilenetv2_100, resnet19]", 4, "Did you mean 'resnet18'?"),
        ("arch: mobilenetv2_100, input", "arch: mobilenet, input", 2, "Unknown architecture 'mobilenet'"),
        ("low: 0.001, high: 0.01", "low: 0.1, high: 0.01", 6, "low is 0.1, but must be <= high"),
        ("low: 0.001, high: 0.01", "low: 0.0, high: 0.01", 6, "must be > 0 on a log scale"),
        ("high: 0.01", "high: 100", 6, "less than or equal to 10"),
        ("low: 64", "low: 16", 5, "greater than or equal to 32"),
        (", integer: true", "", 5, "integer: true"),
        ("step: 16", "step: 0.5", 5, "whole numbers"),
        ("{choices: [mobilenetv2_100, resnet18]}", "mobilenetv2_100", 4, "{choices: [...]}"),
        ("{choices: [mobilenetv2_100, resnet18]}", "{choices: []}", 4, "at least 1"),
        ("{choices: [mobilenetv2_100, resnet18]}", "{low: 1, high: 2}", 4, "takes names"),
        ("resnet18]", "mobilenetv2_100]", 4, "a choice twice"),
        ("resnet18]", "vgg16]", 4, "at least 224 px"),
        ("log: true", "logarithmic: true", 6, "not a known field"),
        ("input_size: 96}", "input_size: 96, depth: 3}", 2, "'student.model.depth' is not a known field"),
        ("student:", "trials: 0\nstudent:", 1, "'trials'"),
        ("space:", "weights: {resnet18: nowhere.pth}\nspace:", 3, "no weights file 'nowhere.pth'"),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(InputError) as caught:
        load_space(write(tmp_path, GOOD.replace(old, new)))
    assert f"space.yaml' line {line}: " in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- 1\n- 2\n", "student: {model: {arch: resnet18}}\n", "space: 3\n"])
def test_a_document_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="space.yaml"):
        load_space(write(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        load_space(tmp_path / "none.yaml")


def test_a_spec_without_a_file_is_checked_alike() -> None:
    student = TrainSpec(model=ModelSpec(arch="resnet18"))
    study = StudySpec(student=student, space={"optim.lr": Range(low=1, high=2)})
    with pytest.raises(InputError, match="space.optim.lr: Unknown field"):
        check_space(study)


def test_networks_are_every_pair_that_can_be_suggested(tmp_path: Path) -> None:
    found = set(networks(load_space(write(tmp_path, GOOD))))
    assert found == {Network(arch, size) for arch in ("mobilenetv2_100", "resnet18") for size in (64, 80, 96)}


def test_too_many_networks_to_time_are_refused(tmp_path: Path) -> None:
    wide = GOOD.replace("low: 64, high: 96, step: 16", "low: 32, high: 512")
    with pytest.raises(InputError, match="962 networks"):
        networks(load_space(write(tmp_path, wide)))


def test_weights_follow_the_architecture(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"")
    (tmp_path / "teacher.yaml").write_bytes(b"")
    starts = {"resnet18": tmp_path / "w.pth", "xception_tiny": tmp_path / "teacher.yaml", "vgg16": tmp_path}
    named = ", ".join(f"{arch}: {place}" for arch, place in starts.items())
    study = load_space(write(tmp_path, GOOD.replace("space:", f"weights: {{{named}}}\nspace:")))
    kinds = {arch: trial_spec(study, {"model.arch": arch}).model.init for arch in starts}
    assert kinds == {"resnet18": "file", "xception_tiny": "model", "vgg16": "model"}
    assert trial_spec(study, {"model.arch": "mobilenetv2_100"}).model.init == "random"


def test_distributions_keep_kind_bounds_and_steps(tmp_path: Path) -> None:
    made = optuna_distributions(load_space(write(tmp_path, GOOD)).space)
    assert list(made) == sorted(made)
    assert made["model.arch"].choices == ("mobilenetv2_100", "resnet18")
    size, rate = made["model.input_size"], made["optim.learning_rate"]
    assert (size.low, size.high, size.step) == (64, 96, 16)
    assert (rate.low, rate.high, rate.log) == (0.001, 0.01, True)


def test_field_names_reach_every_field() -> None:
    names = field_names()
    assert {"model.arch", "optim.epochs", "augment.strength", "distill.temperature", "seed"} <= set(names)
    assert names["optim.epochs"] is int
    assert names["optim.learning_rate"] is float


def test_trial_names_can_be_read() -> None:
    assert trial_name(7, ModelSpec(arch="mobilenetv3_small_075")) == "0007-mobilenetv3_small_075-96px"
