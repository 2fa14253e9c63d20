"""Specs: strict fields, one-line errors, digests that follow content, dotted replacement."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from agesearch.documents import Spec, newer
from agesearch.errors import InputError, unknown_name
from agesearch.specs import CropSpec, ModelSpec, Range, SplitSpec, TrainSpec, load_spec, parse_spec

SPEC = TrainSpec(model=ModelSpec(arch="mobilenetv3_small_050"))


def test_digest_follows_the_content_alone() -> None:
    same = TrainSpec.model_validate(SPEC.model_dump(mode="json"))
    assert same.digest() == SPEC.digest()
    assert SPEC.with_values({"seed": 1}).digest() != SPEC.digest()


def test_dotted_fields_are_replaced_and_checked() -> None:
    changed = SPEC.with_values({"model.input_size": 64, "distill.temperature": 3.5})
    assert (changed.model.input_size, changed.distill.temperature) == (64, 3.5)
    assert SPEC.model.input_size == 96
    with pytest.raises(InputError, match=r"'model\.depth' is not a field of TrainSpec"):
        SPEC.with_values({"model.depth": 3})
    with pytest.raises(InputError, match=r"'model\.input_size'.*but is 7"):
        SPEC.with_values({"model.input_size": 7})


def test_specs_are_frozen() -> None:
    with pytest.raises(ValidationError):
        SPEC.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"scale": 9}, r"'scale'.*less than or equal to 3"),
        ({"colour": 1}, r"'colour' is not a known field"),
    ],
)
def test_a_wrong_field_is_named_with_its_value(document: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_spec(CropSpec, document, "crop.yaml")


def test_rules_between_fields() -> None:
    with pytest.raises(ValidationError, match="must be < 1"):
        SplitSpec(val=0.6, test=0.5)
    with pytest.raises(ValidationError, match="weights must be given"):
        ModelSpec(arch="x", init="file")
    with pytest.raises(ValidationError, match="low is 3"):
        Range(low=3, high=2)
    with pytest.raises(ValidationError, match="log scale"):
        Range(low=0, high=2, log=True)


def test_yaml_errors_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "crop.yaml"
    path.write_text("scale: 1.2\nsize: [1\n")
    with pytest.raises(InputError, match=r"not valid YAML: line 3"):
        load_spec(CropSpec, str(path))
    path.write_text("scale: !!python/object:os.system {}\n")
    with pytest.raises(InputError, match="not valid YAML: line 1"):
        load_spec(CropSpec, str(path))
    path.write_text("scale: 1.2\n")
    assert load_spec(CropSpec, str(path)).scale == 1.2


def test_unknown_names_list_the_known_ones_and_guess() -> None:
    message = str(unknown_name("loss", "labl", ["label", "kd"]))
    assert "kd, label" in message
    assert "Did you mean 'label'?" in message


class _Older(Spec):
    seed: int = 0


class _Newer(_Older):
    WITHOUT_EFFECT = frozenset({"minutes"})

    share: float | None = newer(None, gt=0.0)
    minutes: float = newer(10.0, gt=0.0)


class _Outer(Spec):
    inner: _Newer = _Newer()


def test_a_field_that_came_later_leaves_older_digests_and_documents_as_they_were() -> None:
    old, new = _Older(seed=3), _Newer(seed=3)
    assert new.digest() == old.digest()
    assert new.model_dump() == old.model_dump()
    assert repr(new) == repr(old).replace("_Older", "_Newer")
    outer = _Outer(inner=new)
    asked = outer.with_values({"inner.share": 0.5, "inner.minutes": 2.0})
    assert asked.model_dump() == {"inner": {"seed": 3, "share": 0.5, "minutes": 2.0}}
    assert asked.digest() != outer.digest()
    # ... and what changes no result is in documents, but in no digest
    assert asked.digest() == asked.with_values({"inner.minutes": 3.0}).digest()
    assert _Outer.model_validate(asked.model_dump(mode="json")) == asked
    with pytest.raises(InputError, match="greater than 0"):
        outer.with_values({"inner.share": 0.0})
