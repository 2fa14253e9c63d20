"""The order teacher: sequences, training, resuming, its folder, its probe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import typer
from typer.testing import CliRunner

from agesearch.cli.teacher import add_to
from agesearch.data.dataset.records import MANIFEST, SCHEMA, SHARDS, Manifest
from agesearch.data.images.crop import encode_crop
from agesearch.data.reading.sequences import Sequences
from agesearch.distill.sorting import describe_order, probe
from agesearch.errors import ConflictError, InputError
from agesearch.models.identity import read_model_manifest
from agesearch.models.order_net import load_order, read_order_manifest
from agesearch.specs import AugmentSpec, CropSpec, ModelSpec, OptimSpec, OrderSpec, OrderTrainSpec
from agesearch.storage import Location
from agesearch.training import teach_order as training
from agesearch.training.teach_order import teach_order

CROP = CropSpec(size=32)
SPEC = OrderTrainSpec(
    model=ModelSpec(arch="lcnet_035", input_size=32),
    optim=OptimSpec(epochs=3, batch_size=16, learning_rate=3e-3, warmup_epochs=0.5),
    augment=AugmentSpec(strength=0.0),
    order=OrderSpec(length=4, gap=3.0),
)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces whose brightness is their age; a fifth of them validate."""
    draw = np.random.default_rng(0)
    rows = []
    for index in range(80):
        age = float(draw.uniform(5, 90))
        image = (age * 2.5 + draw.normal(0, 4, (32, 32, 3))).clip(0, 255).astype(np.uint8)
        split = "val" if index % 5 == 0 else "train"
        face = {"sample_id": f"{index:03d}", "image": encode_crop(image, CROP), "source": "s", "split": split}
        rows.append(face | {"age": None if index == 7 else age})
    folder = Location.of(tmp_path_factory.mktemp("order") / "faces")
    (folder / SHARDS / "0.parquet").write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    manifest = Manifest(
        name="b", label_kind="real", crop=CROP, counts={"train": 64, "val": 16}, content_digest="b" * 16
    )
    (folder / MANIFEST).write_json(manifest.model_dump(mode="json"))
    return Path(folder.path)


def test_sequences_keep_their_gap_and_come_again_by_seed() -> None:
    ages = np.array([np.nan, *np.random.default_rng(1).uniform(1, 90, 300)], dtype=np.float32)
    source = Sequences(ages, length=8, gap=5.0)
    drawn = source.draw(50, np.random.default_rng(3))
    assert np.diff(np.sort(ages[drawn], axis=1), axis=1).min() >= 5.0
    assert (drawn == source.draw(50, np.random.default_rng(3))).all()
    assert 0 not in drawn
    assert not (np.sort(drawn, axis=1) == drawn).all()


def test_the_tightest_sequence_is_found_where_picks_block_one_another() -> None:
    ages = np.arange(0, 40, dtype=np.float32)
    drawn = Sequences(ages, length=8, gap=5.0).draw(20, np.random.default_rng(0))
    assert np.diff(np.sort(ages[drawn], axis=1), axis=1).min() >= 5.0
    with pytest.raises(InputError, match="the 40 faces with an age allow 8"):
        Sequences(ages, length=9, gap=5.0)


def test_a_teacher_learns_to_sort_and_is_kept_as_it_is(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "t"
    spec = SPEC.model_copy(update={"optim": SPEC.optim.model_copy(update={"epochs": 8})})
    found = teach_order(spec, str(faces), str(out))
    assert found.metrics["val_kendall_tau"] > 0.6
    assert found.metrics["val_probe_mae_years"] < found.metrics["val_mae_median_years"]
    assert teach_order(spec, str(faces), str(out)) == found
    assert not (out / "checkpoint").exists()
    with pytest.raises(ConflictError, match="other settings or data"):
        teach_order(SPEC, str(faces), str(out))
    facts = describe_order(str(out), str(faces))
    assert facts.quality is not None
    assert facts.quality.kendall_tau == pytest.approx(found.metrics["val_kendall_tau"], abs=1e-6)
    assert facts.quality.probe_mae_years == pytest.approx(found.metrics["val_probe_mae_years"], abs=1e-3)
    app = typer.Typer()
    add_to(app)
    page = CliRunner().invoke(app, ["teacher", "show", str(out), "--data", str(faces)])
    assert page.exit_code == 0, page.output
    assert "Kendall tau" in page.output


def test_a_killed_training_goes_on_to_the_same_end(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = teach_order(SPEC, str(faces), str(tmp_path / "whole"))

    def killed(folder: Location, row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training, "append_row", killed)
        with pytest.raises(KeyboardInterrupt):
            teach_order(SPEC, str(faces), str(tmp_path / "cut"))
    resumed = teach_order(SPEC, str(faces), str(tmp_path / "cut"))
    assert resumed.files == whole.files


def test_features_and_damage(faces: Path, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"optim": SPEC.optim.model_copy(update={"epochs": 1})})
    teach_order(spec, str(faces), str(tmp_path))
    net = load_order(str(tmp_path))
    images = torch.rand(2, 3, 32, 32) * 255
    with torch.no_grad():
        torch.testing.assert_close(net(images), net.score(net.features(images)).squeeze(-1))
    with pytest.raises(InputError, match="is an order teacher"):
        read_model_manifest(str(tmp_path))
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="is damaged"):
        load_order(str(tmp_path))
    with pytest.raises(InputError, match="is not an order teacher"):
        read_order_manifest(str(faces))


def test_ages_too_close_are_told_before_training(faces: Path, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"order": OrderSpec(length=16, gap=20.0)})
    with pytest.raises(InputError, match="Use shorter ones or a smaller gap"):
        teach_order(spec, str(faces), str(tmp_path / "t"))
    with pytest.raises(InputError, match="Unknown order loss 'bubble'"):
        teach_order(
            SPEC.model_copy(update={"order": OrderSpec(loss="bubble")}), str(faces), str(tmp_path / "u")
        )


def test_a_probe_reads_what_is_linear() -> None:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(200, 30)).astype(np.float32)
    ages = (45 + 8 * features[:, 0] - 5 * features[:, 3]).astype(np.float32)
    np.testing.assert_allclose(probe(features[:150], ages[:150], features[150:]), ages[150:], atol=0.3)
