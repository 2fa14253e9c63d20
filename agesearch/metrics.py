"""The names of everything agesearch measures. Each name carries its unit; no other file spells one."""

from __future__ import annotations

import math

VAL_MAE_YEARS = "val_mae_years"
VAL_CS5 = "val_cs5"
#: The MAE on training faces by models of a recipe that have not seen them: cross-validation by persons.
CV_MAE_YEARS = "cv_mae_years"
#: The MAE of a trial on a few corrupted validation faces; the largest mean move of its answers by a change.
VAL_MAE_C_YEARS = "val_mae_c_years"
SHIFT_YEARS = "counterfactual_shift_years"
#: The largest of the validation MAEs by decade of true age, and the first year of that decade.
VAL_WORST_DECADE_MAE_YEARS = "val_worst_decade_mae_years"
VAL_WORST_DECADE_FIRST_YEARS = "val_worst_decade_first_years"
#: What is known of a trial at its end besides its error: the first two where its study limits them, the worst
#: decade always, where any has enough faces.
AT_END = (VAL_MAE_C_YEARS, SHIFT_YEARS, VAL_WORST_DECADE_MAE_YEARS, VAL_WORST_DECADE_FIRST_YEARS)
#: The validation MAE of always answering the training faces' median age.
VAL_MAE_MEDIAN_YEARS = "val_mae_median_years"
#: The standard deviation of the ages that a model answers for the validation faces.
VAL_SPREAD_YEARS = "val_spread_years"
#: The share of right validation faces of always answering their most frequent group.
VAL_TOP1_MAJORITY = "val_top1_majority"
TRAIN_LOSS = "train_loss"
LATENCY_MS_P50 = "latency_ms_p50"
LATENCY_MS_P95 = "latency_ms_p95"
EPOCH = "epoch"
EPOCH_SECONDS = "epoch_s"

#: Where an epoch stands while it is trained: which one, its faces so far and in all, how fast, the mean loss
#: so far, and the seconds spent on it. No name is that of a whole epoch's figure.
WITHIN_EPOCH = "within_epoch"
FACES_SO_FAR = "faces_so_far"
FACES_OF_EPOCH = "faces_of_epoch"
FACES_PER_S = "faces_per_s"
LOSS_SO_FAR = "loss_so_far"
SECONDS_SO_FAR = "so_far_s"

MINIMISED = frozenset({VAL_MAE_YEARS, TRAIN_LOSS, LATENCY_MS_P50, LATENCY_MS_P95})

#: What is measured on a split; ``on_split("test", MAE_YEARS)`` is ``test_mae_years``.
MAE_YEARS = "mae_years"
CS5 = "cs5"
BIAS_YEARS = "bias_years"


def on_split(split: str, name: str) -> str:
    """The name of a metric on a split, such as ``val_mae_years``."""
    return f"{split}_{name}"


#: How well an order teacher sorts sequences of faces (-1..1, and the share of faultless ones), and the error
#: of ages read linearly off its features.
VAL_KENDALL_TAU = on_split("val", "kendall_tau")
VAL_EXACT_MATCH = on_split("val", "exact_match")
VAL_PROBE_MAE_YEARS = on_split("val", "probe_mae_years")

#: What published protocols report besides: ChaLearn LAP's error in 0..1; the share of faces in the right
#: Adience group, and in it or the next one, by the group that has the most mass and by the expected age.
EPS_ERROR = "eps_error"
TOP1 = "top1"
VAL_TOP1 = on_split("val", TOP1)
ONE_OFF = "one_off"
TOP1_BY_AGE = "top1_by_age"
ONE_OFF_BY_AGE = "one_off_by_age"
#: Against labels that are age groups: the share of predicted ages inside, and how far outside they are.
IN_GROUP = "in_group"
OUTSIDE_YEARS = "outside_years"

#: Of the scores of faces (without a split's name), those where less is better; more is better of the others.
SMALLER_IS_BETTER = frozenset({MAE_YEARS, EPS_ERROR, OUTSIDE_YEARS})


def interval_of(name: str) -> tuple[str, str]:
    """The names of the ends of a metric's 95 % interval."""
    return f"{name}_low", f"{name}_high"


def or_nan(value: float | None) -> float:
    """The value of a metric, or not a number where there is none. (``value or nan`` would take an error of 0
    years for none.)
    """
    return math.nan if value is None else float(value)


def cs_at(k: float) -> str:
    """The name of the cumulative score at ``k`` years: ``cs5``, ``cs2.5``."""
    return f"cs{k:g}"


def signed(value: float, digits: int = 2) -> str:
    """How a change is written everywhere: ``+0.84`` or ``−0.84``, with a minus sign of the figures' width."""
    return f"{value:+.{digits}f}".replace("-", "−")
