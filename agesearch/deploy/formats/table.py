"""The formats that a model can be exported to: one row each, with its runtime, its extra and its precisions.

A format writes its files into a folder and answers from them in its own runtime. A new one is a file with
these two functions and a row of ``FORMATS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from agesearch.ages import FloatArray
from agesearch.data.images.decode import RgbImage
from agesearch.deploy.formats import executorch, litert, onnx, openvino, web
from agesearch.deploy.formats.reading import Reading
from agesearch.deploy.formats.subject import ExportSubject
from agesearch.errors import InputError, unknown_name
from agesearch.models.runtimes.engines import FP32, INT8, ONNX_RUNTIME, OPENVINO
from agesearch.provenance import installed

#: Writes the model's files into a folder, the main one by the given name, with what the reading says.
Write = Callable[[ExportSubject, Reading, Path], None]
#: PMFs ``float32 [N, 101]`` of RGB crops, by the files that were written, in the format's own runtime.
Answer = Callable[[Path, RgbImage, int], FloatArray]


@dataclass(frozen=True)
class Format:
    """A format: the ending of its main file, the ``packages`` that make and run it, and which extra brings
    them. ``judged_as`` is the engine whose gate speaks for its int8, ``batch`` the first of its shapes,
    ``fetched`` what is in it that pip does not know.
    """

    suffix: str
    packages: tuple[str, ...]
    write: Write
    answer: Answer
    precisions: tuple[str, ...] = (FP32, INT8)
    judged_as: str = ONNX_RUNTIME
    modules: tuple[str, ...] = ()
    extra: str = ""
    note: str = ""
    batch: str | int = "n"
    needed: Callable[[], None] = lambda: None
    fetched: tuple[tuple[str, str], ...] = ()

    def versions(self) -> dict[str, str]:
        """The versions of what runs it."""
        return installed(self.packages) or dict(self.fetched)

    def check(self, name: str, precision: str) -> None:
        """Raise ``InputError`` for a precision that the format does not take, and for what is not installed
        here, before any work.
        """
        if precision not in self.precisions:
            known = " and ".join(self.precisions)
            raise InputError(f"The format {name} is written in {known}, but --precision is {precision}.")
        missing = [module for module in self.modules if find_spec(module) is None]
        if missing:
            raise InputError(
                f"The format {name} needs {' and '.join(self.packages)}: "
                f"pip install 'agesearch[{self.extra}]'{self.note}"
            )
        self.needed()


FORMATS: dict[str, Format] = {
    "onnx": Format(".onnx", ("onnxruntime",), onnx.write, onnx.answer),
    "openvino": Format(".xml", ("openvino",), openvino.write, openvino.answer, judged_as=OPENVINO),
    "web": Format(
        ".html",
        (),
        web.write,
        web.answer,
        needed=web.check_tools,
        fetched=((web.PACKAGE.name, web.PACKAGE.version),),
    ),
    "litert": Format(
        ".tflite",
        ("litert-torch", "ai-edge-litert"),
        litert.write,
        litert.answer,
        precisions=(FP32,),
        modules=("litert_torch", "ai_edge_litert"),
        extra="litert",
        note=" (in an environment of its own: litert-torch asks for torch below 2.15)",
        batch=1,
    ),
    "executorch": Format(
        ".pte",
        ("executorch",),
        executorch.write,
        executorch.answer,
        precisions=(FP32,),
        modules=("executorch",),
        extra="executorch",
        batch=1,
    ),
}


def format_named(name: str) -> Format:
    """The row of a format; an unknown name is an ``InputError`` that lists the known ones."""
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    return FORMATS[name]
