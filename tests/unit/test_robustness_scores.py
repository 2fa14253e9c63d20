"""Robustness against plain formulas: MAE-C, CE and mCE, intervals over persons, who resists better."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_study import write_study

from agesearch.cli.common import listed
from agesearch.data.dataset.records import Split
from agesearch.data.dataset.shards import read_rows
from agesearch.data.reading.demo_pack import demo_pack
from agesearch.deploy import robustness as deployed
from agesearch.errors import InputError
from agesearch.measure.accuracy import mae_estimate
from agesearch.measure.intervals import Persons
from agesearch.measure.predictions import encoded_batches, read_labels
from agesearch.measure.robustness import run, scores
from agesearch.measure.robustness.corruptions import Image
from agesearch.measure.robustness.protocol import CLEAN_LEVEL, SETS, CorruptionLevel, set_named
from agesearch.measure.robustness.scores import ModelRobustness, Scorecard, Tally
from agesearch.models.predictors import Predictor
from agesearch.storage import Location

HENDRYCKS = SETS["hendrycks"]
NAMES = ("gaussian_noise", "pixelate", "saturate")
MODELS = ("teacher", "student", "twin")


def errors(faces: int = 60) -> np.ndarray:
    """Absolute errors ``[levels, models, faces]``: corruption costs the student most, the twin what it costs
    the teacher.
    """
    generator = np.random.default_rng(7)
    levels = HENDRYCKS.levels(NAMES, (1, 5))
    own = generator.gamma(2.0, 2.0, (len(levels), 1, faces))
    added = np.zeros((len(levels), len(MODELS), 1))
    added[1:, :2, 0] = 1.0, 4.0
    added[1:, 2, 0] = 1.0
    return own + added + generator.normal(0.0, 0.2, (len(levels), len(MODELS), faces)).clip(-0.5)


def persons(faces: int = 60) -> Persons:
    return Persons.of(
        [f"f{i:03d}" for i in range(faces)], [f"p{i % 17}" if i % 3 else None for i in range(faces)]
    )


def card(wrong: np.ndarray, shown: Persons | None = None) -> Scorecard:
    tally = Tally(shown or persons(wrong.shape[-1]), wrong.shape[0], wrong.shape[1])
    for start in range(0, wrong.shape[-1], 7):  # in parts, as tasks bring them
        at = np.arange(start, min(start + 7, wrong.shape[-1]))
        for group in ([0], list(range(1, wrong.shape[0]))):
            tally.add(at, group, wrong[group][:, :, at])
    return Scorecard(tally, HENDRYCKS, HENDRYCKS.levels(NAMES, (1, 5)), MODELS, "teacher")


def of(found: list[ModelRobustness], name: str) -> ModelRobustness:
    return next(one for one in found if one.name == name)


def test_figures_are_those_of_the_formulas() -> None:
    wrong = errors()
    found = card(wrong).scores()
    mean = wrong.mean(axis=2)  # [levels, models]
    corrupted = {name: mean[1 + 2 * i : 3 + 2 * i] for i, name in enumerate(NAMES)}
    common = NAMES[:2]  # saturate is one of the extra four
    student = of(found, "student")
    assert student.clean_mae_years.value == pytest.approx(mean[0, 1])
    assert student.mae_c_years.value == pytest.approx(np.mean([corrupted[c][:, 1].mean() for c in common]))
    ce = {c: corrupted[c][:, 1].sum() / corrupted[c][:, 0].sum() for c in NAMES}
    assert student.mce.value == pytest.approx(np.mean([ce[c] for c in common]))
    lost = [(corrupted[c][:, 1] - mean[0, 1]).sum() / (corrupted[c][:, 0] - mean[0, 0]).sum() for c in common]
    assert student.relative_mce is not None
    assert student.relative_mce.value == pytest.approx(np.mean(lost))
    assert {row.corruption: row.ce for row in student.corruptions} == pytest.approx(ce)
    assert {row.corruption: row.curve[1] for row in student.corruptions} == pytest.approx(
        {c: corrupted[c][1, 1] for c in NAMES}
    )
    assert set(student.categories) == {"noise", "digital", "extra"}
    assert of(found, "teacher").mce.value == of(found, "teacher").mce.low == pytest.approx(1.0)


def test_an_interval_of_a_level_is_that_of_the_same_errors_anywhere() -> None:
    wrong = errors()
    row = next(row for row in card(wrong).rows() if (row.model, row.severity) == ("student", 5))
    known = mae_estimate(wrong[2, 1], np.zeros(60), persons())
    assert (row.mae_years, row.mae_low, row.mae_high) == pytest.approx((known.value, known.low, known.high))
    assert (row.faces, row.persons) == (known.faces, known.persons)


def test_who_resists_better_is_said_only_where_the_interval_says_so() -> None:
    found = card(errors()).scores()
    verdicts = {one.name: one.against and one.against.resists for one in found}
    assert verdicts == {"teacher": None, "student": "worse", "twin": "tie"}
    assert "student resists corruption worse than teacher: +3." in of(found, "student").sentence("teacher")
    assert "cannot be told apart" in of(found, "twin").sentence("teacher")
    assert of(found, "teacher").sentence("teacher") == ""
    wrong = errors()
    wrong[1:, 2] -= 0.9
    twin = of(card(wrong).scores(), "twin")
    assert "twin resists corruption better than teacher: −0." in twin.sentence("teacher")


def test_a_reference_that_loses_nothing_is_no_yardstick_for_losses() -> None:
    wrong = errors()
    wrong[1:] = wrong[0]
    student = of(card(wrong).scores(), "student")
    assert student.relative_mce is None
    assert all(row.relative_ce is None for row in student.corruptions)


def test_of_many_persons_a_subsample_is_kept_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = errors(600)
    pairs = Persons.of([f"f{i:03d}" for i in range(600)], [f"p{i // 2}" for i in range(600)])
    whole = of(card(wrong, pairs).scores(), "student").mae_c_years
    monkeypatch.setattr(scores, "MOST_PERSONS", 100)
    part = of(card(wrong, pairs).scores(), "student").mae_c_years
    assert (part.value, part.faces, part.subsample) == (pytest.approx(whole.value), 600, 100)
    assert part.high - part.low == pytest.approx(whole.high - whole.low, rel=0.25)
    assert "seeded subsample of 100 persons" in part.basis


# What is measured


def test_sets_have_their_published_size_and_refuse_what_they_lack() -> None:
    assert [len(one.levels()) for one in SETS.values()] == [1 + 19 * 5, 1 + 13 * 5]
    assert len(HENDRYCKS.averaged(HENDRYCKS.corruptions)) == 15
    assert HENDRYCKS.averaged(("saturate",)) == ("saturate",)
    assert HENDRYCKS.levels(("fog",), (5, 1))[1:] == [CorruptionLevel("fog", 1), CorruptionLevel("fog", 5)]
    with pytest.raises(InputError, match="of the set 'lfwc'"):
        SETS["lfwc"].levels(("fog",))
    with pytest.raises(InputError, match="severity is 6"):
        HENDRYCKS.levels((), (6,))
    with pytest.raises(InputError, match="No severity"):
        HENDRYCKS.levels((), ())
    with pytest.raises(InputError, match="Did you mean 'lfwc'"):
        set_named("lfwcc")


def test_a_list_that_names_nothing_is_no_list_of_all() -> None:
    assert listed("--corruptions", None) == ()
    assert listed("--corruptions", " fog , snow,") == ("fog", "snow")
    for written in ("", " , "):
        with pytest.raises(InputError, match="--corruptions is '.*', but must name at least one"):
            listed("--corruptions", written)


def test_a_teacher_that_has_moved_is_missed_aloud(tmp_path: Path) -> None:
    study = write_study(Location.of(tmp_path / "study"), 4)
    found, (note,) = deployed._teachers([str(study.root), "portraits"])
    assert found == {}
    assert note.startswith("The teacher of study is not where the study found it")


def test_what_strengths_mean_at_a_side_is_said() -> None:
    assert "enlarged to 64 px" in HENDRYCKS.notes(40)[0]
    assert "blurs are wider on 112 px" in HENDRYCKS.notes(112)[0]
    assert HENDRYCKS.notes(224) == SETS["lfwc"].notes(256) == []
    assert "enlarged to 256 px" in SETS["lfwc"].notes(112)[0]


class _Counting:
    """Says the mean brightness, and notes which pixels it saw."""

    input_size = 32

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def pmf(self, images: Image | list[Image]) -> np.ndarray:
        self.seen += [image.tobytes() for image in images]
        found = np.zeros((len(images), 101), np.float32)
        found[np.arange(len(images)), [int(image.mean() / 2.56) for image in images]] = 1.0
        return found


def test_a_task_corrupts_once_for_all_models(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    models: dict[str, Predictor] = {"a": _Counting(), "b": _Counting()}
    corrupted = run.corrupted

    def counted(face: Image, level: CorruptionLevel, name: str) -> Image:
        made.append(f"{name} {level}")
        return corrupted(face, level, name)

    monkeypatch.setattr(run, "corrupted", counted)
    monkeypatch.setattr(run, "_opened", models.__getitem__)
    faces = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    levels = [CLEAN_LEVEL, CorruptionLevel("pixelate", 3)]
    monkeypatch.setattr(run, "_decoded", lambda sent: list(zip(faces, sent, strict=True)))
    answers = run._score_part(["xy"], levels, list(models))
    assert answers.shape == (2, 2, 2, 2)
    assert made == ["x clean", "y clean", "x pixelate 3", "y pixelate 3"]
    first, second = (model.seen for model in models.values())  # type: ignore[attr-defined]
    assert first == second
    assert np.array_equal(answers[:, :, 0], answers[:, :, 1])


def test_a_model_that_is_not_there_is_told_before_anything_else() -> None:
    with pytest.raises(InputError, match="Did you mean 'fog'"):
        deployed.robustness_of(["absent"], "absent", corruptions=("fogg",))
    with pytest.raises(InputError, match="absent"):
        deployed.robustness_of(["absent"], "absent")


class _SerialRay:
    """As much of Ray as cutting the work needs; a task is done when its answer is asked for."""

    def put(self, value: object) -> object:
        return value

    def remote(self, **_: object) -> object:
        return lambda work: SimpleNamespace(remote=lambda *given: lambda: work(*given))

    def get(self, task: Callable[[], object]) -> object:
        return task()


def test_a_few_chunks_are_under_way_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", _SerialRay())
    monkeypatch.setattr(run, "cpus_now", lambda: 2)
    monkeypatch.setattr(run, "_score_part", lambda sent, levels, models: (sent[0].at[0], len(levels)))
    read: list[int] = []

    def chunks() -> Iterator[run.Chunk]:
        for index in range(1000):
            read.append(index)
            yield run.Chunk(np.array([index]), [f"{index}"], [b""])

    levels = HENDRYCKS.levels(("fog", "snow"), (1, 5))
    found = run._in_flight(chunks(), {}, levels)
    first = [next(found) for _ in range(7)]
    assert len(read) <= 6  # three tasks a core, three tasks a chunk
    assert [done.answers for done in first] == [(0, 1), (0, 2), (0, 2), (1, 1), (1, 2), (1, 2), (2, 1)]


def test_faces_of_a_split_travel_in_full_batches_whatever_their_shards_hold() -> None:
    """Of 128 faces of the demo's test split five lie side by side: tasks of five cost more than they do."""
    data = demo_pack()
    labels = read_labels(data, Split.TEST).take(slice(0, 150))
    batches = list(encoded_batches(data, labels, part=Split.TEST, rows=64))
    assert [len(at) for at, _ in batches] == [len(crops) for _, crops in batches] == [64, 64, 22]
    assert sorted(np.concatenate([at for at, _ in batches])) == list(range(150))
    ids = {
        name: crop for at, crops in batches for name, crop in zip(labels.sample_id[at], crops, strict=True)
    }
    rows = read_rows(data, Split.TEST, ["sample_id", "image"]).to_pylist()
    assert all(ids[row["sample_id"]] == row["image"] for row in rows if row["sample_id"] in ids)
