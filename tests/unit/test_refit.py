"""Refitting a last layer: exact solutions, what a ridge leaves, and no face that teaches its own answer."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from agesearch.ages import FloatArray
from agesearch.api.refit import _network
from agesearch.data.dataset.records import Manifest, Part
from agesearch.errors import InputError
from agesearch.measure.intervals import Estimate, Values
from agesearch.measure.predictions import Labels
from agesearch.models.backbones.xception import side_seeing
from agesearch.models.foreign.document import CalibratedTeacher, EnsembleTeacher, read_teacher_file
from agesearch.models.foreign.start import ScalarHead
from agesearch.models.heads.table import build_head
from agesearch.models.identity import calibrated_digest
from agesearch.models.manifest import ModelManifest
from agesearch.models.trained_on import TrainedOn
from agesearch.specs import CropSpec, ModelSpec
from agesearch.storage import Location
from agesearch.training.curve import write_answers
from agesearch.training.refit.features import old_answers
from agesearch.training.refit.record import HELD_OUT, RefitRecord, gaussians
from agesearch.training.refit.ridge import Candidate, Sums, choose, lines
from agesearch.training.refit.stack import _answers, _held_out, combined, held_out_ages, stack

TEACHERS = Path(__file__).resolve().parents[2] / "search_spaces" / "teachers"
DRAW = np.random.default_rng(0)
FEATURES = DRAW.normal(3.0, 2.0, (200, 6))
FOLDS = np.arange(200) % 5
SLOPE = np.array([1.0, -2.0, 0.5, 0.0, 3.0, 1.5])
AGE = DRAW.uniform(20, 80, 200)
RECORD = RefitRecord(
    part=Part(),
    faces=200,
    persons=200,
    features=6,
    ridge=300,
    tried=((300.0, 7.0),),
    ridges=(300.0,) * 5,
    mae_years=Estimate(5.0, 4.0, 6.0, 200, 200),
    before_years=None,
    change_years=None,
    decades=(),
    spread_years=7.0,
)


def _faces() -> Labels:
    return Labels(
        **{name: AGE.astype(np.float32) for name in ("age", "age_std", "age_low", "age_high")},
        **dict.fromkeys(("sex", "ethnicity", "source", "label_kind"), np.array([None] * 200, dtype=object)),
        sample_id=np.array([f"face-{at:03d}" for at in range(200)], dtype=object),
        subject_id=np.array([f"person-{at:03d}" for at in range(200)], dtype=object),
        split=np.array(["train"] * 200, dtype=object),
        fold=np.zeros(200, dtype=np.int64),
    )


def _sums(features: Values, age: Values) -> list[Sums]:
    rows = np.column_stack([features, age])
    return [Sums.of(rows[fold == FOLDS]) for fold in range(5)]


def test_without_a_ridge_the_line_is_exact_and_weights_count() -> None:
    age = FEATURES @ SLOPE + 40
    total = Sums.of(np.column_stack([FEATURES, age]))
    [line] = lines(total, [1e-9])
    assert line.weight == pytest.approx(SLOPE, abs=1e-6)
    assert line.bias == pytest.approx(40, abs=1e-5)
    off = Sums.of(np.column_stack([FEATURES, age + 30]), weight=0.5)
    [between] = lines(total + off, [1e-9])
    assert between.bias == pytest.approx(50, abs=1e-5)
    assert lines(total + off - off, [1e-9])[0].bias == pytest.approx(40, abs=1e-5)


def test_a_large_ridge_leaves_the_old_layer_with_its_slope_and_offset_corrected() -> None:
    age = 2 * (FEATURES @ SLOPE) + 7 + DRAW.normal(0, 5, 200)
    [free] = lines(Sums.of(np.column_stack([FEATURES, age])), [1e9], SLOPE)
    assert free.weight / SLOPE.sum() == pytest.approx(2 * SLOPE / SLOPE.sum(), abs=0.03)
    [shrunk] = lines(Sums.of(np.column_stack([FEATURES, age])), [1e9])
    assert np.abs(shrunk.weight).max() < 0.01
    assert shrunk.ages(FEATURES) == pytest.approx(np.full(200, age.mean()), abs=0.5)


@pytest.mark.parametrize("old", [None, SLOPE])
def test_no_fold_teaches_or_chooses_its_own_answers(old: Values | None) -> None:
    age = np.clip(FEATURES @ SLOPE + 30 + DRAW.normal(0, 8, 200), 1, 99)
    other = np.where(FOLDS == 2, 99 - age, age)
    halves = FEATURES, FEATURES + np.random.default_rng(1).normal(0, 1, FEATURES.shape)
    before, after = (
        choose([Candidate(half, _sums(half, said), old) for half in halves], said, FOLDS)
        for said in (age, other)
    )
    own = FOLDS == 2
    assert after.held_out[own] == pytest.approx(before.held_out[own], abs=1e-6)
    assert after.of_folds[2] == before.of_folds[2]
    assert np.abs(after.held_out[~own] - before.held_out[~own]).max() > 1.0
    at, ridge = before.of_folds[2]
    alone = Sums.of(np.column_stack([halves[at], age])[~own])
    expected = lines(alone, [ridge], old)[0].ages(halves[at][own])
    assert before.held_out[own] == pytest.approx(expected, abs=1e-6)


def test_ridge_and_features_are_those_that_held_out_persons_choose() -> None:
    noise = DRAW.normal(size=(200, 6))
    age = 40 + DRAW.normal(0, 10, 200)
    assert choose([Candidate(noise, _sums(noise, age))], age, FOLDS, ridges=(1.0, 1e6)).ridge == 1e6
    clear = FEATURES @ SLOPE + 30
    both = [Candidate(each, _sums(each, clear)) for each in (noise, FEATURES)]
    found = choose(both, clear, FOLDS, ridges=(1.0, 1e6))
    assert (found.candidate, found.ridge) == (1, 1.0)
    assert set(found.of_folds) == {(1, 1.0)}
    assert found.candidates[1] == dict(found.tried)[1.0] < dict(found.tried)[1e6]
    assert found.candidates[1] < found.candidates[0]


def test_the_old_layer_of_a_head_that_is_a_line_is_that_line() -> None:
    width = 12
    head = ScalarHead(np.linspace(-0.2, 0.2, width, dtype=np.float32), 45.0, 6.0)
    layer = build_head(ModelSpec(arch="lcnet_035"), width)
    tensors = zip(("linear.weight", "linear.bias"), map(torch.from_numpy, head.softmax()), strict=True)
    layer.load_state_dict(dict(tensors))
    net = SimpleNamespace(head=layer)
    features = DRAW.normal(0, 0.5, (20, width)).astype(np.float32)
    ages, direction = old_answers(net, features)
    assert direction == pytest.approx(head.weight, abs=2e-3)
    assert ages == pytest.approx(features @ head.weight + 45, abs=1e-2)


def test_a_side_shows_a_foreign_network_its_own_square() -> None:
    assert side_seeing(112) == 146


def test_what_cannot_be_refitted_is_said() -> None:
    with pytest.raises(InputError, match="--init goes with ARCH@SIZE"):
        _network(str(TEACHERS / "faceapi.yaml"), "pretrained", "registry")
    with pytest.raises(InputError, match="'lcnet_035@32' has no weights"):
        _network("lcnet_035@32", None, "registry")
    with pytest.raises(InputError, match="takes 224 to 512"):
        _network("vgg16@64", "random", "registry")
    with pytest.raises(InputError, match="is an ensemble"):
        _network(str(TEACHERS / "ensemble.yaml"), None, "registry")
    found = _network("mobilenetv2_100@224", "weights.pth", "registry")
    assert (found.arch, found.input_size, found.init, found.weights) == (
        "mobilenetv2_100",
        224,
        "file",
        "weights.pth",
    )


def test_a_stack_is_a_mixture_by_shares_and_a_line() -> None:
    good, other, noise = (AGE + DRAW.normal(0, spread, 200) for spread in (4.0, 6.0, 60.0))
    members = np.stack([good / 2 + 3, other - 9, 50 + 0 * AGE - noise / 9])
    shares, line = combined(members, AGE)
    assert shares.sum() == pytest.approx(1.0)
    assert shares[2] == 0.0, "it answers younger ages for older faces"
    assert shares[0] > 0.6 > shares[1] > 0.1
    found = line.ages(shares @ members)
    assert found.mean() == pytest.approx(AGE.mean(), abs=0.1)
    assert np.abs(found - AGE).mean() < np.abs(good - AGE).mean()
    with pytest.raises(InputError, match="nothing to stack"):
        combined(-members[:2], AGE)


def test_no_fold_chooses_the_shares_of_its_own_answers() -> None:
    members = np.stack([AGE + DRAW.normal(0, 5, 200), AGE + DRAW.normal(0, 5, 200)])
    own = FOLDS == 3
    before = held_out_ages(members, AGE, FOLDS)
    after = held_out_ages(members, np.where(own, 100 - AGE, AGE), FOLDS)
    assert after[own] == pytest.approx(before[own])
    assert np.abs(after[~own] - before[~own]).max() > 0.1


def test_a_member_that_has_seen_the_faces_is_refused_and_a_refitted_one_answers_by_its_folds(
    tmp_path: Path,
) -> None:
    faces = _faces()
    member = Location.of(tmp_path)
    ids = [str(name) for name in faces.sample_id]
    write_answers(member, ids[:150], ids[:150], faces.age[:150], faces.age[:150] + 1, HELD_OUT)
    manifest = ModelManifest(
        kind="teacher",
        model=ModelSpec(arch="lcnet_035", input_size=32),
        crop=CropSpec(),
        data_digest="d",
        trained_on=(TrainedOn(data_digest="d"),),
        provenance={"refit": RECORD.model_dump(mode="json")},
    )
    data = Manifest.model_construct(content_digest="d", annotation=None, parts=(), name="faces")
    said = _held_out(member, manifest, data, faces)
    assert said[:150] == pytest.approx(AGE[:150] + 1, abs=1e-3)
    assert np.isnan(said[150:]).all()
    with pytest.raises(InputError, match="was trained on 50 of the 50 faces.*agesearch refit"):
        _answers("a", member, manifest, member, data, Part(), faces, lambda _: None)
    other = data.model_copy(update={"content_digest": "e"})
    assert np.isnan(_held_out(member, manifest, other, faces)).all()


def test_a_stack_is_written_as_an_ensemble_and_the_document_that_corrects_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faceapi, faceres = (Location.of(str(TEACHERS / f"{name}.yaml")) for name in ("faceapi", "faceres"))
    said = {"faceapi.yaml": AGE - 6, "faceres.yaml": AGE / 2 + 20}
    errors = {name: DRAW.normal(0, 4, 200) for name in said}

    def answers(_: str, member: Location, *__: object) -> FloatArray:
        return gaussians(np.clip(said[member.name] + errors[member.name], 0, 100), 7.0)

    data = Manifest.model_construct(
        content_digest="d", annotation=None, parts=(), name="faces", label_kind="real"
    )
    monkeypatch.setattr("agesearch.training.refit.stack.read_manifest", lambda _: data)
    monkeypatch.setattr("agesearch.training.refit.stack.teaching_faces", lambda *_, **__: _faces())
    monkeypatch.setattr("agesearch.training.refit.stack._answers", answers)
    out = tmp_path / "made" / "stacked.json"
    found = stack({"a": faceapi, "b": faceres}, "faces", str(out), part=Part())
    ensemble, document = read_teacher_file(found.ensemble), read_teacher_file(found.place)
    assert isinstance(ensemble, EnsembleTeacher)
    assert isinstance(document, CalibratedTeacher)
    assert ensemble.shares() == pytest.approx([member.share for member in found.record.members])
    assert (tmp_path / "made" / ensemble.members[0].teacher).resolve() == Path(str(faceapi)).resolve()
    assert document.teacher == "stacked.members.json"
    correction = document.calibration.correction
    assert correction is not None
    assert correction.ages(AGE.mean() - 6 * ensemble.shares()[0]).item() == pytest.approx(AGE.mean(), abs=4)
    assert calibrated_digest(found.place, document) == document.calibration.model_digest
    assert found.record.change_years.high < 0.0
    with pytest.raises(InputError, match="has two members or more"):
        stack({"a": faceapi}, "faces", str(out), part=Part())
