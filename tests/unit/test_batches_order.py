"""Batches: every face once an epoch, labels as distributions, shares for workers."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from agesearch.ages import expected_age
from agesearch.errors import InputError
from agesearch.specs import AugmentSpec, ModelSpec, OptimSpec, TrainSpec
from agesearch.training.faces.batches import label_pmf, label_prior
from agesearch.training.faces.pool import FacePool, PoolSource

SPEC = TrainSpec(
    model=ModelSpec(arch="lcnet_035", input_size=32),
    optim=OptimSpec(batch_size=4),
    augment=AugmentSpec(strength=0.0),
)


def block(first: int, count: int, size: int = 32) -> dict[str, npt.NDArray[Any]]:
    ages = np.arange(first, first + count, dtype=np.float32)
    unknown = [np.full(count, np.nan, dtype=np.float32) for _ in range(3)]
    return {
        "sample_id": np.array([f"s{age:.0f}" for age in ages], dtype=object),
        "image": np.tile(ages.astype(np.uint8)[:, None, None, None], (1, size, size, 3)),
        "age": ages,
        "age_std": unknown[0],
        "age_low": unknown[1],
        "age_high": unknown[2],
    }


def test_an_epoch_shows_every_face_once_with_its_own_age_and_pixels() -> None:
    source = PoolSource(FacePool([block(0, 5, 48), block(5, 6, 48)], 32), SPEC)
    batches = list(source.epoch(0))
    assert len(batches) == source.steps == 3
    assert sorted(sum((list(batch.sample_id) for batch in batches), [])) == sorted(f"s{i}" for i in range(11))
    for batch in batches:
        np.testing.assert_array_equal(batch.images[:, 7, 9, 1], batch.age)
        assert [f"s{age:.0f}" for age in batch.age] == list(batch.sample_id)
        assert batch.teacher_pmf is None


def test_orders_differ_by_epoch_and_repeat_by_seed() -> None:
    pool = FacePool([block(0, 40)], 32)
    orders = [[b.sample_id for b in PoolSource(pool, SPEC).epoch(index)] for index in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_faces_too_many_to_keep_are_resized_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [block(0, 5, 48), block(5, 6, 48)]
    kept = FacePool(blocks, 32).images(np.array([10, 0, 5]))
    monkeypatch.setattr("agesearch.training.faces.pool.KEPT_BYTES", 0)
    np.testing.assert_array_equal(FacePool(blocks, 32).images(np.array([10, 0, 5])), kept)


def test_workers_share_an_epoch_without_overlap() -> None:
    pool = FacePool([block(0, 11)], 32)
    shares = [
        {name for batch in PoolSource(pool, SPEC, rank=rank, world=2).epoch(3) for name in batch.sample_id}
        for rank in (0, 1)
    ]
    assert sorted(map(len, shares)) == [5, 6]
    assert not shares[0] & shares[1]


@pytest.mark.parametrize("faces", [2, 3, 5, 9])
def test_no_batch_has_a_single_face(faces: int) -> None:
    source = PoolSource(FacePool([block(0, faces)], 32), SPEC)
    assert min(len(batch.sample_id) for batch in source.epoch(0)) >= 2


def test_one_face_is_too_few() -> None:
    with pytest.raises(InputError, match="at least 2 faces"):
        PoolSource(FacePool([block(0, 1)], 32), SPEC)


def test_labels_become_gaussians_groups_or_nothing() -> None:
    columns = block(30, 4)
    columns["age"][2:] = np.nan
    columns["age_std"][1] = 3.0
    columns["age_low"][2], columns["age_high"][2] = 8, 12
    pmf = label_pmf(columns, sigma=2.0)
    np.testing.assert_allclose(expected_age(pmf), [30, 31, 10, 0], atol=1e-3)
    assert pmf[0].max() > pmf[1].max()  # the annotators' spread widens the label
    np.testing.assert_allclose(pmf.sum(axis=1), [1, 1, 1, 0], atol=1e-5)
    prior = label_prior([columns], 2.0)
    assert prior is not None
    assert prior.sum() == pytest.approx(1.0, abs=1e-5)
    columns["age"][:] = columns["age_low"][:] = np.nan
    assert label_prior([columns], 2.0) is None


def test_faces_without_a_weight_count_once() -> None:
    columns = block(20, 4) | {"weight": np.array([np.nan, 0.5, 2.0, np.nan], dtype=np.float32)}
    (batch,) = PoolSource(FacePool([columns], 32), SPEC).epoch(0)
    assert dict(zip(batch.sample_id, batch.weight.tolist(), strict=True)) == {
        "s20": 1.0, "s21": 0.5, "s22": 2.0, "s23": 1.0,
    }  # fmt: skip


def test_teacher_masses_are_normalised_after_float16() -> None:
    columns = block(0, 4)
    columns["teacher_pmf"] = np.full((4, 101), 1 / 101, dtype=np.float16)
    (batch,) = PoolSource(FacePool([columns], 32), SPEC).epoch(0)
    assert batch.teacher_pmf is not None
    np.testing.assert_allclose(batch.teacher_pmf.sum(axis=1), 1.0, atol=1e-6)
