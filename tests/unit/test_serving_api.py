"""What a request may look like, the probes, the figures, and OpenAPI's examples. No Ray, no network."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from test_serving_http import AUTH, JPEG, LIMITS, MANIFEST, TOKEN, Brightness, LeftAndRight, jpeg

from agesearch.bench.serve import load
from agesearch.bench.serve.load import Order
from agesearch.serving.auth import TokenCheck
from agesearch.serving.estimator import AgeEstimator
from agesearch.serving.faces import FaceService
from agesearch.serving.rollout.state import Drift, ServedVersion, ServiceState
from agesearch.serving.schema import Prediction, Predictions
from agesearch.serving.web.routes import create_app

JSON = {"Content-Type": "application/json"}
PHOTO = jpeg(np.full((60, 80, 3), 128, np.uint8))


class Switched(Brightness):
    """A network that can be made to fail."""

    fails = False

    def pmf(self, images: Any) -> Any:
        if self.fails and len(images):
            raise RuntimeError("secret path /home/me")
        return super().pmf(images)


@pytest.fixture(scope="module")
def web() -> Iterator[TestClient]:
    service = FaceService(AgeEstimator(MANIFEST, Brightness(), LeftAndRight()), LIMITS)
    app = create_app(service, TokenCheck(TOKEN), LIMITS)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_a_json_body_says_all_that_a_query_says(web: TestClient) -> None:
    raw = web.post("/v1/predict?faces=whole&challenge_age=25", content=PHOTO, headers=JPEG).json()
    document = {"image": base64.b64encode(PHOTO).decode(), "faces": "whole", "challenge_age": 25}
    told = web.post("/v1/predict", json=document, headers=AUTH).json()
    assert told["faces"] == raw["faces"]
    assert told["challenge_age"] == 25
    listed = web.post("/v1/predict?faces=whole", json={"images": [document["image"]]}, headers=AUTH).json()
    assert listed["predictions"][0]["faces"][0]["age"] == raw["faces"][0]["age"]


def test_several_files_get_an_answer_each(web: TestClient) -> None:
    files = [("image", ("a.jpg", PHOTO)), ("image", ("b.jpg", b"no image")), ("other", ("c.jpg", PHOTO))]
    answer = web.post("/v1/predict", files=files, headers=AUTH)
    first, second, third = Predictions.model_validate(answer.json()).predictions
    assert isinstance(first, Prediction)
    assert isinstance(third, Prediction)
    assert second.error.code == "not_an_image"
    four = web.post("/v1/predict", files=[("image", ("a.jpg", PHOTO))] * 4, headers=AUTH)
    assert (four.status_code, four.json()["error"]["code"]) == (400, "bad_multipart")


@pytest.mark.parametrize(
    ("query", "headers", "content", "status", "code"),
    [
        ("?challange_age=25", {}, PHOTO, 422, "bad_parameter"),  # misspelt: it must not be left out
        ("?faces=whole&faces=detect", {}, PHOTO, 422, "bad_parameter"),
        ("?" + "&".join(f"a{n}=1" for n in range(9)), {}, PHOTO, 422, "bad_parameter"),
        ("", {"Content-Encoding": "gzip"}, PHOTO, 415, "unsupported_content_encoding"),
        ("", {"Content-Encoding": "identity"}, PHOTO, 200, None),
        ("", JSON, b"{", 400, "bad_json"),
        ("", JSON, b"[]", 400, "bad_json"),
        ("", JSON, b"[" * 50_000, 400, "bad_json"),
        ("", JSON, b"{}", 400, "bad_json"),
        ("", JSON, b'{"image": "", "images": []}', 400, "bad_json"),
        ("", JSON, b'{"images": []}', 400, "bad_json"),
        ("", JSON, b'{"images": ["", "", "", ""]}', 400, "bad_json"),
        ("", JSON, b'{"image": "?"}', 400, "bad_base64"),
        ("", JSON, b'{"image": 3}', 400, "bad_base64"),
        ("", JSON, b'{"image": "", "ages": 1}', 422, "bad_parameter"),
        ("", JSON, b'{"image": "", "faces": ["whole"]}', 422, "bad_parameter"),
        ("", JSON, b'{"image": "", "challenge_age": true}', 422, "bad_parameter"),
        ("", JSON, b'{"image": "", "challenge_age": NaN}', 422, "bad_parameter"),
        ("", JSON, b'{"image": "", "challenge_age": 1e999}', 422, "bad_parameter"),
        ("", JSON, b'{"image": ""}', 422, "empty"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    web: TestClient, query: str, headers: dict[str, str], content: bytes, status: int, code: str | None
) -> None:
    answer = web.post(f"/v1/predict{query}", content=content, headers=JPEG | headers)
    assert answer.status_code == status, answer.text
    assert answer.json().get("error", {}).get("code") == code


_BYTES = st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: PHOTO[:300] + tail)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=_BYTES,
    kind=st.sampled_from(["image/jpeg", "application/json", "multipart/form-data; boundary=b", ""])
    | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30),
    query=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=40),
)
def test_no_request_makes_it_fail(web: TestClient, content: bytes, kind: str, query: str) -> None:
    answer = web.post(f"/v1/predict?{query}", content=content, headers=AUTH | {"Content-Type": kind})
    assert answer.status_code < 500, answer.text


def test_probes_run_the_model_and_take_head(web: TestClient) -> None:
    for path in ("/livez", "/readyz", "/healthz"):
        assert web.get(path).json() == {"status": "ok"}
        head = web.head(path)
        assert (head.status_code, head.content) == (200, b"")


def test_a_model_that_fails_is_alive_but_not_ready() -> None:
    own = Switched()
    own.fails = True
    service = FaceService(AgeEstimator(MANIFEST, own, LeftAndRight()), LIMITS)
    with TestClient(create_app(service, TokenCheck(TOKEN), LIMITS)) as web:
        assert web.get("/livez").status_code == 200
        answer = web.get("/readyz")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"]["code"] == "not_ready"
        assert "secret" not in answer.text
        own.fails = False
        assert web.get("/readyz").status_code == 200


def test_an_image_that_makes_the_network_fail_costs_the_others_nothing() -> None:
    class Picky(Brightness):
        def pmf(self, images: Any) -> Any:
            if any(image.mean() > 250 for image in images):
                raise RuntimeError("white")
            return super().pmf(images)

    service = FaceService(AgeEstimator(MANIFEST, Picky(), LeftAndRight()), LIMITS)
    white = base64.b64encode(jpeg(np.full((60, 60, 3), 255, np.uint8))).decode()
    grey = base64.b64encode(PHOTO).decode()
    with TestClient(create_app(service, TokenCheck(TOKEN), LIMITS)) as own:
        answers = [
            own.post("/v1/predict", json={"image": image, "faces": "whole"}, headers=AUTH).status_code
            for image in (grey, white, grey)
        ]
        assert answers == [200, 500, 200]


def test_models_are_listed_and_named(web: TestClient) -> None:
    (model,) = web.get("/v1/models", headers=AUTH).json()["models"]
    assert (model["name"], model["version"], model["runtime"], model["precision"]) == (
        "ages",
        "0003",
        "onnxruntime",
        "fp32",
    )
    assert web.get("/v1/models/ages", headers=AUTH).json() == web.get("/v1/model", headers=AUTH).json()
    for name in ("other", "..%2F..%2Fetc", "ages%00"):
        answer = web.get(f"/v1/models/{name}", headers=AUTH)
        assert answer.status_code == 404
    assert web.get("/v1/models").status_code == 401


def test_metrics_count_what_was_answered_and_refused() -> None:
    service = FaceService(AgeEstimator(MANIFEST, Brightness(), LeftAndRight()), LIMITS)
    with TestClient(create_app(service, TokenCheck(TOKEN), LIMITS)) as web:
        assert web.get("/metrics").status_code == 401
        for _ in range(3):
            web.post("/v1/predict?faces=whole", content=PHOTO, headers=JPEG)
        web.post("/v1/predict", content=b"no image", headers=JPEG)
        lines = web.get("/metrics", headers=AUTH).text.splitlines()
    told = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert told['agesearch_requests_total{model="ages",status="200",version="0003"}'] == "3.0"
    assert told['agesearch_requests_total{model="ages",status="422",version="0003"}'] == "1.0"
    assert told['agesearch_refusals_total{code="not_an_image"}'] == "1.0"
    assert told['agesearch_images_total{model="ages",version="0003"}'] == "3.0"
    assert told['agesearch_answer_age_years_bucket{le="50.0",model="ages",version="0003"}'] == "0.0"
    assert told['agesearch_answer_age_years_bucket{le="55.0",model="ages",version="0003"}'] == "3.0"
    assert told['agesearch_step_seconds_count{step="decode"}'] == "3.0"
    assert float(told["agesearch_batch_images_count"]) == 4


def test_the_examples_of_openapi_work(web: TestClient) -> None:
    call = web.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]
    examples = call["requestBody"]["content"]["application/json"]["examples"]
    assert set(examples) == {"one", "two"}
    for example in examples.values():
        assert web.post("/v1/predict", json=example["value"], headers=AUTH).status_code == 200


def test_the_load_tool_sends_what_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"x")
    order = Order("127.0.0.1", 1, "/", {}, [str(tmp_path / "body")], 0.05, connections=1)
    outcome = asyncio.run(load.run(order))
    assert outcome.broken > 0  # nobody listens there
    assert outcome.fulfilled_per_s == 0


def test_a_service_of_several_tells_who_runs_and_names_what_there_is(tmp_path: Path) -> None:
    group = tmp_path / "1"
    group.mkdir()
    own = ServedVersion(name="ages", version="0003", group="1", share=0.9, alias="champion")
    tried = ServedVersion(name="ages", version="0004", group="2", role="canary", share=0.1)
    other = ServedVersion(name="other", version="0001", group="3")
    drift = Drift(name="ages", version="0004", measure="mean age", low=-1.0, high=0.5, limit=3.0)
    state = ServiceState(models=(own, tried, other), drift=(drift,), rollouts={"ages": {"taken": 2}}, key="k")
    state.write(tmp_path)
    service = FaceService(AgeEstimator(MANIFEST, Brightness(), LeftAndRight()), LIMITS)
    with TestClient(create_app(service, TokenCheck(TOKEN), LIMITS, group)) as web:
        (summary,) = web.get("/v1/models", headers=AUTH).json()["models"]  # the others have not started
        assert (summary["role"], summary["share"], summary["alias"]) == ("live", 0.9, "champion")
        named = web.post("/v1/models/ages/predict?faces=whole", content=PHOTO, headers=JPEG)
        asked = web.post("/v1/predict?faces=whole&model=ages", content=PHOTO, headers=JPEG)
        assert named.json()["faces"] == asked.json()["faces"]
        for path in ("/v1/models/none/predict", "/v1/predict?model=none", "/v1/predict?model=other"):
            answer = web.post(path, content=PHOTO, headers=JPEG)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_such_model")
            assert "ages, other" in answer.json()["error"]["message"]
        assert web.post("/shadow", content=PHOTO, headers=JPEG).status_code == 404
        moved = own.model_copy(update={"share": 1.0})
        ServiceState(models=(moved,), rollouts={"ages": {"taken": 2}}, key="k").write(tmp_path)
        # Whoever has heard that a change is done asks at once, and is not told what was before it.
        assert web.get("/v1/models", headers=AUTH).json()["models"][0]["share"] == 1.0
        state.write(tmp_path)
        shadow = web.post("/shadow?faces=whole", content=PHOTO, headers={"x-agesearch-key": "k"})
        assert shadow.json()["faces"] == named.json()["faces"]
        (group / "a.sock").touch()
        told = web.get("/metrics", headers=AUTH).text
    assert 'agesearch_replicas{model="ages",role="live",version="0003"} 1.0' in told
    assert 'agesearch_replicas{model="other",role="live",version="0001"} 0.0' in told
    assert 'agesearch_version_share{model="ages",role="canary",version="0004"} 0.1' in told
    assert (
        'agesearch_canary_difference{end="high",measure="mean_age",model="ages",version="0004"} 0.5' in told
    )
    assert 'agesearch_rollouts_total{model="ages",outcome="taken"} 2.0' in told
