"""Whether a trained teacher learnt anything: by the metrics of its manifest."""

from __future__ import annotations

from collections.abc import Mapping

from agesearch import metrics

#: Ages that differ by less than so many years (standard deviation) are the same answer for everyone.
LEAST_SPREAD_YEARS = 0.5
#: An order teacher below this Kendall tau sorts like a coin.
LEAST_TAU = 0.05


def collapse(found: Mapping[str, float]) -> str | None:
    """What shows that a teacher learnt nothing of the faces, in one sentence; None where all is well.

    ``found`` are the metrics of a teacher or an order teacher by their names (``agesearch.metrics``); what is
    not among them is not judged.
    """
    fault = _fault(found)
    if fault is None:
        return None
    return (
        f"The teacher {fault}: it learnt nothing from the faces, and students would learn nothing from it. "
        "Train it longer (--epochs), at another --learning-rate, or from pretrained weights (--init)."
    )


def _fault(found: Mapping[str, float]) -> str | None:
    spread = found.get(metrics.VAL_SPREAD_YEARS)
    error, median = found.get(metrics.VAL_MAE_YEARS), found.get(metrics.VAL_MAE_MEDIAN_YEARS)
    right, majority = found.get(metrics.VAL_TOP1), found.get(metrics.VAL_TOP1_MAJORITY)
    tau = found.get(metrics.VAL_KENDALL_TAU)
    if spread is not None and spread < LEAST_SPREAD_YEARS:
        return f"says nearly the same age of all validation faces (standard deviation {spread:.2f} years)"
    if error is not None and median is not None and error >= median:
        return f"is {error:.2f} years off, and always answering the median age {median:.2f}"
    if right is not None and majority is not None and right <= majority:
        return f"is right for {right:.1%}, and always answering the most frequent group for {majority:.1%}"
    if tau is not None and tau < LEAST_TAU:
        return f"sorts the validation faces no better than chance (Kendall tau {tau:.3f})"
    return None
