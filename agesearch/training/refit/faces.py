"""The faces of a dataset that may teach a last layer, or the shares of a stack."""

from __future__ import annotations

import numpy as np

from agesearch.data.dataset.records import Part
from agesearch.errors import InputError
from agesearch.measure.predictions import Labels, read_labels
from agesearch.storage import Location

_LEAST_FACES, _LEAST_PERSONS = 30, 10


def teaching_faces(dataset: Location, part: Part, what: str, *, of_teachers: bool) -> Labels:
    """The faces of a part that have an exact age; with ``of_teachers`` also one that a teacher gave.

    ``what`` they are for stands in the ``InputError`` where they are too few.
    """
    found = read_labels(dataset, part)
    known = np.isfinite(found.age)
    found = found.take(known if of_teachers else known & (found.label_kind != "teacher"))
    persons = len(found.persons.faces) if len(found) else 0
    if len(found) < _LEAST_FACES or persons < _LEAST_PERSONS:
        raise InputError(
            f"'{dataset}' has {len(found)} faces of {persons} persons with an exact age in {part}; {what} "
            f"takes {_LEAST_FACES} of {_LEAST_PERSONS} at least: name others with --split or --fold."
        )
    return found
