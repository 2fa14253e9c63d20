"""A practice statement under Ofcom's four words (technically accurate, robust, reliable, fair): what is known
of each, what the model is for, what nobody tested, and that nothing is kept.
"""

from __future__ import annotations

from agesearch.deploy.reported.records import TEST, VALIDATION
from agesearch.measure.calibration.run import evidence_of
from agesearch.metrics import BIAS_YEARS, MAE_YEARS, signed
from agesearch.reporting.decisions.tables import share_words
from agesearch.reporting.sections.section import Section
from agesearch.reporting.sections.told import Told

_UNKNOWN = "Not measured: see the section on it for the command."
#: Fewer faces of a group say nothing of it.
_LEAST_FACES = 30


def practice_section(told: Told) -> Section:
    """The statement, each word with the figures behind it."""
    facts = [
        ("intended use", _USE),
        ("accurate", _accurate(told)),
        ("robust", _robust(told)),
        ("reliable", _reliable(told)),
        ("fair", _fair(told)),
        ("not tested", _untested(told)),
        (
            "retention",
            "None. The model keeps nothing of what it is shown; the service decodes an image in memory, "
            "answers, and neither stores nor logs it.",
        ),
    ]
    note = (
        "The words are those of Ofcom's guidance on highly effective age assurance: technically accurate, "
        "robust, reliable and fair. Whether a use is lawful and the figures enough for it is for whoever "
        "deploys the model to judge, on faces like those it will see."
    )
    return Section("practice", "Practice statement", "Practice", facts=facts, notes=[note])


_USE = (
    "Estimating the age of one face in a photograph, where an error of years is acceptable: statistics, "
    "sorting, and age checks with a buffer and a second way for those it is unsure of. It is no proof of "
    "age, it names nobody, and it is not for decisions about a person without another look."
)


def _accurate(told: Told) -> str:
    for split in (TEST, VALIDATION):
        error = told.mae(told.student, split)
        if error is not None:
            chose = "chose nothing" if split == TEST else "also chose the student: a little flattering"
            return (
                f"Off by {error.value:.2f} years on average (95 %: {error.low:.2f} to {error.high:.2f}) on "
                f"{error.basis} of the {split} split, which {chose}."
            )
    if told.findings is not None:
        error = told.findings.mae(told.findings.picked.name)
        return f"Off by {error.value:.2f} years on average on {error.basis} that chose it."
    return _UNKNOWN


def _robust(told: Told) -> str:
    found, record = told.resisting(told.student), told.robustness
    if found is None or record is None:
        return _UNKNOWN
    error = found.mae_c_years
    return (
        f"Off by {error.value:.2f} years ({error.low:.2f} to {error.high:.2f}) over {len(record.averaged)} "
        f"corruptions of camera, weather and compression, {found.clean_mae_years.value:.2f} without."
    )


def _reliable(told: Told) -> str:
    if told.calibration is None:
        return "Its intervals are its own belief, unchecked. The same picture gives the same answer."
    found = evidence_of(told.calibration).calibrated.coverage
    words = (
        f"Its {told.calibration.level:.0%} intervals held {found.value:.0%} ({found.low:.0%} to "
        f"{found.high:.0%}) of held-out persons. The same picture gives the same answer."
    )
    spread = _within_person(told)
    return f"{words} {spread}".strip()


def _within_person(told: Told) -> str:
    for one in told.decisions.models if told.decisions else ():
        found = one.accuracy.within_person_sd.estimate
        if told.name_of(one.model_digest, one.name) == told.student and found is not None:
            return f"Its answers for one person differ by {found.value:.1f} years (SD)."
    return ""


def _fair(told: Told) -> str:
    split = TEST if told.compared(TEST) else VALIDATION
    found = told.scores(told.student, split)
    kinds = [kind for kind in (found.kinds if found else ()) if MAE_YEARS in kind.scores]
    parts, thin = [], []
    for by in ("sex", "ethnicity"):
        slices = [one for one in (kinds[0].slices if kinds else ()) if one.by == by and one.name != "unknown"]
        told_of = [one for one in slices if one.scores[MAE_YEARS].faces >= _LEAST_FACES]
        thin += [f"{by} {one.name}" for one in slices if one not in told_of]
        parts += [
            f"{by} {one.name}: off by {one.scores[MAE_YEARS].value:.2f} years, bias "
            f"{signed(one.scores[BIAS_YEARS].value)} ({one.scores[MAE_YEARS].faces} faces)"
            for one in told_of
        ]
    if not parts:
        return "Not known: the tested faces do not say who is of which sex or group, or are too few of each."
    few = f" Too few faces to tell of: {', '.join(thin)}." if thin else ""
    return "; ".join(parts) + "." + few + _minors(told)


def _minors(told: Told) -> str:
    for one in told.decisions.models if told.decisions else ():
        if told.name_of(one.model_digest, one.name) == told.student:
            whole = one.at[0].whole
            return f" At {one.at[0].challenge_age:g} years {share_words(whole.fpr)} of those below pass."
    return ""


def _untested(told: Told) -> str:
    found = [
        "photographs of photographs, masks, make-up and other attacks",
        "cameras, light and peoples unlike those of the dataset",
    ]
    if told.decisions is None:
        found.append("decisions at an age limit")
    if told.robustness is None:
        found.append("most corruptions")
    if told.calibration is None:
        found.append("whether its intervals hold")
    data = told.records.reported.data if told.records.reported else None
    if data is not None and data.label_kind != "real":
        found.append(f"true ages: the labels are {data.label_kind}")
    return "; ".join(found)[:1].upper() + "; ".join(found)[1:] + "."
