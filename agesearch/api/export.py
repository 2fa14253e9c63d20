"""``agesearch.export``: a model in the form that a phone, a board or a browser runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agesearch.api.places import Kept, Place, text_of
from agesearch.progress import Listener, silent
from agesearch.session import set_environment

if TYPE_CHECKING:
    from agesearch.deploy.formats.run import ExportRecord


@dataclass(frozen=True)
class Export(Kept):
    """An exported model: its file, and the record beside it, which says how to feed it and read it."""

    path: str
    record: ExportRecord


def export(
    model: Place,
    *,
    to: str,
    data: Place | None = None,
    out: Place | None = None,
    precision: str = "fp32",
    pick: str | int = "knee",
    registry: Place = "registry",
    on_progress: Listener = silent,
) -> Export:
    """Write a model as ``onnx``, ``openvino``, ``web``, ``litert`` or ``executorch``, once it has answered
    for real faces in that format's own runtime as the network does.

    >>> exported = agesearch.export("teacher", to="onnx", data="faces", out="phone")
    >>> exported.record.file, exported.record.reading.input.shape
    ('lcnet_035-32px.onnx', ('n', 3, 32, 32))

    Args:
        model: a folder (a version, a teacher, a trial), a study (then its ``pick``), or in ``registry`` a
            ``NAME``, ``NAME@ALIAS`` or ``NAME:VERSION``.
        data: the dataset whose faces it is checked on; None: the study's own.
        out: a new folder, or a file that ends as the format's do; None: ``NAME-FORMAT``.
        precision: ``fp32``, or ``int8`` where the version has it and the format takes it.

    Raises:
        InputError: what cannot be exported so, a missing extra, an ``out`` that holds something else.
        AgeSearchError: the format answers otherwise than the network; nothing is written then.
    """
    set_environment()
    from agesearch.deploy.formats.run import export_model

    found = export_model(
        os.fspath(model),
        to,
        out=text_of(out),
        data=text_of(data),
        precision=precision,
        pick=str(pick),
        registry=os.fspath(registry),
        on_progress=on_progress,
    )
    return Export(str(found.place), found.record)
