"""A study's result in plain sentences, each with its figures and how sure they are."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from agesearch.measure.intervals import Estimate
from agesearch.metrics import LATENCY_MS_P50, VAL_CS5, VAL_MAE_YEARS, signed
from agesearch.reporting import tables
from agesearch.reporting.findings import Findings
from agesearch.search.front.measurements import MEDIAN, TEACHER
from agesearch.search.store.records import State


def summary(findings: Findings) -> list[str]:
    """Some sentences: the student's error and speed, the teacher's, the simplest answer's, and a caution."""
    student, teacher = findings.mae(findings.picked.name), findings.mae(TEACHER)
    share = findings.cs5(findings.picked.name)
    lines = [
        f"The picked student ({findings.picked.title}) is off by {with_interval(student)} on "
        f"average over {student.faces} validation faces{student.of_persons} it was not trained on; "
        f"{share * 100:.0f}\u00a0% of its answers lie within 5 years.",
        f"It takes {tables.milliseconds(findings.student_latency_ms)} ms a face on one CPU thread, where the "
        f"teacher takes {tables.milliseconds(findings.teacher_latency_ms)} ms: {speed_words(findings)}.",
        *findings.latencies.notes(),
        *findings.latencies.choice_notes(),
        f"The teacher is off by {with_interval(teacher)} on the same faces. "
        + verdict(findings.against(findings.picked.name, TEACHER)),
    ]
    median = findings.measured.summary.median_age
    if median is not None and findings.has(MEDIAN):
        lines.append(
            f"Always answering {median:.0f} years, the median of the training faces, would be off by "
            f"{with_interval(findings.mae(MEDIAN))}."
        )
    return [*lines, _caution(findings)]


def summary_figures(findings: Findings) -> dict[str, Any]:
    """The summary's figures for programs: years, milliseconds, and the paired difference to the teacher."""
    student, teacher = findings.mae(findings.picked.name), findings.mae(TEACHER)
    return {
        "trial": findings.picked.number,
        VAL_MAE_YEARS: student.value,
        "val_mae_years_interval": [student.low, student.high],
        "faces": student.faces,
        "persons": student.persons,
        VAL_CS5: findings.cs5(findings.picked.name),
        LATENCY_MS_P50: findings.student_latency_ms,
        "teacher_val_mae_years": teacher.value,
        "teacher_latency_ms_p50": findings.teacher_latency_ms,
        "median_val_mae_years": findings.mae(MEDIAN).value if findings.has(MEDIAN) else None,
        "difference_to_teacher_years": asdict(findings.against(findings.picked.name, TEACHER)),
        "test_mae_years": asdict(findings.mae(findings.picked.name, "test"))
        if findings.has(TEACHER, "test")
        else None,
    }


def speed_words(findings: Findings) -> str:
    """``12 × faster``, ``1.3 × slower`` or ``the same speed``."""
    times = findings.teacher_latency_ms / findings.student_latency_ms
    if 0.95 < times < 1.05:
        return "the same speed"
    return f"{tables.ratio(times)} faster" if times > 1 else f"{tables.ratio(1 / times)} slower"


def verdict(difference: Estimate) -> str:
    """Whether the student is better, worse or tied, from the paired difference of errors in years."""
    low, middle, high = map(signed, (difference.low, difference.value, difference.high))
    bounds = f"95\u00a0% interval of the difference: {low} to {high}"
    if difference.low <= 0 <= difference.high:
        return f"The two are tied: {middle} years between them is inside the noise ({bounds})."
    side = "better" if difference.value < 0 else "worse"
    return f"The student is {abs(difference.value):.2f} years {side} ({bounds})."


def with_interval(estimate: Estimate) -> str:
    """``6.12 years (95 % interval 5.71 to 6.55)``."""
    return f"{estimate.value:.2f} years (95\u00a0% interval {estimate.low:.2f} to {estimate.high:.2f})"


def _caution(findings: Findings) -> str:
    complete = sum(record.state is State.COMPLETE for record in findings.records)
    text = (
        f"The validation faces also chose each trial's best epoch, and this trial among {complete}, so that "
        "error is a little flattering."
    )
    if not findings.has(TEACHER, "test"):
        return f"{text} The dataset has no test faces to check it on."
    student = findings.mae(findings.picked.name, "test")
    return (
        f"{text} On the {student.faces} test faces{student.of_persons}, which chose nothing, the student is "
        f"off by {with_interval(student)} and the teacher by {with_interval(findings.mae(TEACHER, 'test'))}."
    )
