"""A service on the hosts' cluster beside a study: its command ends, its host is lost, and its model is
promoted under load.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agesearch.bench.drills.stage import Stage
from agesearch.bench.serve.altered import NAME, altered_versions
from agesearch.bench.serve.asking import Asking
from agesearch.bench.serve.requests import write_faces
from agesearch.errors import AgeSearchError
from agesearch.machine import free_port
from agesearch.serving.auth import TOKEN_VARIABLE
from agesearch.session import LOOPBACK

#: Trials that may run at once: hosts beyond their number are the service's.
STUDY_CPUS = 2
_TOKEN = "a-token-for-the-drills-alone"
_PATIENCE_S = 240.0
#: Epochs of the study before the service comes, so that it stands beside a study at work.
_EPOCHS_BEFORE = 2


def service_lost(stage: Stage) -> str:
    """Deploy a model beside the study, lose the host that serves it, promote another version, and end it."""
    stage.await_epochs(_EPOCHS_BEFORE)
    stage.hosts.start("third", 1)
    with tempfile.TemporaryDirectory(prefix="agesearch-drill-") as folder:
        place = Path(folder)
        registry = str(altered_versions(str(place / "registry")).root)
        crops = [Path(write_faces(place, 1)[0]).read_bytes()]
        at = ["--address", stage.hosts.address, "--registry", registry]
        port = str(free_port(LOOPBACK))
        service = _asked("deploy", NAME, *at, "--host", "0.0.0.0", "--port", port)
        _require(Asking(service["url"], _TOKEN, crops).once() == "0001", "The service does not answer.")
        stage.hosts.start("fourth", 1)
        stage.hosts.kill(service["node"].partition(" ")[0])
        back_s, service = _back(at, crops, service["node"])
        asking = Asking(service["url"], _TOKEN, crops)
        with asking:
            _run("promote", NAME, "2", "--registry", registry)
        failed = sum(count for said, count in asking.seen.items() if said not in ("0001", "0002"))
        _require(not failed and asking.seen["0002"] > 0, f"{failed} requests failed: {dict(asking.seen)}")
        _asked("undeploy", NAME, *at)
        _require(asking.once() == "ConnectError", "The service answers after it was ended.")
    return (
        f"a service's host was killed: it answered on another one after {back_s:.0f} s, and took a new "
        f"version under load ({asking.seen.total()} requests, none failed)"
    )


def _back(at: list[str], crops: list[bytes], lost: str) -> tuple[float, dict[str, Any]]:
    """Seconds until the service answers on another host than the ``lost`` one, and how it then stands."""
    began = time.monotonic()

    def moved() -> dict[str, Any] | None:
        (found,) = _asked("deployments", *at)
        there = found["state"] == "serving" and found["node"] != lost
        return found if there and Asking(found["url"], _TOKEN, crops).once() == "0001" else None

    return _until(moved, began)


def _until(look: Callable[[], dict[str, Any] | None], began: float) -> tuple[float, dict[str, Any]]:
    while time.monotonic() - began < _PATIENCE_S:
        found = look()
        if found is not None:
            return time.monotonic() - began, found
        time.sleep(0.5)
    raise AgeSearchError(f"The service is not back after {_PATIENCE_S:.0f} s.")


def _asked(*words: str) -> Any:
    return json.loads(_run(*words, "--json"))


def _run(*words: str) -> str:
    """What a verb prints, in a process of its own that ends before the service is asked."""
    done = subprocess.run(
        [sys.executable, "-m", "agesearch.cli.main", *words],
        env=os.environ | {TOKEN_VARIABLE: _TOKEN},
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
    )
    if done.returncode:
        raise AgeSearchError(f"agesearch {' '.join(words)}: {done.stderr.strip()[-300:]}")
    return done.stdout


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise AgeSearchError(what)
