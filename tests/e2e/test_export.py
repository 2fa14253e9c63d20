"""``agesearch export``: files that answer as the network does, or none; and the page in a browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chromium import Page, chromium
from published_sets import CROP, write_set
from typer.testing import CliRunner

import agesearch
from agesearch.ages import expected_age
from agesearch.cli.main import app
from agesearch.data.images.crop import crop_face
from agesearch.data.images.decode import decode_photograph
from agesearch.data.images.detectors import YuNet
from agesearch.deploy.formats import web
from agesearch.deploy.formats.onnx import KEY
from agesearch.deploy.formats.packages import files_of
from agesearch.deploy.formats.reading import example_pixels
from agesearch.deploy.formats.table import FORMATS
from agesearch.errors import AgeSearchError, ConflictError, InputError
from agesearch.measure.speed.footprint import footprint
from agesearch.models.folder import write_model
from agesearch.models.manifest import ModelManifest
from agesearch.models.predict import open_predictor
from agesearch.models.predictors import folder_onnx
from agesearch.models.prepare import prepare
from agesearch.models.zoo import build
from agesearch.specs import ModelSpec

SPEC = ModelSpec(arch="lcnet_035", input_size=32)


def opinionated(where: Path) -> Path:
    """A model folder whose untrained network says another age of each face."""
    torch.manual_seed(5)
    net = build(SPEC).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        net.train()(torch.rand(32, 3, 32, 32) * 255)
        for parameter in net.head.parameters():
            parameter.normal_(std=0.5)
    crop = CROP.model_copy(update={"detector": "yunet", "scale": 1.3, "size": 64})
    write_model(
        str(where),
        net.eval().state_dict(),
        ModelManifest(kind="teacher", model=SPEC, crop=crop, parameters=9),
    )
    return where


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces and a model."""
    house = tmp_path_factory.mktemp("export house")
    rows = [{"age": 30.0, "split": "val", "subject_id": f"p{index}"} for index in range(12)]
    write_set(house / "faces", rows, "real")
    opinionated(house / "model")
    return house


@pytest.fixture
def run(house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs ``export`` of the model in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Any:
        given = ["export", str(house / "model"), "--data", str(house / "faces"), *words]
        return CliRunner().invoke(app, given, catch_exceptions=True)

    return run


def test_onnx_and_openvino_answer_their_example_and_carry_its_reading(run: Callable[..., Any]) -> None:
    told = run("--to", "onnx", "--out", "phone")
    assert "against the network in torch" in told.output
    assert {file.name for file in Path("phone").iterdir()} == {
        "lcnet_035-32px.onnx",
        "lcnet_035-32px.onnx.json",
    }
    record = json.loads(Path("phone/lcnet_035-32px.onnx.json").read_text())
    import onnx

    held = {one.key: one.value for one in onnx.load("phone/lcnet_035-32px.onnx").metadata_props}
    assert json.loads(held[KEY]) == record["reading"]
    document = json.loads(run("--to", "openvino", "--out", "board/ages.xml", "--json").stdout)
    assert set(document["files"]) == {"ages.xml", "ages.bin"}
    assert document["parity"]["age_max_difference_years"] <= document["parity"]["age_tolerance_years"]
    example = record["reading"]["example"]
    for name, file in (("onnx", "phone/lcnet_035-32px.onnx"), ("openvino", "board/ages.xml")):
        pmf = FORMATS[name].answer(Path(file), example_pixels(32), 32)
        assert float(expected_age(pmf)[0]) == pytest.approx(example["age"], abs=0.01)
    assert "Exported" in run("--to", "onnx", "--out", "phone").output  # the same again
    Path("thesis").mkdir()
    Path("thesis/chapter.txt").write_text("mine")
    assert isinstance(run("--to", "onnx", "--out", "thesis").exception, ConflictError)
    assert isinstance(run("--to", "onnx", "--precision", "int8", "--out", "other").exception, InputError)
    assert not Path("other").exists()


def test_what_answers_otherwise_is_not_written(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from agesearch.deploy.formats import run as running

    real = FORMATS["onnx"]
    wrong = real.__class__(
        **{**vars(real), "answer": lambda file, crops, size: np.roll(real.answer(file, crops, size), 1, 1)}
    )
    monkeypatch.setattr(running, "format_named", lambda _: wrong)
    found = run("--to", "onnx", "--out", "phone")
    assert isinstance(found.exception, AgeSearchError)
    assert "answers otherwise as onnx: over 12 faces" in str(found.exception)
    assert "Nothing was written" in str(found.exception)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(("name", "modules"), [("litert", "litert_torch"), ("executorch", "executorch")])
def test_formats_of_extras_answer_in_their_own_runtime(
    name: str, modules: str, run: Callable[..., Any]
) -> None:
    if find_spec(modules) is None:
        pytest.skip(f"needs the extra '{name}', which is not installed")
    document = json.loads(run("--to", name, "--out", "phone", "--json").stdout)
    assert document["parity"]["age_max_difference_years"] <= document["parity"]["age_tolerance_years"]
    pmf = FORMATS[name].answer(Path(document["place"]), example_pixels(32), 32)
    assert float(expected_age(pmf)[0]) == pytest.approx(document["reading"]["example"]["age"], abs=0.01)
    assert document["reading"]["input"]["shape"] == [1, 3, 32, 32]


def test_a_model_folder_needs_faces(house: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not know its faces"):
        agesearch.export(house / "model", to="onnx", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def page(house: Path) -> Path:
    """The model as a page; skipped where Node.js, or what npm and pip fetch, is not to be had."""
    try:
        web.check_tools()
        files_of(web.PACKAGE), files_of(web.DETECTOR)
    except InputError as error:
        pytest.skip(f"needs Node.js, and npm and pip that can fetch: {error}")
    out = house / "page" / "ages.html"
    return Path(agesearch.export(house / "model", to="web", data=house / "faces", out=out).path)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A tab of a browser."""
    with chromium(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


_ANSWERS = (
    "[...document.querySelectorAll('li.face')]"
    ".map(({dataset}) => [+dataset.age, +dataset.low, +dataset.high])"
)


def test_the_page_says_what_the_service_says_and_asks_nobody(
    house: Path, page: Path, tab: Page, shared: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "yunet.onnx"
    weights.write_bytes(next(iter(files_of(web.DETECTOR).values())))
    predictor = open_predictor(house / "model")
    tab.open(page, 390, dark=True)
    tab.wait("document.body?.dataset.state === 'ready'")
    for photo in sorted((shared / "photos" / "images").glob("*.jpg"))[:300:100]:
        pixels = decode_photograph(photo.read_bytes()).pixels
        face = YuNet(weights).detect(np.ascontiguousarray(pixels[..., ::-1]), 0.5)[0]
        crop = crop_face(
            pixels, face, CROP.model_copy(update={"detector": "yunet", "scale": 1.3, "size": 64})
        )
        expected = float(expected_age(predictor.pmf(crop[None]))[0])
        tab.evaluate("document.getElementById('faces').replaceChildren()")
        tab.give_file("#file", photo)
        tab.wait("document.querySelector('li.face') !== null")
        [[age, low, high]] = tab.evaluate(_ANSWERS)
        assert age == pytest.approx(expected, abs=0.1), photo.name
        assert low <= age <= high
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert "80 % interval" in tab.evaluate("document.getElementById('faces').innerText")
    assert tab.complaints == []
    for address in ("data:text/plain,x", "https://example.org/"):
        asked = f"fetch('{address}').then(() => 'reached', () => 'refused')"
        assert tab.evaluate(asked) == "refused"
    assert [one for one in tab.complaints if "Content Security Policy" not in one] == []


def test_a_face_can_be_marked_by_the_keyboard(house: Path, page: Path, tab: Page, tmp_path: Path) -> None:
    import cv2

    blank = tmp_path / "blank.png"
    cv2.imwrite(str(blank), np.full((120, 160, 3), (30, 90, 200), np.uint8))
    tab.open(page, 1280)
    tab.wait("document.body?.dataset.state === 'ready'")
    tab.give_file("#file", blank)
    tab.wait("document.getElementById('status').textContent.startsWith('No face')")
    for key in ("ArrowLeft", "-", "Enter"):
        event = f"new KeyboardEvent('keydown', {{key: '{key}'}})"
        tab.evaluate(f"document.getElementById('picture').dispatchEvent({event})")
    tab.wait("document.querySelector('li.face') !== null")
    colour = np.full((1, 32, 32, 3), (200, 90, 30), np.uint8)
    expected = float(expected_age(open_predictor(house / "model").pmf(colour))[0])
    [[age, _, _]] = tab.evaluate(_ANSWERS)
    assert prepare(colour, 32).shape == (1, 3, 32, 32)
    assert age == pytest.approx(expected, abs=0.05)


def test_a_session_is_weighed_in_a_process_of_its_own(house: Path) -> None:
    content = folder_onnx(house / "model")
    small = footprint([content], 32)
    two = footprint([content, content], 32)
    assert (small.file_bytes, two.file_bytes) == (len(content), 2 * len(content))
    assert small.session_bytes is not None
    assert two.session_bytes is not None
    assert len(content) < small.session_bytes < two.session_bytes < two.process_bytes
    with pytest.raises(AgeSearchError, match="cannot be measured on onnxruntime fp32"):
        footprint([b"no network"], 32)
