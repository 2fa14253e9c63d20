"""The two shortest drills of several hosts with an S3 server between them."""

from __future__ import annotations

import pytest

from agesearch.bench.drills.run import NAMES, run_drills
from agesearch.errors import InputError


def test_a_host_killed_and_one_that_joins_late_lose_no_trial() -> None:
    try:
        found = run_drills(NAMES[:2], trials=4, epochs=3)
    except InputError as error:
        pytest.skip(str(error))
    assert [(drill.faults, drill.complete) for drill in found] == [([], 4), ([], 4)]
