"""A study as one HTML file that opens anywhere: no network, no library, readable on paper and on a phone.

``build_report`` reads the study's records (``agesearch.search.front.measure`` brings them up to date) and
writes the page. Charts are SVG, a few lines of script show details on hover and sort tables, and faces are
small JPEGs inside the file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import yaml

from agesearch.errors import command
from agesearch.measure.intervals import basis
from agesearch.measure.speed.rows import SpeedRow
from agesearch.models.calibration.record import Calibration
from agesearch.models.manifest import MANIFEST, folder_calibration
from agesearch.provenance import VERSION, name_of, now, without_places
from agesearch.reporting import tables
from agesearch.reporting.decisions.coverage import coverage_table
from agesearch.reporting.figures import curves_figure, front_figure
from agesearch.reporting.findings import Findings, read_findings
from agesearch.reporting.fronts import role_of
from agesearch.reporting.importance import MIN_TRIALS, importances
from agesearch.reporting.pages import environment
from agesearch.reporting.summary import speed_words, summary
from agesearch.search.front.measurements import MEDIAN, TEACHER, FaceRow
from agesearch.search.store.records import State, StudyFolder
from agesearch.storage import Location

_KINDS = {"best": "Closest", "typical": "Typical", "worst": "Furthest off"}
_FACES_A_KIND = 8


def build_report(
    study: StudyFolder,
    out: Location,
    *,
    faces_from: Sequence[str] | None = None,
) -> None:
    """Write the report of a measured study to ``out``.

    ``faces_from`` limits the strip of faces to these sources of the dataset (none are shown for an empty
    list). Raises ``InputError`` where the study has no COMPLETE trial or was not measured yet.
    """
    findings = read_findings(study)
    context = _context(findings) | {
        "faces": _faces(findings, faces_from),
        "commands": _commands(findings, out),
    }
    out.write_text(environment().get_template("report.html.j2").render(context))


def _context(findings: Findings) -> dict[str, Any]:
    measured, student = findings.measured, findings.picked.name
    calibration = _calibration(findings)
    roles = {
        record.number: role_of(record, findings.latencies, findings.picked.number)
        for record in findings.records
    }
    parameters = {record.number: findings.parameters(record) for record in findings.records}
    return {
        "findings": findings,
        "cards": _cards(findings),
        "summary": summary(findings),
        "front_chart": front_figure(findings),
        "curves_chart": curves_figure(findings),
        "importances": importances(findings.header.spec, findings.records),
        "complete": sum(record.state is State.COMPLETE for record in findings.records),
        "min_trials": MIN_TRIALS,
        "trials": tables.trials_table(findings.records, roles, parameters, findings.searched),
        "searched": findings.searched,
        "failures": tables.failures(findings.records),
        "decades": tables.decades_table(
            measured.predictions["val", TEACHER], measured.predictions["val", student]
        ),
        "calibration": calibration,
        "coverage": None if calibration is None else coverage_table(calibration),
        "speed": tables.speed_table(_shown_speeds(findings), TEACHER),
        "robustness": tables.robustness_table(measured.robustness, TEACHER, student),
        "corrupted": [tables.mean_corrupted(measured.robustness, model) for model in (TEACHER, student)],
        "robustness_basis": next(
            basis(row.faces, row.persons) for row in measured.robustness if row.model == student
        ),
        "basis": findings.mae(student).basis,
        "facts": _facts(findings),
        "spec_yaml": yaml.safe_dump(without_places(findings.header.model_dump(mode="json")), sort_keys=False),
    }


def _calibration(findings: Findings) -> Calibration | None:
    """The picked student's calibration; None where it has none, or its folder was cleared away."""
    folder = findings.study.trial_folder(findings.picked)
    return folder_calibration(folder) if (folder / MANIFEST).exists() else None


def _shown_speeds(findings: Findings) -> list[SpeedRow]:
    """Those of the teacher, the front and the picked trial; other trials stand in the table of trials."""
    names = {TEACHER, findings.picked.name, *(record.name for record in findings.front)}
    return [row for row in findings.measured.speed if row.model in names]


def _cards(findings: Findings) -> list[tuple[str, str, str]]:
    """The figures of the first glance: value, unit, and what it stands beside."""
    student, teacher = findings.mae(findings.picked.name), findings.mae(TEACHER)
    cards = [
        (f"{student.value:.2f}", "years off on average", f"teacher {teacher.value:.2f}"),
        (
            tables.milliseconds(findings.student_latency_ms),
            "ms a face, 1 thread",
            f"teacher {tables.milliseconds(findings.teacher_latency_ms)}",
        ),
        (
            speed_words(findings).rsplit(" ", 1)[0],
            speed_words(findings).rsplit(" ", 1)[1],
            "than the teacher",
        ),
        (
            tables.millions(findings.parameters(findings.picked)),
            "parameters",
            f"{findings.picked.input_size} px input",
        ),
    ]
    if findings.has(MEDIAN):
        guess = findings.mae(MEDIAN).value
        cards.append(
            (f"{guess - student.value:.2f}", "years better", f"than always the median ({guess:.2f})")
        )
    return cards


def _faces(findings: Findings, faces_from: Sequence[str] | None) -> list[tuple[str, list[FaceRow]]]:
    """The strip: some faces of each kind from the wanted sources, by error."""
    rows = findings.measured.faces
    if faces_from is not None:
        rows = [row for row in rows if row.source in faces_from]
    strip = []
    for kind, title in _KINDS.items():
        chosen = [row for row in rows if row.kind == kind]
        chosen.sort(key=lambda row: abs(row.predicted_age - row.age), reverse=kind == "worst")
        if chosen:
            strip.append((title, chosen[:_FACES_A_KIND]))
    return strip


def _facts(findings: Findings) -> list[tuple[str, str]]:
    """Where everything comes from: name and value."""
    header, measured = findings.header, findings.measured.summary
    versions = header.versions | measured.versions | {"agesearch": VERSION}
    more = []
    if header.order_teacher is not None:
        place = _near(header.order_teacher.path)
        more.append(("order teacher", f"{place} (content digest {header.order_teacher.content_digest})"))
    if header.scale != 1.0:
        more.append(("scale", f"{header.scale:g} of the budget that the study's file gives"))
    return [
        ("study", _near(findings.study.root)),
        ("spec digest", header.spec_digest),
        ("dataset", f"{_near(header.dataset.path)} (content digest {header.dataset.content_digest})"),
        ("teacher", f"{_near(header.teacher.path)} (content digest {header.teacher.content_digest})"),
        *more,
        ("study begun", header.created),
        ("measured", measured.created),
        ("report made", now()),
        ("hardware of the search", header.hardware or "not recorded"),
        ("hardware of the measurements", measured.hardware),
        ("versions", ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))),
    ]


def _commands(findings: Findings, out: Location) -> list[str]:
    """The command lines that make the study and this report again."""
    header, study = findings.header, _near(findings.study.root)
    sources = ["--data", _near(header.dataset.path), "--teacher", _near(header.teacher.path)]
    if header.order_teacher is not None:
        sources += ["--order-teacher", _near(header.order_teacher.path)]
    return [
        "# SPACE.yaml: the part 'spec' of the specification below",
        command("tune", "SPACE.yaml", *sources, "--out", study),
        command("report", study, "--pick", findings.picked.number, "--out", _near(out)),
    ]


def _near(where: str | Location) -> str:
    """A path as seen from the working folder where it lies in it, else its name: a report shows no one's home
    folder.
    """
    path, here = str(where), os.getcwd()
    return os.path.relpath(path, here) if path.startswith(here + os.sep) else name_of(path)
