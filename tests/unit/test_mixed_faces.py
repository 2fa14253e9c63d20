"""Mixup of a batch: pixels and targets are mixed alike, by the seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from agesearch.ages import BINS, expected_age, gaussian_pmf
from agesearch.specs import AugmentSpec, ModelSpec, TrainSpec
from agesearch.training.faces.batches import Batch
from agesearch.training.faces.mixing import MixedFaces, mixed

AGES = np.array([20, 40, 60, 80], dtype=np.float32)
BATCH = Batch(
    sample_id=list("abcd"),
    images=np.arange(4 * 12, dtype=np.uint8).reshape(4, 2, 2, 3),
    age=AGES,
    label_pmf=gaussian_pmf(AGES, np.full(4, 2.0)),
    weight=np.ones(4, dtype=np.float32),
    teacher_pmf=gaussian_pmf(AGES + 5, np.full(4, 3.0)),
    teacher_features=np.ones((4, 3), dtype=np.float32),
    of_faces=4,
)
PARTNER = np.array([1, 0, 2, 0])
SHARE = np.array([0.75, 0.5, 0.6, 1.0], dtype=np.float32)


class Same:
    """A source that has the same batch in every step."""

    faces, steps, rank, world = 4, 3, 0, 1

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        yield from [BATCH] * (self.steps - start)


def _spec(share: float, seed: int = 0) -> TrainSpec:
    return TrainSpec(model=ModelSpec(arch="lcnet_035"), augment=AugmentSpec(mixup=share), seed=seed)


def test_pixels_ages_and_distributions_are_mixed_alike() -> None:
    found = mixed(BATCH, PARTNER, SHARE)
    assert found.age.tolist() == pytest.approx([25, 30, 60, 80])
    assert found.images[0, 0, 0].tolist() == [3, 4, 5]  # 0, 1, 2 and a quarter of 12
    assert expected_age(found.label_pmf) == pytest.approx(found.age, abs=0.1)
    assert found.teacher_pmf is not None
    assert expected_age(found.teacher_pmf) == pytest.approx(found.age + 5, abs=0.1)
    assert found.label_pmf.shape == (4, BINS)
    np.testing.assert_allclose(found.label_pmf.sum(axis=1), 1.0, rtol=1e-5)


def test_a_mixture_with_a_face_without_a_label_has_none() -> None:
    unknown = np.array([False, True, False, False])
    labels = np.where(unknown[:, None], 0.0, BATCH.label_pmf).astype(np.float32)
    ages = np.where(unknown, np.nan, BATCH.age).astype(np.float32)
    found = mixed(replace(BATCH, age=ages, label_pmf=labels), PARTNER, SHARE)
    assert np.isnan(found.age).tolist() == [True, True, False, False]
    assert (found.label_pmf.sum(axis=1) > 0).tolist() == [False, False, True, True]


def test_order_features_stay_only_where_a_face_is_its_own_partner() -> None:
    features = mixed(BATCH, PARTNER, SHARE).teacher_features
    assert features is not None
    assert np.isfinite(features).all(axis=1).tolist() == [False, False, True, False]


def test_a_step_is_mixed_the_same_way_wherever_an_epoch_begins() -> None:
    whole = [batch.age for batch in MixedFaces(Same(), _spec(1.0)).epoch(2)]
    rest = [batch.age for batch in MixedFaces(Same(), _spec(1.0)).epoch(2, 1)]
    other = [batch.age for batch in MixedFaces(Same(), _spec(1.0, seed=1)).epoch(2)]
    np.testing.assert_array_equal(whole[1:], rest)
    assert not np.array_equal(whole[0], whole[1])
    assert not np.array_equal(whole, other)


def test_the_share_of_batches_that_is_mixed() -> None:
    source = MixedFaces(Same(), _spec(0.5))
    changed = [batch is not BATCH for epoch in range(100) for batch in source.epoch(epoch)]
    assert 0.4 < np.mean(changed) < 0.6
    assert all(batch is BATCH for batch in MixedFaces(Same(), _spec(0.0)).epoch(0))
