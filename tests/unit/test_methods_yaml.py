"""Files of methods: what methods share, what each may change, and faults told with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from agesearch.errors import InputError
from agesearch.specs import OrderTrainSpec, TrainSpec
from agesearch.training.comparison.methods import load_methods

STUDENT = """student:
  model: {arch: lcnet_035, input_size: 32}
  optim: {epochs: 4, batch_size: 8}
"""
TEACHERS = """teachers:
  large: {model: {arch: lcnet_050, input_size: 32}, optim: {epochs: 8}}
orders:
  sorter: {model: {arch: lcnet_035, input_size: 32}, optim: {epochs: 6}}
"""
METHODS = """methods:
  labels: {about: labels only}
  kd: {teacher: large, values: {distill.kd_weight: 2.0}}
  dark: {teacher: large, order: sorter, values: {distill.hint_weight: 1.0, model.head: clipped}}
"""
WHOLE = STUDENT + TEACHERS + METHODS


def written(where: Path, text: str, name: str = "methods.yaml") -> str:
    (where / name).write_text(text)
    return str(where / name)


def test_methods_keep_the_students_settings_and_name_their_teachers(tmp_path: Path) -> None:
    found = load_methods([written(tmp_path, WHOLE)])
    labels, kd, dark = found.methods
    assert (labels.teacher, labels.order, labels.spec) == (None, None, found.student)
    assert kd.teacher is not None
    assert isinstance(kd.teacher.what, TrainSpec)
    assert (kd.teacher.name, kd.spec.distill.kd_weight) == ("large", 2.0)
    assert dark.order is not None
    assert isinstance(dark.order.what, OrderTrainSpec)
    assert dark.spec.model.head == "clipped"
    assert kd.teacher.key == (dark.teacher and dark.teacher.key)


def test_the_scale_shortens_students_and_teachers_alike(tmp_path: Path) -> None:
    kd = load_methods([written(tmp_path, WHOLE)], scale=0.5).methods[1]
    assert kd.spec.optim.epochs == 2
    assert kd.teacher is not None
    assert isinstance(kd.teacher.what, TrainSpec)
    assert kd.teacher.what.optim.epochs == 4
    tiny = load_methods([written(tmp_path, WHOLE)], scale=0.1).methods[1].spec
    assert tiny.optim.epochs == 1
    assert tiny.share_of_faces == pytest.approx(0.4)


def test_the_reference_comes_first_and_must_be_there(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    found = load_methods([path], reference="kd")
    assert [method.name for method in found.methods] == ["kd", "labels", "dark"]
    with pytest.raises(InputError, match="Unknown method 'label'.*Did you mean 'labels'"):
        load_methods([path], reference="label")


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("distill.kd_weight: 2.0", "optim.epochs: 9", 10, "changes 'optim.epochs', but methods"),
        ("distill.kd_weight: 2.0", "augment.strength: 0", 10, "changes 'augment.strength'"),
        ("distill.kd_weight: 2.0", "distill.kd_wait: 2.0", 10, "'distill.kd_wait' is not a field"),
        ("distill.kd_weight: 2.0", "distill.kd_weight: -1", 10, "greater than or equal to 0"),
        ("distill.kd_weight: 2.0", "distill.kd_weight: 0", 10, "learns nothing from it"),
        ("teacher: large, values: {distill.kd", "values: {distill.kd", 10, "needs a teacher"),
        (
            "teacher: large, order: sorter",
            "teacher: large",
            11,
            "'distill.hint_weight' needs an order teacher",
        ),
        (
            "about: labels only",
            "values: {distill.label_weight: 0, distill.mean_weight: 0}",
            9,
            "'labels' learns from nothing",
        ),
        ("kd: {teacher: large", "kd: {teacher: larch", 10, "there is no teacher 'larch'.*known names: large"),
        ("arch: lcnet_050", "arch: lcnet_051", 5, "Did you mean 'lcnet_050'"),
        ("arch: lcnet_035, input_size: 32}, optim: {epochs: 6}", "arch: lenet}", 7, "Unknown architecture"),
        ("about: labels only", "abut: labels only", 9, "'methods.labels.abut' is not a known field"),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    assert old in WHOLE
    with pytest.raises(InputError, match=f"methods.yaml' line {line}: .*{words}"):
        load_methods([written(tmp_path, WHOLE.replace(old, new, 1))])


def test_files_must_agree_in_what_methods_share(tmp_path: Path) -> None:
    first = written(tmp_path, WHOLE)
    more = STUDENT + "methods:\n  wider: {values: {distill.label_sigma: 4.0}}\n"
    both = load_methods([first, written(tmp_path, more, "more.yaml")])
    assert [method.name for method in both.methods] == ["labels", "kd", "dark", "wider"]
    other = written(tmp_path, more.replace("batch_size: 8", "batch_size: 16"), "other.yaml")
    with pytest.raises(InputError, match=r"other.yaml' line 3: 'optim.batch_size' is 16, but 8 in"):
        load_methods([first, other])
    with pytest.raises(InputError, match="another file has a method 'labels'"):
        load_methods([first, written(tmp_path, WHOLE, "again.yaml")])


def test_the_methods_that_are_shipped_are_sound(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(root)
    assert (root.parent / "shared").samefile(shared)
    found = load_methods(["search_spaces/compare/portraits.yaml"])
    assert found.reference.name == "labels"
    assert len({method.spec.model_copy(update={"seed": 0}).digest() for method in found.methods}) >= 7
    assert all(method.about for method in found.methods)


def test_one_method_is_no_comparison(tmp_path: Path) -> None:
    alone = STUDENT + "methods:\n  labels: {}\n"
    with pytest.raises(InputError, match="at least two methods"):
        load_methods([written(tmp_path, alone)])
