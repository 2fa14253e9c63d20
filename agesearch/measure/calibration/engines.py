"""What intervals hold on the other engines that a version may be served on.

Intervals are learnt from a network in fp32. int8 and bf16 move its probabilities a little, and with them the
ends of an interval: the same faces tell by how much coverage and width differ.
"""

from __future__ import annotations

from agesearch.measure.calibration.coverage import inside
from agesearch.measure.intervals import Estimate, Persons, Values, estimate, rate_estimate
from agesearch.models.manifest import ModelManifest
from agesearch.models.runtimes.engines import DEFAULT, Engine, why_not
from agesearch.specs import Spec

Ends = tuple[Values, Values]


class EngineCoverage(Spec):
    """The share of held-out persons' faces inside their intervals on an engine, the mean width in years, and
    ``difference``: the share less that in fp32, paired.
    """

    runtime: str
    precision: str
    coverage: Estimate
    width_years: float
    difference: Estimate

    @property
    def engine(self) -> Engine:
        """The runtime and the precision."""
        return Engine(self.runtime, self.precision)


def other_engines(manifest: ModelManifest) -> list[Engine]:
    """Those that a version may be served on besides the usual one, and that are on this machine."""
    return sorted(one for one in manifest.allowed if one != DEFAULT and why_not(one) is None)


def engine_coverage(engine: Engine, usual: Ends, ends: Ends, age: Values, persons: Persons) -> EngineCoverage:
    """From the ends of intervals ``[N]`` in fp32 (``usual``) and on the engine, and true ages ``[N]``."""
    before, now = inside(*usual, age), inside(*ends, age)
    return EngineCoverage(
        **engine._asdict(),
        coverage=rate_estimate(now, persons),
        width_years=float((ends[1] - ends[0]).mean()),
        difference=estimate(now - before, persons),
    )
