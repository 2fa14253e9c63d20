"""The model that an export is made of: its network, its crop recipe and its calibration, from one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agesearch.errors import InputError, command
from agesearch.models.calibration.record import Calibration
from agesearch.models.foreign.document import (
    CalibratedTeacher,
    beside,
    is_teacher_file,
    read_teacher_file,
)
from agesearch.models.identity import calibrated_digest, read_model_manifest
from agesearch.models.manifest import ModelManifest, folder_calibration
from agesearch.models.predictors import folder_int8, folder_onnx
from agesearch.models.runtimes.engines import FP32
from agesearch.storage import Location

if TYPE_CHECKING:
    from agesearch.models.zoo import AgeNet


@dataclass(frozen=True)
class ExportSubject:
    """A model folder under export; ``precision`` is that of the network that goes out."""

    folder: Location
    manifest: ModelManifest
    calibration: Calibration | None
    precision: str = FP32

    @property
    def name(self) -> str:
        """What its files are called: the registry's name, else the network's."""
        model = self.manifest.model
        return self.manifest.name or f"{model.arch}-{model.input_size}px"

    @property
    def input_size(self) -> int:
        """The side of the network's input in pixels."""
        return self.manifest.model.input_size

    def net(self) -> AgeNet:
        """The network as it was trained, in torch."""
        from agesearch.models.folder import load_net

        return load_net(self.folder)

    def onnx(self) -> bytes:
        """The network as ONNX, in its precision; an ``InputError`` where the model has no int8 network."""
        if self.precision == FP32:
            return folder_onnx(self.folder, self.manifest)
        content = folder_int8(self.folder, self.manifest)
        if content is None:
            words = command("publish", "STUDY", "--name", self.name)
            raise InputError(
                f"'{self.folder}' has no int8 network: a published version has one where it answers as well "
                f"as fp32 ({words}); its card says why, where it has none."
            )
        return content


def export_subject(place: Location, precision: str = FP32) -> ExportSubject:
    """The model at a place: a folder, or the document that calibrates one.

    Raises ``InputError`` for foreign teachers and ensembles, which are no network of ours.
    """
    if not is_teacher_file(place):
        manifest = read_model_manifest(place)
        return ExportSubject(place, manifest, folder_calibration(place, manifest), precision)
    spec = read_teacher_file(place)
    inner = beside(place, spec.teacher) if isinstance(spec, CalibratedTeacher) else place
    if not isinstance(spec, CalibratedTeacher) or is_teacher_file(inner):
        raise InputError(
            f"'{place}' is other people's network or an ensemble, whose files are theirs to export: distil "
            "it ('agesearch tune') and export the student."
        )
    calibrated_digest(place, spec)  # refuses another model than was calibrated
    manifest = read_model_manifest(inner)
    own = folder_calibration(inner, manifest)
    if own is not None and own.correction is not None and spec.calibration.correction is not None:
        raise InputError(
            f"'{place}' corrects ages that '{inner}' has corrected already: export one with one correction."
        )
    return ExportSubject(inner, manifest, spec.calibration, precision)
