"""Where a model lies that a person names: a study's pick, a folder, a document, a name of the registry."""

from __future__ import annotations

from collections.abc import Sequence

from agesearch.deploy.registry import DEFAULT_REGISTRY, model_folder, model_folders
from agesearch.search.front.latencies import picked
from agesearch.search.store.records import StudyFolder
from agesearch.storage import Location


def model_place(model: str, registry: str | Location = DEFAULT_REGISTRY, pick: str = "knee") -> Location:
    """The place of a model said as ``model_folder`` has it, or as a study's folder: then of its ``pick``
    (``knee``, ``best``, ``fastest`` or a trial's number).
    """
    return model_folder(_picked(model, pick), registry)


def model_places(
    models: Sequence[str], registry: str | Location = DEFAULT_REGISTRY, pick: str = "knee"
) -> dict[str, Location]:
    """The place of each model by the name to show (``model_folders``), studies among them."""
    return model_folders([_picked(model, pick) for model in models], registry)


def _picked(model: str, pick: str) -> str:
    study = StudyFolder(Location.of(model))
    return str(study.trial_folder(picked(study, pick))) if study.exists() else model
