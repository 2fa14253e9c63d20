"""Where the one model lies that a person names: a study's pick, a folder, a document, a registry's name."""

from __future__ import annotations

from agesearch.deploy.registry import DEFAULT_REGISTRY, model_folder
from agesearch.search.front.latencies import picked
from agesearch.search.store.records import StudyFolder
from agesearch.storage import Location


def model_place(model: str, registry: str | Location = DEFAULT_REGISTRY, pick: str = "knee") -> Location:
    """The place of a model said as ``model_folder`` has it, or as a study's folder: then of its ``pick``
    (``knee``, ``best``, ``fastest`` or a trial's number).
    """
    study = StudyFolder(Location.of(model))
    return study.trial_folder(picked(study, pick)) if study.exists() else model_folder(model, registry)
