"""The search bench measures each history it is asked for."""

from __future__ import annotations

import pytest

from agesearch.bench.search import measure_search
from agesearch.errors import InputError


def test_each_history_is_measured() -> None:
    found = measure_search([3, 12], calls=2)
    assert [row.trials for row in found] == [3, 12]
    for row in found:
        assert min(row.suggest_ms, row.tell_ms, row.front_ms, row.rung_ms) > 0


def test_an_empty_history_is_refused() -> None:
    with pytest.raises(InputError, match="at least one trial"):
        measure_search([0])
    with pytest.raises(InputError, match="at least one trial"):
        measure_search([])
