"""``import agesearch``: the examples in its docstrings run, its names are those of the command line, and it
costs nothing until it is used.
"""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uvicorn
from fake_study import write_study
from ingest_helpers import without_ray
from PIL import Image
from published_sets import CROP
from typer.main import get_command

import agesearch
from agesearch.api.study import asked_study
from agesearch.cli.main import app
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
from agesearch.specs import ModelSpec, StudySpec
from agesearch.storage import Location

TOKEN = "a-token-of-enough-length"
#: Examples that train or search; ``tests/ray/test_api_whole_way.py`` runs them.
ON_RAY = ("teach", "tune", "resume")
#: Those of models that are there.
_MEASURED = ("measure_decisions", "report", "calibrate")


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


def examples(name: str) -> list[doctest.DocTest]:
    """The examples of a public name and of what it has inside."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    thing = getattr(agesearch, name)
    found = finder.find(thing, name, module=sys.modules[thing.__module__])
    return [test for test in found if test.examples]


def run(tests: list[doctest.DocTest], **names: Any) -> None:
    for test in tests:
        test.globs = {"agesearch": agesearch, **names}
        told: list[str] = []
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
        failed, tried = runner.run(test, out=told.append)
        assert tried
        assert not failed, "".join(told)


#: In the order of the job: some use what the ones before have made.
@pytest.mark.parametrize(
    "name", ["ingest", "evaluate", "load_model", "Model", "open_study", "publish", "export", *_MEASURED]
)
def test_examples_run(folder: Path, name: str) -> None:
    run(examples(name))


@pytest.mark.parametrize("name", ["Client", "AsyncClient"])
def test_the_examples_of_the_clients_run(folder: Path, service: str, name: str) -> None:
    run(examples(name), url=service, token=TOKEN)


def test_the_example_of_the_package_runs(folder: Path) -> None:
    text = inspect.getdoc(agesearch) or ""
    run([doctest.DocTestParser().get_doctest(text, {}, "agesearch", None, None)])


def test_every_function_has_an_example() -> None:
    functions = [name for name in agesearch.__all__ if name[0].islower()]
    assert functions
    assert [name for name in functions if not examples(name)] == []


def _verb(name: str) -> Any:
    commands: Any = get_command(app)
    group, _, verb = name.rpartition("_")
    within = {"ingest": "data"}.get(name, group)
    return (commands.commands[within].commands if within else commands.commands)[verb]


#: Options that a program has no use for, and one whose default differs: a library starts no dashboard.
_OF_THE_TERMINAL = {"as_json", "json_output", "out_file", "predictions", "resume", "no_faces"}
_OF_THE_PROGRAM = {"on_progress", "on_event"}
_OF_A_FOLDER = {"out_folder", "out_place", "to"}
_OTHER_DEFAULT = {"dashboard", "stall_minutes"}


def _argument(option: Any) -> str:
    """What a program calls an option of the command line."""
    name = str(option.name)
    return "out" if name in _OF_A_FOLDER and "--out" in option.opts else name


@pytest.mark.parametrize(
    "name", ["ingest", "teach", "tune", "resume", "evaluate", "publish", "export", *_MEASURED]
)
def test_arguments_are_named_as_the_options_of_the_verb_and_have_their_defaults(name: str) -> None:
    verb = _verb(name)
    options = {_argument(option): option for option in verb.params}
    taken = inspect.signature(getattr(agesearch, name)).parameters
    own = _OF_THE_PROGRAM | ({"out"} if name == "calibrate" else set())  # its --out is a file of its own
    assert set(taken) - own == set(options) - _OF_THE_TERMINAL - {"help"}
    for argument in set(taken) - own - _OTHER_DEFAULT:
        default = taken[argument].default
        if default is not inspect.Parameter.empty and not options[argument].required:
            assert (default or None) == (options[argument].default or None), argument


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


def test_a_study_without_a_complete_trial_has_an_empty_front(tmp_path: Path) -> None:
    write_study(Location.of(tmp_path / "study"), complete=False)
    study = agesearch.open_study(tmp_path / "study")
    assert (study.front.num_rows, study.knee) == (0, None)
    assert study.front.column_names[:2] == ["number", "name"]


def test_a_parameter_of_several_kinds_is_still_a_column(tmp_path: Path) -> None:
    written = write_study(Location.of(tmp_path / "study"), trials=3)
    pairs = zip(written.trials(), (0.1, "off", True), strict=True)
    written.write_trials([replace(trial, params={"mix": value}) for trial, value in pairs])
    column = agesearch.open_study(tmp_path / "study").records["params_mix"]
    assert column.to_pylist() == ["0.1", '"off"', "true"]


SPACE = {
    "trials": 5,
    "student": {"model": {"arch": "lcnet_050"}},
    "space": {"model.input_size": {"choices": [48, 64]}},
}


def test_a_space_may_be_a_mapping_or_a_spec() -> None:
    study, scale = asked_study(SPACE, trials=2, seed=None, max_latency_ms=3.0)
    assert (study.trials, study.max_latency_ms, scale) == (2, 3.0, 1.0)
    assert asked_study(study)[0] == study
    assert isinstance(study, StudySpec)
    with pytest.raises(agesearch.InputError, match="lcnet_05"):
        asked_study(SPACE | {"student": {"model": {"arch": "lcnet_05"}}})


def test_importing_costs_nothing_and_names_are_known() -> None:
    script = (
        "import sys, agesearch; heavy = {'torch', 'ray', 'numpy', 'pandas', 'pyarrow', 'pydantic'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); "
        "assert set(agesearch.__all__) <= set(dir(agesearch)); "
        "[getattr(agesearch, name) for name in ('ingest', 'teach', 'tune', 'open_study', 'load_model')]; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    for name in agesearch.__all__:
        assert getattr(agesearch, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'predict'"):
        _ = agesearch.predict  # type: ignore[attr-defined]
