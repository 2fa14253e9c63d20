"""In which order files of tests are begun that take a minute where others take seconds.

Workers take file after file. Where the long ones come last, as they do by their number of tests, one worker
has nothing left while the other is still at its last.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

#: Files that take more than about 20 s on two cores, the longest first.
LONGEST_FIRST = (
    "test_submit",
    "test_whole_way",
    "test_study",
    "test_drills",
    "test_hosts",
    "test_bench_scale",
    "test_resume",
    "test_killed_service",
    "test_api_whole_way",
    "test_robustness",
    "test_ingest_resume",
    "test_several_workers",
    "test_teach",
    "test_stop_study",
    "test_rolling_update",
    "test_serve",
    "test_signals",
    "test_killed_within",
    "test_demo",
    "test_pausing_study",
    "test_finetune",
    "test_confirm",
)


def longest_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Tests by their file, the rest behind those of long files in the order in which they were found."""
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    return sorted(items, key=lambda item: places.get(item.path.stem, len(places)))
