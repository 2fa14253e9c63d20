"""Which models a report is about: a study's student, front and teacher, or models by name; and foreign ones
beside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agesearch.deploy.places import measured_models
from agesearch.deploy.registry import DEFAULT_REGISTRY
from agesearch.deploy.reported.records import ReportedModel, Role
from agesearch.errors import InputError
from agesearch.models.foreign.document import OnnxTeacher, is_teacher_file, read_teacher_file
from agesearch.models.identity import calibration_of, model_digest, read_model_manifest
from agesearch.search.front.latencies import study_latencies
from agesearch.search.store.records import StudyFolder
from agesearch.storage import Location

#: ``MODEL.onnx:MANIFEST``: the network first, for the manifest may name it by another path.
_WITH_FILE = re.compile(r"(?P<onnx>.+\.onnx):(?P<document>.+)", re.IGNORECASE)

_STUDENT: Role = "student"
_FRONT: Role = "front"


@dataclass(frozen=True)
class Placed:
    """A model of a report, and where it lies."""

    model: ReportedModel
    place: Location


def study_models(study: StudyFolder, pick: str, teacher: Location) -> list[Placed]:
    """The picked student, its teacher, and the other trials of the front."""
    latencies = study_latencies(study)
    picked = latencies.pick(pick)
    others = [trial for trial in latencies.front if trial.number != picked.number]
    student, *front = [
        _placed(f"trial {trial.number}", role, study.trial_folder(trial), trial.number)
        for role, trial in [(_STUDENT, picked), *((_FRONT, trial) for trial in others)]
    ]
    return [student, _placed("teacher", "teacher", teacher), *front]


def named_models(models: Sequence[str], registry: str | Location = DEFAULT_REGISTRY) -> list[Placed]:
    """Models as ``measured_models`` takes them: the first that is no teacher is the student, who taught it is
    its teacher.
    """
    places = measured_models(models, registry)
    manifests = {name: read_model_manifest(place) for name, place in places.items()}
    students = [name for name, found in manifests.items() if found.kind != "teacher"] or list(places)
    taught_by = manifests[students[0]].teacher_digest
    found = []
    for name, place in places.items():
        role: Role = "student" if name == students[0] else "front" if name in students else "foreign"
        if name != students[0] and taught_by is not None and model_digest(place) == taught_by:
            role = "teacher"
        found.append(_placed(_named(name, place), role, place))
    order: tuple[Role, ...] = ("student", "teacher", "front", "foreign")
    return sorted(found, key=lambda one: order.index(one.model.role))


def foreign_models(
    wanted: Iterable[str], scratch: Path, registry: str | Location = DEFAULT_REGISTRY
) -> list[Placed]:
    """The models of ``--with``: ``MODEL.onnx:MANIFEST``, or a model however it is named. ``scratch`` is a
    folder for manifests that name their network by the path given here.
    """
    found = []
    for number, text in enumerate(wanted):
        match = _WITH_FILE.fullmatch(text)
        place = _beside_file(match["onnx"], match["document"], scratch, number) if match else None
        if place is None:
            ((name, place),) = _one(text, registry)
        else:
            name = place.name.removesuffix(".json")
        found.append(_placed(_named(name, place), "foreign", place))
    return found


def distinct(models: Sequence[Placed]) -> list[Placed]:
    """The models with a name each; an ``InputError`` where one of them is given twice."""
    digests = [one.model.model_digest for one in models]
    for one in models:
        if digests.count(one.model.model_digest) > 1 and one.model.role == "foreign":
            raise InputError(f"'{one.model.name}' is given twice in this report: name each model once.")
    names: dict[str, int] = {}
    renamed = []
    for one in models:
        count = names[one.model.name] = names.get(one.model.name, 0) + 1
        name = one.model.name if count == 1 else f"{one.model.name} ({count})"
        renamed.append(Placed(one.model.with_values({"name": name}), one.place))
    return renamed


def _named(name: str, place: Location) -> str:
    """A document's own name, which no folder clutters; a model's as it was said."""
    return read_teacher_file(place).name if is_teacher_file(place) else name


def _one(text: str, registry: str | Location) -> list[tuple[str, Location]]:
    found = list(measured_models([text], registry).items())
    if len(found) != 1:
        raise InputError(f"--with takes one model, but '{text}' is {len(found)}: name a trial's folder.")
    return found


def _beside_file(onnx: str, document: str, scratch: Path, number: int) -> Location:
    """The manifest with the network at another path than it says."""
    spec = read_teacher_file(document)
    if not isinstance(spec, OnnxTeacher):
        raise InputError(
            f"'{document}' is of kind '{spec.kind}', and names no ONNX file: leave out '{onnx}:'."
        )
    network = Location.of(onnx)
    if not network.exists():
        raise InputError(f"'{onnx}' is not there: --with takes MODEL.onnx:MANIFEST.")
    folder = scratch / str(number)
    folder.mkdir()
    place = Location.of(folder) / f"{Location.of(document).name.rpartition('.')[0]}.json"
    place.write_json(spec.model_copy(update={"file": str(network)}).model_dump(mode="json"))
    return place


def _placed(name: str, role: Role, place: Location, trial: int | None = None) -> Placed:
    manifest = read_model_manifest(place)
    document = read_teacher_file(place) if is_teacher_file(place) else None
    return Placed(
        ReportedModel(
            name=name,
            role=role,
            trial=trial,
            model_digest=model_digest(place),
            arch=manifest.model.arch,
            input_size=manifest.model.input_size,
            parameters=manifest.parameters,
            source=document.source if isinstance(document, OnnxTeacher) else "",
            licences=manifest.licences,
            calibration=calibration_of(place),
            created=manifest.created,
        ),
        place,
    )
