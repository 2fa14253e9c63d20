"""Work that is handed to a cluster on this machine: the same records as a study run here, stopped without
loss, nothing open but what ``cluster/security.md`` names, and a service that outlives its command and node.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from chromium import Page, chromium

from agesearch.bench.serve.altered import NAME, altered_versions
from agesearch.bench.serve.asking import Asking
from agesearch.bench.serve.requests import write_faces
from agesearch.data.reading.demo_pack import demo_pack
from agesearch.machine import free_port

_CHECKOUT = Path(__file__).parents[2]
_FACES = 100
_SPACE = {
    "trials": 2,
    "startup_trials": 40,  # drawn by the seed alone: latencies are measured anew, and steer later ones
    "student": {
        "model": {"arch": "lcnet_050", "input_size": 48},
        "optim": {"epochs": 2, "batch_size": 16, "learning_rate": 0.004},
    },
    "space": {
        "model.arch": {"choices": ["lcnet_050", "mobilenetv3_small_050"]},
        "distill.label_sigma": {"low": 1.0, "high": 4.0},
    },
}
#: What alone is told without a token, to whatever request: figures of Ray's own (``cluster/security.md``).
_FIGURES = b"# HELP "


class Cluster:
    """Verbs run in a folder of their own, beside a cluster that was started by one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"XDG_STATE_HOME": str(folder / "state")}
        self.environment.pop("RAY_API_SERVER_ADDRESS", None)
        self._ports = [
            *("--port", str(free_port("127.0.0.2"))),
            *("--dashboard-port", str(free_port("127.0.0.1"))),
        ]

    def start(self) -> None:
        """Start it, at the same addresses each time."""
        self.run("cluster", "up", "--workers", "2", "--cpus", "2", *self._ports)

    def run(self, *words: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """A verb that ends with ``code``."""
        done = subprocess.run(
            [sys.executable, "-m", "agesearch.cli.main", *words],
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == code, f"agesearch {' '.join(words)}:\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json").stdout)

    @cached_property
    def dashboard(self) -> str:
        """The dashboard's address."""
        return str(self.json("cluster", "status")["dashboard"])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("submit"))
    rows = (demo_pack() / "shards").read_table(columns=["age", "image"]).slice(0, _FACES).to_pylist()
    (cluster.folder / "photos").mkdir()
    lines = ["file,age"]
    for index, row in enumerate(rows):
        (cluster.folder / "photos" / f"{index}.jpg").write_bytes(row["image"])
        lines.append(f"{index}.jpg,{row['age']:.2f}")
    (cluster.folder / "faces.csv").write_text("\n".join(lines) + "\n")
    (cluster.folder / "space.yaml").write_text(yaml.safe_dump(_SPACE))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.run("cluster", "down")


def _listening(*pids: int) -> dict[tuple[str, int], str]:
    """Addresses on which processes and their children listen, and the names of those."""
    found = {}
    for pid in pids:
        holder = psutil.Process(pid)
        for process in (holder, *holder.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                for one in process.net_connections("tcp"):
                    if one.status == psutil.CONN_LISTEN:
                        found[one.laddr.ip, one.laddr.port] = process.name()
    return found


def _answer(host: str, port: int, path: str) -> bytes:
    """What a request without a token is told; nothing where it is refused."""
    reached = "127.0.0.1" if host in ("0.0.0.0", "::") else host.removeprefix("::ffff:")
    connection = http.client.HTTPConnection(reached, port, timeout=3)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read() if answer.status < 400 else b""
    except (OSError, http.client.HTTPException):  # gRPC does not speak HTTP/1
        return b""
    finally:
        connection.close()


def _check_closed(listening: dict[tuple[str, int], str], dashboard: str) -> None:
    """What answers without a token are figures, and the dashboard's page, which shows nothing."""
    host, _, port = dashboard.removeprefix("http://").partition(":")
    assert (host, int(port)) in listening
    asked = ("/", "/metrics", "/api/jobs/", "/nodes?view=summary", "/api/v0/tasks", "/api/job_agent/jobs/")
    told = {
        (*where, name, path): answer
        for where, name in listening.items()
        for path in asked
        if (answer := _answer(*where, path)) and where != (host, int(port))
    }
    assert told
    assert not {where for where, answer in told.items() if not answer.startswith(_FIGURES)}
    # The dashboard's page is for all who reach it, on loopback; what it shows is not.
    assert not [path for path in asked[2:] if _answer(host, int(port), path)]


def test_nothing_is_open_but_what_is_named(cluster: Cluster) -> None:
    record = json.loads((cluster.folder / "state" / "agesearch" / "cluster.json").read_text())
    pids = [node["process"]["pid"] for node in record["nodes"]]
    _check_closed(_listening(*pids), cluster.dashboard)
    refused = cluster.run("jobs", code=2, RAY_AUTH_TOKEN="another-token-of-at-least-some-length")
    assert "wants another token" in refused.stderr


@pytest.fixture(scope="module")
def study(cluster: Cluster) -> list[str]:
    """How a study is begun, on faces and a teacher that are made on the cluster."""
    ingest = ["ingest", "csv", "faces.csv", "--images", "photos", "--detector", "none", "--out", "faces"]
    told = cluster.run("submit", *ingest, "--follow").stdout
    assert f"{_FACES} faces" in told
    teach = ["teach", "--data", "faces", "--arch", "lcnet_050", "--input-size", "48", "--epochs", "1"]
    cluster.run("submit", "--code", str(_CHECKOUT), *teach, "--out", "teacher", "--follow")
    return ["tune", "space.yaml", "--data", "faces", "--teacher", "teacher", "--concurrency", "1"]


def test_a_study_that_is_submitted_has_the_records_of_one_run_here(
    cluster: Cluster, study: list[str]
) -> None:
    space = [*study, "--seed", "3"]
    _tune_here(cluster, *space, "--out", "here")
    cluster.run("submit", *space, "--out", "there", "--follow")
    here, there = (_records(cluster.json("front", name, "--all")) for name in ("here", "there"))
    assert here == there
    assert len(here) == 2
    more = ["resume", "there", "--trials", "3", "--concurrency", "1"]
    cluster.run("submit", *more, "--code", str(_CHECKOUT), "--follow")
    assert _records(cluster.json("front", "there", "--all"))[:2] == there
    told = cluster.run("submit", "evaluate", "there/trials/0000", "--data", "faces", "--follow").stdout
    assert "MAE" in told
    jobs = cluster.json("jobs")
    assert [(one["state"], one["verb"]) for one in jobs[:3]] == [
        ("SUCCEEDED", "evaluate"),
        ("SUCCEEDED", "resume"),
        ("SUCCEEDED", "tune"),
    ]
    assert jobs[2]["study"] == str(cluster.folder / "there")
    assert _token() not in json.dumps(jobs)


def _token() -> str:
    return (Path.home() / ".ray" / "auth_token").read_text().strip()


def _tune_here(cluster: Cluster, *words: str) -> None:
    """Run a study on a Ray of its own; while its trials run no more is open than on the cluster."""
    with subprocess.Popen(
        [sys.executable, "-m", "agesearch.cli.main", *words], cwd=cluster.folder, env=cluster.environment
    ) as running:
        try:
            _await(cluster.folder / "here" / "trials.parquet")
            driver = json.loads((cluster.folder / "here" / "driver.json").read_text())
            running.send_signal(signal.SIGSTOP)  # its trials are short: it does not end meanwhile
            _check_closed(_listening(running.pid), driver["dashboard"])
            running.send_signal(signal.SIGCONT)
            assert running.wait(240) == 0
        finally:
            running.send_signal(signal.SIGCONT)
            running.terminate()


def _await(file: Path) -> None:
    end = time.monotonic() + 120
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.5)


def _records(trials: Any) -> list[Any]:
    """What two runs of a study have in common: times are their own."""
    kept = ("number", "name", "state", "reason", "val_mae_years", "val_cs5", "epochs", "params")
    return sorted(([trial[key] for key in kept] for trial in trials), key=lambda row: row[0])


def test_the_dashboard_asks_for_the_token_and_shows_jobs_trials_and_services(
    cluster: Cluster, study: list[str], tmp_path: Path
) -> None:
    names = [trial["name"] for trial in cluster.json("front", "there", "--all")]
    with chromium(tmp_path) as page:
        page.open(cluster.dashboard, 1440)
        _log_in(page, "another-token-of-at-least-some-length")
        page.wait(_shows("Invalid authentication token"))
        _log_in(page, _token())
        page.wait(f"document.querySelector('{_LOGIN}') == null")
        pages = {"jobs": "tune-there", "serve": "Serve not started", "metrics": "Prometheus"}
        for place, words in pages.items():
            page.call("Page.navigate", url=f"{cluster.dashboard}/#/{place}")
            page.wait(_shows(words))
        page.call("Page.navigate", url=f"{cluster.dashboard}/#/actors")
        page.wait(_shows("agesearch trials"))
        page.evaluate(f"{_having('tr', 'agesearch trials')}.querySelector('a').click()")
        page.wait(f"{_having('h4', 'Tasks History')} != null")
        page.evaluate(f"{_having('h4', 'Tasks History')}.click()")
        page.wait(" || ".join(map(_shows, names)))


_LOGIN = "[aria-labelledby=token-auth-dialog-title] input"


def _log_in(page: Page, token: str) -> None:
    page.wait(f"document.querySelector('{_LOGIN}') != null")
    page.write(_LOGIN, token)
    page.evaluate(
        "[...document.querySelectorAll('button')].find((one) => one.textContent == 'Submit').click()"
    )


def _shows(words: str) -> str:
    return f"(document.body?.innerText ?? '').includes({json.dumps(words)})"


def _having(tag: str, words: str) -> str:
    """The first element of a kind that has these words."""
    found = f"[...document.querySelectorAll({json.dumps(tag)})]"
    return f"{found}.find((one) => one.textContent.includes({json.dumps(words)}))"


def test_stop_goes_through_the_study_and_loses_no_epoch(cluster: Cluster, study: list[str]) -> None:
    job = cluster.json("submit", *study, "--trials", "40", "--out", "long")
    _await(cluster.folder / "long" / "trials.parquet")  # a trial has begun
    stopped = cluster.json("stop", "long", "--address", cluster.dashboard)
    assert stopped == {"job": job["id"], "study": job["study"], "asked": True, "stopped": True}
    log = cluster.run("logs", job["id"]).stdout
    assert "Nothing finished is lost" in log
    states = {one["id"]: one["state"] for one in cluster.json("jobs")}
    assert states[job["id"]] == "STOPPED"
    assert "SIGTERM" not in (cluster.folder / "long" / "driver.json").read_text()


def _wait(told: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not told():
        assert time.monotonic() < end
        time.sleep(0.5)


def _processes(cluster: Cluster, address: str = "") -> list[psutil.Process]:
    """What runs of the node at an address, or of all."""
    record = json.loads((cluster.folder / "state" / "agesearch" / "cluster.json").read_text())
    found: list[psutil.Process] = []
    for node in record["nodes"]:
        if address in ("", node["address"]):
            with suppress(psutil.NoSuchProcess):
                agent = psutil.Process(node["process"]["pid"])
                found += [agent, *agent.children(recursive=True)]
    return found


def _lose(cluster: Cluster, address: str) -> None:
    """Kill all processes of the node at an address, or of all."""
    processes = _processes(cluster, address)
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it ended by itself, its parent having been killed
            process.kill()
    psutil.wait_procs(processes, timeout=30)


def _serving(cluster: Cluster) -> list[str]:
    """The cluster's processes that have to do with services."""
    found = []
    for process in _processes(cluster):
        with suppress(psutil.Error):
            words = " ".join(process.cmdline())
            found += [words for name in ("ray::ReplicaActor", "ray::Supervisor", "haproxy") if name in words]
    return found


def test_a_service_outlives_its_command_and_its_node_and_comes_back_after_the_head(cluster: Cluster) -> None:
    altered_versions(str(cluster.folder / "registry"))
    crop, token = Path(write_faces(cluster.folder, 1)[0]).read_bytes(), "a-token-of-enough-length"
    at = ["--address", cluster.dashboard]
    deploy = ["deploy", NAME, "--port", str(free_port("127.0.0.1"))]
    cluster.environment["AGESEARCH_TOKEN"] = token
    service = cluster.json(*deploy, *at)
    assert (service["name"], service["version"]) == (f"{NAME}@champion", "0001")
    assert len(_serving(cluster)) == 3
    assert token not in json.dumps(cluster.json("jobs"))
    assert "deployed on this cluster already" in cluster.run(*deploy, code=2).stderr
    asking = Asking(service["url"], token, [crop])
    with asking:
        cluster.run("promote", NAME, "2")
    assert set(asking.seen) == {"0001", "0002"}, asking.seen
    _lose(cluster, service["node"].partition("(")[2].rstrip(")"))
    assert asking.once() == "ConnectError"
    _wait(lambda: asking.once() == "0002")
    (moved,) = cluster.json("deployments")
    assert moved["node"] != service["node"]
    assert (moved["since"], moved["replicas"]) == (service["since"], 1)
    _lose(cluster, "")  # the head with them
    assert asking.once() == "ConnectError"
    cluster.start()
    (restored,) = cluster.json("deployments", "--restore")
    assert (restored["state"], restored["version"], asking.once()) == ("serving", "0002", "0002")
    cluster.run("undeploy", NAME)
    assert asking.once() == "ConnectError"
    _wait(lambda: _serving(cluster) == [])
