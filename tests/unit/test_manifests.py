"""What is rendered of ``cluster/kubernetes`` holds to the schemas, with no field that they do not know."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from agesearch.errors import InputError
from agesearch.serving.configured import FollowingApp, ServedModel
from agesearch.specs import parse_spec

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "cluster" / "kubernetes"
RAY_KINDS = ("RayCluster", "RayJob", "RayService")
Manifest = dict[str, Any]


@pytest.fixture(scope="module", params=["small", "large"])
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """An overlay's manifests, with files of secrets and places as a user makes them."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl, whose 'kustomize' renders offline")
    folder = tmp_path_factory.mktemp("kubernetes") / "kubernetes"
    shutil.copytree(MANIFESTS, folder)
    for name in ("auth_token", "AGESEARCH_TOKEN"):
        (folder / "base" / name).write_text("0" * 32)
    for name in ("store.env", "places.env"):
        shutil.copy(folder / "base" / f"{name}.example", folder / "base" / name)
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder / request.param)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def _closed(schema: Any) -> Any:
    """A schema of a custom resource that refuses fields it does not name: Kubernetes drops these silently."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _closed(value) for name, value in schema.items()}
    if isinstance(found.get("x-kubernetes-int-or-string"), bool):
        found = {"type": ["integer", "string"]}
    named = isinstance(found.get("properties"), dict) and found.get("type") == "object"
    if named and not found.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


def _schema(shared: Path, kind: str) -> Any:
    schema = json.loads((shared / "schemas/kuberay" / f"{kind.lower()}-ray.io-v1.json").read_text())
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own
    return _closed(schema)


def _of_ray(manifests: list[Manifest]) -> Iterator[Manifest]:
    return (one for one in manifests if one["apiVersion"] == "ray.io/v1")


def _pods(value: Any) -> Iterator[Manifest]:
    """The pods' specs inside a manifest."""
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        for inner in value.values():
            yield from _pods(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _pods(inner)


def test_kuberays_kinds_hold_to_its_schemas_and_a_misspelt_field_is_caught(
    shared: Path, rendered: list[Manifest]
) -> None:
    assert sorted(one["kind"] for one in _of_ray(rendered)) == list(RAY_KINDS)
    for manifest in _of_ray(rendered):
        validator = jsonschema.Draft202012Validator(_schema(shared, manifest["kind"]))
        assert [error.message for error in validator.iter_errors(manifest)] == []
        misspelt = copy.deepcopy(manifest)
        container = next(_pods(misspelt))["containers"][0]
        container["resorces"] = container.pop("resources")
        (fault,) = validator.iter_errors(misspelt)
        assert "resorces" in fault.message


def test_kubernetes_own_kinds_hold_to_theirs_and_a_misspelt_field_is_caught(rendered: list[Manifest]) -> None:
    checker = pytest.importorskip("kubernetes_validate", reason="needs the package kubernetes-validate")
    own = [one for one in rendered if one["apiVersion"] != "ray.io/v1"]
    assert {one["kind"] for one in own} == {"Namespace", "Secret", "ConfigMap", "NetworkPolicy", "Service"}
    for manifest in own:
        checker.validate(manifest, checker.latest_version(), strict=True)
    policy = next(one for one in own if one["kind"] == "NetworkPolicy")
    policy["spec"]["podSelektor"] = policy["spec"].pop("podSelector")
    with pytest.raises(checker.ValidationError):
        checker.validate(policy, checker.latest_version(), strict=True)


def test_every_container_has_limits_no_privilege_and_the_image_of_the_overlay(
    rendered: list[Manifest],
) -> None:
    pods = [pod for manifest in _of_ray(rendered) for pod in _pods(manifest)]
    assert len(pods) == 6
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["image"] == "registry.example.org/agesearch:0.1.0"
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            if container["name"] != "ray-job-submitter":
                assert "livenessProbe" in container
                assert "readinessProbe" in container


def test_clusters_ask_for_the_token_and_what_is_named_exists(rendered: list[Manifest]) -> None:
    names = {(one["kind"], one["metadata"]["name"]) for one in rendered}
    cluster, job, service = sorted(_of_ray(rendered), key=lambda one: str(one["kind"]))
    for spec in (cluster["spec"], service["spec"]["rayClusterConfig"]):
        assert spec["authOptions"] == {"mode": "token", "secretName": "agesearch-token"}
        assert spec["rayVersion"] == _pinned("ray")
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    for pod in (pod for manifest in (cluster, job, service) for pod in _pods(manifest)):
        for source in (source for container in pod["containers"] for source in container.get("envFrom", [])):
            for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                if key in source:
                    assert (kind, source[key]["name"]) in names


def test_the_service_names_an_application_that_is_there(rendered: list[Manifest]) -> None:
    (service,) = (one for one in rendered if one["kind"] == "RayService")
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    module, _, name = application["import_path"].partition(":")
    assert hasattr(__import__(module, fromlist=[name]), name)
    served = parse_spec(ServedModel, application["args"], "args")
    assert served.model == "face-age@champion"
    mounts = [
        mount["mountPath"]
        for group in service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        for container in group["template"]["spec"]["containers"]
        for mount in container["volumeMounts"]
    ]
    assert str(Path(served.keys or "").parent) in mounts


def test_a_replica_without_a_token_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGESEARCH_TOKEN", raising=False)
    with pytest.raises(InputError, match="has no token: set AGESEARCH_TOKEN"):
        FollowingApp(ServedModel(model="face-age@champion", registry="registry"))


def _pinned(package: str) -> str:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{package}=="))
