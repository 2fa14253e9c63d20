"""A seed that the generators would not take is refused where it is given, in every spec and option."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from agesearch.bench.chaos.run import run_chaos
from agesearch.cli.main import app
from agesearch.data.ingest.run import IngestSpec
from agesearch.data.synthetic.generate import SynthSpec
from agesearch.distill.annotate import AnnotateSpec
from agesearch.errors import InputError
from agesearch.search.space.space import check_space
from agesearch.specs import (
    AugmentSpec,
    OrderTrainSpec,
    Spec,
    SplitSpec,
    StudySpec,
    TrainSpec,
    parse_spec,
)

MODEL = {"arch": "lcnet_035", "input_size": 32}
STUDENT = {"model": MODEL}
STUDY = {"student": STUDENT, "space": {"optim.epochs": {"choices": [1]}}}
ORDER = {"model": MODEL}

SEEDS: list[tuple[type[Spec], dict[str, Any], str]] = [
    (AnnotateSpec, {}, "seed"),
    (AugmentSpec, {}, "view_seed"),
    (IngestSpec, {"source": "csv", "root": "r"}, "split.seed"),
    (OrderTrainSpec, ORDER, "seed"),
    (SplitSpec, {}, "seed"),
    (StudySpec, STUDY, "seed"),
    (StudySpec, STUDY, "student.seed"),
    (StudySpec, {**STUDY, "teachers": {"age": STUDENT}}, "teachers.age.seed"),
    (StudySpec, {**STUDY, "teachers": {"order": ORDER}}, "teachers.order.seed"),
    (SynthSpec, {"count": 1}, "seed"),
    (TrainSpec, STUDENT, "seed"),
    (TrainSpec, STUDENT, "augment.view_seed"),
]


def with_value(document: dict[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    first, _, rest = dotted.partition(".")
    inner = with_value(document.get(first, {}), rest, value) if rest else value
    return {**document, first: inner}


@pytest.mark.parametrize("wrong", [-1, 2**63, 0.5, "one"])
@pytest.mark.parametrize(("kind", "document", "field"), SEEDS)
def test_a_seed_out_of_range_is_refused(
    kind: type[Spec], document: dict[str, Any], field: str, wrong: Any
) -> None:
    with pytest.raises(InputError, match="seed"):
        parse_spec(kind, with_value(document, field, wrong), "here")
    for right in (0, 7, 2**63 - 1):
        parse_spec(kind, with_value(document, field, right), "here")


def test_the_table_above_has_every_seed_that_a_spec_is_given() -> None:
    known = {(kind, field.rpartition(".")[2]) for kind, _, field in SEEDS}
    kinds: set[type[BaseModel]] = {kind for kind, _, _ in SEEDS}
    for kind in kinds:
        for name in kind.model_fields:
            assert not name.endswith("seed") or (kind, name) in known, (kind, name)


@pytest.mark.parametrize("dimension", [{"choices": [0, -1]}, {"low": -1, "high": 3, "integer": True}])
def test_a_searched_seed_is_held_to_the_same(dimension: dict[str, Any]) -> None:
    study = StudySpec.model_validate({"student": STUDENT, "space": {"seed": dimension}})
    with pytest.raises(InputError, match="seed"):
        check_space(study)


@pytest.mark.parametrize(
    "words",
    [
        "teach --data x --arch resnet18 --out y --seed -1",
        "teach --kind order --data x --arch resnet18 --out y --seed -1",
        "annotate --teacher t --data x --out y --seed -1",
        "data ingest x --source csv --out y --seed -1",
        "data synth --count 1 --out y --seed -1",
        "targets --teacher t --data x --view-seed -1",
        "tune SPACE --data x --out y --teacher t --seed -1",
    ],
)
def test_the_command_line_refuses_it_in_one_line(
    words: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "SPACE").write_text(
        "student: {model: {arch: resnet18}}\nspace: {optim.epochs: {choices: [1]}}\n"
    )
    result = CliRunner().invoke(app, words.split())
    if result.exit_code != 2:  # an error of ours, which ``run`` prints and ends with its exit code
        assert isinstance(result.exception, InputError), result.output
        assert "seed" in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["SPACE"]


def test_the_chaos_bench_refuses_it_before_it_starts_anything() -> None:
    with pytest.raises(InputError, match="seed"):
        run_chaos(seed=-1)
