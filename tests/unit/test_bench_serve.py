"""What the bench of the service sends where, and what it tells of memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agesearch.bench.serve.faults import memory
from agesearch.bench.serve.faults.memory import MemoryWatch
from agesearch.bench.serve.litserve import PATHS
from agesearch.bench.serve.requests import AskedImage, order_of, write_images
from agesearch.bench.serve.servers import Server
from agesearch.cli.main import app


class Process:
    """Stands in for the driver's process; nothing asks it anything."""


def _server(**more: Any) -> Server:
    process: Any = Process()
    return Server("it", 8000, process, **more)


def test_a_server_with_calls_of_its_own_is_asked_by_them(tmp_path: Path) -> None:
    images = write_images(tmp_path)
    assert [image.case for image in images] == list(PATHS)
    assert [order_of(_server(), image, 1, 1).path for image in images] == [image.path for image in images]
    assert [order_of(_server(paths=PATHS), image, 1, 1).path for image in images] == ["/whole", "/detect"]
    other = AskedImage("other", "/v1/predict", images[0].file)
    assert order_of(_server(paths=PATHS), other, 1, 1, rate=4.0).path == "/v1/predict"


def test_memory_is_told_by_process_and_only_ours_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([{"driver": 90.0, "replica 1": 200.0, "the rest of Ray": 500.0}] * 2)
    monkeypatch.setattr(memory, "memory_mib", lambda _: next(seen, {"driver": 95.0, "replica 1": 215.0}))
    with MemoryWatch(_server(), every_s=3600.0) as watch:
        watch.begin()
        watch._look()
    told = {one.figure: (one.measured, one.holds) for one in watch.findings("soak")}
    assert told["driver, more at the end"] == (5.0, True)
    assert told["replica 1, more at the end"] == (15.0, False)
    assert told["replica 1, peak"] == (215.0, None)
    assert told["the rest of Ray, peak"] == (500.0, None)
    assert told["the rest of Ray, more at the end"][1] is None


@pytest.mark.parametrize(("options", "named"), [(["--soak", "5"], "--faults"), (["--rate", "5"], "--soak")])
def test_an_option_without_the_one_that_it_belongs_to_is_refused(options: list[str], named: str) -> None:
    answer = CliRunner().invoke(app, ["bench", "serve", *options])
    assert answer.exit_code != 0
    assert named in str(answer.exception) + answer.output
