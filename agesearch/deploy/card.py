"""The model card: what a version is, how good it is and what it must not be used for, as Markdown.

It begins with metadata for machines, in the form of the Hugging Face Hub (YAML: licence, task,
results as a ``model-index``): put there as ``README.md``, the card is shown with its figures.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from agesearch.deploy.evidence import TEACHER_LATENCY, Accuracy, Evidence
from agesearch.deploy.integrity import version_of
from agesearch.measure.calibration.run import evidence_of
from agesearch.measure.intervals import Estimate, basis
from agesearch.metrics import signed
from agesearch.models.architectures import ARCHITECTURES
from agesearch.models.calibration.record import Calibration, CalibrationFaces
from agesearch.models.manifest import ModelManifest

_TEMPLATE, _SECTION = "card.md.j2", "calibration.md.j2"


#: The Hub's task.
_TASK = "image-classification"

#: Where a card tells of its intervals: from this heading to the next; and what cards said that had none.
_SURE, _HEADING = "## How sure it is\n", "\n## "
_BEFORE = "## How fast it is\n"
_UNCALIBRATED = " The interval it gives is the model's own belief and was not calibrated."


def render_card(manifest: ModelManifest, evidence: Evidence, calibration: Calibration | None = None) -> str:
    """The card of a version as Markdown, from its manifest, the evidence it was published with, and its
    calibration.
    """
    template = _template(_TEMPLATE)
    data = manifest.provenance.get("dataset", {})
    corrupted = [row for row in manifest.robustness if row["severity"] > 0]
    clean = [row["mae_years"] for row in manifest.robustness if row["severity"] == 0]
    severities = sorted({row["severity"] for row in corrupted})
    text = template.render(
        manifest=manifest,
        evidence=evidence,
        version=version_of(manifest),
        label=f"{manifest.name} {version_of(manifest)}",
        arch=_architecture(manifest.model.arch),
        parameters=_count(manifest.parameters),
        data={key: data.get(key) for key in ("name", "label_kind", "subjects", "detector")},
        counts=", ".join(f"{count} {split}" for split, count in data.get("counts", {}).items()) or "unknown",
        parity=manifest.provenance["parity"],
        severities=[f"severity {severity}" for severity in severities],
        corruptions=_corruptions(corrupted, severities),
        clean=f"{clean[0]:.2f}" if clean else None,
        calibration=Markup(calibration_section(calibration)),
    )
    document = yaml.safe_dump(
        hub_metadata(manifest, evidence), sort_keys=False, allow_unicode=True, width=1000
    )
    return f"---\n{document}---\n\n{text}"


def hub_metadata(manifest: ModelManifest, evidence: Evidence) -> dict[str, Any]:
    """What the Hub reads of a card, as plain YAML values: results by split, with what they stand on.

    The Hub has no task of estimating an age: an image classification into years comes nearest.
    """
    data = manifest.provenance.get("dataset", {})
    document: dict[str, Any] = {
        "library_name": "agesearch",
        "pipeline_tag": _TASK,
        "license": "other",
        "license_name": "see-card",
        "license_link": "card.md",
        "tags": ["age-estimation", "face", "onnx", "knowledge-distillation", manifest.model.arch],
        "metrics": ["mae"],
    }
    results = [_hub_result(row, data) for row in evidence.accuracy]
    if results:
        document["model-index"] = [{"name": _hub_name(manifest), "results": results}]
    return document


def _hub_result(row: Accuracy, data: dict[str, Any]) -> dict[str, Any]:
    """The figures of one split; ``data`` is the dataset as the manifest's provenance has it."""
    named, error = _plain(str(data.get("name") or "unknown")), row.mae_years
    dataset = {
        "name": named,
        "type": re.sub(r"[^\w.-]+", "-", named).strip("-").lower() or "unknown",
        "split": row.split,
    }
    if data.get("content_digest"):
        dataset["revision"] = data["content_digest"]
    interval = f"95 % interval {error.low:.2f} to {error.high:.2f}, {error.basis}"
    figures = (
        ("mae", error.value, f"MAE in years, {interval}"),
        ("cs5", row.cs5, "share within 5 years"),
        ("bias", row.bias_years, "mean signed error in years"),
    )
    return {
        "task": {"type": _TASK, "name": "Face age estimation"},
        "dataset": dataset,
        "metrics": [{"type": kind, "value": round(value, 4), "name": name} for kind, value, name in figures],
    }


def _hub_name(manifest: ModelManifest) -> str:
    return f"{manifest.name}-{version_of(manifest)}"


def calibrated_card(card: str, old: ModelManifest, new: ModelManifest, calibration: Calibration) -> str:
    """The card of a version ``old`` as that of ``new``, the same network with a calibration."""
    for word, join in (("# ", " "), ("serve ", ":")):
        was, now_is = (f"{word}{one.name}{join}{version_of(one)}\n" for one in (old, new))
        card = card.replace(was, now_is)
    card = card.replace(f"- name: {_hub_name(old)}\n", f"- name: {_hub_name(new)}\n", 1)
    card = card.replace(f"Published {old.created}.", f"Published {new.created}.").replace(_UNCALIBRATED, "")
    section = calibration_section(calibration)
    start = card.find(_SURE)
    if start < 0:
        found = card.find(_BEFORE)
        start = end = found if found >= 0 else len(card)
    else:
        following = card.find(_HEADING, start)
        end = following + 1 if following >= 0 else len(card)
    return f"{card[:start]}{section}\n{card[end:]}"


def calibration_section(calibration: Calibration | None) -> str:
    """The part of a card that tells how sure its intervals are."""
    if calibration is None:
        return _template(_SECTION).render(calibration=None)
    evidence = evidence_of(calibration)
    used = calibration.correction
    everyone = ("all", "", evidence.calibrated)
    return _template(_SECTION).render(
        calibration=calibration,
        level=f"{calibration.level:.0%}",
        evidence=evidence,
        rows=[everyone, *((row.first, row.last, row) for row in evidence.calibrated.decades)],
        tried=next((one for one in evidence.corrections if used and one.kind == used.kind), None),
    )


def _template(name: str) -> Template:
    # Markdown is no HTML: escaping would show "&lt;" to readers. Names from outside lose what could break a
    # table or start markup in ``_plain``.
    environment = Environment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {
        "estimate": _estimate,
        "over": _over,
        "percent": _percent,
        "faces": _basis,
        "signed": signed,
        "milliseconds": _milliseconds,
        "times_faster": _times_faster,
        "layers": _layers,
        "lost": _lost,
    }
    environment.finalize = _plain
    return environment.from_string((files("agesearch.deploy") / "templates" / name).read_text("utf-8"))


def _architecture(name: str) -> str:
    known = ARCHITECTURES.get(name)
    return f"{name} ({known.paper})" if known else name


def _corruptions(rows: list[dict[str, Any]], severities: list[int]) -> list[tuple[str, list[str]]]:
    """One row a corruption: MAE by severity, in the order in which the corruptions were measured."""
    by_name: dict[str, dict[int, float]] = {}
    for row in rows:
        by_name.setdefault(row["corruption"], {})[row["severity"]] = row["mae_years"]
    return [
        (name, [f"{values[severity]:.2f}" if severity in values else "-" for severity in severities])
        for name, values in by_name.items()
    ]


def _estimate(value: Estimate | None) -> str:
    return "-" if value is None else f"{value.value:.2f} ({value.low:.2f}-{value.high:.2f})"


def _over(value: Estimate) -> str:
    return f"{value.faces}{value.of_persons}"


def _basis(learnt: CalibrationFaces) -> str:
    return basis(learnt.faces, learnt.persons)


def _percent(share: float) -> str:
    return f"{share:.0%}"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _times_faster(row: dict[str, Any]) -> str:
    teacher = row.get(TEACHER_LATENCY)
    return "-" if teacher is None else f"{teacher / row['latency_ms_p50']:.1f}"


def _layers(gate: dict[str, Any]) -> str:
    return "-" if gate["layers"] is None else f"{gate['layers_as_asked']} of {gate['layers']}"


def _lost(gate: dict[str, Any]) -> str:
    if gate["drop_years"] is None:
        return "-"
    drop, low, high = (signed(gate[name], 3) for name in ("drop_years", "drop_low", "drop_high"))
    return f"{drop} ({low} to {high})"


def _count(parameters: int) -> str:
    return f"{parameters / 1e6:.2f} million" if parameters >= 100_000 else str(parameters)


def _plain(value: Any) -> Any:
    """Text without what Markdown or HTML would take for markup."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return " ".join(value.replace("<", "(").replace(">", ")").replace("|", "/").split())
