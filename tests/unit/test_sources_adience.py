"""The reader ``adience`` on a tree in the owner's layout, with labels that are none of the eight groups."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from public_trees import adience, small_images

from agesearch.data.dataset.records import Rejected, SourceRecord, Split
from agesearch.data.sources import SOURCES, SourceOptions
from agesearch.errors import InputError
from agesearch.storage import Location

EXPECTED = [
    ((0.0, 2.0), "female", Split.TEST),
    ((8.0, 13.0), "male", Split.VAL),
    ((25.0, 32.0), None, Split.TRAIN),
    ((48.0, 53.0), None, Split.TRAIN),
    ((60.0, 100.0), "female", Split.TRAIN),
]


def _options(root: Path, **options: object) -> SourceOptions:
    return SourceOptions(Location.of(root), **options)


def _read(root: Path, **options: object) -> list[SourceRecord | Rejected]:
    return list(SOURCES["adience"].read(_options(root, **options)))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    adience(tmp_path, small_images())
    return tmp_path


@pytest.mark.parametrize(
    ("variant", "folder"),
    [
        ("full", "faces/{}/coarse_tilt_aligned_face"),
        ("frontal", "faces/{}/coarse_tilt_aligned_face"),
        ("full-aligned", "aligned/{}/landmark_aligned_face"),
        ("frontal-aligned", "aligned/{}/landmark_aligned_face"),
    ],
)
def test_groups_folds_and_users(tree: Path, variant: str, folder: str) -> None:
    records = [item for item in _read(tree, variant=variant) if isinstance(item, SourceRecord)]
    assert records == [
        SourceRecord(
            f"{tree}/{folder.format(f'3060125{fold}@N03')}.{fold + 1}.10399{fold}_a04f_o.jpg",
            "adience",
            age_low=group[0],
            age_high=group[1],
            subject_id=f"3060125{fold}@N03",
            sex=sex,
            split=split,
            fold=fold,
        )
        for fold, (group, sex, split) in enumerate(EXPECTED)
    ]
    assert all(Path(record.path).is_file() for record in records)


def test_other_labels_are_left_out_by_their_kind(tree: Path) -> None:
    reasons = Counter(item.reason for item in _read(tree) if isinstance(item, Rejected))
    assert reasons == {
        "single_age": 1, "other_age_group": 3, "no_age": 2, "bad_age": 1, "path_outside": 1, "no_path": 1,
    }  # fmt: skip
    assert not [item for item in _read(tree, variant="frontal") if isinstance(item, Rejected)]


def test_the_table_is_read_wherever_owners_put_it(tree: Path) -> None:
    (tree / "folds").mkdir()
    for table in tree.glob("fold_frontal_*.txt"):
        table.rename(tree / "folds" / table.name)
    assert len(_read(tree, variant="frontal")) == 5


def test_each_fold_tests_once(tree: Path) -> None:
    turns = SOURCES["adience"].turns(_options(tree))
    assert [turn.folds[Split.TEST] for turn in turns] == [(0,), (1,), (2,), (3,), (4,)]
    for turn in turns:
        assert sorted(sum(turn.folds.values(), ())) == [0, 1, 2, 3, 4]
        assert (len(turn.folds[Split.TRAIN]), len(turn.folds[Split.VAL])) == (3, 1)
    first = {fold: split for fold, (_, _, split) in enumerate(EXPECTED)}
    assert [fold for fold, split in first.items() if split is Split.VAL] == list(turns[0].folds[Split.VAL])


def test_missing_tables_and_the_other_images_are_named(tree: Path) -> None:
    (tree / "faces").rename(tree / "gone")
    with pytest.raises(
        InputError, match=r"has the images 'aligned/', not 'faces/': give --variant frontal-aligned"
    ):
        _read(tree, variant="frontal")
    with pytest.raises(InputError, match=r"--variant full-aligned"):
        _read(tree)
    assert _read(tree, images=Location.of(tree / "gone"))[0].path.startswith(
        f"{tree}/gone/30601250@N03/coarse"
    )
    (tree / "fold_3_data.txt").unlink()
    with pytest.raises(InputError, match=r"Expected there: 'fold_3_data.txt'\."):
        _read(tree)
