"""The published protocols on small sets with their labels, folds and subjects; metrics against other ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_sets import (
    FOLDS,
    Brightness,
    adience_like,
    fgnet_like,
    lap_like,
    mixed,
    write_set,
)
from scipy import stats

from agesearch import ages, metrics
from agesearch.data.dataset.records import Manifest, Part, Split, read_manifest
from agesearch.errors import InputError
from agesearch.measure import accuracy
from agesearch.measure.predictions import Labels, Picker, Predictions, predict_faces, read_labels
from agesearch.measure.protocols import PROTOCOLS, Turn, protocol_named, split_named
from agesearch.measure.scores import differences, pooled_faces, scored
from agesearch.specs import CropSpec
from agesearch.storage import Location

pmfs = st.lists(st.floats(1e-6, 1.0), min_size=101, max_size=101).map(lambda mass: np.array(mass) / sum(mass))


def labels(**columns: object) -> Labels:
    """Labels of as many faces as the columns given have; everything else is unknown."""
    count = len(next(iter(columns.values())))  # type: ignore[arg-type]
    nothing = np.full(count, np.nan, dtype=np.float32)
    texts = np.full(count, None, dtype=object)
    known = {
        "sample_id": np.array([f"{index}" for index in range(count)], dtype=object),
        **dict.fromkeys(("age", "age_std", "age_low", "age_high"), nothing),
        **dict.fromkeys(("subject_id", "sex", "ethnicity"), texts),
        "source": np.full(count, "s", dtype=object),
        "split": np.full(count, "test", dtype=object),
        "fold": np.full(count, -1, dtype=np.int64),
        "label_kind": np.full(count, "real", dtype=object),
    }
    for name, values in columns.items():
        known[name] = np.asarray(values, dtype=known[name].dtype)
    return Labels(**known)


def predictions(predicted: list[float], **columns: object) -> Predictions:
    """Faces whose PMF has all its mass at the predicted (whole) age."""
    pmf = np.zeros((len(predicted), ages.BINS), dtype=np.float32)
    pmf[np.arange(len(predicted)), np.array(predicted, dtype=int)] = 1.0
    return Predictions.of(labels(**columns), pmf)


def values_of(found: dict[str, accuracy.Estimate]) -> dict[str, float]:
    return {name: estimate.value for name, estimate in found.items()}


def turns_of(name: str, folder: Path) -> list[Turn]:
    return PROTOCOLS[name].turns(Location.of(folder), read_manifest(folder))


# The age axis in Adience's groups


def test_cells_cut_each_gap_half_way_and_hold_every_age_once() -> None:
    groups = [[int(age) for age in np.flatnonzero(index == ages.ADIENCE_CELLS)] for index in range(8)]
    ends = [(group[0], group[-1]) for group in groups]
    assert ends == [(0, 2), (3, 6), (7, 13), (14, 22), (23, 34), (35, 45), (46, 56), (57, 100)]
    assert sum(map(len, groups)) == ages.BINS
    for (low, high), (first, last) in zip(ages.ADIENCE_GROUPS, ends, strict=True):
        assert first <= low <= high <= last


def test_an_eight_way_head_is_trained_on_the_same_cells() -> None:
    np.testing.assert_array_equal(ages.group_cells(ages.ADIENCE_GROUPS), ages.ADIENCE_CELLS)


@pytest.mark.parametrize(
    ("age", "group"), [(0.0, 0), (2.99, 0), (3.0, 1), (22.49, 3), (22.5, 4), (56.4, 6), (56.5, 7), (100.0, 7)]
)
def test_an_age_belongs_to_the_nearest_group_and_half_way_to_the_older(age: float, group: int) -> None:
    assert ages.adience_group(age) == group
    assert ages.adience_group(np.float32(age)) == group


@given(
    st.floats(0, 100).filter(lambda age: min(abs(age - x) for x in (3, 7, 14, 22.5, 35, 45.5, 56.5)) > 0.01)
)
def test_no_other_group_is_nearer(age: float) -> None:
    distances = [max(low - age, age - high, 0.0) for low, high in ages.ADIENCE_GROUPS]
    assert distances[int(ages.adience_group(age))] == pytest.approx(min(distances))


def test_only_the_owners_labels_name_a_group() -> None:
    low, high = [8, 8, 60, 38, 38, float("nan")], [12, 13, 100, 43, 48, float("nan")]
    assert ages.adience_label(low, high).tolist() == [2, 2, 7, 5, -1, -1]


@given(pmfs)
def test_mass_by_cell_is_the_sum_over_its_ages(pmf: np.ndarray) -> None:
    mass = ages.adience_mass(pmf)
    by_hand = [sum(pmf[age] for age in range(101) if ages.adience_group(age) == index) for index in range(8)]
    np.testing.assert_allclose(mass, by_hand, atol=1e-5)


# Scores


def test_adience_scores_by_a_loop_over_the_faces() -> None:
    generator = np.random.default_rng(3)
    groups = generator.integers(0, 8, 300)
    low, high = np.array(ages.ADIENCE_GROUPS)[groups].T
    pmf = generator.dirichlet(np.full(101, 0.05), 300).astype(np.float32)
    faces = Predictions.of(labels(age_low=low, age_high=high, label_kind=["group"] * 300), pmf)
    hits = dict.fromkeys((metrics.TOP1, metrics.ONE_OFF, metrics.TOP1_BY_AGE, metrics.ONE_OFF_BY_AGE), 0)
    middles = [3, 7, 14, 22.5, 35, 45.5, 56.5]
    for true, mass in zip(groups, pmf.astype(float), strict=True):
        starts = [0, 3, 7, 14, 23, 35, 46, 57, 101]
        cells = [mass[starts[i] : starts[i + 1]].sum() for i in range(8)]
        best = cells.index(max(cells))
        by_age = sum(float(mass @ np.arange(101)) >= middle for middle in middles)
        hits[metrics.TOP1] += best == true
        hits[metrics.ONE_OFF] += abs(best - true) <= 1
        hits[metrics.TOP1_BY_AGE] += by_age == true
        hits[metrics.ONE_OFF_BY_AGE] += abs(by_age - true) <= 1
    found = values_of(PROTOCOLS["adience"].scores(faces))
    assert found == pytest.approx({name: count / 300 for name, count in hits.items()})


@settings(max_examples=20)
@given(st.lists(st.tuples(pmfs, st.integers(0, 7)), min_size=1, max_size=4))
def test_one_off_is_never_below_top1(rows: list[tuple[np.ndarray, int]]) -> None:
    low, high = np.array([ages.ADIENCE_GROUPS[group] for _, group in rows]).T
    faces = Predictions.of(labels(age_low=low, age_high=high), np.array([pmf for pmf, _ in rows], np.float32))
    values = PROTOCOLS["adience"].values(faces)
    assert (values[metrics.ONE_OFF] >= values[metrics.TOP1]).all()
    assert (values[metrics.ONE_OFF_BY_AGE] >= values[metrics.TOP1_BY_AGE]).all()


def test_eps_error_by_hand() -> None:
    found = accuracy.eps_errors([20, 23, 30, 40, 41], [20, 20, 20, 40, 40], [3, 3, 5, 0, 0])
    assert found == pytest.approx([0, 1 - np.exp(-0.5), 1 - np.exp(-2), 0, 1])
    same = [1 - stats.norm.pdf(23, 20, 3) / stats.norm.pdf(20, 20, 3)]
    assert accuracy.eps_errors([23], [20], [3]) == pytest.approx(same)


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 30))
def test_eps_error_lies_in_0_to_1(predicted: float, mean: float, std: float) -> None:
    assert 0.0 <= accuracy.eps_errors([predicted], [mean], [std])[0] <= 1.0


@pytest.mark.parametrize("std", [-1.0, float("nan")])
def test_eps_error_refuses_a_std_that_is_none(std: float) -> None:
    with pytest.raises(InputError, match="std >= 0"):
        accuracy.eps_errors([1.0], [1.0], [std])


def test_standard_scores_of_ages_and_of_groups() -> None:
    faces = predictions([25, 29, 31], age=[20, 30, 41])
    assert values_of(protocol_named("standard", k=1).scores(faces)) == pytest.approx(
        {"mae_years": 16 / 3, "cs1": 1 / 3, "bias_years": -2.0}
    )
    grouped = predictions([25, 32, 40], age_low=[25] * 3, age_high=[32] * 3, label_kind=["group"] * 3)
    assert values_of(PROTOCOLS["standard"].scores(grouped)) == pytest.approx(
        {"outside_years": 7.5 / 3, "in_group": 2 / 3}
    )


def test_one_figure_never_mixes_label_kinds() -> None:
    faces = predictions([20, 20], age=[20, 30], label_kind=["real", "apparent"])
    with pytest.raises(InputError, match="apparent, real"):
        PROTOCOLS["standard"].scores(faces)
    assert [
        (kind.kind, kind.scores["mae_years"].value) for kind in scored(PROTOCOLS["standard"], {"": faces})
    ] == [
        ("apparent", 10.0),
        ("real", 0.0),
    ]


@settings(max_examples=20)
@given(st.permutations(range(12)))
def test_the_order_of_faces_changes_no_figure(order: list[int]) -> None:
    faces = predictions([5 * i for i in range(12)], age=[4 * i + 3 for i in range(12)])
    moved = values_of(PROTOCOLS["standard"].scores(faces.take(np.array(order))))
    assert moved == pytest.approx(values_of(PROTOCOLS["standard"].scores(faces)))


# Intervals against scipy


# Turns on datasets


def test_a_turn_over_folds_is_written_as_folds_and_older_manifests_call_them_rotations(
    tmp_path: Path,
) -> None:
    made = adience_like(tmp_path / "ds")
    document = made.model_dump(mode="json")
    assert document["turns"][0] == {"name": "0", "train": [2, 3, 4], "val": [1], "test": [0]}
    older = {"rotations" if name == "turns" else name: value for name, value in document.items()}
    assert Manifest.model_validate(older) == made
    whole = Turn(name="w", train=None, val=None, test=Part(Split.TEST, folds=(1,)))
    assert Turn.model_validate_json(whole.model_dump_json()) == whole
    assert whole.folds == {Split.TRAIN: (), Split.VAL: (), Split.TEST: (1,)}


def test_adience_tests_every_fold_once_and_drops_other_labels(tmp_path: Path) -> None:
    adience_like(tmp_path / "ds")
    turns = turns_of("adience", tmp_path / "ds")
    assert [turn.test for turn in turns] == [Part(folds=(fold,)) for fold in range(5)]
    assert turns[1].train == Part(folds=(3, 4, 0))
    assert turns[1].val == Part(folds=(2,))
    found = read_labels(str(tmp_path / "ds"))
    mask = PROTOCOLS["adience"].require_usable(found, "ds")
    assert (int(mask.sum()), len(found)) == (40, 41)
    faces = predict_faces({"m": Brightness(offset=3.0)}, str(tmp_path / "ds"), found.take(mask))["m"]
    picker = Picker(faces)
    (kind,) = scored(PROTOCOLS["adience"], {t.name: faces.take(picker.indices(t.test)) for t in turns})
    # 3 years too old: 1 -> 4 and 5 -> 8 are one group off, all others (middles 10.5, 17.5, ...) stay.
    assert kind.scores["top1"].value == pytest.approx(6 / 8)
    assert kind.scores["one_off"].value == 1.0
    assert kind.over_turns["top1_by_age"].mean == pytest.approx(6 / 8)
    assert (kind.over_turns["top1"].turns, kind.over_turns["top1"].sd) == (5, 0.0)
    assert [part.name for part in kind.slices if part.by == "age"][:3] == ["0-2", "4-6", "8-13"]


def test_lap_counts_only_test_faces_with_a_std(tmp_path: Path) -> None:
    lap_like(tmp_path / "ds")
    (turn,) = turns_of("lap2016", tmp_path / "ds")
    assert (turn.train, turn.val, turn.test) == (Part(Split.TRAIN), Part(Split.VAL), Part(Split.TEST))
    found = read_labels(str(tmp_path / "ds"), turn.test)
    usable = found.take(PROTOCOLS["lap2016"].require_usable(found, "ds"))
    assert (len(usable), len(found)) == (11, 12)
    faces = predict_faces({"m": Brightness(offset=2.0)}, str(tmp_path / "ds"), usable, part=turn.test)["m"]
    by_hand = [1 - np.exp(-(2.0**2) / (2 * (2.0 + index % 3) ** 2)) for index in range(11)]
    scores = values_of(PROTOCOLS["lap2016"].scores(faces))
    assert scores["eps_error"] == pytest.approx(np.mean(by_hand), abs=0.06)  # brightness is rounded
    assert scores["mae_years"] == pytest.approx(2.0, abs=0.3)


def test_leaving_one_person_out_has_a_turn_for_each_person(tmp_path: Path) -> None:
    fgnet_like(tmp_path / "ds")
    turns = turns_of("lopo", tmp_path / "ds")
    assert [turn.name for turn in turns] == ["001", "002", "003", "004"]
    found = read_labels(str(tmp_path / "ds"))
    picker = Picker(found)
    for turn, count in zip(turns, (2, 3, 4, 5), strict=True):
        assert turn.train is not None
        train, test = picker.indices(turn.train), picker.indices(turn.test)
        assert (len(test), len(train)) == (count, 14 - count)  # the face of nobody known is in neither
        assert {found.subject_id[i] for i in test} == {turn.name}
        assert set(train).isdisjoint(test)
        for part, indices in ((turn.train, train), (turn.test, test)):
            read = read_labels(str(tmp_path / "ds"), part)
            assert read.sample_id.tolist() == found.sample_id[indices].tolist()


def test_over_persons_each_counts_once_and_over_faces_each_face() -> None:
    faces = {"a": predictions([30], age=[20]), "b": predictions([20, 20, 20], age=[20] * 3)}
    joined = Predictions.joined(list(faces.values()))
    assert len(pooled_faces(faces)) == 3  # their ids "0", "1", "2" overlap: each face once
    (kind,) = scored(PROTOCOLS["lopo"], faces)
    assert kind.over_turns["mae_years"].mean == pytest.approx(5.0)
    assert kind.over_turns["mae_years"].sd == pytest.approx(np.std([10, 0], ddof=1))
    assert values_of(PROTOCOLS["lopo"].scores(joined))["mae_years"] == pytest.approx(2.5)


def test_paplham_follows_the_published_folds(tmp_path: Path) -> None:
    rows = [{"age": 10.0 + i, "fold": i % 5, "split": "train"} for i in range(10)]
    write_set(tmp_path / "ds", rows, "real", FOLDS)
    turns = turns_of("paplham", tmp_path / "ds")
    assert [(turn.name, turn.test.folds) for turn in turns] == [(f"{i}", (i,)) for i in range(5)]


def test_lfw_plus_tests_the_whole_set_and_trains_nowhere(tmp_path: Path) -> None:
    lap_like(tmp_path / "ds")
    assert turns_of("lfw+", tmp_path / "ds") == [Turn(name="whole set", train=None, val=None, test=Part())]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adience", "needs the owner's folds"),
        ("paplham", "needs the owner's folds"),
        ("lopo", "needs identities, but .* knows no subjects"),
        ("lap2016", "no faces in its split 'test' .faces there: train 2"),
        ("standard", "no faces in its split 'test'"),
    ],
)
def test_a_set_without_what_the_turns_need_says_so(tmp_path: Path, name: str, message: str) -> None:
    write_set(tmp_path / "ds", [{"age": 20.0, "split": "train"}, {"age": 30.0, "split": "train"}], "real")
    with pytest.raises(InputError, match=message):
        turns_of(name, tmp_path / "ds")


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("adience", r"an age group of Adience"),
        ("lap2016", "an apparent age with its standard deviation"),
        ("lfw\\+", "an apparent age"),
    ],
)
def test_a_set_without_the_labels_a_protocol_scores_says_so(name: str, needs: str) -> None:
    protocol = PROTOCOLS[name.replace("\\", "")]
    with pytest.raises(InputError, match=rf"'{name}' needs faces with {needs}.*label kinds there: real"):
        protocol.require_usable(labels(age=[20.0, 30.0], age_std=[1.0, 2.0]), "ds")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "adiense"}, "Did you mean 'adience'"),
        ({"name": "lopo", "split": Split.VAL}, "--split goes with 'standard' only"),
        ({"name": "standard", "k": 101.0}, "must lie in 0..100"),
        ({"name": "standard", "k": float("nan")}, "must lie in 0..100"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        protocol_named(**options)  # type: ignore[arg-type]


def test_standard_tests_the_split_that_is_named() -> None:
    manifest = Manifest(name="x", label_kind="real", crop=CropSpec(), counts={"val": 3})
    (turn,) = protocol_named("standard", split=split_named("val")).turns(Location.of("x"), manifest)
    assert turn.test == Part(Split.VAL)
    with pytest.raises(InputError, match="Unknown split 'tset'"):
        split_named("tset")


# Judging


def test_every_model_sees_each_wanted_face_once(tmp_path: Path) -> None:
    mixed(tmp_path / "ds")
    found = read_labels(str(tmp_path / "ds"))
    assert [int((found.label_kind == kind).sum()) for kind in ("real", "apparent", "group", "none")] == [
        8,
        6,
        4,
        2,
    ]
    models = {"a": Brightness(), "b": Brightness(offset=1.0)}
    wanted = found.take(found.label_kind == "real")
    done: list[int] = []
    both = predict_faces(models, str(tmp_path / "ds"), wanted, on_batch=done.append)
    assert (models["a"].seen, models["b"].seen, done[-1]) == (8, 8, 8)
    assert both["a"].predicted == pytest.approx(wanted.age, abs=0.5)
    assert both["b"].predicted - both["a"].predicted == pytest.approx(np.ones(8), abs=0.05)


def test_faces_that_are_not_in_the_dataset_are_told(tmp_path: Path) -> None:
    lap_like(tmp_path / "ds")
    with pytest.raises(InputError, match="lacks 1 of 1 faces"):
        predict_faces({"m": Brightness()}, str(tmp_path / "ds"), labels(age=[3.0], sample_id=["elsewhere"]))


# Comparisons


def test_a_model_is_compared_with_the_best_on_the_same_faces() -> None:
    true = [20 + i % 50 for i in range(60)]
    good = predictions([age + 2 for age in true], age=true)
    bad = predictions([age + (5 if i % 2 else 6) for i, age in enumerate(true)], age=true)
    like = predictions([age + (2 if i % 3 else 3 if i % 2 else 1) for i, age in enumerate(true)], age=true)
    rows = differences(PROTOCOLS["standard"], {"bad": bad, "good": good, "like": like})
    assert [(row.model, row.reference, row.is_tie) for row in rows] == [
        ("bad", "good", False),
        ("like", "good", True),
    ]
    assert rows[0].difference.value == pytest.approx(3.5)


def test_of_accuracies_the_highest_is_the_best() -> None:
    low, high = np.array([ages.ADIENCE_GROUPS[4]] * 20).T
    right, wrong = (predictions([age] * 20, age_low=low, age_high=high) for age in (28, 90))
    (row,) = differences(PROTOCOLS["adience"], {"wrong": wrong, "right": right})
    assert (row.model, row.reference, row.difference.value, row.is_tie) == ("wrong", "right", -1.0, False)


def test_from_twenty_turns_on_the_mean_over_turns_has_an_interval() -> None:
    many = {f"{i}": predictions([20 + i], age=[20], sample_id=[f"{i}"]) for i in range(20)}
    (kind,) = scored(PROTOCOLS["lopo"], many)
    over = kind.over_turns["mae_years"]
    assert over.low is not None
    assert over.high is not None
    assert over.mean == pytest.approx(9.5)
    assert over.low < over.mean < over.high
    (few,) = scored(PROTOCOLS["lopo"], dict(list(many.items())[:19]))
    assert few.over_turns["mae_years"].low is None


def test_rare_names_go_together_and_unknown_ones_come_last() -> None:
    names = [*(f"c{i:02d}" for i in range(30)), *(f"c{i:02d}" for i in range(24)), None]
    faces = predictions([20] * 55, age=[20] * 55, ethnicity=names)
    (kind,) = scored(PROTOCOLS["standard"], {"": faces})
    found = {part.name: part.scores["mae_years"].faces for part in kind.slices if part.by == "ethnicity"}
    assert list(found)[-1] == "others"
    assert (len(found), found["c00"], found["others"]) == (25, 2, 7)  # the 25th name and "unknown", once each
