"""``agesearch measure robustness``: any models under corruption, beside the teacher that they learnt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from agesearch.deploy.places import measured_models
from agesearch.deploy.registry import DEFAULT_REGISTRY
from agesearch.errors import InputError, unknown_name
from agesearch.measure.robustness.protocol import set_named
from agesearch.measure.robustness.record import Robustness, measure_robustness
from agesearch.models.foreign.document import is_teacher_file
from agesearch.models.identity import model_digest, read_model_manifest
from agesearch.search.store.records import StudyFolder
from agesearch.storage import Location


def robustness_of(
    models: Sequence[str],
    dataset: str | Location,
    *,
    registry: str | Location = DEFAULT_REGISTRY,
    corruption_set: str = "hendrycks",
    reference: str | None = None,
    **options: Any,
) -> Robustness:
    """Measure models (as ``measured_models`` takes them) under a set of corruptions; ``options`` are those of
    ``measure_robustness``.

    A study's teacher is measured with its students, where it is still there. The reference is the model of
    that name or, if none is named, the teacher of another one, else the first teacher, else the first model.
    """
    chosen = set_named(corruption_set)
    chosen.levels(options.get("corruptions", ()))  # speaks up before a model is looked for
    teachers, gone = _teachers(models)
    places = measured_models(models, registry) | teachers
    if reference is not None and reference not in places:
        raise unknown_name("reference", reference, places)
    pinned = reference or _reference(places)
    found = measure_robustness(places, dataset, chosen, reference=pinned, **options)
    return found.model_copy(update={"notes": (*found.notes, *gone)})


def _teachers(models: Sequence[str]) -> tuple[dict[str, Location], list[str]]:
    """The teachers of the studies among what was said, and of which studies they are not there any more."""
    found, gone = {}, []
    for said in models:
        study = StudyFolder(Location.of(said))
        if not study.exists():
            continue
        teacher = study.header().teacher
        place = Location.of(teacher.path)
        with suppress(InputError):
            if model_digest(place) == teacher.content_digest:
                found[f"{study.root.name}/teacher"] = place
                continue
        gone.append(
            f"The teacher of {study.root.name} is not where the study found it, or has changed: its students "
            "are measured without it. Name it among the models to have it beside them."
        )
    return found, gone


def _reference(places: Mapping[str, Location]) -> str:
    digests = {model_digest(place): name for name, place in places.items()}
    manifests = {name: read_model_manifest(place) for name, place in places.items()}
    taught_by = [digests.get(manifest.teacher_digest or "") for manifest in manifests.values()]
    teachers = [
        name for name, place in places.items() if is_teacher_file(place) or manifests[name].kind == "teacher"
    ]
    return next(name for name in [*taught_by, *teachers, *places] if name is not None)
