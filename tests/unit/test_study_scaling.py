"""Studies at a smaller budget, their teachers, and the studies that come with agesearch."""

from __future__ import annotations

from pathlib import Path

import pytest

from agesearch.errors import InputError
from agesearch.search.run.teachers import chosen_teachers, own_teacher
from agesearch.search.space.scaling import scaled_study
from agesearch.search.space.space import check_space, grid, load_space, networks, trial_spec
from agesearch.search.store.records import StudyFolder, StudyInput
from agesearch.specs import (
    Choices,
    ModelSpec,
    OptimSpec,
    OrderTrainSpec,
    Range,
    RungSpec,
    StudySpec,
    TeachersSpec,
    TrainSpec,
    Variants,
)
from agesearch.storage import Location

SPACES = Path(__file__).resolve().parents[2] / "search_spaces"
NET = ModelSpec(arch="lcnet_035", input_size=32)
OPTIM = OptimSpec(epochs=40, decay_every=20, warmup_epochs=2.0)


def study(**changes: object) -> StudySpec:
    made = StudySpec(
        student=TrainSpec(model=NET, optim=OPTIM),
        teachers=TeachersSpec(
            age=TrainSpec(model=NET, optim=OptimSpec(epochs=80)),
            order=OrderTrainSpec(model=NET, optim=OptimSpec(epochs=10)),
        ),
        rungs=RungSpec(first_epoch=8),
        space={
            "optim.epochs": Range(low=20, high=40, step=10, integer=True),
            "optim.learning_rate": Range(low=1e-3, high=1e-2),
        },
    )
    return made.model_copy(update=changes)


def test_epochs_shrink_first_and_stairs_and_warm_up_with_them() -> None:
    half = check_space(scaled_study(study(), 0.5))
    assert half.student.optim.epochs == 20
    assert (half.student.optim.decay_every, half.student.optim.warmup_epochs) == (10, 1.0)
    assert half.student.share_of_faces == 1.0
    assert half.space["optim.epochs"] == Range(low=10, high=20, step=5, integer=True)
    assert half.space["optim.learning_rate"] == study().space["optim.learning_rate"]
    assert half.rungs == RungSpec(first_epoch=4)
    age, order = half.teachers.age, half.teachers.order
    assert isinstance(age, TrainSpec)
    assert isinstance(order, OrderTrainSpec)
    assert (age.optim.epochs, order.optim.epochs) == (40, 5)


def test_below_one_epoch_the_faces_shrink() -> None:
    tiny = check_space(scaled_study(study(), 0.01))
    assert (tiny.student.optim.epochs, tiny.student.share_of_faces) == (1, pytest.approx(0.4))
    age, order = tiny.teachers.age, tiny.teachers.order
    assert isinstance(age, TrainSpec)
    assert isinstance(order, OrderTrainSpec)
    assert (age.optim.epochs, age.share_of_faces) == (1, pytest.approx(0.8))
    assert (order.optim.epochs, order.share_of_faces) == (1, pytest.approx(0.1))


def test_variants_and_choices_of_epochs_shrink_too() -> None:
    space = {
        "recipe": Variants(variants={"long": {"optim.epochs": 100, "optim.decay_every": 50}, "own": {}}),
        "optim.warmup_epochs": Choices(choices=(0, 2)),
    }
    small = check_space(scaled_study(study(space=space), 0.1))
    assert small.space["recipe"] == Variants(
        variants={"long": {"optim.epochs": 10, "optim.decay_every": 5}, "own": {}}
    )
    assert small.space["optim.warmup_epochs"] == Choices(choices=(0.0, 0.2))


def test_a_whole_scale_changes_nothing_and_none_is_refused() -> None:
    assert scaled_study(study(), 1.0) == study()
    with pytest.raises(InputError, match="--scale is 0"):
        scaled_study(study(), 0.0)


def test_teachers_are_those_given_before_those_described(tmp_path: Path) -> None:
    folder = StudyFolder(Location.of(tmp_path / "study"))
    planned = chosen_teachers(study(), folder, None, None)
    assert [name for name, _ in planned.untrained] == ["age", "order"]
    assert str(planned.age) == f"{tmp_path}/study/teachers/age"
    with pytest.raises(InputError, match="is not a model"):
        chosen_teachers(study(), folder, str(tmp_path), None)
    with pytest.raises(InputError, match="is not an order teacher"):
        chosen_teachers(study(), folder, None, str(tmp_path))


def test_a_teacher_that_is_missing_is_asked_for(tmp_path: Path) -> None:
    folder = StudyFolder(Location.of(tmp_path / "study"))
    with pytest.raises(InputError, match="no teacher: name one with --teacher"):
        chosen_teachers(study(teachers=TeachersSpec()), folder, None, None)
    hinted = study(teachers=TeachersSpec(age=TrainSpec(model=NET)))
    assert chosen_teachers(hinted, folder, None, None).order is None
    space = {"distill.hint_weight": Choices(choices=(0.0, 1.0))}
    with pytest.raises(InputError, match="name one with --order-teacher"):
        chosen_teachers(hinted.model_copy(update={"space": space}), folder, None, None)


def test_a_stage_that_a_network_does_not_have_is_told_before_anything_trains(tmp_path: Path) -> None:
    space = {"distill.hint_stage": Choices(choices=("stride8", "layer9"))}
    hinted = study(space=space, student=TrainSpec(model=NET).with_values({"distill.hint_weight": 1.0}))
    with pytest.raises(InputError, match=r"Unknown stage of lcnet_035 \(distill.hint_stage\) 'layer9'"):
        chosen_teachers(hinted, StudyFolder(Location.of(tmp_path)), None, None)


def test_a_study_that_was_moved_finds_its_own_teachers(tmp_path: Path) -> None:
    folder = StudyFolder(Location.of(tmp_path))
    gone = StudyInput(path=str(tmp_path / "elsewhere" / "teachers" / "age"), content_digest="0")
    assert own_teacher(folder, "age", gone) is None
    (tmp_path / "teachers" / "age").mkdir(parents=True)
    assert own_teacher(folder, "age", gone) == str(tmp_path / "teachers" / "age")


@pytest.mark.parametrize("name", ["greco2021", "zhao2020", "full"])
def test_the_shipped_studies_are_sound_at_every_budget(name: str) -> None:
    spec = load_space(SPACES / f"{name}.yaml")
    small = check_space(scaled_study(spec, 0.002))
    assert small.student.optim.epochs == 1
    assert isinstance(small.teachers.age, TrainSpec)


def test_grecos_networks_have_their_sizes_and_recipes() -> None:
    spec = load_space(SPACES / "greco2021.yaml")
    points = grid(spec)
    assert len(points) == spec.trials == len(networks(spec)) == 11
    by_name = {str(point["net"]): trial_spec(spec, point) for point in points}
    sizes = {name: trained.model.input_size for name, trained in by_name.items()}
    assert {name for name, size in sizes.items() if size == 112} == {n for n in by_name if n.endswith("_112")}
    assert sizes["mobilenet96"] == 96
    for name, trained in by_name.items():
        assert trained.optim.batch_size == (256 if name in ("mobilenet224", "mobilenet96") else 128)
        assert (trained.model.head, trained.model.pixels) == ("clipped", "vggface2")
        assert trained.distill.scalar_weight == 1.0
        assert trained.distill.kd_weight == trained.distill.label_weight == trained.distill.mean_weight == 0.0


def test_zhaos_teacher_is_the_students_own_network(tmp_path: Path) -> None:
    spec = load_space(SPACES / "zhao2020.yaml")
    planned = chosen_teachers(spec, StudyFolder(Location.of(tmp_path)), None, None).untrained
    assert [name for name, _ in planned] == ["age", "order"]
    assert isinstance(spec.teachers.age, TrainSpec)
    assert spec.teachers.age.model == spec.student.model
    assert not {"model.arch", "model.input_size"} & set(spec.space)
