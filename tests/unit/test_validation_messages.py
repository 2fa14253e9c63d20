"""What is wrong with a spec, in words that need no knowledge of the library that found it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agesearch.data.mixture import MixtureSpec
from agesearch.errors import InputError
from agesearch.models.foreign.document import read_teacher_file
from agesearch.specs import CropSpec, StudySpec, TrainSpec, load_spec, parse_spec

TRAIN: dict[str, Any] = {"model": {"arch": "resnet18"}}
STUDY: dict[str, Any] = {"student": TRAIN, "space": {"seed": {"choices": [1, 2]}}}
#: Words of the library, which say nothing to who wrote a YAML file.
FOREIGN = re.compile(
    r"Input should|Field required|Value error|Extra inputs|valid integer|dictionary|_type|pydantic"
)


def _message(kind: type, document: Any) -> str:
    with pytest.raises(InputError) as caught:
        parse_spec(kind, document, "x.yaml")
    message = str(caught.value)
    assert not FOREIGN.search(message)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("kind", "document", "expected"),
    [
        (TrainSpec, {}, "'model' is missing."),
        (TrainSpec, [], "'the document' must be a mapping of names to values, but is []."),
        (TrainSpec, TRAIN | {"seed": "one"}, "'seed' must be a whole number, but is 'one'."),
        (TrainSpec, TRAIN | {"seed": 1.5}, "'seed' must be a whole number, but is 1.5."),
        (TrainSpec, TRAIN | {"seed": None}, "'seed' must be a whole number, but is empty."),
        (TrainSpec, TRAIN | {"optim": 3}, "'optim' must be a mapping of names to values, but is 3."),
        (TrainSpec, TRAIN | {"share_of_faces": 0}, "'share_of_faces' must be greater than 0.0, but is 0."),
        (TrainSpec, TRAIN | {"compute": {"compile": "si"}}, "must be true or false, but is 'si'."),
        (TrainSpec, {"model": {"arch": 3}}, "'model.arch' must be text, but is 3."),
        (
            TrainSpec,
            {"model": {"arch": "x", "groups": [[0, 2]]}},
            "'model.groups' must have at least 2 values",
        ),
        (
            TrainSpec,
            {"model": {"arch": "x", "groups": [[0, 2], [3, "b"]]}},
            "'model.groups.1.1' must be a whole",
        ),
        (
            TrainSpec,
            {"model": {"arch": "x", "init": "file"}},
            "'model': weights must be given with init: file",
        ),
        (MixtureSpec, {"datasets": []}, "'datasets' must have at least 1 value, but is []."),
        (CropSpec, {"size": 1e400}, "'size' must be"),
    ],
)
def test_a_fault_is_told_by_its_field_its_rule_and_its_value(
    kind: type, document: Any, expected: str
) -> None:
    assert expected in _message(kind, document)


@pytest.mark.parametrize(
    ("kind", "document", "expected"),
    [
        (TrainSpec, TRAIN | {"sed": 1}, "'sed' is not a known field: did you mean 'seed'?"),
        (TrainSpec, {"modle": TRAIN["model"]}, "'modle' is not a known field: did you mean 'model'?"),
        (TrainSpec, {"model": {"arhc": "x"}}, "'model.arhc' is not a known field: did you mean 'arch'?"),
        (TrainSpec, {"model": {"Input-Size": 64}}, "did you mean 'input_size'? (and 1 more)"),
        (TrainSpec, TRAIN | {"seed": "a", "optim": {"epoch": 3}}, "did you mean 'epochs'? (and 1 more)"),
        (TrainSpec, {"model": {"arch": "x", "head": "corral"}}, "but is 'corral': did you mean 'coral'?"),
        (
            StudySpec,
            STUDY | {"space": {"seed": {"low": 1, "hgih": 2}}},
            "'space.seed.hgih' is not a known field: ",
        ),
        (StudySpec, STUDY | {"space": {"seed": {"choises": [1]}}}, "did you mean 'choices'?"),
        (
            StudySpec,
            STUDY | {"teachers": {"age": {"model": {"arch": "x"}, "sede": 1}}},
            "'teachers.age.sede'",
        ),
        (
            MixtureSpec,
            {"datasets": [{"dat": "faces"}]},
            "'datasets.0.dat' is not a known field: did you mean 'data'?",
        ),
        (
            TrainSpec,
            TRAIN | {"colour": 1},
            "'colour' is not a known field; the known ones are: model, optim, ",
        ),
    ],
)
def test_a_misspelt_field_comes_first_with_what_was_meant(kind: type, document: Any, expected: str) -> None:
    assert expected in _message(kind, document)


def test_the_line_is_that_of_the_fault_that_is_told(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("seed: many\nmodel:\n  arch: x\n  inputsize: 64\n")
    with pytest.raises(
        InputError, match=r"line 4: 'model\.inputsize'.*did you mean 'input_size'\? \(and 1 more\)"
    ):
        load_spec(TrainSpec, str(path))


def test_a_teachers_document_speaks_of_its_own_kind_alone(tmp_path: Path) -> None:
    path = tmp_path / "teacher.yaml"
    path.write_text(
        "kind: onnx\nname: a\nfile: a.onnx\nlicence: MIT\nsha256: 12\ninput: {name: x, size: 64, maen: 3}\n"
        "crop: {scale: 1.3}\noutput: {kind: scalar, name: y, spread: 3}\n"
    )
    with pytest.raises(
        InputError, match=r"line 6: 'input\.maen' is not a known field: did you mean 'mean'\?"
    ):
        read_teacher_file(str(path))
