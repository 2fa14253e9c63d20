"""CACD2000: labels and ranks from the MATLAB file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from more_public_trees import cacd2000, put_nothing, read_tree
from scipy.io import savemat

from agesearch.data.dataset.records import SourceRecord, Split
from agesearch.errors import InputError

pytestmark = pytest.mark.usefixtures("matlab_here")

META = "celebrity2000_meta.mat"
UNEVEN = {"name": ["a"], "age": np.ones(3), "identity": np.ones(3), "rank": np.ones(2)}


def test_ranks_decide_the_splits(tmp_path: Path) -> None:
    root = cacd2000(tmp_path, put_nothing)
    records, reasons = read_tree("cacd2000", root, root / "CACD2000")
    labels = {
        "53_Robin_Williams_0001.jpg": (53.0, "1", Split.VAL),
        "14_Aaron_Johnson_0001.jpg": (14.0, "2", Split.VAL),
        "23_Zo\u00eb_Kravitz_0004.jpg": (23.0, "3", Split.TEST),
        "44_Someone_Else_0002.jpg": (44.0, "4", Split.TEST),
        "30_Third_Person_0009.jpg": (30.0, "5", Split.TRAIN),
        "62_Third_Person_0010.jpg": (62.0, "5", Split.TRAIN),
    }
    assert records == {
        name: SourceRecord(name, "cacd2000", age=age, subject_id=person, split=split)
        for name, (age, person, split) in labels.items()
    }
    assert reasons == {
        "120_Wrong_Age_0001.jpg": "bad_age",
        "30_No_Rank_0001.jpg": "bad_rank",
        f"{root}/{META}:9": "path_outside",
    }


def test_images_may_lie_beside_the_matlab_file(tmp_path: Path) -> None:
    root = cacd2000(tmp_path, put_nothing)
    (root / "CACD2000").rename(tmp_path / "elsewhere")
    assert "53_Robin_Williams_0001.jpg" in read_tree("cacd2000", root)[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "Expected there: 'celebrity2000_meta.mat'"),
        (b"", "cannot be read as a MATLAB file"),
        (b"MATLAB 5.0 MAT-file" + b"\0" * 300, "cannot be read as a MATLAB file|has no struct|damaged"),
        ({"celebrityData": {"name": 1.0}}, "has no struct 'celebrityImageData'"),
        ({"celebrityImageData": {"age": np.ones(3), "identity": np.ones(3)}}, "has no field 'name'"),
        ({"celebrityImageData": UNEVEN}, "several lengths"),
    ],
)  # fmt: skip
def test_other_files_in_its_place_give_one_line(tmp_path: Path, content: object, message: str) -> None:
    if isinstance(content, bytes):
        (tmp_path / META).write_bytes(content)
    elif content is not None:
        savemat(tmp_path / META, content)
    with pytest.raises(InputError, match=message) as caught:
        read_tree("cacd2000", tmp_path)
    assert "\n" not in str(caught.value)
