"""The real service on Ray Serve: a published, untrained model answers over HTTP and refuses what it must."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
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
from agesearch.serving.app import RunningService, ServiceOptions, serving
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

    with Client(service.url, TOKEN) as client:
        client.predict(grey, faces="whole")
        before = predicted()
        for process in psutil.Process().children(recursive=True):
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
