"""What readers share: paths that stay inside the dataset."""

from __future__ import annotations

import pytest

from agesearch.data.sources.base import inside
from agesearch.data.sources.values import BadLabel
from agesearch.storage import Location

ROOT = Location.of("/data/set")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a/b.jpg", "a/b.jpg"),
        (" ./a.jpg ", "a.jpg"),
        ("a..b/c...jpg", "a..b/c...jpg"),
        ("é/名.jpg", "é/名.jpg"),
    ],
)
def test_paths_of_annotations_start_at_the_root(written: str, expected: str) -> None:
    assert inside(written, ROOT) == f"/data/set/{expected}"


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("", "no_path"),
        ("  ", "no_path"),
        ("../a.jpg", "path_outside"),
        ("a/../../b.jpg", "path_outside"),
        ("a\\..\\..\\b.jpg", "path_outside"),
        ("/etc/passwd", "path_outside"),
        ("~/a.jpg", "path_outside"),
        ("C:\\a.jpg", "path_outside"),
        ("s3://other/a.jpg", "path_outside"),
        ("a\0.jpg", "bad_path"),
        ("a" * 300 + ".jpg", "bad_path"),
        ("a/" * 2000 + "b.jpg", "bad_path"),
    ],
)
def test_paths_that_could_leave_the_root_are_refused(written: str, reason: str) -> None:
    with pytest.raises(BadLabel) as caught:
        inside(written, ROOT)
    assert caught.value.reason == reason
