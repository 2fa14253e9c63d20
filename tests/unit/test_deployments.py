"""What is recorded of services on clusters, what a cluster is told of them, and its answers; no Ray."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agesearch.cli import deploy as cli
from agesearch.cli.main import app
from agesearch.errors import AgeSearchError, InputError
from agesearch.remote.asking import answer_of, document_in
from agesearch.remote.jobs import Job
from agesearch.remote.packing import Parcel
from agesearch.serving.auth import TokenCheck
from agesearch.serving.deployments import operations
from agesearch.serving.deployments.records import (
    DeployedService,
    Deployment,
    chosen,
    drop_record,
    recorded,
    write_record,
)

_TOKEN = "a-token-of-enough-length"
_JOB = Job("deploy-1", "SUCCEEDED", "deploy", "", "0", "me", "", "", "", exit_code=0)


def test_a_record_is_of_its_cluster_and_says_nothing_of_a_token(tmp_path: Path) -> None:
    here = Deployment(model="ages@champion", cluster="127.0.0.2:6399", since="now", port=8100, keys="/k.json")
    write_record(str(tmp_path), here)
    write_record(str(tmp_path), here.model_copy(update={"cluster": "10.0.0.1:6379"}))
    write_record(str(tmp_path), here.model_copy(update={"model": "ages:0002"}))
    (tmp_path / "ages" / "deployments" / "torn.json").write_text("{")
    assert [one.model for one in recorded(str(tmp_path), here.cluster)] == ["ages:0002", "ages@champion"]
    assert recorded(str(tmp_path), here.cluster)[1] == here
    assert set(Deployment.model_fields) & {"token", "sha256", "check"} == set()
    drop_record(str(tmp_path), Deployment(model="ages@champion", cluster=here.cluster))
    assert [one.model for one in recorded(str(tmp_path), here.cluster)] == ["ages:0002"]
    assert len(recorded(str(tmp_path), "10.0.0.1:6379")) == 1


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("ages", "ages@champion"),
        ("ages@champion", "ages@champion"),
        ("ages@candidate", "ages@candidate"),
        ("other", "other:0002"),
        ("other:2", "other:0002"),
    ],
)
def test_a_service_is_named_as_a_model_is(reference: str, name: str) -> None:
    assert chosen(reference, ["ages@champion", "ages@candidate", "other:0002"]) == name


@pytest.mark.parametrize("reference", ["age", "ages@best", "other:3", "ages:x"])
def test_a_service_that_is_not_there_is_told_with_those_that_are(reference: str) -> None:
    with pytest.raises(InputError, match="the known ones are: ages@champion, other:0002"):
        chosen(reference, ["ages@champion", "other:0002"])
    with pytest.raises(InputError, match="nor is anything else"):
        chosen(reference, [])


@pytest.mark.parametrize(
    ("log", "document"),
    [
        ('Asking ...\n{\n  "name": "a",\n  "of": [\n    1\n  ]\n}\nNote: done\n', {"name": "a", "of": [1]}),
        ("[2026-11-29 10:00:00] INFO begun\n[]\n", []),
        ('{"half": 1} of it\n[\n  {"a": 1}\n]\n', [{"a": 1}]),
    ],
)
def test_the_document_of_a_log_is_found_among_messages(log: str, document: Any) -> None:
    assert document_in(log) == document


def test_a_log_without_a_document_says_so() -> None:
    with pytest.raises(AgeSearchError, match="no answer"):
        document_in("nothing\n {}\n")


class _Cluster:
    """A cluster whose jobs end as they are told, and what it was told."""

    address = "http://head:8265"

    def __init__(self, job: Job, log: str) -> None:
        self._job, self._log = job, log
        self.told: list[str] = []
        self.sent = ""

    def submit(self, verb: list[str], words: list[str], parcel: Parcel | None = None) -> Job:
        self.told = [*verb, *words]
        files = Path(parcel.folder).rglob("*.json") if parcel else []
        self.sent = "".join(file.read_text() for file in files)
        return self._job

    def wait(self, job: Job, seconds: float) -> Job:
        return job

    def log(self, job: Job) -> str:
        return self._log


@pytest.mark.parametrize(("code", "kind"), [(2, InputError), (1, AgeSearchError)])
def test_an_error_there_is_the_error_here(code: int, kind: type[AgeSearchError]) -> None:
    cluster: Any = _Cluster(replace(_JOB, state="FAILED", exit_code=code), "Looking\nerror: No such model.\n")
    with pytest.raises(kind, match=r"^No such model\.$") as raised:
        answer_of(cluster, ["deploy"], ["ages"], seconds=1.0)
    assert raised.value.exit_code == code


def test_a_job_that_deploys_is_told_all_but_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = DeployedService("ages@champion", "serving", "r", "0001", "http://127.0.0.1:8100", "n (1)", 1, 1)
    cluster = _Cluster(_JOB, json.dumps(service.as_json() | {"left_out_nodes": ["b: it sees nothing"]}))
    monkeypatch.setattr("agesearch.remote.jobs.Jobs", lambda address: cluster)
    monkeypatch.setenv("AGESEARCH_TOKEN", _TOKEN)
    monkeypatch.chdir(tmp_path)
    line = ["deploy", "ages", "--address", cluster.address, "--port", "8100", "--keys", "k.json", "--json"]
    done = CliRunner().invoke(app, line, catch_exceptions=False)
    assert json.loads(done.stdout)["url"] == "http://127.0.0.1:8100"
    assert "Not used: b: it sees nothing" in done.stderr
    told = " ".join(cluster.told)
    assert f"deploy ages --port 8100 --keys {tmp_path}/k.json --registry {tmp_path}/registry" in told
    assert "--token-sha256 files/access.json --json" in told
    assert _TOKEN not in told + cluster.sent
    check = TokenCheck.of(json.loads(cluster.sent)["sha256"])
    assert check.accepts(f"Bearer {_TOKEN}")
    assert not check.accepts(f"Bearer {check.sha256}")


def test_what_is_no_sum_of_a_token_lets_nobody_in() -> None:
    for wrong in ("", "00", "x" * 64):
        with pytest.raises(InputError, match="64 hexadecimal"):
            TokenCheck.of(wrong)


def test_a_registry_with_a_password_and_an_open_host_without_a_token_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("AGESEARCH_TOKEN", raising=False)
    for options, said in (
        (["--host", "0.0.0.0"], "can be reached from other machines"),
        (["--registry", "s3://id:secret@bucket/models"], "URI with a password"),
    ):
        with pytest.raises(InputError, match=said):
            CliRunner().invoke(app, ["deploy", "ages", *options], catch_exceptions=False)


def test_a_node_says_what_it_lacks(tmp_path: Path) -> None:
    found = operations.examined(str(tmp_path / "registry"), Deployment(model="ages"))
    assert found.unread is not None
    assert "has no model yet" in found.unread
    shipped = operations.examined(str(tmp_path / "registry"), Deployment(model="portraits"))
    assert (shipped.unread, shipped.model[:10]) == (None, "portraits:")
    lacking = Deployment(model="portraits", tls_cert=str(tmp_path / "c.pem"), tls_key=str(tmp_path / "k.pem"))
    assert "c.pem" in str(operations.examined(str(tmp_path / "registry"), lacking).unread)


def test_a_service_that_cannot_start_goes_on_trying_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agesearch.serving.deployments import supervisor

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(supervisor, "_node_address", lambda: "127.0.0.5")
    monkeypatch.setattr(supervisor, "_AGAIN_S", 0.01)
    told = supervisor.Supervisor(str(tmp_path / "registry"), Deployment(model="ages"), TokenCheck(_TOKEN))
    end = time.monotonic() + 20
    while told.describe().state == "starting" and time.monotonic() < end:
        time.sleep(0.01)
    service = told.describe()
    told.end()
    assert (service.state, service.exit_code, service.replicas) == ("failing", 2, 0)
    assert "has no model yet" in service.why
    assert "127.0.0.5" in str(service.node)


def test_verbs_without_a_cluster_ask_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    with pytest.raises(InputError, match="Which cluster"):
        CliRunner().invoke(app, ["deployments"], catch_exceptions=False)
    assert cli._joined("10.0.0.1:6379") == "10.0.0.1:6379"
    assert cli._joined("http://10.0.0.1:8265") is None


def test_what_the_head_lost_comes_back_as_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, before = "10.0.0.2:6379", "10.0.0.1:6379"
    for model, cluster in (("ages@champion", here), ("ages:0002", here), ("old@champion", before)):
        write_record(str(tmp_path), Deployment(model=model, cluster=cluster, port=8100, replicas=2))
    deployed: list[Deployment] = []

    def deploy(
        registry: str, wanted: Deployment, check: TokenCheck, **_: Any
    ) -> tuple[DeployedService, dict[str, str]]:
        if wanted.model == "ages:0002":
            raise InputError("its port is in use")
        deployed.append(wanted)
        return DeployedService(wanted.model, "serving", registry), {}

    monkeypatch.setattr(operations, "_cluster", lambda: here)
    monkeypatch.setattr(operations, "_names", lambda: [])
    monkeypatch.setattr(operations, "deploy", deploy)
    assert [one.state for one in operations.deployments(str(tmp_path))] == ["lost", "lost"]
    # One that does not come back is told of, and keeps none of the others.
    with pytest.raises(InputError, match="its port is in use"):
        operations.restore(str(tmp_path), TokenCheck(_TOKEN))
    assert [(one.model, one.port, one.replicas) for one in deployed] == [("ages@champion", 8100, 2)]
    (old,) = operations.restore(str(tmp_path), TokenCheck(_TOKEN), before)
    assert old.name == "old@champion"
    assert recorded(str(tmp_path), before) == []
