"""What a job is told of a command line, and which processes are a cluster's own; no Ray."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import typer
from typer.testing import CliRunner

from agesearch.cli import submit, submitted
from agesearch.cli.main import app
from agesearch.errors import ConflictError, InputError
from agesearch.provenance import VERSION
from agesearch.remote import jobs, local
from agesearch.remote.packing import Parcel, parcel
from agesearch.session import cluster_of_job


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the command is given, with a file of settings and a dataset's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "space.yaml").write_text("trials: 1\n")
    (tmp_path / "faces").mkdir()
    return tmp_path


def told(line: str, sent: Parcel) -> tuple[list[str], str]:
    """What follows the verb, and the study."""
    context = typer.Context(typer.main.get_command(app))
    return submit._packed(*submit._verb(context, line.split()), sent)


def test_settings_travel_and_places_are_told_in_full(here: Path) -> None:
    with parcel() as sent:
        line = "tune space.yaml --data faces --teacher s3://b/t --out study --trials 5 --no-rungs"
        words, study = told(f"{line} --log mlflow=ml", sent)
        assert words == [
            *(
                "files/space.yaml",
                "--data",
                f"{here}/faces",
                "--teacher",
                "s3://b/t",
                "--out",
                f"{here}/study",
            ),
            *("--trials", "5", "--no-rungs", "--log", f"mlflow={here}/ml"),
        ]
        assert study == f"{here}/study"
        assert (Path(sent.folder) / "files" / "space.yaml").read_text() == "trials: 1\n"
        assert told("tune space.yaml --data s3://b/f --out s3://b/st", sent)[1] == "s3://b/st"
    assert not Path(sent.folder).exists()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("resume study", ["{here}/study"]),
        ("data ingest csv faces --out new", ["csv", "{here}/faces", "--out", "{here}/new"]),
        ("ingest csv faces --out new", ["csv", "{here}/faces", "--out", "{here}/new"]),
        # A registry is a folder here unless somebody says otherwise: the job's own folder goes with it.
        (
            "evaluate ages@best --data faces",
            ["ages@best", "--data", "{here}/faces", "--registry", "{here}/registry"],
        ),
        ("teach --data ../faces --arch resnet18 --out t", None),
    ],
)
def test_names_stay_and_outputs_are_places(here: Path, line: str, expected: list[str] | None) -> None:
    with parcel() as sent:
        words, _ = told(line, sent)
        if expected is None:
            assert {f"{here.parent}/faces", f"{here}/t", "resnet18"} <= set(words)
        else:
            assert words == [word.format(here=here) for word in expected]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("serve ages", "cannot be submitted"),
        ("tunes space.yaml", "Did you mean 'tune'"),
        ("measure", "names no verb"),
        ("tune nowhere.yaml --data faces --out study", "no file 'nowhere.yaml'"),
        ("tune space.yaml --data s3://ada:secret@b/faces --out study", "password"),
    ],
)
def test_what_cannot_be_sent_is_refused_here(here: Path, line: str, says: str) -> None:
    with parcel() as sent, pytest.raises(InputError, match=says) as refused:
        told(line, sent)
    assert "secret" not in str(refused.value)


def test_a_wrong_option_of_the_verb_is_refused_before_anything_is_sent(here: Path) -> None:
    done = CliRunner().invoke(
        app, ["submit", "tune", "space.yaml", "--trials", "many", "--address", "http://x"]
    )
    assert done.exit_code == 2
    assert "--trials" in done.output


def test_files_of_one_name_do_not_hide_each_other(here: Path) -> None:
    (here / "other").mkdir()
    (here / "other" / "space.yaml").write_text("trials: 2\n")
    with parcel() as sent:
        names = [sent.told(name) for name in ("space.yaml", "other/space.yaml", "space.yaml")]
        assert [(Path(sent.folder) / name).read_text()[-2] for name in names] == ["1", "2", "1"]


def test_code_that_is_sent_is_the_package_alone(here: Path) -> None:
    for name in ("agesearch/__init__.py", "agesearch/__pycache__/x.pyc", "secret.env"):
        (here / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "code" / name).write_text("")
    with parcel() as sent:
        sent.add_code("code")
        files = sorted(
            str(path.relative_to(sent.folder)) for path in Path(sent.folder).rglob("*") if path.is_file()
        )
        assert files == ["agesearch/__init__.py"]
        with pytest.raises(InputError, match="--code 'faces'"):
            sent.add_code("faces")


def test_where_jobs_go(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(jobs.ADDRESS_VARIABLE, raising=False)
    with pytest.raises(InputError, match="Which cluster"):
        jobs._resolved(None)
    with pytest.raises(InputError, match="begins with http"):
        jobs._resolved("10.0.0.1:6399")
    monkeypatch.setenv(jobs.ADDRESS_VARIABLE, "http://head:8265/")
    assert jobs._resolved(None) == "http://head:8265"
    assert jobs._resolved("https://other") == "https://other"


def test_who_follows_a_job_is_told_all_of_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dashboard lets go before the job is over, and then before its last line."""
    tails = iter((["one\n"], [], ["one\n", "two\n"]))
    states = iter(("PENDING", "RUNNING", "RUNNING", "RUNNING", "SUCCEEDED"))

    async def tail(_: str) -> AsyncIterator[str]:
        for lines in next(tails):
            yield lines

    cluster: Any = object.__new__(jobs.Jobs)
    cluster.address = "http://head:8265"
    cluster._client = SimpleNamespace(tail_job_logs=tail, get_job_logs=lambda _: "one\ntwo\nthree\n")
    monkeypatch.setattr(jobs, "_LOOK_S", 0.0)
    job = jobs.Job("tune-1", "PENDING", "tune", "", "0", "me", "", "", "")
    monkeypatch.setattr(cluster, "find", lambda _: replace(job, state=next(states)))
    said: list[str] = []
    assert cluster.follow(job, said.append).state == "SUCCEEDED"
    assert said == ["one\n", "two\n", "three\n"]


def test_a_job_joins_the_cluster_that_it_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6399")
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert cluster_of_job() is None
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert cluster_of_job() == "10.0.0.1:6399"


@pytest.fixture
def process() -> Iterator[psutil.Process]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield psutil.Process(child.pid)
    child.kill()
    child.wait()


def _written(folder: Path, process: psutil.Process, born: float) -> None:
    holder = {"pid": process.pid, "born": born}
    node = {"name": "head", "address": "127.0.0.2", "cpus": 1, "process": holder, "children": []}
    record: dict[str, Any] = {
        "address": "127.0.0.2:6399",
        "dashboard_url": "http://127.0.0.1:8265",
        "folder": "/tmp/nowhere",
        "began": "2026-01-01T00:00:00+00:00",
        "nodes": [node],
    }
    (folder / "state" / "agesearch").mkdir(parents=True, exist_ok=True)
    (folder / "state" / "agesearch" / "cluster.json").write_text(json.dumps(record))


def test_only_the_clusters_own_processes_are_ended(here: Path, process: psutil.Process) -> None:
    assert local.end_cluster() is None
    _written(here, process, process.create_time() - 100)  # the number was given anew
    cluster = local.end_cluster()
    assert cluster is not None
    assert not cluster.is_up
    assert process.is_running()
    _written(here, process, process.create_time())
    with pytest.raises(ConflictError, match=r"127\.0\.0\.2:6399"):
        local.start_cluster()
    local.end_cluster()
    assert not process.is_running()
    assert local.local_cluster() is None


def test_a_cluster_leaves_the_folders_of_those_that_run(
    here: Path, process: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "socket_folder", lambda name: f"{here}/{name}")
    folders = {port: local._own_folder(port) for port in (6399, 6400)}
    for port, born in ((6399, process.create_time()), (6400, process.create_time() - 100)):
        _written(here, process, born)
        record = here / "state" / "agesearch" / "cluster.json"
        record.rename(folders[port] / record.name)
    started = local._own_folder(6401)
    assert [folders[6399].exists(), folders[6400].exists(), started.exists()] == [True, False, True]
    (started / "head.log").touch()
    assert list(local._own_folder(6401).iterdir()) == []
    assert folders[6399].exists()


def test_cpus_are_shared_among_workers() -> None:
    assert list(local._shares(5, 2)) == [0, 3, 2]
    assert list(local._shares(5, 0)) == [5]
    with pytest.raises(InputError, match="--workers 3"):
        local.start_cluster(workers=3, cpus=2)


def test_a_job_keeps_its_folder_when_another_node_unpacks_it_anew(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two nodes of one machine do, which share the place where a job's files are unpacked."""
    (here / "unpacked" / "files").mkdir(parents=True)
    (here / "unpacked" / "files" / "space.yaml").write_text("trials: 3\n")
    monkeypatch.chdir(here / "unpacked")
    seen = []

    def run() -> None:
        shutil.rmtree(here / "unpacked")
        seen.append((sys.argv, Path("files/space.yaml").read_text(), Path.cwd().exists()))

    monkeypatch.setattr("agesearch.cli.main.run", run)
    monkeypatch.setattr(sys, "argv", ["submitted", VERSION, "tune", "files/space.yaml"])
    submitted.main()
    os.chdir(here)
    assert seen == [(["agesearch", "tune", "files/space.yaml"], "trials: 3\n", True)]
    monkeypatch.setattr(sys, "argv", ["submitted", "0.0.1", "tune"])
    with pytest.raises(SystemExit, match="submitted by 0.0.1"):
        submitted.main()
