"""The real service on Ray Serve: a published, untrained model answers over HTTP and refuses what it must."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import httpx
import numpy as np
import psutil
import pyarrow as pa
import pytest
import torch

from agesearch.data.dataset.records import MANIFEST, SCHEMA, SHARDS, Manifest
from agesearch.data.images.crop import encode_crop
from agesearch.deploy.publish import publish
from agesearch.deploy.registry import resolve
from agesearch.errors import ConflictError, InputError
from agesearch.models.folder import write_model
from agesearch.models.manifest import ModelManifest
from agesearch.models.zoo import build
from agesearch.serving.access.keys import KeyFile
from agesearch.serving.app import RunningService, ServiceOptions, serving
from agesearch.serving.auth import is_loopback
from agesearch.serving.client import Client, RefusedImage
from agesearch.serving.images import ImageLimits
from agesearch.specs import CropSpec, ModelSpec
from agesearch.storage import Location

TOKEN = "a-token-of-enough-length"
JPEG = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "image/jpeg"}
LIMIT = 300_000


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Location:
    root = Location.of(tmp_path_factory.mktemp("serve"))
    crop, spec = CropSpec(size=48), ModelSpec(arch="lcnet_035", input_size=48)
    torch.manual_seed(0)
    write_model(
        root / "model", build(spec).state_dict(), ModelManifest(kind="teacher", model=spec, crop=crop)
    )
    face = encode_crop(np.full((48, 48, 3), 120, np.uint8), crop)
    row = {"sample_id": "0", "image": face, "age": 30.0, "source": "grey", "split": "val"}
    (root / "data" / SHARDS / "0.parquet").write_table(pa.Table.from_pylist([row], schema=SCHEMA))
    dataset = Manifest(name="grey", label_kind="synthetic", crop=crop, counts={"val": 1})
    (root / "data" / MANIFEST).write_json(dataset.model_dump(mode="json"))
    publish(root / "model", "tiny", root / "registry", dataset=root / "data")
    return resolve(root / "registry", "tiny")


@pytest.fixture(scope="module")
def service(ray_local: None, version: Location) -> Iterator[RunningService]:
    options = ServiceOptions(port=0, limits=ImageLimits(max_bytes=LIMIT))
    with serving(version, TOKEN, options) as running:
        yield running


@pytest.fixture(scope="module")
def grey() -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((120, 160, 3), 120, np.uint8))[1])


def test_it_answers_raw_bodies_and_forms_alike(service: RunningService, grey: bytes) -> None:
    with Client(service.url, TOKEN) as client:
        assert client.is_healthy()
        assert client.model()["name"] == "tiny"
        prediction = client.predict(grey, faces="whole")
        assert client.predict(grey).faces == []
    assert (prediction.model.name, prediction.model.version) == ("tiny", "0001")
    (face,) = prediction.faces
    assert 0 <= face.interval[0] <= face.age <= face.interval[1] <= 100
    assert face.box == (20, 0, 120, 120)
    form = httpx.post(
        f"{service.url}/v1/predict?faces=whole",
        files={"image": grey},
        headers={"Authorization": JPEG["Authorization"]},
    )
    assert form.json()["faces"][0]["age"] == face.age


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({}, b"x", 401),
        (JPEG | {"Authorization": "Bearer wrong"}, b"x", 401),
        (JPEG | {"Content-Type": "text/plain"}, b"x", 415),
        (JPEG, b"no image", 422),
        (JPEG, b"x" * (LIMIT + 1), 413),
    ],
)
def test_it_refuses_in_json(
    service: RunningService, headers: dict[str, str], content: bytes, status: int
) -> None:
    answer = httpx.post(f"{service.url}/v1/predict", content=content, headers=headers)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message"}


def test_several_images_get_an_answer_each(service: RunningService, grey: bytes) -> None:
    with Client(service.url, TOKEN) as client:
        first, second, third = client.predict_many([grey, b"no image", grey], faces="whole")
        (summary,) = client.models()
        assert client.model("tiny")["name"] == "tiny"
    assert isinstance(second, RefusedImage)
    assert first.faces == third.faces
    assert (summary.name, summary.version, summary.precision) == ("tiny", "0001", "fp32")
    document = {"images": [base64.b64encode(grey).decode()] * 2, "faces": "whole"}
    headers = {"Authorization": JPEG["Authorization"]}
    listed = httpx.post(f"{service.url}/v1/predict", json=document, headers=headers).json()
    assert [found["faces"][0]["age"] for found in listed["predictions"]] == [first.faces[0].age] * 2


def test_a_replica_that_is_killed_is_replaced_and_its_counts_stay(
    service: RunningService, grey: bytes
) -> None:
    def predicted() -> float:
        text = httpx.get(f"{service.url}/metrics", headers=JPEG).text
        (line,) = [line for line in text.splitlines() if line.startswith("agesearch_images_total")]
        return float(line.split()[-1])

    with Client(service.url, TOKEN, retries=60) as client:  # the only replica: a new one takes its time
        client.predict(grey, faces="whole")
        before = predicted()
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if "ServeReplica" in process.name() or "ServeReplica" in " ".join(process.cmdline()):
                    process.kill()
        client.predict(grey, faces="whole")  # comes back as Retry-After says, until there is a new one
    assert predicted() > before


def test_it_refuses_a_large_body_that_comes_in_chunks(service: RunningService) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * 50_000

    answer = httpx.post(f"{service.url}/v1/predict", content=chunks(), headers=JPEG, timeout=30)
    assert answer.status_code == 413


def test_the_client_names_what_is_wrong(service: RunningService) -> None:
    with Client(service.url, "another-token-of-length") as stranger, pytest.raises(InputError, match="token"):
        stranger.predict(b"x")
    with Client(service.url, TOKEN) as client, pytest.raises(RefusedImage) as refused:
        client.predict(b"no image")
    assert refused.value.code == "not_an_image"


def test_a_real_photograph_has_one_face(service: RunningService, shared: Path) -> None:
    photo = shared / "photos" / "images" / "A000022.jpg"
    with Client(service.url, TOKEN) as client:
        prediction = client.predict(photo.read_bytes())
    (face,) = prediction.faces
    x, y, width, height = face.box
    assert x >= 0
    assert y >= 0
    assert x + width <= prediction.image.width
    assert y + height <= prediction.image.height
    assert face.score is not None
    assert face.score > 0.5


def _listening() -> dict[tuple[str, int], str]:
    """Addresses that this process and all that it started listen at, and whose each is."""
    found = {}
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            name = " ".join(process.cmdline()[:3])
            for one in process.net_connections("inet"):
                if one.status == psutil.CONN_LISTEN:
                    found[one.laddr.ip, one.laddr.port] = name
    return found


def test_what_listens_is_what_the_readme_says(service: RunningService) -> None:
    """The service on loopback; beyond it Ray's own ports, of which only metrics answer without a token."""
    listening = _listening()
    own = {address for address, name in listening.items() if "haproxy" in name}
    assert own == {("127.0.0.1", httpx.URL(service.url).port)}
    beyond = [port for ip, port in listening if not is_loopback(ip)]
    assert beyond, "Ray has closed its ports: so say the README, and assert it here"
    metrics = 0
    for port in beyond:
        with suppress(httpx.HTTPError):  # gRPC
            answer = httpx.get(f"http://127.0.0.1:{port}/", timeout=5)
            assert answer.status_code == 401 or answer.text.startswith("# HELP"), (port, answer.text[:200])
            metrics += answer.status_code == 200
    assert metrics <= 3


def test_a_key_lets_in_until_it_is_revoked_whichever_replica_is_asked(
    ray_local: None, version: Location, grey: bytes, tmp_path: Path
) -> None:
    keys, log = KeyFile(tmp_path / "keys.json"), tmp_path / "access.jsonl"
    options = ServiceOptions(port=0, replicas=2, keys=str(keys.path), access_log=str(log))
    with serving(version, TOKEN, options) as running:
        made = keys.create("kiosk", "predict", None, "6/hour")
        headers = JPEG | {"Authorization": f"Bearer {made.value}"}
        url = f"{running.url}/v1/predict?faces=whole"
        time.sleep(1.1)
        # each on a connection of its own, so that both replicas are asked
        statuses = [httpx.post(url, content=grey, headers=headers).status_code for _ in range(8)]
        assert statuses == [200] * 6 + [429] * 2
        assert httpx.get(f"{running.url}/metrics", headers=headers).status_code == 403
        keys.revoke("kiosk")
        time.sleep(1.1)
        refused = httpx.post(url, content=grey, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "key_revoked")
    told = [json.loads(line)["status"] for line in log.read_text().splitlines()]
    assert told == [*statuses, 403, 401]
    assert made.value not in log.read_text()


def test_what_cannot_be_served_is_refused_before_anything_starts(ray_local: None, version: Location) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = ServiceOptions(port=taken.getsockname()[1])
        with pytest.raises(ConflictError, match="in use"), serving(version, TOKEN, options):
            pass
    with (
        pytest.raises(InputError, match="lower --replicas"),
        serving(version, TOKEN, ServiceOptions(port=0, replicas=1000)),
    ):
        pass
