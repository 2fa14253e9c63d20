"""The pack that ships with agesearch."""

from __future__ import annotations

import numpy as np

from agesearch.data.dataset.arrays import read_arrays
from agesearch.data.dataset.records import read_manifest
from agesearch.data.reading.demo_pack import demo_pack


def test_the_pack_is_a_small_dataset_of_all_ages() -> None:
    pack = demo_pack()
    manifest = read_manifest(pack)
    assert manifest.label_kind == "synthetic"
    assert manifest.faces >= 1400
    assert manifest.crop.size == 112
    assert sum(path.stat().st_size for path in pack.local().rglob("*") if path.is_file()) < 8_000_000
    val = read_arrays(pack, "val")
    assert len(val) == manifest.counts["val"] > 150
    assert val.images.shape[1:] == (112, 112, 3)
    decades = np.histogram(val.age, bins=9, range=(0, 90))[0]
    assert decades.min() >= 8
    assert np.isfinite(val.age).all()
