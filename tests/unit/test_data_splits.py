"""Splits are decided by the subject's hash: stable, subject-exclusive, of about the shares asked for."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agesearch.data.dataset.identity import identify
from agesearch.data.dataset.records import SourceRecord, Split
from agesearch.data.dataset.splits import split_of, split_of_key, tied_splits
from agesearch.specs import SplitSpec

_ORDER = {Split.TEST: 0, Split.VAL: 1, Split.TRAIN: 2}


@given(
    subjects=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=40),
    seed=st.integers(0, 1000),
    shuffled=st.randoms(),
)
def test_order_of_rows_does_not_matter_and_subjects_never_straddle(subjects, seed, shuffled) -> None:
    spec = SplitSpec(val=0.3, test=0.3, seed=seed)
    rows = [(f"image{index}", subject) for index, subject in enumerate(subjects)]

    def draw(order: list[tuple[str, str]]) -> dict[str, Split]:
        return {
            image: split_of(SourceRecord(image, "s", subject_id=subject), image, spec)
            for image, subject in order
        }

    other = list(rows)
    shuffled.shuffle(other)
    found = draw(rows)
    assert draw(other) == found
    of_subject: dict[str, set[Split]] = {}
    for image, subject in rows:
        of_subject.setdefault(subject, set()).add(found[image])
    assert all(len(splits) == 1 for splits in of_subject.values())


@given(key=st.text(), low=st.floats(0, 0.4), more=st.floats(0, 0.5))
def test_a_larger_test_share_keeps_its_members(key: str, low: float, more: float) -> None:
    before = split_of_key(key, SplitSpec(val=0.0, test=low))
    after = split_of_key(key, SplitSpec(val=0.0, test=low + more))
    assert _ORDER[after] <= _ORDER[before]


def test_shares_and_seed() -> None:
    spec = SplitSpec(val=0.2, test=0.1)
    counts = Counter(split_of_key(f"{number}", spec) for number in range(4000))
    assert abs(counts[Split.VAL] / 4000 - 0.2) < 0.03
    assert abs(counts[Split.TEST] / 4000 - 0.1) < 0.03
    other = SplitSpec(val=0.2, test=0.1, seed=1)
    assert any(split_of_key(f"{n}", spec) != split_of_key(f"{n}", other) for n in range(50))


def test_owners_split_wins_and_images_stand_in_for_subjects() -> None:
    spec = SplitSpec(val=0.0, test=0.99)
    owned = SourceRecord("a", "s", subject_id="anna", split=Split.TRAIN)
    assert split_of(owned, "digest", spec) is Split.TRAIN
    unknown = [SourceRecord(path, "s") for path in ("a", "b")]
    spec = SplitSpec(val=0.4, test=0.3)
    assert all(split_of(unknown[0], d, spec) == split_of(unknown[1], d, spec) for d in map(str, range(40)))


def test_all_whom_photographs_tie_together_share_one_split() -> None:
    spec = SplitSpec(val=0.4, test=0.3)
    shown = [
        ("p1", "subject:anna"), ("p1", "subject:ben"),
        ("p2", "subject:ben"), ("p2", "image:p2"),
        ("p3", "subject:zoe"), ("p3", "subject:yan"),
        ("p4", "subject:alone"), ("p4", "subject:alone"),
    ]  # fmt: skip
    found = tied_splits(shown, spec)
    assert found == dict.fromkeys(
        ["subject:anna", "subject:ben", "image:p2"], split_of_key("subject:anna", spec)
    ) | dict.fromkeys(["subject:yan", "subject:zoe"], split_of_key("subject:yan", spec))
    assert tied_splits(reversed(shown), spec) == found
    assert tied_splits([], spec) == {}


def test_faces_are_named_by_bytes_and_box_photographs_by_bytes_alone() -> None:
    plain, boxed, other = identify(b"file"), identify(b"file", (1, 2, 30, 40)), identify(b"another")
    assert plain.sample_id == plain.photo_digest == hashlib.sha256(b"file").hexdigest()[:32]
    assert plain.photo_sha256 == hashlib.sha256(b"file").hexdigest()
    box = np.array([1, 2, 30, 40], "<f4").tobytes()
    assert boxed.sample_id == hashlib.sha256(b"file" + box).hexdigest()[:32]
    assert boxed.photo_digest == plain.photo_digest != other.photo_digest
