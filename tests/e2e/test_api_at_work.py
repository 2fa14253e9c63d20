"""``import agesearch`` at work: the examples in its docstrings run, a model answers for every kind of image,
and a study is tables.
"""

from __future__ import annotations

import doctest
import inspect
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uvicorn
from doc_examples import examples
from fake_study import write_study
from ingest_helpers import without_ray
from PIL import Image
from published_sets import CROP

import agesearch
from agesearch.deploy.publish import publish
from agesearch.models.folder import write_model
from agesearch.models.manifest import ModelManifest
from agesearch.models.zoo import build
from agesearch.serving.auth import TokenCheck
from agesearch.serving.client import Client
from agesearch.serving.faces import open_service
from agesearch.serving.images import ImageLimits
from agesearch.serving.ports import bound
from agesearch.serving.web.routes import create_app
from agesearch.session import LOOPBACK
from agesearch.specs import ModelSpec
from agesearch.storage import Location

TOKEN = "a-token-of-enough-length"
#: Examples that train, search or start Ray; ``tests/ray/test_api_whole_way.py`` runs them.
ON_RAY = ("teach", "tune", "resume", "measure_speed", "measure_robustness", "measure_counterfactual")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the examples find where they run: photographs with ages, a dataset, a teacher that gives every
    age the same probability, its first version, and a study.
    """
    here = tmp_path_factory.mktemp("api")
    draw = np.random.default_rng(0)
    (here / "photos").mkdir()
    lines = ["file,age,subject"]
    for index in range(40):
        pixels = draw.integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(here / "photos" / f"{index}.png")
        lines.append(f"{index}.png,{20 + index},person-{index}")
    (here / "faces.csv").write_text("\n".join(lines) + "\n")
    Image.fromarray(draw.integers(0, 255, (80, 100, 3), np.uint8)).save(here / "photo.jpg")
    _even_handed(here / "teacher")
    write_study(Location.of(here / "study"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        without_ray(patch)
        agesearch.ingest("csv", "faces.csv", images="photos", out="known", detector="none")
        publish("teacher", "ages", "registry", dataset="known")
        yield here


def _even_handed(where: Path) -> None:
    spec = ModelSpec(arch="lcnet_035", input_size=32)
    net = build(spec)
    for parameter in net.head.parameters():
        torch.nn.init.zeros_(parameter)
    manifest = ModelManifest(kind="teacher", model=spec, crop=CROP, parameters=net.parameter_count)
    write_model(str(where), net.state_dict(), manifest)


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[str]:
    """The address of a service of ``ages`` in this process."""
    limits = ImageLimits()
    web = create_app(open_service(folder / "teacher", 1, limits), TokenCheck(TOKEN), limits)
    listener = bound(LOOPBACK, 0)
    server = uvicorn.Server(uvicorn.Config(web, log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://{LOOPBACK}:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


def run(tests: list[doctest.DocTest], **names: Any) -> None:
    for test in tests:
        test.globs = {"agesearch": agesearch, **names}
        told: list[str] = []
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
        failed, tried = runner.run(test, out=told.append)
        assert tried
        assert not failed, "".join(told)


def test_examples_run(folder: Path) -> None:
    """In the order of the job, since some use what the ones before have made."""
    job = ["ingest", "evaluate", "load_model", "Model", "open_study", "publish", "export"]
    job += [name for name in agesearch.__all__ if name[0].islower() and name not in {*job, *ON_RAY}]
    for name in job:
        run(examples(name))


@pytest.mark.parametrize("name", ["Client", "AsyncClient"])
def test_the_examples_of_the_clients_run(folder: Path, service: str, name: str) -> None:
    run(examples(name), url=service, token=TOKEN)


def test_the_example_of_the_package_runs(folder: Path) -> None:
    text = inspect.getdoc(agesearch) or ""
    run([doctest.DocTestParser().get_doctest(text, {}, "agesearch", None, None)])


def test_a_program_gets_what_the_service_answers(folder: Path, service: str) -> None:
    with Client(service, TOKEN) as client:
        answer = client.predict(folder / "photo.jpg", faces="whole")
    (face,) = agesearch.load_model(folder / "teacher").predict("photo.jpg", faces="whole").faces
    (told,) = answer.faces
    assert (face.age, face.interval, face.spread, face.box, face.score) == (
        told.age,
        told.interval,
        told.spread,
        told.box,
        told.score,
    )
    assert float(face.pmf.sum()) == pytest.approx(1.0, abs=1e-5)


def test_an_image_may_be_a_file_bytes_pillow_or_an_array(folder: Path) -> None:
    model = agesearch.load_model(folder / "teacher")
    photo = folder / "photo.jpg"
    pillow = Image.open(photo)
    for image in (photo, str(photo), photo.read_bytes(), pillow, np.asarray(pillow)):
        found = model.predict(image, faces="whole")
        assert (found.width, found.height, len(found.faces)) == (100, 80, 1)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("absent.jpg", "There is no file"),
        ("faces.csv", "faces.csv'.*not an image"),
        (b"", "no bytes"),
        (np.zeros((80, 80), np.uint8), r"uint8 \(80, 80\)"),
        (np.zeros((80, 80, 3), np.float32), "float32"),
        (np.zeros((8, 80, 3), np.uint8), "80 x 8"),
        (7, "is a int"),
    ],
)
def test_what_is_no_image_is_said_in_one_line(folder: Path, image: Any, told: str) -> None:
    with pytest.raises(agesearch.InputError, match=told) as caught:
        agesearch.load_model(folder / "teacher").predict(image)
    assert "\n" not in str(caught.value)


def test_a_pillow_image_is_turned_upright(folder: Path) -> None:
    turned = Image.new("RGB", (60, 40))
    turned.getexif()[0x0112] = 6
    found = agesearch.load_model(folder / "teacher").predict(turned, faces="whole")
    assert (found.width, found.height) == (40, 60)


def test_a_study_is_tables(folder: Path) -> None:
    study = agesearch.open_study(folder / "study")
    records = study.records
    assert records.num_rows == 24
    assert {"number", "state", "curve", "params_model.arch"} <= set(records.column_names)
    front = study.front.to_pylist()
    assert [row["latency_ms_p50"] for row in front] == sorted(row["latency_ms_p50"] for row in front)
    assert study.knee in [row["number"] for row in front]
    with pytest.raises(agesearch.InputError, match="is not a study"):
        agesearch.open_study(folder / "photos")
