"""The data card: one self-contained HTML page that shows what a dataset holds and what was left out.

Opens with no network: faces are embedded, the charts are SVG. Every value is escaped, since
names and paths come from the source.
"""

from __future__ import annotations

import cv2
import numpy as np

from agesearch.data.audit.card_data import Inspection, LeftOut, faces_by_decade, inspect_dataset
from agesearch.data.audit.check import CheckRecord, read_check
from agesearch.data.dataset.records import Split
from agesearch.data.images.decode import ARCHIVE_FORMATS, MAX_IMAGE_BYTES, BadImage, decode_image
from agesearch.errors import AgeSearchError
from agesearch.progress import Listener, Progress, silent
from agesearch.reporting.charts.histograms import Histogram, histogram
from agesearch.reporting.pages import environment
from agesearch.storage import Location

#: Faces of one decade on the contact sheet.
FACES_A_DECADE = 24

_TITLES = {
    "split": "Split",
    "sex": "Sex",
    "ethnicity": "Group",
    "source": "Source",
    "label_kind": "Kind of label",
}
_THUMBNAIL_SIDE = 96


def write_datacard(
    dataset: str | Location,
    page: str | Location,
    *,
    faces: int = FACES_A_DECADE,
    show_left_out: bool = False,
    on_progress: Listener = silent,
) -> Inspection:
    """Write the card of ``dataset`` to the file ``page``; returns what it tells.

    ``show_left_out`` puts small copies of left-out pictures on the page: it opens the local files that the
    quarantine names, so it is for datasets of one's own making.
    """
    found = inspect_dataset(dataset, on_progress)
    thumbnails = _thumbnails(found.left_out, on_progress) if show_left_out else {}
    check = read_check(dataset)
    Location.of(page).write_text(
        render_datacard(found, _sheet(dataset, faces, on_progress), thumbnails, check)
    )
    return found


def render_datacard(
    found: Inspection,
    sheet: list[dict[str, object]],
    thumbnails: dict[str, bytes] | None = None,
    check: CheckRecord | None = None,
) -> str:
    """The page as text; ``sheet`` is a list of decades with their faces, ``thumbnails`` are JPEG bytes by
    path, ``check`` is what ``agesearch data check`` found in this very content.
    """
    template = environment().get_template("datacard.html.j2")
    return template.render(
        found=found,
        manifest=found.manifest,
        splits=[split.value for split in Split],
        histograms=_histograms(found),
        left_out=sum(item.count for item in found.left_out),
        thumbnails=thumbnails or {},
        check=check,
        sheet=sheet,
    )


def _histograms(found: Inspection) -> list[Histogram]:
    """By split, and by each field that tells faces apart."""
    splits = [split.value for split in Split]
    made = []
    for name, title in _TITLES.items():
        if name == "split":
            parts = {split: {split: found.manifest.counts.get(split, 0)} for split in splits}
            years = {split: found.years["split"].get(split, [0] * 101) for split in splits}
        else:
            parts, years = found.values[name], found.years[name]
        if len(parts) > 1 or name in ("split", "source"):
            made.append(histogram(name, title, years, parts, splits))
    return made


def _sheet(dataset: str | Location, each: int, on_progress: Listener) -> list[dict[str, object]]:
    return [
        {
            "name": name,
            "faces": [
                {
                    "image": face.image,
                    "age": "" if face.age is None else str(int(face.age)),
                    "split": face.split,
                    "source": face.source,
                    "sample_id": face.sample_id,
                }
                for face in faces
            ],
        }
        for name, faces in faces_by_decade(dataset, each, on_progress).items()
    ]


def _thumbnails(left_out: list[LeftOut], on_progress: Listener) -> dict[str, bytes]:
    """Small JPEGs of the left-out examples that are local files and can be decoded, by path."""
    found: dict[str, bytes] = {}
    for item in left_out:
        for path, _ in item.examples:
            on_progress(Progress("left out", len(found), None, note=path[-60:]))
            try:
                place = Location.of(path)
                if place.is_local and (small := _thumbnail(place)) is not None:
                    found[path] = small
            except (AgeSearchError, BadImage, OSError, ValueError):
                continue  # it was left out for a reason: that there is no picture is no news
    return found


def _thumbnail(place: Location) -> bytes | None:
    rgb = decode_image(place.read_bytes(MAX_IMAGE_BYTES), formats=ARCHIVE_FORMATS)
    scale = _THUMBNAIL_SIDE / max(rgb.shape[:2])
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(small[..., ::-1]))
    return bytes(data) if done else None
