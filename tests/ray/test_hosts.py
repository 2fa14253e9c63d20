"""Hosts that do not see the same: no face is lost where one lacks the photographs, and nobody is told that
they are missing; credentials reach all workers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import S3_CREDENTIALS
from ingest_helpers import Source, content, small_source

from agesearch.bench.drills.hosts import Hosts, need_namespaces
from agesearch.errors import InputError

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
    try:
        need_namespaces()
    except InputError as error:
        pytest.skip(str(error))
    from agesearch.session import prepare_environment

    prepare_environment()
    bare: dict[str, str | None] = dict.fromkeys(S3_CREDENTIALS)
    hosts = Hosts(tmp_path_factory.mktemp("logs"))
    try:
        hosts.start("head", 0, environment=bare)
        hosts.start("seeing", 1, environment=bare)
        hosts.start("lacking", 1, hidden=[source.root / "images"], environment=bare)
        yield hosts
    finally:
        hosts.kill_all()


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


_TELL_CREDENTIALS = """
import os, sys
from agesearch.session import ray_session
with ray_session(sys.argv[1]):
    import ray
    print(ray.get(ray.remote(num_cpus=1)(lambda: os.environ.get("AWS_SECRET_ACCESS_KEY")).remote()))
    print(ray._private.worker._global_node.get_logs_dir_path())
"""


def test_workers_on_other_hosts_have_the_credentials_of_the_command_and_no_log_has_them(hosts: Hosts) -> None:
    secret = "kept-to-itself-4711"
    done = subprocess.run(
        [sys.executable, "-c", _TELL_CREDENTIALS, hosts.address],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": secret},
    )
    assert done.returncode == 0, done.stderr
    found, logs = done.stdout.split()
    assert found == secret
    written = [path for path in Path(logs).parent.rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if secret.encode() in path.read_bytes()]


def test_the_doctor_names_the_host_that_lacks_a_place(source: Source, hosts: Hosts) -> None:
    place = str(source.root / "images" / "1.png")
    given = [sys.executable, "-c", _ASKED, "doctor", place, "--address", hosts.address, "--json"]
    done = subprocess.run(given, capture_output=True, text=True, timeout=120)
    told = json.loads(done.stdout)
    faults = {
        (finding["machine"], finding["says"])
        for finding in told["findings"]
        if finding["level"] == "fault" and finding["about"] in ("place", "versions", "clock", "node")
    }
    assert faults == {("lacking (127.0.0.4)", f"'{place}' cannot be read: there is none")}
    assert done.returncode == 1
    assert set(told["machines"]) == {
        "this machine",
        "head (127.0.0.2)",
        "seeing (127.0.0.3)",
        "lacking (127.0.0.4)",
    }


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
