"""``agesearch.report``: the report of a study or of models, measured where that is not done yet."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agesearch.api.places import Kept, Place, listed, text_of
from agesearch.progress import Listener, silent
from agesearch.session import set_environment

if TYPE_CHECKING:
    from agesearch.deploy.reported.measure import ReportSpec
    from agesearch.reporting.report import Report
    from agesearch.search.store.records import StudyFolder
    from agesearch.storage import Location


@dataclass(frozen=True)
class WrittenReport(Kept):
    """A report: the page at ``path``, its ``headline`` with the ``figures`` of that, further ``sentences``,
    ``charts`` as files, and by section what was not filled (why, and the command that fills it).
    """

    path: str
    headline: str
    figures: dict[str, Any]
    sentences: tuple[str, ...]
    charts: tuple[str, ...]
    not_filled: dict[str, tuple[str, str]]


def report(
    targets: Place | Sequence[Place],
    *,
    out: Place = "report.html",
    pick: str | int = "knee",
    with_models: Sequence[Place] = (),
    data: Place | None = None,
    teacher: Place | None = None,
    faces_from: Sequence[str] = (),
    figures: Place | None = None,
    records: Sequence[Place] = (),
    legal_age: float = 18.0,
    challenge: float | None = None,
    max_fpr: float | None = None,
    min_faces: int = 30,
    counterfactual_persons: int = 0,
    judge: bool = False,
    robustness_faces: int | None = None,
    skip: Sequence[str] = (),
    registry: Place = "registry",
    address: str | None = None,
    on_progress: Listener = silent,
) -> WrittenReport:
    """Write one HTML file that opens without a network, and the same facts beside it as JSON and Markdown.

    >>> left_out = ["speed", "validation", "test", "robustness", "decisions"]
    >>> found = agesearch.report("teacher", data="faces", out="teacher.html", skip=left_out)
    >>> found.path.endswith("teacher.html"), "robustness" in found.not_filled
    (True, True)

    What is not there yet is measured first, and kept: a study's in its folder, models' beside the page.

    Args:
        targets: a study, or model folders, teachers' documents and names of ``registry``; more than one stand
            beside the first.
        with_models: models beside them: ``MODEL.onnx:MANIFEST``, or any model.
        data: the dataset; None: where the study found it. Models need one.
        faces_from: sources whose faces may be shown; none are by default.
        figures: a folder for a study's charts as SVG.
        records: records that verbs of ``measure`` wrote, in place of measuring.
        counterfactual_persons: so many are rendered and changed (needs the extra synth).
        judge: judge bf16 and int8 on the validation faces, and time them.
        skip: ``speed``, ``validation``, ``test``, ``robustness``, ``decisions``: what is left out.

    Raises:
        InputError: no study and no model; a dataset or teacher that is gone; nothing to pick; an age that is
            none, or a challenge age below the legal age.
    """
    set_environment()
    from agesearch.artefacts import own_page
    from agesearch.deploy.reported.measure import ReportSpec
    from agesearch.search.store.records import StudyFolder
    from agesearch.storage import Location

    names = listed(targets)
    spec = ReportSpec(
        robustness_faces=robustness_faces or 200,
        legal_age=legal_age,
        challenge_age=challenge,
        max_fpr=max_fpr,
        min_faces=min_faces,
        counterfactual_persons=counterfactual_persons,
        judge=judge,
        faces_from=tuple(faces_from),
        skip=tuple(skip),
    )
    spec.check()
    study = StudyFolder(Location.of(names[0]))
    asked = _Asked(
        target=own_page(os.fspath(out)),
        spec=spec,
        others=[*(names[1:] if study.exists() else []), *(os.fspath(model) for model in with_models)],
        given=[os.fspath(record) for record in records],
        registry=os.fspath(registry),
        address=address,
        on_progress=on_progress,
    )
    if not study.exists():
        return _written(_of_models(asked, names, text_of(data)), asked, [*names, text_of(data)], [])
    charts = None if figures is None else _folder_of_charts(os.fspath(figures))
    found = _of_study(asked, study, str(pick), text_of(data), text_of(teacher), robustness_faces)
    from agesearch.reporting.figures import write_figures

    return _written(found, asked, [*names, text_of(data)], write_figures(study, charts) if charts else [])


@dataclass(frozen=True)
class _Asked:
    """What was asked for, besides the models."""

    target: Location
    spec: ReportSpec
    others: list[str]
    given: list[str]
    registry: str
    address: str | None
    on_progress: Listener

    @property
    def options(self) -> list[str]:
        """The options of the command that makes the same report again."""
        from agesearch.reporting.sections.origin import shown

        spec = self.spec
        found = [word for other in self.others for word in ("--with", shown(other))]
        found += [word for source in spec.faces_from for word in ("--faces-from", source)]
        found += [] if spec.legal_age == 18.0 else ["--legal-age", f"{spec.legal_age:g}"]
        found += [] if spec.challenge_age is None else ["--challenge", f"{spec.challenge_age:g}"]
        found += [] if spec.max_fpr is None else ["--max-fpr", f"{spec.max_fpr:g}"]
        found += [] if spec.min_faces == 30 else ["--min-faces", str(spec.min_faces)]
        persons = spec.counterfactual_persons
        found += ["--counterfactual-persons", str(persons)] if persons else []
        found += [] if spec.robustness_faces == 200 else ["--robustness-faces", str(spec.robustness_faces)]
        found += ["--judge"] if spec.judge else []
        return found + [word for name in spec.skip for word in ("--skip", name)]


def _of_study(
    asked: _Asked,
    study: StudyFolder,
    pick: str,
    data: str | None,
    teacher: str | None,
    robustness_faces: int | None,
) -> Report:
    from agesearch.deploy.reported.run import study_records
    from agesearch.reporting.report import build_report
    from agesearch.search.front.measure import measure_study
    from agesearch.search.front.measurements import MeasureSpec

    own = MeasureSpec() if robustness_faces is None else MeasureSpec(robustness_faces=robustness_faces)
    where: dict[str, Any] = {"dataset": data, "teacher": teacher, "address": asked.address}
    measure_study(study, pick=pick, spec=own, on_progress=asked.on_progress, **where)
    found = study_records(
        study,
        asked.spec,
        pick=pick,
        others=asked.others,
        registry=asked.registry,
        on_progress=asked.on_progress,
        **where,
    )
    return build_report(
        study,
        asked.target,
        faces_from=asked.spec.faces_from,
        records=found.with_given(asked.given),
        options=asked.options,
    )


def _of_models(asked: _Asked, models: list[str], data: str | None) -> Report:
    from agesearch.deploy.reported.run import model_records
    from agesearch.errors import InputError, command
    from agesearch.reporting.report import build_models_report
    from agesearch.reporting.sections.origin import shown

    if data is None:
        words = command("report", *models, "--data", "FACES")
        raise InputError(
            f"'{models[0]}' is no study, and models are measured on a dataset: name it, as in: {words}"
        )
    found = model_records(
        models,
        data,
        asked.target.parent / f"{asked.target.name.rpartition('.')[0]}-records",
        asked.spec,
        others=asked.others,
        registry=asked.registry,
        address=asked.address,
        on_progress=asked.on_progress,
    )
    return build_models_report(
        found.with_given(asked.given),
        asked.target,
        given=[shown(model) for model in models],
        data=shown(data),
        faces_from=asked.spec.faces_from,
        options=asked.options,
    )


def _written(
    found: Report, asked: _Asked, said: Sequence[str | None], charts: Sequence[Location]
) -> WrittenReport:
    places = [one for one in (*said, *asked.others) if one]
    return WrittenReport(
        path=str(asked.target),
        headline=found.headline.sentence,
        figures=found.headline.figures,
        sentences=tuple(found.summary),
        charts=tuple(map(str, charts)),
        not_filled={
            one.id: (one.missing, _to_paste(one.fill, places)) for one in found.sections if one.missing
        },
    )


def _to_paste(fill: str, said: Sequence[str]) -> str:
    """A command of the page, which names no folder of this machine, with the places as they were said; a name
    that two of them share stays.
    """
    from agesearch.reporting.sections.origin import shown

    places: dict[str, set[str]] = {}
    for one in said:
        for name in (shown(one), one.rstrip("/").rpartition("/")[2]):
            places.setdefault(name, set()).add(one)
    verb, words = shlex.split(fill)[:2], shlex.split(fill)[2:]
    found = [next(iter(places[word])) if len(places.get(word, ())) == 1 else word for word in words]
    return shlex.join([*verb, *found])


def _folder_of_charts(path: str) -> Location:
    from agesearch.artefacts import writable_folder
    from agesearch.storage import Location

    place = Location.of(path)
    if place.is_local:
        writable_folder(place.local(), place)
    return place
