"""agesearch finds, proves and serves the smallest face-age model for a budget.

>>> import agesearch
>>> model = agesearch.load_model("ages")  # the champion of that name in ./registry
>>> [face.age for face in model.predict("photo.jpg", faces="whole").faces]  # years
[50.0]

Every step of the command line is a function: ``ingest``, ``augment``, ``teach``, ``refit``, ``tune``,
``resume``, ``open_study``, ``evaluate``, ``measure_speed``, ``measure_robustness``, ``measure_decisions``,
``measure_counterfactual``, ``report``, ``calibrate``, ``publish``, ``export``, ``load_model``, ``Client`` and
``AsyncClient``, with keyword arguments named as the options of the verb. Paths are ``str`` or path-like, or
what an earlier step returned. A wrong input raises ``InputError``, a run that could not finish
``AgeSearchError``. Nothing is printed; ``on_progress`` and ``on_event`` hear what happens, and what weakens a
result is a Python warning or one of its notes.

Importing this module loads none of it: each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from agesearch.provenance import VERSION

if TYPE_CHECKING:
    from agesearch.api.augment import AugmentedFaces as AugmentedFaces
    from agesearch.api.augment import augment as augment
    from agesearch.api.calibrate import calibrate as calibrate
    from agesearch.api.evaluate import EvaluationResult as EvaluationResult
    from agesearch.api.evaluate import evaluate as evaluate
    from agesearch.api.export import Export as Export
    from agesearch.api.export import export as export
    from agesearch.api.ingest import Dataset as Dataset
    from agesearch.api.ingest import ingest as ingest
    from agesearch.api.measure import measure_counterfactual as measure_counterfactual
    from agesearch.api.measure import measure_decisions as measure_decisions
    from agesearch.api.measure import measure_robustness as measure_robustness
    from agesearch.api.measure import measure_speed as measure_speed
    from agesearch.api.predict import Face as Face
    from agesearch.api.predict import ImageAges as ImageAges
    from agesearch.api.predict import Model as Model
    from agesearch.api.predict import load_model as load_model
    from agesearch.api.publish import publish as publish
    from agesearch.api.refit import RefittedModel as RefittedModel
    from agesearch.api.refit import refit as refit
    from agesearch.api.report import WrittenReport as WrittenReport
    from agesearch.api.report import report as report
    from agesearch.api.study import Study as Study
    from agesearch.api.study import open_study as open_study
    from agesearch.api.study import resume as resume
    from agesearch.api.study import tune as tune
    from agesearch.api.teach import Teacher as Teacher
    from agesearch.api.teach import teach as teach
    from agesearch.deploy.publish import Published as Published
    from agesearch.errors import AgeSearchError as AgeSearchError
    from agesearch.errors import InputError as InputError
    from agesearch.progress import Progress as Progress
    from agesearch.serving.client import AsyncClient as AsyncClient
    from agesearch.serving.client import Client as Client

__version__ = VERSION

__all__ = [
    "AgeSearchError",
    "AsyncClient",
    "AugmentedFaces",
    "Client",
    "Dataset",
    "EvaluationResult",
    "Export",
    "Face",
    "ImageAges",
    "InputError",
    "Model",
    "Progress",
    "Published",
    "RefittedModel",
    "Study",
    "Teacher",
    "WrittenReport",
    "augment",
    "calibrate",
    "evaluate",
    "export",
    "ingest",
    "load_model",
    "measure_counterfactual",
    "measure_decisions",
    "measure_robustness",
    "measure_speed",
    "open_study",
    "publish",
    "refit",
    "report",
    "resume",
    "teach",
    "tune",
]

_MODULES = {
    "api.augment": ("AugmentedFaces", "augment"),
    "api.calibrate": ("calibrate",),
    "api.evaluate": ("EvaluationResult", "evaluate"),
    "api.export": ("Export", "export"),
    "api.ingest": ("Dataset", "ingest"),
    "api.measure": (
        "measure_counterfactual",
        "measure_decisions",
        "measure_robustness",
        "measure_speed",
    ),
    "api.predict": ("Face", "ImageAges", "Model", "load_model"),
    "api.publish": ("publish",),
    "api.refit": ("RefittedModel", "refit"),
    "api.report": ("WrittenReport", "report"),
    "api.study": ("Study", "open_study", "resume", "tune"),
    "api.teach": ("Teacher", "teach"),
    "deploy.publish": ("Published",),
    "errors": ("AgeSearchError", "InputError"),
    "progress": ("Progress",),
    "serving.client": ("AsyncClient", "Client"),
}
_HOME = {name: f"agesearch.{module}" for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:  # a type checker would take every name for one that exists

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module 'agesearch' has no attribute '{name}'")
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
