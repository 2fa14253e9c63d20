"""``agesearch.load_model``: a trained model answers for images in this process, without a service."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agesearch.api.places import Kept, Place
from agesearch.session import set_environment

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image as PillowImage

    from agesearch.data.images.locate import Decode
    from agesearch.models.manifest import ModelManifest
    from agesearch.serving.estimator import AgeEstimator

    #: A file, the bytes of one (JPEG, PNG, WebP, ...), a Pillow image, or ``uint8 [H, W, 3]`` RGB.
    Image = Place | bytes | PillowImage.Image | npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Face:
    """One face. ``age`` in years is the mean of ``pmf``: ``float32 [101]``, the probability of each age.

    ``interval`` (years) is what ``ImageAges.interval_level`` says, ``spread`` the standard deviation of the
    PMF in years. ``decision`` is ``pass``, ``refuse`` or ``unsure`` at the challenge age, None without one.
    ``box`` is x, y, width, height in pixels of the upright image; ``score`` the detector's, None for a whole
    image.
    """

    age: float
    interval: tuple[float, float]
    spread: float
    box: tuple[float, float, float, float]
    score: float | None
    decision: Literal["pass", "refuse", "unsure"] | None
    pmf: npt.NDArray[np.float32]


@dataclass(frozen=True)
class ImageAges:
    """The faces of one upright image of ``width`` x ``height`` pixels, the most prominent first.

    ``interval_level`` is the share of faces whose true age lies inside their interval, as the model was
    calibrated; None where it was not: an interval is then the middle 80 % of the model's own probability.
    """

    faces: tuple[Face, ...]
    width: int
    height: int
    interval_level: float | None = None


class Model(Kept):
    """A model that was loaded: a published version, a teacher, a trial, or a foreign teacher's document."""

    def __init__(self, path: str, estimator: AgeEstimator) -> None:
        self.path = path
        self._estimator = estimator

    def __repr__(self) -> str:
        model = self.manifest.model
        return f"Model('{self.path}', {model.arch} @ {model.input_size} px)"

    @property
    def manifest(self) -> ModelManifest:
        """Its network, crop recipe, metrics with intervals, speed and provenance."""
        return self._estimator.manifest

    def predict(
        self,
        image: Image,
        *,
        faces: Literal["detect", "whole"] = "detect",
        challenge_age: float | None = None,
    ) -> ImageAges:
        """The age of each face in an image, as the service answers.

        >>> model = agesearch.load_model("teacher")
        >>> found = model.predict("photo.jpg", faces="whole")
        >>> face = found.faces[0]
        >>> face.age, face.interval, face.box
        (50.0, (9.6, 90.4), (10.0, 0.0, 80.0, 80.0))
        >>> face.pmf.shape
        (101,)

        Args:
            image: a file, a file's bytes, a Pillow image, or ``uint8 [H, W, 3]`` RGB.
            faces: ``detect``: find them, and crop each as the model was trained; ``whole``: the image's
                central square is one face crop already.
            challenge_age: the age in years that each face's ``decision`` is made at.

        Raises:
            InputError: what is no usable image, or no age.
        """
        from agesearch.errors import InputError, unknown_name

        if challenge_age is not None and not 0.0 <= challenge_age <= 100.0:
            raise InputError(f"The challenge age is {challenge_age:g}, but must lie in 0..100 years.")
        if faces not in ("detect", "whole"):
            raise unknown_name("way to take the faces", faces, ("detect", "whole"))
        found = self._estimator.locate(_decoder(image), whole=faces == "whole")
        pmf = self._estimator.pmf(found.crops)
        shown = self._estimator.answers(pmf, found.faces, challenge_age)
        ages = tuple(Face(**dict(face), pmf=row) for face, row in zip(shown, pmf, strict=True))
        return ImageAges(ages, found.width, found.height, self._estimator.interval_level)


def load_model(model: Place, *, registry: Place = "registry", threads: int = 1) -> Model:
    """Load a model, its files checked against their SHA-256.

    >>> agesearch.load_model("ages:1").manifest.model.arch
    'lcnet_035'

    Args:
        model: a folder (a version, a teacher, a trial), a teacher's document, or in ``registry`` a
            ``NAME`` (its champion), ``NAME@ALIAS`` or ``NAME:VERSION``. A folder goes before a name.
        threads: threads of the network.

    Raises:
        InputError: there is no such model, or a file of it is damaged.
    """
    set_environment()
    from agesearch.deploy.registry import model_folder
    from agesearch.serving.estimator import open_estimator

    folder = model_folder(os.fspath(model), os.fspath(registry))
    estimator = open_estimator(folder, threads)
    if estimator.note is not None:
        warnings.warn(estimator.note, stacklevel=2)
    return Model(str(folder), estimator)


def _decoder(image: Any) -> Decode:
    """What decodes an image of any kind, upright."""
    import numpy as np
    from PIL import Image as PillowImage

    from agesearch.data.images.decode import (
        MAX_IMAGE_BYTES,
        BadImage,
        Photograph,
        checked_pixels,
        decode_photograph,
        upright_rgb,
    )
    from agesearch.errors import InputError
    from agesearch.storage import Location

    if isinstance(image, np.ndarray | PillowImage.Image):
        rgb = image if isinstance(image, np.ndarray) else upright_rgb(image)
        photograph = Photograph.of(checked_pixels(rgb))
        return lambda _: photograph
    if isinstance(image, bytes):
        return lambda enough: decode_photograph(image, enough=enough)
    if not isinstance(image, str | os.PathLike):
        kind = type(image).__name__
        raise InputError(f"The image is a {kind}, but must be a path, bytes, a Pillow image or an RGB array.")
    place = Location.of(image)
    data = place.read_bytes(MAX_IMAGE_BYTES)

    def decode(enough: int | None) -> Photograph:
        try:
            return decode_photograph(data, enough=enough)
        except BadImage as error:
            raise InputError(f"'{place}': {error}") from error

    return decode
