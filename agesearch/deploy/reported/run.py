"""The records of a report by what a person names: a study, or models; with others beside them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from agesearch.deploy.registry import DEFAULT_REGISTRY
from agesearch.deploy.reported.measure import ReportSpec, measure_reported
from agesearch.deploy.reported.models import foreign_models, named_models, study_models
from agesearch.deploy.reported.records import Records
from agesearch.models.identity import model_digest
from agesearch.progress import Listener, silent
from agesearch.search.front.measurements import FOLDER
from agesearch.search.run.setup import dataset_digest, same_source
from agesearch.search.store.records import StudyFolder
from agesearch.storage import Location

_RECORDS = "report"


def study_records_folder(study: StudyFolder) -> Location:
    """Where the records of a study's report lie."""
    return study.root / FOLDER / _RECORDS


def study_records(
    study: StudyFolder,
    spec: ReportSpec,
    *,
    pick: str = "knee",
    others: Sequence[str] = (),
    dataset: str | None = None,
    teacher: str | None = None,
    registry: str | Location = DEFAULT_REGISTRY,
    address: str | None = None,
    on_progress: Listener = silent,
) -> Records:
    """Bring the records of a study's student, teacher and front up to date, in ``STUDY/measured/report``.

    ``others`` are models beside them (``MODEL.onnx:MANIFEST``, or as ``measured_models`` takes them),
    ``dataset`` and ``teacher`` where these lie now. Raises ``InputError`` where one of them is gone, or there
    is no front.
    """
    header = study.header()
    data = same_source("dataset", header.dataset, dataset, dataset_digest).path
    taught = Location.of(same_source("teacher", header.teacher, teacher, model_digest).path)
    with tempfile.TemporaryDirectory() as scratch:
        models = [*study_models(study, pick, taught), *foreign_models(others, Path(scratch), registry)]
        return measure_reported(
            models, data, study_records_folder(study), spec, address=address, on_progress=on_progress
        )


def model_records(
    models: Sequence[str],
    dataset: str | Location,
    folder: Location,
    spec: ReportSpec,
    *,
    others: Sequence[str] = (),
    registry: str | Location = DEFAULT_REGISTRY,
    address: str | None = None,
    on_progress: Listener = silent,
) -> Records:
    """The same of models by name, in ``folder``: the first that is no teacher is the student."""
    with tempfile.TemporaryDirectory() as scratch:
        placed = [*named_models(models, registry), *foreign_models(others, Path(scratch), registry)]
        return measure_reported(placed, dataset, folder, spec, address=address, on_progress=on_progress)
