"""The Ray session: authenticated, on loopback, and clear about a cluster that is not there."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agesearch.session import ensure_token, prepare_environment, ray_session


def test_token_is_made_once_and_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ray" / "token"
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    assert ensure_token() == path
    first = path.read_text()
    assert len(first) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ensure_token()
    assert path.read_text() == first


def test_environment_of_the_user_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_DEDUP_LOGS", "0")
    prepare_environment()
    import os

    assert os.environ["RAY_DEDUP_LOGS"] == "0"


@pytest.mark.usefixtures("ray_local")
def test_a_running_session_is_joined_and_left_running() -> None:
    import ray

    with ray_session() as session:
        assert session.cpus == 2
    assert ray.is_initialized()
    assert ray.get_runtime_context().gcs_address.startswith("127.")


def test_an_absent_cluster_is_one_clear_error() -> None:
    script = "from agesearch.session import ray_session\nwith ray_session('127.0.0.1:1'): pass"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "InputError: No Ray cluster answers at '127.0.0.1:1' (Connection refused)" in done.stderr


@pytest.mark.parametrize("started", [False, True])
def test_a_program_may_have_imported_ray_or_started_it_before(started: bool) -> None:
    begin = (
        "ray.init('local', num_cpus=1, include_dashboard=False, _node_ip_address='127.0.0.2')"
        if started
        else ""
    )
    script = (
        f"import ray\n{begin}\nfrom agesearch.session import ray_session\n"
        "with ray_session(cpus=1): print(ray.get(ray.remote(lambda: 'done').remote()))"
    )
    bare = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env=bare
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"
