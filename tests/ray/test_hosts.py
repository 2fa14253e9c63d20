"""Two hosts of which one lacks the photographs: no face is lost, and nobody is told that it is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hosts import Hosts, need_namespaces
from ingest_helpers import Source, content, small_source

_INGEST = ("data", "ingest", "csv")
_ASKED = "from agesearch.cli.main import run; run()"
#: The command, on a cluster whose nodes are asked nothing before the work: like nodes that join meanwhile.
_UNASKED = (
    "from agesearch.data.ingest.unseen import LeftOut; LeftOut.ask = lambda *_: None; "
    "from agesearch.cli.main import run; run()"
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    source = small_source(tmp_path_factory.mktemp("source"))
    for index in range(100, 160):  # several units
        source.add(f"{index}.png", 20 + index % 60, shade=index)
    source.write()
    return source


@pytest.fixture(scope="module")
def hosts(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """A head without CPUs, a host that sees the photographs, and one that does not."""
    need_namespaces()
    from agesearch.session import prepare_environment

    prepare_environment()
    hosts = Hosts(tmp_path_factory.mktemp("logs"))
    try:
        hosts.start("head", 0)
        hosts.start("seeing", 1)
        hosts.start("lacking", 1, hidden=[source.root / "images"])
        yield hosts
    finally:
        hosts.end()


@pytest.fixture(scope="module")
def expected(source: Source, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a machine that sees all makes of the source."""
    out = tmp_path_factory.mktemp("alone") / "faces"
    done = _ingest(source, out)
    assert done.returncode == 0, done.stderr
    return content(out)


def _ingest(source: Source, out: Path, *more: str, code: str = _ASKED) -> subprocess.CompletedProcess[str]:
    spec = source.spec()
    options = ["--images", str(spec.images), "--detector", "none", "--size", "32", "--out", str(out)]
    split = ["--val", "0.3", "--test", "0.3", "--json"]
    given = [sys.executable, "-c", code, *_INGEST, spec.root, *options, *split, *more]
    return subprocess.run(given, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("code", [_ASKED, _UNASKED], ids=["asked", "unasked"])
def test_photographs_on_one_host_only_all_become_faces(
    source: Source, hosts: Hosts, expected: dict[str, Any], tmp_path: Path, code: str
) -> None:
    done = _ingest(source, tmp_path / "faces", "--address", hosts.address, code=code)
    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)["left_out_nodes"]
    assert told.startswith("The node lacking (127.0.0.4) takes no part in the ingest: it cannot read")
    assert told in " ".join(done.stderr.split())
    assert content(tmp_path / "faces") == expected


def test_hosts_of_which_none_sees_the_photographs_are_refused_by_name(
    source: Source, hosts: Hosts, expected: dict[str, Any], tmp_path: Path
) -> None:
    hosts.end("seeing")
    done = _ingest(source, tmp_path / "faces", "--address", hosts.address)
    assert done.returncode == 2, done.stderr
    assert "The node lacking (127.0.0.4) takes no part" in done.stderr
    assert "No other node with CPUs is left" in done.stderr
    assert not (tmp_path / "faces" / "dataset.json").exists()
    hosts.start("late", 1)
    done = _ingest(source, tmp_path / "faces", "--address", hosts.address)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "faces") == expected
