"""What a run is asked to do, as frozen data: YAML in, digest out.

Every spec forbids unknown fields, and every artefact records the digest of the spec that made it. A search
varies any field of ``TrainSpec`` by its dotted name (``model.arch``, ``distill.temperature``); see
``agesearch.search.space.space``.
"""

from __future__ import annotations

from agesearch.documents import (
    SharedRecord,
    Spec,
    SpecType,
    describe_validation,
    digest_of,
    load_spec,
    load_yaml,
    parse_spec,
)
from agesearch.specs.faces import NEWEST_CROP_RECIPE, CropSpec, DetectorIdentity, SplitSpec
from agesearch.specs.search import (
    Bounds,
    Choices,
    Condition,
    Conditional,
    ConfirmSpec,
    LatencySpec,
    Prior,
    Range,
    RobustnessSpec,
    RungSpec,
    Scalar,
    ShiftsSpec,
    StoppingSpec,
    StudySpec,
    TeacherPlace,
    TeachersSpec,
    Variants,
    name_of_choice,
)
from agesearch.specs.seeds import Seed, Seeded
from agesearch.specs.training import (
    AugmentSpec,
    ComputeSpec,
    DistillSpec,
    ModelSpec,
    OptimSpec,
    OrderSpec,
    OrderTrainSpec,
    TrainSpec,
)

__all__ = [
    "NEWEST_CROP_RECIPE",
    "AugmentSpec",
    "Bounds",
    "Choices",
    "ComputeSpec",
    "Condition",
    "Conditional",
    "ConfirmSpec",
    "CropSpec",
    "DetectorIdentity",
    "DistillSpec",
    "LatencySpec",
    "ModelSpec",
    "OptimSpec",
    "OrderSpec",
    "OrderTrainSpec",
    "Prior",
    "Range",
    "RobustnessSpec",
    "RungSpec",
    "StoppingSpec",
    "Scalar",
    "Seed",
    "Seeded",
    "SharedRecord",
    "ShiftsSpec",
    "Spec",
    "SpecType",
    "SplitSpec",
    "StudySpec",
    "TeacherPlace",
    "TeachersSpec",
    "TrainSpec",
    "Variants",
    "describe_validation",
    "digest_of",
    "load_spec",
    "load_yaml",
    "name_of_choice",
    "parse_spec",
]
