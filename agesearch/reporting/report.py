"""A report as one HTML file that opens anywhere (no network, no library, readable on paper and on a phone),
and the same facts as JSON and Markdown beside it.

Reports read records only: what a study found (``agesearch.search.front.measure`` brings it up to date) and
what the verbs of ``measure`` made of its models (``agesearch.deploy.reported``). Charts are SVG, a few lines
of script show details and sort tables, and faces are small JPEGs inside the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agesearch.deploy.reported.records import Records
from agesearch.errors import command
from agesearch.reporting.findings import read_findings
from agesearch.reporting.pages import environment
from agesearch.reporting.sections import (
    accuracy,
    counterfactual,
    decisions,
    front,
    headline,
    origin,
    practice,
    robustness,
    study,
)
from agesearch.reporting.sections.section import Section
from agesearch.reporting.sections.told import Told
from agesearch.reporting.sections.written import as_document, as_markdown
from agesearch.search.store.records import State, StudyFolder
from agesearch.storage import Location


@dataclass(frozen=True)
class Report:
    """A report before it is written: its title, what it is about, the first glance, the sections."""

    title: str
    about: str
    headline: headline.Headline
    summary: list[str]
    sections: list[Section]


def build_report(
    study: StudyFolder,
    out: Location,
    *,
    faces_from: Sequence[str] | None = None,
    records: Records | None = None,
    options: Sequence[str] = (),
) -> Report:
    """Write the report of a measured study to ``out``, and beside it as ``.json`` and ``.md``.

    ``faces_from`` limits the faces to these sources of the dataset (none are shown for an empty list),
    ``records`` are those of the study's models, ``options`` of the command that made them. Raises
    ``InputError`` where the study has no COMPLETE trial or was not measured yet.
    """
    findings = read_findings(study)
    told = Told(
        records or Records(),
        findings,
        (origin.near(study.root),),
        origin.near(findings.header.dataset.path),
        None if faces_from is None else tuple(faces_from),
        tuple(options),
    )
    complete = sum(record.state is State.COMPLETE for record in findings.records)
    described = f"{findings.header.spec.description} · " if findings.header.spec.description else ""
    report = Report(
        f"{study.root.name}: the smallest face-age student found",
        f"{described}{len(findings.records)} trials, {complete} complete, {len(findings.front)} on the "
        "front.",
        headline.headline(told),
        headline.summary_sentences(told),
        _sections(told, origin.study_commands(findings, list(options), out)),
    )
    _write(report, out)
    return report


def build_models_report(
    records: Records,
    out: Location,
    *,
    given: Sequence[str],
    data: str,
    faces_from: Sequence[str] = (),
    options: Sequence[str] = (),
) -> Report:
    """Write the report of measured models, the student first; ``given`` is how the command line names them
    and ``data`` their dataset.
    """
    told = Told(records, None, tuple(given), data, tuple(faces_from), tuple(options))
    remade = command("report", *given, "--data", data, *options, "--out", origin.near(out))
    report = Report(
        f"{told.student}: a face-age model and its proof",
        f"{len(told.models)} model{'' if len(told.models) == 1 else 's'} on {_dataset(told)}.",
        headline.headline(told),
        [],
        _sections(told, [remade]),
    )
    _write(report, out)
    return report


def _dataset(told: Told) -> str:
    reported = told.records.reported
    return f"{reported.data.name}, split '{reported.split}'" if reported else "no dataset"


def _sections(told: Told, commands: list[str]) -> list[Section]:
    """All sections in the order of the page."""
    findings = told.findings
    pick = front.pick_section(told)
    found = [front.front_section(told), *([] if pick is None else [pick]), accuracy.ages_section(told)]
    found += [robustness.robustness_section(told), robustness.strip_section(told)]
    if findings is not None:
        found.append(study.faces_section(told, findings))
    found += [decisions.decisions_section(told), accuracy.intervals_section(told)]
    found.append(counterfactual.counterfactual_section(told))
    if findings is not None:
        found += study.study_sections(told, findings)
    found += [practice.practice_section(told), origin.licences_section(told)]
    return [*found, origin.origin_section(told, commands)]


def _write(report: Report, out: Location) -> None:
    page = (
        environment().get_template("report.html.j2").render(report=report, level_words=robustness.level_words)
    )
    out.write_text(page)
    beside = out.name.rpartition(".")[0] or out.name
    document = as_document(report.title, report.about, report.headline, report.summary, report.sections)
    (out.parent / f"{beside}.json").write_json(document)
    text = as_markdown(report.title, report.about, report.headline, report.summary, report.sections)
    (out.parent / f"{beside}.md").write_text(text)
