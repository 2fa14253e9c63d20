"""The plain loop and our own training see the same faces equally often."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agesearch.bench.plain_loop import plain_search
from agesearch.bench.race import race_study
from agesearch.distill.task import DistillTask
from agesearch.models.zoo import build
from agesearch.search.space.space import trial_spec
from agesearch.specs import ModelSpec, TrainSpec
from agesearch.storage import Location
from agesearch.training.faces.pool import FacePool, PoolSource
from agesearch.training.loop import Trainer


def faces(count: int, seed: int) -> dict[str, npt.NDArray[np.generic]]:
    rng = np.random.default_rng(seed)
    unknown = np.full(count, np.nan, np.float32)
    pmf = rng.random((count, 101)).astype(np.float16)
    return {
        "sample_id": np.array([f"{seed}-{index}" for index in range(count)]),
        "image": rng.integers(0, 255, (count, 32, 32, 3), dtype=np.uint8),
        "age": rng.uniform(10, 70, count).astype(np.float32),
        "age_std": unknown,
        "age_low": unknown,
        "age_high": unknown,
        "weight": unknown,
        "teacher_pmf": pmf,
    }


def test_the_plain_loop_and_ours_train_the_same_epochs(tmp_path: object) -> None:
    train, val = faces(12, 0), faces(4, 1)
    spec = TrainSpec(model=ModelSpec(arch="lcnet_035", input_size=32)).with_values(
        {"optim.epochs": 2, "optim.batch_size": 8}
    )
    plain = plain_search([spec], train, val)
    net = build(spec.model)
    source = PoolSource(FacePool([train], 32), spec)
    ours = list[float]()
    trainer = Trainer(
        net,
        DistillTask(net, spec.distill, has_teacher=True),
        source,
        FacePool([val], 32),
        spec,
        Location.of(str(tmp_path)),
    )
    trainer.fit(lambda row: ours.append(row["val_mae_years"]))
    assert [len(curve) for curve in plain] == [len(ours)] == [2]
    assert all(np.isfinite(plain[0]))


def test_a_race_has_each_configuration_once() -> None:
    study = race_study(4, 2, 48)
    names = list(study.space["configuration"].variants)  # type: ignore[union-attr]
    specs = [trial_spec(study, {"configuration": name}) for name in names]
    assert len({spec.digest() for spec in specs}) == len(specs) == study.trials == 4
    assert {(spec.optim.epochs, spec.model.input_size) for spec in specs} == {(2, 48)}
    assert study.rungs is None
