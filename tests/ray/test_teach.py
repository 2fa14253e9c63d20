"""``agesearch teach``: one worker and two, up-to-date and conflicting runs, the command line."""

from pathlib import Path

import pytest
import typer
from training_faces import SPEC, write_faces
from typer.testing import CliRunner

from agesearch.ages import expected_age
from agesearch.cli.teach import add_to
from agesearch.data.dataset.arrays import read_arrays
from agesearch.data.dataset.records import Split
from agesearch.errors import ConflictError, InputError
from agesearch.measure.accuracy import mae
from agesearch.models.folder import load_net
from agesearch.models.predict import open_predictor
from agesearch.progress import Progress
from agesearch.storage import Location
from agesearch.training.curve import read_curve
from agesearch.training.teach import teach

pytestmark = pytest.mark.usefixtures("ray_local")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("teach") / "faces", 100)


def test_a_teacher_beats_the_median_and_is_kept_as_it_is(faces: Path, tmp_path: Path) -> None:
    spec = SPEC.with_values({"optim.epochs": 6, "optim.learning_rate": 5e-3})
    seen: list[Progress] = []
    manifest = teach(spec, str(faces), str(tmp_path / "t"), on_progress=seen.append)
    assert manifest.kind == "teacher"
    assert manifest.metrics["val_mae_years"] < manifest.metrics["val_mae_median_years"]
    assert (seen[-1].done, seen[-1].total) == (6, 6)
    assert "val MAE" in seen[-1].note
    load_net(str(tmp_path / "t"))
    assert teach(spec, str(faces), str(tmp_path / "t")) == manifest
    with pytest.raises(ConflictError, match="a teacher with other settings or data"):
        teach(SPEC, str(faces), str(tmp_path / "t"))


def test_two_workers_save_the_network_whose_error_is_recorded(faces: Path, tmp_path: Path) -> None:
    manifest = teach(SPEC, str(faces), str(tmp_path / "t"), workers=2)
    val = read_arrays(str(faces), Split.VAL)
    found = expected_age(open_predictor(str(tmp_path / "t"), "torch").pmf(val.images))
    assert mae(found, val.age) == pytest.approx(manifest.metrics["val_mae_years"], abs=1e-3)
    rows = read_curve(Location.of(tmp_path / "t"))
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert manifest.metrics["val_mae_years"] == min(row["val_mae_years"] for row in rows)
    assert not (tmp_path / "t" / ".train").exists()


def test_wrong_inputs_are_told_before_training(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="9 workers need 9 CPUs, but Ray has 2"):
        teach(SPEC, str(faces), str(tmp_path / "t"), workers=9)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(ConflictError, match="holds other things .*and not a teacher"):
        teach(SPEC, str(faces), str(tmp_path / "full"))
    with pytest.raises(InputError, match="Unknown architecture 'lenet'"):
        teach(SPEC.with_values({"model.arch": "lenet"}), str(faces), str(tmp_path / "u"))
    with pytest.raises(InputError, match="is not a dataset"):
        teach(SPEC, str(tmp_path / "nowhere"), str(tmp_path / "u"))


def test_the_command_prints_the_error_against_the_median(faces: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    add_to(app)
    options = ["--input-size", "32", "--epochs", "3", "--batch-size", "16", "--augment", "0"]
    options += ["--epoch-faces", "32", "--val-faces", "10"]
    where = ["--data", str(faces), "--out", str(tmp_path / "t")]
    result = CliRunner().invoke(app, ["teach", "--arch", "lcnet_035", *where, *options])
    assert result.exit_code == 0, result.output
    assert "always the median:" in result.output
    rows = read_curve(Location.of(tmp_path / "t"))
    assert len(rows) == 3
    for row in rows:
        assert row["val_mae_years_low"] <= row["val_mae_years"] <= row["val_mae_years_high"]
