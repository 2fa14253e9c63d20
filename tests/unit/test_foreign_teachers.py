"""Foreign ONNX teachers and ensembles by manifest: pixels, outputs, crops, digests, refusals."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from foreign_graphs import SIZE, heads_graph, mean_graph, write_teacher
from onnx import TensorProto, helper

from agesearch.ages import age_spread, expected_age
from agesearch.deploy.evidence import teacher_licences
from agesearch.errors import AgeSearchError, InputError
from agesearch.measure.speed.rows import Setting
from agesearch.measure.speed.timing import TimedModel, side_by_side
from agesearch.models.folder import write_model
from agesearch.models.foreign.document import OnnxTeacher, is_teacher_file, read_teacher_file
from agesearch.models.foreign.network import central
from agesearch.models.identity import model_digest, read_model_manifest
from agesearch.models.manifest import ModelManifest
from agesearch.models.predict import open_predictor
from agesearch.models.scorers import scorer_of
from agesearch.models.zoo import build
from agesearch.search.store.records import StudyHeader, StudyInput
from agesearch.specs import CropSpec, ModelSpec

ROOT = Path(__file__).resolve().parents[2]
_PMF = {"kind": "pmf", "name": "softmax", "ages": [1, 2, 3]}
EXAMPLES = ROOT / "search_spaces" / "teachers"


def _flat(*colour: int, side: int = 40) -> Any:
    """One image of one RGB colour."""
    return np.full((1, side, side, 3), colour, dtype=np.uint8)


def _age(where: Path, images: Any, crop: CropSpec | None = None) -> float:
    return float(expected_age(open_predictor(str(where), crop=crop).pmf(images))[0])


def _changed(where: Path, **changes: Any) -> Path:
    where.write_text(yaml.safe_dump(yaml.safe_load(where.read_text()) | changes))
    return where


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize(("channels", "age"), [("rgb", 20), ("bgr", 60)])
def test_pixels_arrive_in_the_layout_and_order_of_the_manifest(
    tmp_path: Path, layout: str, channels: str, age: int
) -> None:
    where = write_teacher(tmp_path, mean_graph(layout=layout), layout=layout, channels=channels)
    assert _age(where, _flat(20, 40, 60)) == pytest.approx(age, abs=0.01)


def test_pixels_are_scaled_then_shifted_then_divided(tmp_path: Path) -> None:
    output = {"kind": "scalar", "name": "means", "column": 1, "scale": -2.0, "offset": 50.0, "spread": 3.0}
    where = write_teacher(tmp_path, output=output, scale=0.5, mean=[1, 2, 3], std=[2, 4, 8])
    assert _age(where, _flat(20, 40, 60)) == pytest.approx(50 - 2 * (0.5 * 40 - 2) / 4, abs=0.01)


@pytest.mark.parametrize(("dtype", "kind"), [("uint8", TensorProto.UINT8), ("float16", TensorProto.FLOAT16)])
def test_other_number_types_are_fed(tmp_path: Path, dtype: str, kind: int) -> None:
    assert _age(
        write_teacher(tmp_path, mean_graph(kind=kind), dtype=dtype), _flat(30, 0, 0)
    ) == pytest.approx(30, abs=0.01)


def test_a_fixed_batch_is_filled_up(tmp_path: Path) -> None:
    where = write_teacher(tmp_path, mean_graph(batch=4))
    images = np.concatenate([_flat(value, 0, 0) for value in range(20, 26)])
    ages = expected_age(open_predictor(str(where)).pmf(images))
    np.testing.assert_allclose(ages, np.arange(20, 26), atol=0.01)
    assert open_predictor(str(where)).pmf(images[:0]).shape == (0, 101)


def test_probabilities_logits_and_groups_become_pmfs(tmp_path: Path) -> None:
    face = _flat(200, 200, 199)
    share = np.exp([0, 0, -1]) / np.exp([0, 0, -1]).sum()
    pmf = {"kind": "pmf", "name": "softmax", "ages": [10, 20.5, 30]}
    where = write_teacher(tmp_path / "a", output=pmf)
    assert _age(where, face) == pytest.approx(share @ [10, 20.5, 30], abs=0.01)
    logits = {"kind": "pmf", "name": "means", "ages": {"first": 10, "last": 30, "step": 10}, "logits": True}
    assert _age(write_teacher(tmp_path / "b", output=logits), face) == pytest.approx(
        share @ [10, 20, 30], abs=0.01
    )
    groups = {"kind": "groups", "name": "softmax", "groups": [[0, 4], [10, 20], [60, 100]]}
    assert _age(write_teacher(tmp_path / "c", output=groups), face) == pytest.approx(
        share @ [2, 15, 80], abs=0.01
    )
    wrong = write_teacher(tmp_path / "d", output={"kind": "pmf", "name": "means", "ages": [1, 2, 3]})
    with pytest.raises(InputError, match="set 'logits: true'"):
        _age(wrong, face)


@pytest.mark.parametrize("known", [True, False])
def test_a_head_among_others_is_named_by_its_columns(tmp_path: Path, known: bool) -> None:
    face, graph = _flat(200, 200, 199), heads_graph(known=known)
    share = np.exp([0, 0, -1]) / np.exp([0, 0, -1]).sum()
    ages = {"kind": "pmf", "name": "heads", "ages": [10, 20.5, 30], "logits": True, "columns": [2, 5]}
    where = write_teacher(tmp_path / "a", graph, output=ages)
    assert _age(where, face) == pytest.approx(share @ [10, 20.5, 30], abs=0.01)
    groups = {"kind": "groups", "name": "heads", "groups": [[0, 4], [60, 80]], "logits": True}
    where = write_teacher(tmp_path / "b", graph, output=groups | {"columns": [3, 5]})
    halves = np.exp([0, -1]) / np.exp([0, -1]).sum()
    assert _age(where, face) == pytest.approx(halves @ [2, 70], abs=0.01)
    scalar = {"kind": "scalar", "name": "heads", "column": 4, "spread": 3.0, "scale": 0.1}
    assert _age(write_teacher(tmp_path / "c", graph, output=scalar), face) == pytest.approx(19.9, abs=0.01)
    for output, message in (
        (ages | {"columns": [3, 6]}, r"has 5 values a face in 'heads', so there are no columns \[3, 6\)"),
        (groups, r"but its manifest names 2 groups: .* set 'columns: \[first, end\]'"),
        (scalar | {"column": 5}, "so there is no column 5"),
    ):
        with pytest.raises(InputError, match=message):
            _age(write_teacher(tmp_path / "wrong", graph, output=output), face)


def test_columns_change_the_digest_and_their_absence_does_not(tmp_path: Path) -> None:
    ages = {"kind": "pmf", "name": "means", "ages": [1, 2, 3], "logits": True}
    where = write_teacher(tmp_path, output=ages)
    without, document = model_digest(str(where)), read_teacher_file(str(where))
    assert isinstance(document, OnnxTeacher)
    assert "columns" not in document.output.model_dump()  # teachers of before keep their digest
    assert model_digest(str(write_teacher(tmp_path, output=ages | {"columns": [0, 3]}))) != without


def test_a_wider_crop_is_cut_to_the_teachers_square(tmp_path: Path) -> None:
    side, scale = 130, 1.3
    image = np.zeros((1, side, side, 3), dtype=np.uint8)
    edge = round((side - side / scale) / 2)
    image[:, edge:-edge, edge:-edge] = 70
    where = write_teacher(tmp_path)
    assert _age(where, image, CropSpec(scale=scale)) == pytest.approx(70, abs=0.5)
    assert _age(where, image) < 50
    assert _age(where, image, CropSpec(scale=scale, detector="none")) < 50
    with pytest.raises(InputError, match="wants crops of 1 x the face's box, but the dataset's are 0.8 x"):
        _age(where, image, CropSpec(scale=0.8))


def test_the_cut_is_exact_between_pixels() -> None:
    ramp = np.broadcast_to(np.arange(100, dtype=np.uint8)[None, :, None] * 2, (1, 100, 100, 3))
    share, size = 0.555, 37
    found = central(np.ascontiguousarray(ramp), share, size)[0, size // 2, :, 0]
    centres = 50 + (np.arange(size) + 0.5 - size / 2) * share * 100 / size - 0.5
    np.testing.assert_allclose(found, centres * 2, atol=1.0)


def test_the_digest_names_what_is_computed(tmp_path: Path) -> None:
    where = write_teacher(tmp_path)
    first = model_digest(str(where))
    assert model_digest(str(_changed(where, name="other", licence="MIT"))) == first
    assert model_digest(str(_changed(where, crop={"scale": 1.1}))) != first


def test_a_teachers_document_reads_like_a_model(tmp_path: Path) -> None:
    where = write_teacher(tmp_path, crop={"scale": 1.2})
    assert is_teacher_file(str(where))
    found = read_model_manifest(str(where))
    assert (found.kind, found.model.input_size, found.crop.scale) == ("teacher", SIZE, 1.2)
    assert found.licences == {"mean": "CC0-1.0"}


def test_an_ensemble_mixes_models_of_every_kind(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ModelSpec(arch="lcnet_035", input_size=32)
    net = build(model).eval()
    write_model(
        str(tmp_path / "ours"), net.state_dict(), ModelManifest(kind="teacher", model=model, crop=CropSpec())
    )
    write_teacher(tmp_path)
    where = tmp_path / "both.yaml"
    members: list[dict[str, Any]] = [{"teacher": "ours", "weight": 3}, {"teacher": "mean.yaml"}]
    where.write_text(yaml.safe_dump({"kind": "ensemble", "name": "both", "members": members}))
    faces = np.concatenate([_flat(20, 0, 0), _flat(80, 0, 0)])
    parts = [open_predictor(str(tmp_path / name)).pmf(faces) for name in ("ours", "mean.yaml")]
    mixed = open_predictor(str(where)).pmf(faces)
    np.testing.assert_allclose(mixed, 0.75 * parts[0] + 0.25 * parts[1], atol=1e-6)
    assert (age_spread(mixed) > 0).all()
    digest = model_digest(str(where))
    where.write_text(
        yaml.safe_dump(
            {"kind": "ensemble", "name": "b", "members": [members[1], {"teacher": "ours", "weight": 3}]}
        )
    )
    assert model_digest(str(where)) == digest
    write_teacher(tmp_path, std=2)
    assert model_digest(str(where)) != digest


def test_an_ensemble_that_holds_itself_is_refused(tmp_path: Path) -> None:
    where = tmp_path / "self.yaml"
    members = [{"teacher": "self.yaml"}, {"teacher": "self.yaml"}]
    where.write_text(yaml.safe_dump({"kind": "ensemble", "name": "self", "members": members}))
    for use in (scorer_of, model_digest, read_model_manifest):
        with pytest.raises(InputError, match="does one list itself"):
            use(str(where))


def test_scorers_travel_and_can_be_timed(tmp_path: Path) -> None:
    write_teacher(tmp_path)
    where = tmp_path / "two.yaml"
    members = [{"teacher": "mean.yaml"}, {"teacher": "mean.yaml"}]
    where.write_text(yaml.safe_dump({"kind": "ensemble", "name": "two", "members": members}))
    scorer = pickle.loads(pickle.dumps(scorer_of(str(where), CropSpec())))
    assert scorer.open().pmf(_flat(30, 0, 0)).shape == (1, 101)
    rows = side_by_side([TimedModel("two", scorer, "ensemble", 32)], [Setting(1, 3)], calls=50)
    assert rows[0].latency_ms_p50 > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "pickle"}, "'kind' must be onnx, ensemble or calibrated"),
        ({"sha256": "0" * 64}, "has the SHA-256 .* but .* says 000"),
        ({"file": "gone.onnx"}, "is missing: set 'file'"),
        ({"input": {"name": "y", "size": 32}}, "the file's inputs are: x"),
        ({"input": {"name": "x", "size": 64}}, r"input 'x' is tensor\(float\)"),
        ({"input": {"name": "x", "size": 32, "dtype": "uint8"}}, "correct layout, size or dtype"),
        ({"input": {"name": "x", "size": 32, "std": 0}}, "std must be > 0"),
        ({"input": {"name": "x", "size": 32, "dtype": "uint8", "mean": 3}}, "leave out scale, mean and std"),
        ({"output": {"kind": "scalar", "name": "age", "spread": 3}}, "the file's are: means, softmax"),
        ({"output": {"kind": "scalar", "name": "means"}}, "'output.spread' is missing"),
        ({"output": {"kind": "pmf", "name": "softmax", "ages": [1, 2]}}, "has 3 values a face"),
        ({"output": {"kind": "pmf", "name": "softmax", "ages": [3, 2, 1]}}, "and rise"),
        ({"output": _PMF | {"columns": [0, 2]}}, r"columns \[0, 2\) are 2, but there are 3 ages"),
        ({"output": _PMF | {"columns": [3, 0]}}, "0 <= first < end"),
        ({"output": {"kind": "groups", "name": "softmax", "groups": [[5, 2], [3, 4]]}}, "first <= last"),
        ({"weights": "x"}, "line 15: 'weights' is not a known field"),
    ],
)
def test_a_wrong_manifest_is_told_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    where = _changed(write_teacher(tmp_path), **changes)
    with pytest.raises(InputError, match=message) as caught:
        scorer_of(str(where))
    assert "\n" not in str(caught.value)


def test_files_that_reach_outside_are_refused(tmp_path: Path) -> None:
    elsewhere = mean_graph()
    tensor = elsewhere.graph.initializer[0]
    tensor.ClearField("int64_data")
    tensor.external_data.add(key="location", value="/etc/passwd")
    tensor.data_location = TensorProto.EXTERNAL
    with pytest.raises(InputError, match="keeps its tensor 'axes' in another file"):
        scorer_of(str(write_teacher(tmp_path / "a", elsewhere)))
    custom = mean_graph()
    custom.graph.node[0].domain = "evil.ops"
    with pytest.raises(InputError, match="custom operator evil.ops.Cast"):
        scorer_of(str(write_teacher(tmp_path / "b", custom)))


def test_hidden_external_data_is_found_in_subgraphs(tmp_path: Path) -> None:
    inner = helper.make_tensor("inner", TensorProto.FLOAT, [1], [1.0])
    inner.external_data.add(key="location", value="weights.bin")
    branch = helper.make_graph([helper.make_node("Constant", [], ["c"], value=inner)], "branch", [], [])
    model = mean_graph()
    model.graph.node.append(helper.make_node("If", ["cond"], ["y"], then_branch=branch, else_branch=branch))
    with pytest.raises(InputError, match="'inner' in another file"):
        scorer_of(str(write_teacher(tmp_path, model)))


def test_bytes_that_are_no_network_are_refused(tmp_path: Path) -> None:
    where = write_teacher(tmp_path)
    content = b"not an onnx file at all"
    (tmp_path / "mean.onnx").write_bytes(content)
    _changed(where, sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(InputError, match="is not an ONNX"):
        scorer_of(str(where))


def test_an_answer_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    where = write_teacher(tmp_path, std=1e-38, mean=-1e38)
    with np.errstate(over="ignore"), pytest.raises(AgeSearchError, match="not a number"):
        _age(where, _flat(1, 1, 1))


def test_torch_cannot_run_a_foreign_teacher(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="runs with the runtime onnx"):
        open_predictor(str(write_teacher(tmp_path)), "torch")


def test_the_two_real_teachers_work_by_manifest_alone(shared: Path) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (3, 144, 144, 3), dtype=np.uint8)
    by_name = {
        name: open_predictor(str(EXAMPLES / f"{name}.yaml"), crop=CropSpec()).pmf(faces)
        for name in ("faceapi", "faceres", "ensemble")
    }
    mixed = (by_name["faceapi"] + by_name["faceres"]) / 2
    np.testing.assert_allclose(by_name["ensemble"], mixed, atol=1e-6)


def test_a_students_version_names_the_licences_of_its_teachers(tmp_path: Path) -> None:
    where = write_teacher(tmp_path)
    source = StudyInput(path=str(where), content_digest=model_digest(str(where)))
    known: dict[str, Any] = {"teacher": source}
    header = StudyHeader.model_construct(**known)
    assert teacher_licences(header) == {"teacher mean": "CC0-1.0"}
    other = header.model_copy(update={"teacher": source.model_copy(update={"content_digest": "0" * 16})})
    assert teacher_licences(other) == {}
    where.unlink()
    assert teacher_licences(header) == {}
