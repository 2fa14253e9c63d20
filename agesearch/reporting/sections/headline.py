"""The first minute of a report: one sentence, a few figures, and what they stand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agesearch.deploy.reported.records import TEST, VALIDATION
from agesearch.measure.calibration.run import evidence_of
from agesearch.measure.intervals import Estimate
from agesearch.metrics import signed
from agesearch.reporting import tables
from agesearch.reporting.sections.told import Told
from agesearch.reporting.summary import speed_words, summary
from agesearch.search.front.measurements import TEACHER


@dataclass(frozen=True)
class Headline:
    """``sentence`` in words, ``cards`` as value, unit and what it stands beside, ``figures`` for programs,
    and ``lacking`` what the sentence would say if it had been measured.
    """

    sentence: str
    cards: list[tuple[str, str, str]]
    figures: dict[str, Any]
    lacking: list[str]


def headline(told: Told) -> Headline:
    """How fast the student is beside its teacher, how far from it, what corruption costs, what is covered."""
    whom = "its teacher" if told.teacher else told.yardstick or "nothing"
    parts, cards, figures, lacking = [], [], {"student": told.title(told.student), "beside": whom}, []
    speed = _speed(told, whom)
    error = _error(told, whom, whom if isinstance(speed, str) else "it")
    for found in (speed, error, _corruption(told, whom), _covered(told)):
        if isinstance(found, str):
            lacking.append(found)
            continue
        words, card, numbers = found
        parts.append(words)
        cards.append(card)
        figures |= numbers
    title = told.title(told.student)
    if not parts:
        return Headline(f"{title}: nothing was measured yet.", cards, figures, lacking)
    verb = "" if parts[0].startswith("covered") else "is "
    sentence = f"This {told.noun} ({title}) {verb}{parts[0]}"
    sentence += "".join(f", {part}" for part in parts[1:-1])
    sentence += f", and {parts[-1]}." if len(parts) > 1 else "."
    return Headline(sentence, cards, figures, lacking)


def summary_sentences(told: Told) -> list[str]:
    """The study's own sentences; those on speed only where no other run tells of it."""
    if told.findings is None:
        return []
    sentences = summary(told.findings)
    if told.speed is None:
        return sentences
    return [one for one in sentences if "ms a face" not in one]


_RESISTS = {
    "better": "resists better than {}",
    "worse": "resists worse than {}",
    "tie": "not told apart from {}",
}

_Part = tuple[str, tuple[str, str, str], dict[str, Any]]


def _speed(told: Told, whom: str) -> _Part | str:
    yardstick, best = told.yardstick, told.best(told.student)
    ratio = told.times(told.student, yardstick) if yardstick and yardstick != told.student else None
    if ratio is not None and best is not None and yardstick is not None:
        interval = f"{_times(ratio.low)}–{_times(ratio.high)}"
        other = told.best(yardstick)
        beside = (
            ""
            if other is None
            else f"; {yardstick} {tables.milliseconds(other.latency_ms_p50)} on {other.engine}"
        )
        size = told.footprint(best)
        told_size = f", {tables.megabytes(size.file_bytes)} MB" if size else ""
        figures = {
            "times_as_fast": ratio.times,
            "times_as_fast_interval": [ratio.low, ratio.high],
            "latency_ms_p50": best.latency_ms_p50,
            "engine": str(best.engine),
            "file_bytes": size.file_bytes if size else None,
            "session_bytes": size.session_bytes if size else None,
        }
        card = (
            f"{_times(ratio.times)} ×",
            f"as fast as {whom} ({interval})",
            f"{tables.milliseconds(best.latency_ms_p50)} ms on {best.engine}{told_size}{beside}",
        )
        words = f"{_times(ratio.times)} times as fast as {whom} ({interval})"
        if ratio.low <= 1.0 <= ratio.high:
            words = f"about as fast as {whom} ({interval} times)"
        return words, card, figures
    if told.findings is not None:
        words = speed_words(told.findings)
        ms = told.findings.student_latency_ms
        beside = tables.milliseconds(told.findings.teacher_latency_ms)
        times = told.findings.teacher_latency_ms / ms
        card = (
            words.rsplit(" ", 1)[0],
            f"{words.rsplit(' ', 1)[1]} than its teacher",
            f"{tables.milliseconds(ms)} ms; teacher {beside}",
        )
        said = f"{words} than its teacher" if words[0].isdigit() else "as fast as its teacher"
        return said, card, {"times_as_fast": times, "latency_ms_p50": ms}
    return "how fast it is: agesearch measure speed"


def _error(told: Told, whom: str, again: str) -> _Part | str:
    """``again`` is what the sentence calls the yardstick: "it" where it was named before."""
    for split in (TEST, VALIDATION):
        compared, error = told.compared(split), told.mae(told.student, split)
        difference = compared.against.get(told.student) if compared else None
        if error is not None and difference is not None:
            return _error_part(error, difference, split, whom, again)
        if error is not None:
            card = (f"{error.value:.2f}", "years off on average", f"{split} faces: {error.basis}")
            return f"off by {error.value:.1f} years", card, {"mae_years": error.value}
    if told.findings is not None:
        student = told.findings.picked.name
        difference = told.findings.against(student, TEACHER)
        return _error_part(told.findings.mae(student), difference, "validation", whom, again)
    return "how far off it is: agesearch evaluate"


def _error_part(error: Estimate, difference: Estimate, split: str, whom: str, again: str) -> _Part:
    low, middle, high = map(signed, (difference.low, difference.value, difference.high))
    figures = {
        "mae_years": error.value,
        "mae_years_interval": [error.low, error.high],
        "split": split,
        "difference_years": difference.value,
        "difference_years_interval": [difference.low, difference.high],
    }
    card = (f"{error.value:.2f}", "years off on average", f"{middle} beside {whom} ({low} to {high})")
    return f"{middle} years from {again} ({low} to {high})", card, figures


def _corruption(told: Told, whom: str) -> _Part | str:
    found = told.resisting(told.student)
    if found is not None:
        more = found.mae_c_years.value - found.clean_mae_years.value
        total = f"{found.mae_c_years.value:.2f} in all"
        beside = "" if found.against is None else f"; {_RESISTS[found.against.resists].format(whom)}"
        card = (signed(more), "years more under corruption", f"{total}{beside}")
        figures = {"corruption_adds_years": more, "mae_c_years": found.mae_c_years.value}
        return f"{signed(more)} years more under corruption", card, figures
    if told.findings is not None:
        rows, student = told.findings.measured.robustness, told.findings.picked.name
        clean = next(row.mae_years for row in rows if row.model == student and row.severity == 0)
        more = tables.mean_corrupted(rows, student) - clean
        teacher = next(row.mae_years for row in rows if row.model == TEACHER and row.severity == 0)
        beside = signed(tables.mean_corrupted(rows, TEACHER) - teacher)
        card = (signed(more), "years more under corruption", f"teacher {beside}; few corruptions")
        return f"{signed(more)} years more under corruption", card, {"corruption_adds_years": more}
    return "what corruption costs: agesearch measure robustness"


def _covered(told: Told) -> _Part | str:
    if told.calibration is None:
        return "how often its intervals hold the true age: agesearch calibrate"
    found, level = evidence_of(told.calibration).calibrated, told.calibration.level
    share = found.coverage
    card = (
        f"{share.value:.0%}",
        f"inside its {level:.0%} intervals",
        f"{share.low:.0%}–{share.high:.0%}; {found.width_years:.0f} years wide",
    )
    figures = {"covered": share.value, "level": level, "width_years": found.width_years}
    return f"covered {share.value:.0%} of true ages by its {level:.0%} intervals", card, figures


def _times(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
