"""Where a verb writes: into a folder of its own, never into one that holds something else."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_study import SPEC, write_study
from published_sets import tiny_model, write_set
from typer.testing import CliRunner

from agesearch.artefacts import begin_run, own_folder, own_run
from agesearch.cli.main import app
from agesearch.data.dataset.writer import check_output
from agesearch.demo import run_demo
from agesearch.errors import AgeSearchError, ConflictError, InputError
from agesearch.search.run import study
from agesearch.search.run.driver import DRIVER_FILE
from agesearch.search.store.history import History
from agesearch.search.view.rerun import rerun_trial
from agesearch.storage import Location


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "faces"
    rows = [{"age": 10.0 + index, "split": split} for split in ("train", "val", "test") for index in range(4)]
    write_set(folder, rows, "real")
    return folder


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    place = tmp_path / "teacher"
    tiny_model(place)
    return place


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_verb_writes_into_a_folder_that_holds_something_else(faces: Path, teacher: Path) -> None:
    before = listing(teacher)
    spec, out, other = "search_spaces/quick.yaml", str(teacher), str(teacher.parent / "other")
    verbs = [
        ["tune", spec, "--data", str(faces), "--teacher", out, "--out", out],
        ["teach", "--data", str(faces), "--arch", "lcnet_035", "--out", out],
        ["teach", "--kind", "order", "--data", str(faces), "--arch", "lcnet_035", "--out", out],
        ["data", "ingest", "folder", str(teacher.parent), "--out", out],
        ["data", "synth", "--count", "4", "--out", out],
        ["finetune", out, "--data", str(faces), "--protocol", "standard", "--out", out],
        ["matrix", "--data", str(faces), "--data", other, "--arch", "lcnet_035", "--out", out],
        ["demo", "--out", out],
        ["report", str(teacher.parent / "study"), "--out", str(teacher / "manifest.json")],
    ]  # fmt: skip
    write_study(Location.of(teacher.parent / "study"), trials=4)
    write_set(Path(other), [{"age": 9.0, "split": split} for split in ("train", "val", "test")], "real")
    for words in verbs:
        result = CliRunner().invoke(app, words)
        assert isinstance(result.exception, InputError), (words, result.output, result.exception)
        told = str(result.exception)
        assert "holds" in told or "is no page" in told, (words, told)
        assert "\n" not in told
        assert listing(teacher) == before, words


def test_the_message_says_what_is_there(faces: Path, teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("years")
    for folder, told in ((faces, "a dataset"), (teacher, "a model"), (tmp_path / "work", "thesis.tex")):
        with pytest.raises(ConflictError, match=f"holds .*{told}.*, and not a study: choose another --out"):
            own_folder(Location.of(folder), "a study", ("study.yaml",))
    with pytest.raises(InputError, match="is a file"):
        own_folder(Location.of(tmp_path / "work" / "thesis.tex"), "a study", ("study.yaml",))
    with pytest.raises(ConflictError, match="holds a model, and not a dataset"):
        check_output(Location.of(teacher), replace=True)


def test_what_desktops_locks_and_killed_writers_leave_is_nobodys_work(tmp_path: Path) -> None:
    for name in (".lock", ".DS_Store", ".study.yaml.0a1b2c3d.tmp"):
        (tmp_path / name).write_text("")
    assert own_folder(Location.of(tmp_path), "a study", ("study.yaml",)) == set()


def test_a_study_whose_preparation_was_cut_is_begun_again(
    faces: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begins(_: object) -> None:
        raise AgeSearchError("it begins")

    (tmp_path / "study").mkdir()
    (tmp_path / "study" / DRIVER_FILE).write_text("{}")
    monkeypatch.setattr(study, "registered_driver", begins)
    with pytest.raises(AgeSearchError, match="it begins"):
        study.run_study(SPEC, str(faces), str(teacher), str(tmp_path / "study"))


def test_a_run_goes_on_and_another_is_refused(tmp_path: Path) -> None:
    out = Location.of(tmp_path / "run")
    assert own_run(out, "a matrix", {"spec": 1}) == set()
    begin_run(out, {"spec": 1})
    assert own_run(out, "a matrix", {"spec": 1}) == {"run.json"}
    with pytest.raises(ConflictError, match=r"a matrix with other settings or data.*run\.json"):
        own_run(out, "a matrix", {"spec": 2})


def test_a_rerun_needs_a_folder_of_its_own(tmp_path: Path, teacher: Path) -> None:
    made = write_study(Location.of(tmp_path / "study"), trials=4)
    with pytest.raises(ConflictError, match="holds a model, but the rerun needs a folder of its own"):
        rerun_trial(made.root, 0, teacher)


def test_a_demo_does_not_take_other_faces_for_its_own(faces: Path) -> None:
    with pytest.raises(ConflictError, match="holds other faces than the demo's"):
        run_demo(faces.parent, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a#b", "a?b", "50%20c", "a&b c", "it's"])
def test_a_study_may_lie_in_a_folder_with_any_name(tmp_path: Path, name: str) -> None:
    place = tmp_path / name / "optuna.db"
    place.parent.mkdir()
    History.open(place, SPEC)
    assert place.exists()
    assert {path.name for path in tmp_path.iterdir()} == {name}
