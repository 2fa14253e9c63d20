"""A Prometheus of one's own on loopback, by the files that are shipped, with addresses and tokens of here."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from agesearch.bench.monitoring.expressions import CONFIG, RULES
from agesearch.errors import AgeSearchError, InputError
from agesearch.machine import free_port
from agesearch.session import LOOPBACK

#: Seconds between two looks at each target: a run of a minute or two is to show rates.
SCRAPE_S = 3
_START_S, _END_S = 60.0, 20.0


def local_config(folder: Path, *, dashboard: str, service: str, ray_token: Path, service_token: Path) -> str:
    """The configuration of ``folder`` with the dashboard's URL, the service's ``host:port`` and the files of
    both tokens, and looked at more often.
    """
    document = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    document["global"] = {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
    document["rule_files"] = [str((folder / RULES).resolve())]
    jobs = {job["job_name"]: job for job in document["scrape_configs"]}
    (found,) = jobs["ray"]["http_sd_configs"]
    path = found["url"].split("/", 3)[3]
    found |= {"url": f"{dashboard}/{path}", "refresh_interval": f"{SCRAPE_S}s"}
    found["authorization"]["credentials_file"] = str(ray_token)
    jobs["agesearch"]["static_configs"] = [{"targets": [service]}]
    jobs["agesearch"]["authorization"]["credentials_file"] = str(service_token)
    return yaml.safe_dump(document, sort_keys=False)


class Prometheus:
    """One that runs, and what it answers."""

    def __init__(self, url: str) -> None:
        self.url = url

    def targets(self) -> dict[str, str]:
        """What it looks at: the health of each address, ``up`` or ``down``."""
        found = self._get("targets")["activeTargets"]
        return {target["scrapeUrl"]: target["health"] for target in found}

    def series(self, expression: str, begin: float, end: float) -> list[list[float]]:
        """The numbers of each series of an expression between two times, in seconds since 1970. An
        ``AgeSearchError`` says why it has none.
        """
        asked: dict[str, Any] = {"query": expression, "start": begin, "end": end, "step": SCRAPE_S}
        found = self._get("query_range", asked)["result"]
        series = [[float(value) for _, value in one["values"]] for one in found]
        return [kept for one in series if (kept := [value for value in one if value == value])]

    def _get(self, what: str, parameters: dict[str, Any] | None = None) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{what}", params=parameters, timeout=30)
        document = answer.json()
        if document["status"] != "success":
            raise AgeSearchError(f"Prometheus: {document['error']}")
        return document["data"]


@contextmanager
def running(config: str, folder: Path) -> Iterator[Prometheus]:
    """Prometheus with this configuration and its files in ``folder``, for the length of the block."""
    program = shutil.which("prometheus")
    if program is None:
        raise InputError("There is no Prometheus on this machine: apt-get install prometheus")
    (folder / CONFIG).write_text(config, encoding="utf-8")
    address = f"{LOOPBACK}:{free_port(LOOPBACK)}"
    call = [program, f"--config.file={folder / CONFIG}", f"--storage.tsdb.path={folder / 'data'}"]
    with open(folder / "prometheus.log", "wb") as log:
        process = subprocess.Popen([*call, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        _wait(process, f"http://{address}", folder / "prometheus.log")
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{url}/-/ready", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    said = log.read_text(encoding="utf-8", errors="replace").splitlines() or ["it said nothing"]
    raise AgeSearchError(f"Prometheus did not start: {said[-1][:300]}")
