"""Where models lie that a person names: a study's pick or front, a folder, a document, a registry's name."""

from __future__ import annotations

from collections.abc import Sequence

from agesearch.deploy.registry import DEFAULT_REGISTRY, model_folder
from agesearch.errors import InputError
from agesearch.provenance import without_places
from agesearch.search.front.latencies import picked, study_latencies
from agesearch.search.store.records import StudyFolder
from agesearch.storage import Location, distinct_names


def model_place(model: str, registry: str | Location = DEFAULT_REGISTRY, pick: str = "knee") -> Location:
    """The place of a model said as ``model_folder`` has it, or as a study's folder: then of its ``pick``
    (``knee``, ``best``, ``fastest`` or a trial's number).
    """
    study = StudyFolder(Location.of(model))
    return study.trial_folder(picked(study, pick)) if study.exists() else model_folder(model, registry)


def measured_models(
    models: Sequence[str], registry: str | Location = DEFAULT_REGISTRY
) -> dict[str, Location]:
    """The models to measure by the name to show, each at its place.

    A published version (``NAME``, ``NAME@ALIAS``, ``NAME:VERSION``), a model folder and a foreign teacher's
    document are one model each; a study is its front, by rising latency. A name is what was said, without the
    folders of an absolute path; a trial's stands behind its study's. Raises ``InputError`` for what is none
    of these, a study without a front, and a model that is named twice.
    """
    groups = [_group(model, registry) for model in models]
    labels = [
        said if without_places(said) == said else name
        for said, name in zip(models, distinct_names([place for place, _ in groups]), strict=True)
    ]
    pairs = [
        (f"{label}/{trial}" if trial else label, place)
        for label, (_, found) in zip(labels, groups, strict=True)
        for trial, place in found.items()
    ]
    if len({place for _, place in pairs}) < len(pairs):
        raise InputError(f"One model is named twice in: {', '.join(models)}. Name each model once.")
    return dict(pairs)


def _group(model: str, registry: str | Location) -> tuple[Location, dict[str, Location]]:
    """Where what was said lies, and its models: a study's by the names of their trials, another's by ''."""
    study = StudyFolder(Location.of(model))
    if not study.exists():
        folder = model_folder(model, registry)
        return folder, {"": folder}
    latencies = study_latencies(study)
    latencies.pick()  # speaks up where there is no front
    return study.root, {trial.name: study.trial_folder(trial) for trial in latencies.front}
