"""How faces are cropped and split."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from agesearch.documents import Spec, newer
from agesearch.specs.seeds import Seed

#: The recipe by which crops are made now; a record that names none was made by the first.
NEWEST_CROP_RECIPE = 2


class DetectorIdentity(Spec):
    """Which face detector it was: its name, the version of its package, and the SHA-256 of its model file."""

    name: str
    version: str = ""
    sha256: str = ""

    def __str__(self) -> str:
        digest = self.sha256[:8] if self.name != "yuface" else ""
        parts = [self.name, digest, f"({self.version})" if digest and self.version else self.version]
        return " ".join(part for part in parts if part)


class CropSpec(Spec):
    """How a face becomes a square crop: the recipe that training and service share.

    ``scale`` multiplies the longer side of the detected box; ``align`` turns the eyes level by the five
    landmarks; ``size`` is the side of the stored crop in pixels. ``detector`` is the one that is asked for;
    a record of crops says by ``detected_by`` which one ran (older records do not). ``recipe`` is how the
    pixels are computed: what learned from crops of one recipe is shown crops of the same.
    """

    detector: str = "auto"
    detected_by: DetectorIdentity | None = Field(None, exclude_if=lambda identity: identity is None)
    align: bool = True
    scale: float = Field(1.3, ge=0.5, le=3.0)
    size: int = Field(112, ge=32, le=512)
    min_score: float = Field(0.5, ge=0.0, le=1.0)
    jpeg_quality: int = Field(92, ge=50, le=100)
    recipe: int = newer(1, ge=1, le=NEWEST_CROP_RECIPE)


class SplitSpec(Spec):
    """Shares of subjects in the validation and test splits; the rest trains. The draw is a hash of the
    subject.
    """

    val: float = Field(0.15, ge=0.0, lt=1.0)
    test: float = Field(0.15, ge=0.0, lt=1.0)
    seed: Seed = 0

    @model_validator(mode="after")
    def _leaves_training_faces(self) -> Self:
        if self.val + self.test >= 1.0:
            raise ValueError(f"val + test is {self.val + self.test:g}, but must be < 1")
        return self
