"""A model folder as ONNX, proven to answer as the torch network does on real faces.

A tracer can freeze a branch, and a runtime can compute an operation its own way; neither shows on random
pixels with certainty. So both runtimes score the same real crops, and a difference beyond the stated
tolerance is no release.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from agesearch.ages import FloatArray, expected_age
from agesearch.data.dataset.records import Split
from agesearch.data.images.decode import RgbImage
from agesearch.errors import AgeSearchError, InputError
from agesearch.measure.labelled_faces import some_crops
from agesearch.models.identity import read_model_manifest
from agesearch.models.predictors import OnnxPredictor, TorchPredictor
from agesearch.models.tracing import onnx_bytes
from agesearch.storage import Location

#: The largest differences between the two runtimes that are rounding: in probability, and in years.
PMF_TOLERANCE = 1e-3
AGE_TOLERANCE_YEARS = 0.05
#: How many real crops are compared at most.
PARITY_FACES = 64


@dataclass(frozen=True)
class Parity:
    """How far the ONNX graph's answers are from torch's on real crops, and how far they may be."""

    faces: int
    pmf_max_difference: float
    age_max_difference_years: float
    pmf_tolerance: float = PMF_TOLERANCE
    age_tolerance_years: float = AGE_TOLERANCE_YEARS

    @property
    def holds(self) -> bool:
        """Whether both differences are within their tolerances; a NaN never is."""
        within_pmf = self.pmf_max_difference <= self.pmf_tolerance
        return within_pmf and self.age_max_difference_years <= self.age_tolerance_years

    def as_json(self) -> dict[str, float]:
        """The record that goes into the manifest."""
        return asdict(self)


def parity_crops(dataset: Location, limit: int = PARITY_FACES) -> RgbImage:
    """Up to ``limit`` real crops ``uint8 [N, S, S, 3]`` of the first split that has any, validation first.

    They are those with the smallest ids.
    """
    for split in (Split.VAL, Split.TEST, Split.TRAIN):
        crops = some_crops(dataset, split, limit, order=str.encode)
        if len(crops):
            return crops
    raise InputError(f"The dataset '{dataset}' has no faces to compare the runtimes on.")


def parity_of(
    expected: FloatArray,
    found: FloatArray,
    pmf_tolerance: float = PMF_TOLERANCE,
    age_tolerance_years: float = AGE_TOLERANCE_YEARS,
) -> Parity:
    """How far two runtimes' PMFs ``[N, 101]`` of the same faces are from each other."""
    return Parity(
        faces=len(expected),
        pmf_max_difference=float(np.abs(expected - found).max()),
        age_max_difference_years=float(np.abs(expected_age(expected) - expected_age(found)).max()),
        pmf_tolerance=pmf_tolerance,
        age_tolerance_years=age_tolerance_years,
    )


def export_checked(folder: str | Location, crops: RgbImage) -> tuple[bytes, Parity]:
    """The folder's network as ONNX bytes, and its parity with torch on ``crops`` uint8 ``[N, S, S, 3]``.

    Raises ``AgeSearchError`` with the differences where the two runtimes disagree.
    """
    from agesearch.models.folder import load_net

    if len(crops) == 0:
        raise InputError("There is no face to compare the runtimes on: the dataset is empty.")
    size = read_model_manifest(folder).model.input_size
    net = load_net(folder)
    content = onnx_bytes(net, size)
    parity = parity_of(TorchPredictor(net, size).pmf(crops), OnnxPredictor(content, size).pmf(crops))
    if not parity.holds:
        raise AgeSearchError(
            f"The ONNX export of '{folder}' does not answer as the network does: over {parity.faces} faces "
            f"the ages differ by up to {parity.age_max_difference_years:.3g} years (allowed: "
            f"{AGE_TOLERANCE_YEARS:g}) and the PMFs by {parity.pmf_max_difference:.3g} (allowed: "
            f"{PMF_TOLERANCE:g}). Nothing was published."
        )
    return content, parity
