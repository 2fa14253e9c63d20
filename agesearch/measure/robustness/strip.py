"""A few faces as they are and corrupted, with the answer of each model, to be shown beside figures."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from agesearch.data.dataset.records import Split, read_manifest
from agesearch.data.images.crop import decode_crop
from agesearch.errors import InputError
from agesearch.measure.labelled_faces import LabelledFaces, labelled_faces
from agesearch.measure.robustness.corruptions import Image
from agesearch.measure.robustness.protocol import CLEAN_LEVEL, CorruptionLevel, corrupted
from agesearch.measure.robustness.run import answers
from agesearch.models.identity import model_digest
from agesearch.models.scorers import scorer_of
from agesearch.provenance import now
from agesearch.specs import SharedRecord, Spec
from agesearch.storage import Location

#: Clean, and one corruption of each category at a strength that people still see through.
LEVELS = (
    CLEAN_LEVEL,
    CorruptionLevel("gaussian_noise", 3),
    CorruptionLevel("motion_blur", 3),
    CorruptionLevel("fog", 3),
    CorruptionLevel("pixelate", 4),
    CorruptionLevel("jpeg_compression", 5),
)
FACES = 4
#: Faces that the shown ones are drawn from, at most.
_MOST = 2_000
_SIDE, _QUALITY = 128, 85


class StripCell(Spec):
    """A face under one corruption: a JPEG in URL-safe base64 (which no one takes for a path), and each
    model's answer in years.
    """

    corruption: str
    severity: int
    image: str
    answers: tuple[float, ...]

    @property
    def jpeg(self) -> bytes:
        """The picture as a file's content."""
        return base64.urlsafe_b64decode(self.image)


class StripFace(Spec):
    """A face of a ``source`` that may be shown, its true age in years, and what became of it."""

    sample_id: str
    source: str
    age: float
    cells: tuple[StripCell, ...]


class Strip(SharedRecord):
    """The strip of a report: ``models`` by name, with their digests, answer in this order."""

    models: tuple[str, ...]
    digests: tuple[str, ...]
    split: str
    data_digest: str
    faces: tuple[StripFace, ...]
    created: str


def corrupted_strip(
    models: Mapping[str, Location],
    dataset: str | Location,
    split: Split,
    sources: Sequence[str],
    *,
    count: int = FACES,
    levels: Sequence[CorruptionLevel] = LEVELS,
) -> Strip:
    """Some faces of a split, of these sources alone and of ages far apart, clean and under each level.

    Raises ``InputError`` where the split has no labelled face of the sources.
    """
    folder = Location.of(dataset)
    data = read_manifest(folder)
    faces = labelled_faces(folder, split, _MOST)
    chosen = _spread(faces, sources, count)
    if not chosen:
        raise InputError(
            f"The split '{split}' of '{folder}' has no face with an age of the sources {', '.join(sources)}."
        )
    predictors = [scorer_of(place, data.crop).open() for place in models.values()]
    shown = []
    for index in chosen:
        clean, name = decode_crop(faces.crops[index]), faces.sample_id[index]
        images = [corrupted(clean, level, name) for level in levels]
        ages = answers(predictors, images)[0]
        cells = [
            StripCell(
                corruption=level.corruption,
                severity=level.severity,
                image=_encoded(image),
                answers=tuple(round(float(age), 1) for age in ages[:, place]),
            )
            for place, (level, image) in enumerate(zip(levels, images, strict=True))
        ]
        shown.append(
            StripFace(
                sample_id=name,
                source=faces.source[index],
                age=float(faces.age[index]),
                cells=tuple(cells),
            )
        )
    return Strip(
        models=tuple(models),
        digests=tuple(model_digest(place) for place in models.values()),
        split=str(split),
        data_digest=data.content_digest,
        faces=tuple(shown),
        created=now(),
    )


def _spread(faces: LabelledFaces, sources: Sequence[str], count: int) -> list[int]:
    """Faces of the sources at even steps of their ages, the youngest first."""
    inside = [index for index, source in enumerate(faces.source) if source in sources]
    ranked = sorted(inside, key=lambda index: (faces.age[index], faces.sample_id[index]))
    steps = np.linspace(0, len(ranked) - 1, min(count, len(ranked)) + 2)[1:-1] if ranked else ()
    return list(dict.fromkeys(ranked[round(step)] for step in steps))


def _encoded(rgb: Image) -> str:
    side = min(_SIDE, rgb.shape[0])
    small = cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(small[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    assert done
    return base64.urlsafe_b64encode(bytes(data)).decode("ascii")
