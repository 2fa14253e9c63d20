"""Where everything comes from: what was learnt from under which licences, digests, versions, commands."""

from __future__ import annotations

import os

import yaml

from agesearch.deploy.evidence import teacher_licences
from agesearch.errors import command
from agesearch.models.calibration.record import Calibration
from agesearch.models.manifest import MANIFEST, folder_calibration
from agesearch.provenance import VERSION, name_of, now, without_places
from agesearch.reporting.findings import Findings
from agesearch.reporting.sections.section import Section, Table
from agesearch.reporting.sections.told import Told
from agesearch.reporting.tables import Cell, TextTable
from agesearch.search.store.records import StudyHeader
from agesearch.storage import Location


def licences_section(told: Told) -> Section:
    """The licences of what the student learnt from, and of the models beside it."""
    rows: list[list[Cell]] = []
    reported = told.records.reported
    if reported is not None:
        rows.append([Cell("data"), Cell(reported.data.name), Cell(reported.data.licence)])
        for model in reported.models:
            if model.role == "front":
                continue
            for name, text in model.licences.items():
                if name != "data":
                    rows.append([Cell(model.role), Cell(f"{model.name}: {name}"), Cell(text)])
            if model.source:
                rows.append([Cell(model.role), Cell(f"{model.name}: source"), Cell(model.source)])
    if told.findings is not None and not any(row[0].text == "teacher" for row in rows):
        rows += [
            [Cell("teacher"), Cell(name), Cell(text)]
            for name, text in teacher_licences(told.findings.header).items()
        ]
    unique = list({tuple(cell.text for cell in row): row for row in rows}.values())
    if not unique:
        return Section(
            "licences",
            "Licences of what it learnt from",
            "Licences",
            missing="the dataset was not read for this report",
            fill=told.filled_by(),
        )
    notes = ["A licence of data or of a teacher may bind what is done with the student: ask whoever gave it."]
    table = TextTable(["of", "what", "licence"], unique)
    return Section(
        "licences",
        "Licences of what it learnt from",
        "Licences",
        tables=[Table("Licences", table)],
        notes=notes,
    )


def origin_section(told: Told, commands: list[str]) -> Section:
    """Digests, versions, hardware, and the commands that make the report again."""
    facts = _study_facts(told.findings) if told.findings is not None else []
    reported = told.records.reported
    if reported is not None and told.findings is None:
        data = reported.data
        facts.append(("dataset", f"{data.name} (content digest {data.content_digest})"))
    facts += [
        (f"model {model.name}", f"{model.arch} at {model.input_size} px (digest {model.model_digest})")
        for model in told.models
    ]
    if told.speed is not None:
        facts.append(("hardware of the timings", told.speed.hardware))
    facts.append(("report made", f"{now()} by agesearch {VERSION}"))
    folded = []
    if told.findings is not None:
        spec = without_places(told.findings.header.model_dump(mode="json"))
        folded.append(("The study's full specification", yaml.safe_dump(spec, sort_keys=False)))
    return Section(
        "provenance",
        "Provenance",
        "Provenance",
        facts=facts,
        code=[("To make this again", "\n".join(commands))] if commands else [],
        folded=folded,
    )


def study_commands(findings: Findings, options: list[str], out: Location) -> list[str]:
    """The command lines that make the study and its report again."""
    header, study = findings.header, near(findings.study.root)
    sources = ["--data", near(header.dataset.path), "--teacher", near(header.teacher.path)]
    if header.order_teacher is not None:
        sources += ["--order-teacher", near(header.order_teacher.path)]
    pick = ["--pick", findings.picked.number]
    folder = findings.study.trial_folder(findings.picked)
    known = folder_calibration(folder) if (folder / MANIFEST).exists() else None
    learnt = [] if known is None else [command("calibrate", study, *_calibrated(known, header), *pick)]
    return [
        "# SPACE.yaml: the part 'spec' of the specification below",
        command("tune", "SPACE.yaml", *sources, "--out", study),
        *learnt,
        command("report", study, *pick, *options, "--out", near(out)),
    ]


def _calibrated(known: Calibration, header: StudyHeader) -> list[str]:
    """The options of ``calibrate`` that made a calibration."""
    part, is_own = known.faces.part, known.faces.data_digest == header.dataset.content_digest
    found = ["--data", near(header.dataset.path) if is_own else known.faces.data]
    found += ["--level", f"{known.level:g}"]
    found += [] if known.intervals.by is None else ["--by", known.intervals.by]
    found += [] if part.split is None else ["--split", str(part.split)]
    return found + [word for fold in part.folds or () for word in ("--fold", str(fold))]


def near(where: str | Location) -> str:
    """A path as seen from the working folder where it lies in it, else its name: a report shows no one's home
    folder.
    """
    path, here = str(where), os.getcwd()
    return os.path.relpath(path, here) if path.startswith(here + os.sep) else name_of(path)


def shown(given: str) -> str:
    """What a person gave on the command line, as a report may show it: what is absolute loses its folders,
    in both parts of ``MODEL.onnx:MANIFEST``.
    """
    network, mark, manifest = given.partition(".onnx:")
    if mark:
        return f"{shown(f'{network}.onnx')}:{shown(manifest)}"
    return near(given) if given.startswith(("/", "~")) else str(without_places(given))


def _study_facts(findings: Findings) -> list[tuple[str, str]]:
    header, measured = findings.header, findings.measured.summary
    versions = header.versions | measured.versions | {"agesearch": VERSION}
    more = []
    if header.order_teacher is not None:
        place = near(header.order_teacher.path)
        more.append(("order teacher", f"{place} (content digest {header.order_teacher.content_digest})"))
    if header.scale != 1.0:
        more.append(("scale", f"{header.scale:g} of the budget that the study's file gives"))
    return [
        ("study", near(findings.study.root)),
        ("spec digest", header.spec_digest),
        ("dataset", f"{near(header.dataset.path)} (content digest {header.dataset.content_digest})"),
        ("teacher", f"{near(header.teacher.path)} (content digest {header.teacher.content_digest})"),
        *more,
        ("study begun", header.created),
        ("measured", measured.created),
        ("hardware of the search", header.hardware or "not recorded"),
        ("hardware of the measurements", measured.hardware),
        ("versions", ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))),
    ]
