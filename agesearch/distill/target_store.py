"""What targets lie beside a dataset: a list of them, and how to remove those of a teacher."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from agesearch.data.dataset.records import read_manifest
from agesearch.data.reading.teacher_outputs import about_answers, answered, stored_key
from agesearch.distill.targets import TARGETS
from agesearch.errors import InputError, command
from agesearch.storage import Location, exclusive

_DIGEST = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Stored:
    """The files of one teacher and one kind of view; ``state`` is ``whole`` or ``other data``."""

    digest: str
    teacher: str
    answers: str
    drawn: str
    state: str
    files: list[Location]
    bytes: int

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**vars(self), "files": [str(file) for file in self.files]}


def stored_targets(dataset: str | Location) -> list[Stored]:
    """What is stored for a dataset, teacher by teacher; unfinished work is not among it."""
    folder = Location.of(dataset)
    manifest = read_manifest(folder)
    data = stored_key(manifest)
    found = []
    for teacher in (folder / TARGETS).children():
        places = [teacher, *(place for place in teacher.children() if _DIGEST.fullmatch(place.name))]
        for place in places:
            files = [file for file in place.children() if file.name.endswith(".parquet")]
            if files:
                found.append(_stored(teacher.name, files, data, manifest.faces))
    return found


def remove_targets(dataset: str | Location, digest: str) -> None:
    """Remove everything that is stored of one teacher; an ``InputError`` where nothing is."""
    folder = Location.of(dataset)
    read_manifest(folder)
    place = folder / TARGETS / digest
    if not _DIGEST.fullmatch(digest) or not place.exists():
        raise InputError(
            f"'{folder}' has no targets of a teacher '{digest}'. Those it has: "
            f"{command('targets', '--data', folder, '--list')}"
        )
    with ExitStack() as stack:
        for folder in (place, *(child for child in place.children() if _DIGEST.fullmatch(child.name))):
            stack.enter_context(exclusive(folder, "The folder of targets"))
        place.delete()


def _stored(digest: str, files: list[Location], data: str, faces: int) -> Stored:
    try:
        about = about_answers(files[0])
    except (pa.ArrowInvalid, OSError):
        about = {}
    drawn = "as stored"
    if "view" in about:
        drawn = f"{about['policy']}, strength {about['strength']:g}, seed {about['view_seed']}"
    return Stored(
        digest=digest,
        teacher=str(about.get("teacher", "unknown")),
        answers=str(about.get("answers", "unknown")),
        drawn=drawn,
        state="whole" if all(answered(file, data, faces) for file in files) else "other data",
        files=files,
        bytes=sum(file.filesystem.get_file_info(file.path).size or 0 for file in files),
    )
