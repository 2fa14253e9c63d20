"""A service changes its version under load, and no request fails."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import cv2
import httpx
import numpy as np
import pyarrow as pa
import pytest
import torch

from agesearch.data.dataset.records import MANIFEST, SCHEMA, SHARDS, Manifest
from agesearch.data.images.crop import encode_crop
from agesearch.deploy.publish import publish
from agesearch.deploy.registry import Registry
from agesearch.models.folder import write_model
from agesearch.models.manifest import ModelManifest
from agesearch.models.zoo import build
from agesearch.serving.app import ServiceOptions, serving
from agesearch.serving.client import Client
from agesearch.serving.rollout.models import served_models
from agesearch.serving.rollout.promotion import Trial, promote
from agesearch.specs import CropSpec, ModelSpec
from agesearch.storage import Location

TOKEN = "a-token-of-enough-length"
_LOADS = 3


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Two versions of an untrained model; the first is the champion."""
    root = Location.of(tmp_path_factory.mktemp("rollout"))
    crop, spec = CropSpec(size=48), ModelSpec(arch="lcnet_035", input_size=48)
    face = encode_crop(np.full((48, 48, 3), 120, np.uint8), crop)
    row = {"sample_id": "0", "image": face, "age": 30.0, "source": "grey", "split": "val"}
    (root / "data" / SHARDS / "0.parquet").write_table(pa.Table.from_pylist([row], schema=SCHEMA))
    dataset = Manifest(name="grey", label_kind="synthetic", crop=crop, counts={"val": 1})
    (root / "data" / MANIFEST).write_json(dataset.model_dump(mode="json"))
    for seed, alias in enumerate(("champion", "candidate")):
        torch.manual_seed(seed)
        manifest = ModelManifest(kind="teacher", model=spec, crop=crop)
        write_model(root / f"model{seed}", build(spec).state_dict(), manifest)
        publish(root / f"model{seed}", "tiny", root / "registry", dataset=root / "data", alias=alias)
    return Registry(str(root / "registry"))


class Load:
    """Requests on a few connections for the length of a block: what came of each, and which version said
    it.
    """

    def __init__(self, url: str, photo: Path) -> None:
        cv2.imwrite(str(photo), np.full((96, 96, 3), 120, np.uint8))
        self._ask = {"url": f"{url}/v1/predict?faces=whole", "content": photo.read_bytes()}
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(_LOADS)]
        self.seen: Counter[str] = Counter()

    def _run(self) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "image/jpeg"}
        with httpx.Client(headers=headers, timeout=30.0, trust_env=False) as client:
            while not self._over.wait(0.02):
                try:
                    answer = client.post(**self._ask)
                    said = answer.json().get("model", {}).get("version")
                    self.seen[said or str(answer.status_code)] += 1
                except httpx.HTTPError as error:
                    self.seen[type(error).__name__] += 1

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def test_a_canary_and_a_rolling_update_under_load_cost_no_request(
    ray_local: None, registry: Registry, tmp_path: Path
) -> None:
    served = served_models(["tiny"], str(registry.root))
    with serving(served, TOKEN, ServiceOptions(port=0)) as service:
        with Load(service.url, tmp_path / "grey.jpg") as load:
            # Some requests go to it, but not as many as a verdict takes: the champion stays.
            with pytest.raises(Exception, match="decide nothing"):
                promote(registry, "tiny", "2", trial=Trial(0.5, minutes=0.02))
            tried = load.seen["0002"]
            change = promote(registry, "tiny", "2")
            with Client(service.url, TOKEN) as client:
                (summary,) = client.models()
        assert (change.version, change.services) == ("0002", [service.url])
        assert (summary.version, summary.role, summary.alias) == ("0002", "live", "champion")
        assert set(load.seen) == {"0001", "0002"}, load.seen
        assert 0 < tried < load.seen["0002"]
    steps = [move.step for move in registry.alias("tiny", "champion").history]
    assert steps == ["move", "canary", "refuse", "promote"]
