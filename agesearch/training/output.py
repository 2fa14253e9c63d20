"""The folder that a teacher is trained into: empty, or of the very same run."""

from __future__ import annotations

from typing import Any

from agesearch.errors import ConflictError
from agesearch.storage import Location

#: Says which run a folder belongs to: its spec, and the data's digest.
RUN = "run.json"


def is_finished(out: Location, identity: dict[str, Any], manifest: str) -> bool:
    """Whether ``out`` holds the finished teacher of this run, whose last file is ``manifest``.

    False where there is nothing yet, or an unfinished one of the same run; anything else is a
    ``ConflictError``.
    """
    names = {child.name for child in out.children()} - {".lock"}
    if not names:
        return False
    if RUN not in names:
        raise ConflictError(f"'{out}' holds other things and no teacher: choose another --out, or empty it.")
    if (out / RUN).read_json() != identity:
        state = "a teacher" if manifest in names else "an unfinished teacher"
        raise ConflictError(
            f"'{out}' holds {state} with other settings or data (see its {RUN}): choose another --out, "
            "or remove it."
        )
    return manifest in names
