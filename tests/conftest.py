"""Fixtures that every test file may use."""

from __future__ import annotations

import atexit
import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from longest_first import longest_first

from agesearch.session import set_environment

# Ray reads these when it is first imported, which some test files do while they are collected.
set_environment()

# A suite that a script starts in the background ignores Ctrl-C, and so would each program that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says nothing on a machine that others share; 25 of each keep the suite short.
settings.register_profile("shared machine", deadline=None, max_examples=25)
settings.load_profile("shared machine")

#: What the S3 server of the tests takes: anything.
S3_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
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

    # The workers of an ingest from an object store need them, and inherit them when Ray starts.
    os.environ |= S3_CREDENTIALS
    with ray_session(cpus=2):
        yield


# To look through all that the tests import takes as long as several tests, and frees nothing.
gc.disable()
atexit.register(gc.unfreeze)  # native code counts what is not freed at the end, and tells of it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: workers then end at about the same time (``--no-loadscope-reorder``)."""
    items[:] = longest_first(items)


def pytest_collection_finish() -> None:
    """From here on the collector looks at what the tests make."""
    gc.collect()
    gc.freeze()
    gc.enable()
