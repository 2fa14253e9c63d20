"""The HTTP face: who is let in, what is refused and how it is said. No Ray, no network, no trained model."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from starlette.testclient import TestClient

from agesearch.ages import FloatArray, gaussian_pmf
from agesearch.data.dataset.records import Part
from agesearch.data.images.crop import Detection
from agesearch.deploy.formats.page import hash_of
from agesearch.models.calibration.record import Calibration, CalibrationFaces, IntervalCell, Intervals
from agesearch.models.manifest import ModelManifest
from agesearch.serving.auth import TokenCheck
from agesearch.serving.batches import Batches
from agesearch.serving.estimator import AgeEstimator
from agesearch.serving.faces import Asked, FaceService
from agesearch.serving.images import ImageLimits
from agesearch.serving.schema import Prediction, Refusal
from agesearch.serving.web.bodies import BodyBudget, Question, read_question
from agesearch.serving.web.routes import create_app
from agesearch.specs import CropSpec, ModelSpec

TOKEN = "a-token-of-enough-length"
AUTH = {"Authorization": f"Bearer {TOKEN}"}
JPEG = AUTH | {"Content-Type": "image/jpeg"}
LIMITS = ImageLimits(
    max_bytes=200_000, max_body_bytes=220_000, max_images=3, max_pixels=400 * 400, max_faces=2
)


class Brightness:
    """Predicts the mean brightness of a crop in percent, with a spread of five years."""

    input_size = 32

    def pmf(self, images: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8]) -> FloatArray:
        ages = [float(np.mean(image)) / 2.55 for image in images]
        return gaussian_pmf(ages, [5.0] * len(ages)) if ages else np.empty((0, 101), np.float32)


MANIFEST = ModelManifest(
    kind="version",
    model=ModelSpec(arch="lcnet_035", input_size=32),
    crop=CropSpec(size=32, align=False, scale=0.5),
    name="ages",
    version=3,
)


def _read(headers: dict[str, str], stream: AsyncIterator[bytes], limits: ImageLimits = LIMITS) -> Question:
    with BodyBudget(10**9).body() as held:
        return asyncio.run(read_question(headers, "", stream, limits, held))


class LeftAndRight:
    """Finds one face in each half of the image, and nothing in a black one."""

    name = "halves"

    def detect(self, bgr: npt.NDArray[np.uint8], min_score: float) -> list[Detection]:
        if not bgr.any():
            return []
        height, width = bgr.shape[:2]
        eyes = np.array([[10, 10], [20, 10], [15, 15], [10, 20], [20, 20]], np.float32)
        half = width / 2
        faces = [Detection(0.9, (x, 0.0, half, float(height)), eyes) for x in (0.0, half)]
        return [*faces, Detection(min_score, (0.0, 0.0, 5.0, 5.0), eyes)]


@pytest.fixture(scope="module")
def service() -> FaceService:
    return FaceService(AgeEstimator(MANIFEST, Brightness(), LeftAndRight()), LIMITS)


@pytest.fixture(scope="module")
def web(service: FaceService) -> Iterator[TestClient]:
    with TestClient(create_app(service, TokenCheck(TOKEN), LIMITS), raise_server_exceptions=False) as client:
        yield client


def jpeg(image: npt.NDArray[np.uint8], suffix: str = ".jpg") -> bytes:
    return bytes(cv2.imencode(suffix, image)[1])


@pytest.fixture(scope="module")
def photo() -> bytes:
    image = np.full((100, 200, 3), 51, np.uint8)
    image[:, 100:] = 204
    return jpeg(image)


def test_each_face_gets_its_age_interval_and_box(web: TestClient, photo: bytes) -> None:
    answer = web.post("/v1/predict", content=photo, headers=JPEG)
    assert answer.status_code == 200, answer.text
    prediction = Prediction.model_validate(answer.json())
    assert (prediction.model.name, prediction.model.version) == ("ages", "0003")
    assert (prediction.image.width, prediction.image.height) == (200, 100)
    left, right = prediction.faces  # the third is beyond max_faces
    assert left.age == pytest.approx(20, abs=1)
    assert right.age == pytest.approx(80, abs=1)
    assert left.box == (0, 0, 100, 100)
    assert left.interval[0] == pytest.approx(left.age - 1.2816 * 5, abs=0.3)
    assert left.interval[1] == pytest.approx(left.age + 1.2816 * 5, abs=0.3)
    assert left.spread == pytest.approx(5, abs=0.1)
    assert left.score == pytest.approx(0.9)


def test_boxes_of_a_photograph_that_is_reduced_are_in_pixels_of_the_file(web: TestClient) -> None:
    large = np.full((600, 640, 3), 51, np.uint8)  # above max_pixels
    large[:, 320:] = 204
    answer = web.post("/v1/predict", content=jpeg(large), headers=JPEG).json()
    assert answer["image"] == {"width": 640, "height": 600}
    assert [face["box"] for face in answer["faces"]] == [[0, 0, 320, 600], [320, 0, 320, 600]]
    whole = web.post("/v1/predict", params={"faces": "whole"}, content=jpeg(large), headers=JPEG).json()
    assert whole["faces"][0]["box"] == [20, 0, 600, 600]


def test_a_form_gives_the_same_answer_as_a_raw_body(web: TestClient, photo: bytes) -> None:
    raw = web.post("/v1/predict", content=photo, headers=JPEG).json()
    form = web.post("/v1/predict", files={"image": ("me.jpg", photo)}, headers=AUTH).json()
    assert form["faces"] == raw["faces"]


def test_a_whole_image_is_one_face_and_no_face_is_an_empty_list(web: TestClient, photo: bytes) -> None:
    whole = web.post("/v1/predict", params={"faces": "whole"}, content=photo, headers=JPEG).json()
    assert [face["box"] for face in whole["faces"]] == [[50, 0, 100, 100]]
    assert whole["faces"][0]["score"] is None
    black = jpeg(np.zeros((64, 64, 3), np.uint8))
    nobody = web.post("/v1/predict", content=black, headers=JPEG)
    assert (nobody.status_code, nobody.json()["faces"]) == (200, [])


def test_the_token_guards_everything_but_health(web: TestClient, photo: bytes) -> None:
    assert web.get("/healthz").json() == {"status": "ok"}
    for headers, code in (({}, "token_missing"), ({"Authorization": "Bearer wrong"}, "token_wrong")):
        for answer in (web.get("/v1/model", headers=headers), web.post("/v1/predict", headers=headers)):
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
            assert answer.headers["www-authenticate"] == "Bearer"
    assert web.get("/v1/model", headers=AUTH).json()["version"] == 3


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"hello", "text/plain", 415, "unsupported_media_type"),
        (b"hello", "image/jpeg", 422, "not_an_image"),
        (b"", "image/jpeg", 422, "empty"),
        (b"x" * 200_001, "image/jpeg", 413, "too_many_bytes"),
        (b"x" * 300_000, "multipart/form-data; boundary=b", 413, "too_many_bytes"),
        (b"hello", "multipart/form-data", 400, "bad_multipart"),
        (b"hello", "multipart/form-data; boundary=b", 400, "bad_multipart"),
        (b"--b--\r\n", "multipart/form-data; boundary=b", 400, "one_file_expected"),
        (jpeg(np.zeros((500, 500, 3), np.uint8), ".png"), "image/png", 413, "too_many_pixels"),
        (jpeg(np.zeros((200, 200, 3), np.uint8), ".png")[:200], "image/png", 422, "truncated"),
    ],
)
def test_what_is_no_usable_image_is_refused(
    web: TestClient, content: bytes, kind: str, status: int, code: str
) -> None:
    answer = web.post("/v1/predict", content=content, headers=AUTH | {"Content-Type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert answer.json()["error"]["message"]


def test_errors_of_the_framework_have_the_same_form(web: TestClient, photo: bytes) -> None:
    assert web.get("/nowhere").json()["error"]["code"] == "not_found"
    assert web.put("/v1/predict").json()["error"]["code"] == "method_not_allowed"
    wrong = web.post("/v1/predict", params={"faces": "some"}, content=photo, headers=JPEG)
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "bad_parameter")


def test_a_fault_inside_tells_nothing_of_the_inside(photo: bytes) -> None:
    class Broken(FaceService):
        def answers(self, asked: object, goes_on: object = None) -> list[Prediction]:
            raise RuntimeError("secret path /home/me")

    broken = Broken(AgeEstimator(MANIFEST, Brightness(), LeftAndRight()), LIMITS)
    app = create_app(broken, TokenCheck(TOKEN), LIMITS)
    with TestClient(app, raise_server_exceptions=False) as web:
        answer = web.post("/v1/predict", content=photo, headers=JPEG)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "secret" not in answer.text


def test_a_body_without_a_length_is_cut_off_while_it_arrives() -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 50_000

    with pytest.raises(Refusal) as refusal:
        _read({"content-type": "image/jpeg"}, endless())
    assert refusal.value.status == 413
    assert taken == 5


def test_a_body_that_dawdles_is_given_up() -> None:
    async def dawdling() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(60)

    limits = ImageLimits(body_timeout_s=0.05)
    with pytest.raises(Refusal) as refusal:
        _read({"content-type": "image/jpeg"}, dawdling(), limits)
    assert refusal.value.status == 408


def test_an_image_that_would_wait_too_long_is_told_at_once_when_to_come_back(
    photo: bytes,
) -> None:
    class Slow:
        """Takes a second for each image, it says; the first one lasts until it is let go."""

        def __init__(self) -> None:
            self.begun, self.release = threading.Event(), threading.Event()

        def answers(self, asked: Sequence[Asked], goes_on: object) -> list[Refusal]:
            self.begun.set()
            self.release.wait(60)
            return [Refusal(422, "empty", "Nothing.") for _ in asked]

    async def crowd() -> tuple[list[object], float, int]:
        slow = Slow()
        batches = Batches(slow, max_wait_s=0.5)
        batches._seconds_an_image = 0.1
        asked = [asyncio.create_task(batches.ask([Asked(photo)])) for _ in range(10)]
        await asyncio.to_thread(slow.begun.wait, 30)
        began = time.perf_counter()
        done, _ = await asyncio.wait(asked, timeout=30, return_when=asyncio.FIRST_EXCEPTION)
        seconds = time.perf_counter() - began
        slow.release.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        left = batches.waiting
        batches.close()
        return answers, seconds, left

    answers, seconds, left = asyncio.run(crowd())
    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert [refusal.status for refusal in refused] == [503, 503]  # 0.8 s of work before them
    assert all(refusal.headers == {"Retry-After": "1"} for refusal in refused)
    assert seconds < 30.0  # the slow image is let go afterwards
    assert left == 0


def test_bodies_held_at_once_have_a_limit_together() -> None:
    budget = BodyBudget(100)
    with budget.body() as first, budget.body() as second:
        first.take(60)
        with pytest.raises(Refusal) as refusal:
            second.take(50)
        second.take(40)
    assert refusal.value.status == 503
    assert budget.held == 0


def test_images_that_came_together_go_through_the_network_together(photo: bytes) -> None:
    sizes: list[int] = []

    class Counting(Brightness):
        def pmf(self, images: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8]) -> FloatArray:
            sizes.append(len(images))
            return super().pmf(images)

    own = FaceService(AgeEstimator(MANIFEST, Counting(), LeftAndRight()), LIMITS)
    refused, left, right = own.answers([Asked(b"no image"), Asked(photo, whole=True), Asked(photo)])
    assert sizes == [3]
    assert isinstance(refused, Refusal)
    assert left.faces[0].age == pytest.approx(50, abs=1)
    assert [face.age for face in right.faces] == [face.age for face in own.predict(photo, whole=False).faces]


def test_openapi_names_the_token_the_bodies_and_the_refusals(web: TestClient) -> None:
    document = web.get("/openapi.json").json()
    call = document["paths"]["/v1/predict"]["post"]
    assert set(call["requestBody"]["content"]) == {"image/*", "multipart/form-data", "application/json"}
    assert {"200", "401", "413", "415", "422", "503"} <= set(call["responses"])
    assert call["security"]
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert "security" not in document["paths"]["/healthz"]["get"]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_pages_need_no_other_host_and_run_their_own_script_only(web: TestClient, path: str) -> None:
    page = web.get(path)
    assert (page.status_code, page.url.path) == (200, path)
    assert "predict" in page.text
    assert "https://" not in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        text = page.text.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
        assert f"{tag}-src {hash_of(text)}" in policy


def test_the_serving_path_needs_neither_torch_nor_ray() -> None:
    script = (
        "import sys, agesearch.serving.web.routes, agesearch.serving.faces, agesearch.serving.client; "
        "heavy = {'torch', 'ray', 'pandas', 'optuna'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    async def body() -> AsyncIterator[bytes]:
        pytest.fail("it was read")
        yield b""

    headers = {"content-type": "image/jpeg", "content-length": str(LIMITS.max_bytes + 1)}
    with pytest.raises(Refusal) as caught:
        _read(headers, body())
    assert caught.value.status == 413


def test_a_challenge_age_gets_a_decision_by_the_calibrated_interval(photo: bytes) -> None:
    cell = IntervalCell(first=0, last=101, below=3.0, above=5.0, faces=60)
    calibration = Calibration(
        model_digest="m",
        intervals=Intervals(level=0.9, cells=(cell,)),
        faces=CalibrationFaces(data="d", data_digest="d", part=Part(), label_kind="real", faces=60),
    )
    manifest = ModelManifest(
        kind="version", model=ModelSpec(arch="lcnet_035"), crop=CropSpec(size=32, scale=0.5)
    )
    estimator = AgeEstimator(manifest, Brightness(), LeftAndRight(), calibration=calibration)
    own = FaceService(AgeEstimator(manifest, Brightness(), LeftAndRight()), LIMITS)
    service = FaceService(estimator, LIMITS)
    with TestClient(create_app(service, TokenCheck(TOKEN), LIMITS)) as client:
        url = "/v1/predict?challenge_age="
        found = Prediction.model_validate(client.post(f"{url}25", content=photo, headers=JPEG).json())
        assert (found.interval_kind, found.interval_level, found.challenge_age) == ("calibrated", 0.9, 25.0)
        assert [face.decision for face in found.faces] == ["unsure", "pass"]
        (low, high) = found.faces[0].interval
        unchecked = own.predict(photo, whole=False)
        assert (unchecked.interval_kind, unchecked.interval_level) == ("uncalibrated", None)
        assert unchecked.faces[0].decision is None
        for age, decision in (
            (low, "pass"),
            (low + 0.01, "unsure"),
            (high, "unsure"),
            (high + 0.01, "refuse"),
        ):
            answer = client.post(f"{url}{age}", content=photo, headers=JPEG).json()
            assert answer["faces"][0]["decision"] == decision
        for wrong in ("-1", "101", "nan", "old"):
            assert client.post(f"{url}{wrong}", content=photo, headers=JPEG).status_code == 422
        document = client.get("/openapi.json").json()
        parameters = document["paths"]["/v1/predict"]["post"]["parameters"]
        assert "challenge_age" in [parameter["name"] for parameter in parameters]
