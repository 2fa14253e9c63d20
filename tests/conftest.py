"""Fixtures that every test file may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The developers' folder of real photographs and weights; the product does not need it."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (photographs and weights for development), which is not here")
    return SHARED


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """One Ray on loopback for all Ray tests of the run."""
    from agesearch.session import ray_session

    with ray_session(cpus=2):
        yield
