"""What targets lie beside a dataset: a list of them, and how to remove those of a teacher."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from agesearch.data.dataset.records import Manifest, read_manifest
from agesearch.data.reading.teacher_outputs import (
    TARGETS,
    about_answers,
    answer_files,
    answered,
    grouped_otherwise,
    is_digest,
    stored_key,
)
from agesearch.errors import InputError, command
from agesearch.storage import Location, exclusive


@dataclass(frozen=True)
class Stored:
    """The files of one teacher and one kind of view; ``state`` is ``whole``, ``other shards`` (whole for the
    faces, regrouped when they are used) or ``other data``.
    """

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
    return [_stored(digest, files, manifest) for digest, files in answer_files(folder)]


def remove_targets(dataset: str | Location, digest: str) -> None:
    """Remove everything that is stored of one teacher; an ``InputError`` where nothing is."""
    folder = Location.of(dataset)
    read_manifest(folder)
    place = folder / TARGETS / digest
    if not is_digest(digest) or not place.exists():
        raise InputError(
            f"'{folder}' has no targets of a teacher '{digest}'. Those it has: "
            f"{command('targets', '--data', folder, '--list')}"
        )
    with ExitStack() as stack:
        for folder in (place, *(child for child in place.children() if is_digest(child.name))):
            stack.enter_context(exclusive(folder, "The folder of targets"))
        place.delete()


def _stored(digest: str, files: list[Location], manifest: Manifest) -> Stored:
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
        state=_state(files, manifest),
        files=files,
        bytes=sum(file.filesystem.get_file_info(file.path).size or 0 for file in files),
    )


def _state(files: list[Location], manifest: Manifest) -> str:
    data = stored_key(manifest)
    if all(answered(file, data, manifest.faces) for file in files):
        return "whole"
    return "other shards" if all(grouped_otherwise(file, manifest) for file in files) else "other data"
