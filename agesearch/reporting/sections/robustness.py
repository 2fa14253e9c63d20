"""How models hold under corruption: severity curves, tables, and some corrupted faces with every answer."""

from __future__ import annotations

from collections.abc import Sequence

from agesearch.deploy.reported.records import ROBUSTNESS, STRIP
from agesearch.measure.intervals import basis
from agesearch.measure.robustness.protocol import set_named
from agesearch.measure.robustness.record import Robustness
from agesearch.measure.robustness.scores import ModelRobustness, Ratio
from agesearch.measure.robustness.strip import Strip, StripCell, StripFace
from agesearch.metrics import signed
from agesearch.reporting import tables
from agesearch.reporting.charts.plots import Chart, Polyline, axis, laid_out
from agesearch.reporting.sections.accuracy import KINDS
from agesearch.reporting.sections.section import Section, Table
from agesearch.reporting.sections.told import Told
from agesearch.reporting.tables import Cell, TextTable
from agesearch.search.front.measurements import TEACHER

_TITLE = "Robustness"


def robustness_section(told: Told) -> Section:
    """Curves and tables of the record; a study's own few corruptions where there is none."""
    record = told.robustness
    if record is None:
        return _from_study(told)
    names = _shown(told, record)
    models = [found for name in names if (found := told.resisting(name)) is not None]
    kinds = dict(zip(names, KINDS, strict=False))
    notes = [
        f"{record.about}, on {basis(record.faces, record.persons)} of {record.dataset}, {record.split}; "
        "seeded by face, corruption and severity: all models see the same pixels. MAE-C: mean over "
        f"{len(record.averaged)} corruptions; mCE: errors beside {_own(told, record, record.reference)}'s, "
        "relative: what corruption adds to the clean error, likewise. 95\u00a0% intervals over persons.",
        *record.notes,
    ]
    return Section(
        "robustness",
        _TITLE,
        _TITLE,
        sentences=[_renamed(told, record, sentence) for sentence in record.sentences],
        charts=[_curves(told, record, models, names, kinds, "", "Error by severity, all corruptions")],
        pair=[
            _curves(told, record, models, names, kinds, category, f"Error by severity: {category}")
            for category in models[0].categories
        ],
        tables=[
            Table("Beside each other", _overall(models, names)),
            Table("MAE in years by corruption", _by_corruption(models, names), hue="red", wide=True),
        ],
        notes=notes,
        figures={name: _figures(one) for name, one in zip(names, models, strict=True)},
    )


def strip_section(told: Told) -> Section:
    """Faces of sources that may be shown, corrupted, with what each model says."""
    title, short = "The same faces, corrupted", "Corrupted faces"
    strip = told.records.get(STRIP, Strip)
    if strip is not None and told.faces_from is not None:
        kept = tuple(face for face in strip.faces if face.source in told.faces_from)
        strip = replace_faces(strip, kept)
    if strip is None or not strip.faces:
        reason = told.records.reason(STRIP) or "no source of faces was named that may be shown"
        fill = told.filled_by("--faces-from", "SOURCE", left_out={ROBUSTNESS})
        return Section("strip", title, short, missing=reason, fill=fill)
    named = dict(zip(strip.digests, strip.models, strict=True))
    names = [told.name_of(digest, name) for digest, name in named.items()]
    sources = ", ".join(dict.fromkeys(face.source for face in strip.faces))
    return Section(
        "strip",
        title,
        short,
        strip=strip,
        strip_names=names,
        tables=[Table("Answers, years", _answers(strip, names))],
        notes=[
            f"Faces of the split '{strip.split}' from {sources} (a source whose faces may be shown), of ages "
            "far apart, not chosen by what models say of them; predicted ages in years."
        ],
    )


def replace_faces(strip: Strip, faces: tuple[StripFace, ...]) -> Strip:
    """The strip with other faces."""
    return strip.model_copy(update={"faces": faces})


def level_words(cell: StripCell) -> str:
    """``gaussian noise 3``."""
    return tables.words(cell.corruption) + (f" {cell.severity}" if cell.severity else "")


def _shown(told: Told, record: Robustness) -> list[str]:
    """The models of the record as this report names them, the student first."""
    names = [told.name_of(one.model_digest, one.name) for one in record.models]
    return sorted(names, key=lambda name: (name != told.student, name != told.teacher))


def _own(told: Told, record: Robustness, name: str) -> str:
    digest = next((one.model_digest for one in record.models if one.name == name), "")
    return told.name_of(digest, name)


def _renamed(told: Told, record: Robustness, sentence: str) -> str:
    """A sentence of the record with the models' names of this report."""
    for one in record.models:
        own = told.name_of(one.model_digest, one.name)
        if own != one.name:
            sentence = sentence.replace(one.name, own)
    return sentence


def _curves(
    told: Told,
    record: Robustness,
    models: Sequence[ModelRobustness],
    names: Sequence[str],
    kinds: dict[str, str],
    category: str,
    title: str,
) -> Chart:
    """MAE by severity from the clean faces on, one line a model; the mean over a category's corruptions, or
    over all that are averaged.
    """
    curves, legend = [], []
    of_set = set_named(record.set).categories.get(category, ()) if category else record.averaged
    for name, one in zip(names, models, strict=True):
        if name not in kinds:
            continue
        rows = [row.curve for row in one.corruptions if row.corruption in of_set]
        means = [sum(values) / len(values) for values in zip(*rows, strict=True)]
        clean = one.clean_mae_years.value
        points = [(0.0, clean), *zip(map(float, record.severities), means, strict=True)]
        steps = (f"severity {at:g}: {value:.2f} years" for at, value in points[1:])
        details = (told.title(name), f"clean: {clean:.2f} years", *steps)
        curves.append(Polyline(points, kinds[name], details))
        legend.append((kinds[name], name))
    highest = max(value for curve in curves for _, value in curve.points)
    lowest = min(value for curve in curves for _, value in curve.points)
    return laid_out(
        title,
        axis("severity (0: clean)", 0.0, float(max(record.severities)), whole=True),
        axis("MAE, years", max(0.0, lowest - 0.5), highest + 0.05 * (highest - lowest) + 0.2),
        curves=curves,
        legend=legend,
    )


def _overall(models: Sequence[ModelRobustness], names: Sequence[str]) -> TextTable:
    categories = list(models[0].categories)
    columns = ["model", "clean", "MAE-C, years", "mCE", "relative mCE", "resists", *categories]
    rows = [
        [
            Cell(name),
            Cell(f"{one.clean_mae_years.value:.2f}", one.clean_mae_years.value),
            Cell(tables.interval(one.mae_c_years), one.mae_c_years.value),
            Cell(_ratio(one.mce)),
            Cell(_ratio(one.relative_mce)),
            Cell("reference" if one.against is None else one.against.resists),
            *(Cell(f"{one.categories[key].value:.2f}", one.categories[key].value) for key in categories),
        ]
        for name, one in zip(names, models, strict=True)
    ]
    return TextTable(columns, rows)


def _by_corruption(models: Sequence[ModelRobustness], names: Sequence[str]) -> TextTable:
    """A row a corruption; of each model the MAE over its severities, and what that adds to the clean one."""
    added = [row.mae_years.value - one.clean_mae_years.value for one in models for row in one.corruptions]
    worst = max([1e-9, *added])
    rows = []
    for place, row in enumerate(models[0].corruptions):
        cells = [Cell(tables.words(row.corruption)), Cell(row.category)]
        for one in models:
            found = one.corruptions[place].mae_years
            more = found.value - one.clean_mae_years.value
            text = f"{found.value:.2f} ({signed(more)})"
            cells.append(Cell(text, found.value, max(0.0, more / worst)))
        rows.append(cells)
    return TextTable(["corruption", "category", *names], rows)


def _ratio(ratio: Ratio | None) -> str:
    return "–" if ratio is None else f"{ratio.value:.2f} ({ratio.low:.2f}–{ratio.high:.2f})"


def _figures(one: ModelRobustness) -> dict[str, float | str]:
    found: dict[str, float | str] = {
        "clean_mae_years": one.clean_mae_years.value,
        "mae_c_years": one.mae_c_years.value,
        "mce": one.mce.value,
    }
    if one.against is not None:
        found |= {"against_reference_years": one.against.mae_c_years.value, "resists": one.against.resists}
    return found


def _answers(strip: Strip, names: Sequence[str]) -> TextTable:
    columns = ["face", "model", *(level_words(cell) for cell in strip.faces[0].cells)]
    rows = [
        [
            Cell(f"{face.source}, {face.age:.0f} years"),
            Cell(name),
            *(Cell(f"{cell.answers[place]:.0f}", cell.answers[place]) for cell in face.cells),
        ]
        for face in strip.faces
        for place, name in enumerate(names)
    ]
    return TextTable(columns, rows)


def _from_study(told: Told) -> Section:
    findings = told.findings
    on_these = (*told.given, "--data", told.data)
    if findings is None:
        reason = told.records.reason(ROBUSTNESS) or "it was not measured"
        fill = told.filled_by(left_out={ROBUSTNESS})
        return Section("robustness", _TITLE, _TITLE, missing=reason, fill=fill)
    rows, student = findings.measured.robustness, findings.picked.name
    mean = {model: tables.mean_corrupted(rows, model) for model in (TEACHER, student)}
    stands_on = next(basis(row.faces, row.persons) for row in rows if row.model == student)
    return Section(
        "robustness",
        _TITLE,
        _TITLE,
        sentences=[
            f"Averaged over these corruptions and severities the student is off by {mean[student]:.2f} "
            f"years, the teacher by {mean[TEACHER]:.2f}."
        ],
        tables=[Table("MAE in years", tables.robustness_table(rows, TEACHER, student), hue="red")],
        notes=[
            f"Mean absolute error in years on {stands_on} of the validation split, and in brackets what the "
            "corruption added to the clean error. Corruptions of Hendrycks & Dietterich (2019), seeded by "
            "face: both models see the same pixels. All 15 + 4 of them: "
            + told.command("measure", "robustness", *on_these)
        ],
    )
