"""One source record -> one face row, or the reason why there is none. Plain functions, no Ray: the ingest
maps them over a cluster, the benchmark runs them in a bare loop.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from agesearch.data.dataset.identity import identify
from agesearch.data.dataset.records import SCHEMA, Rejected, SourceRecord, Split
from agesearch.data.dataset.splits import split_of
from agesearch.data.images.crop import choose_face, crop_face, encode_crop, in_file_pixels, scaled_box
from agesearch.data.images.decode import ARCHIVE_FORMATS, BadImage, Photograph, decode_photograph
from agesearch.data.images.detectors import Detection, Detector
from agesearch.data.images.files import printable, read_image
from agesearch.data.images.locate import locate
from agesearch.specs import CropSpec, SplitSpec

#: Source records as a table: what the ingest hands to its tasks.
RECORD_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        *(pa.field(name, pa.float32()) for name in ("age", "age_std", "age_low", "age_high")),
        *(pa.field(name, pa.string()) for name in ("subject_id", "sex", "ethnicity", "split")),
        pa.field("fold", pa.int8()),
        pa.field("box", pa.list_(pa.float32())),
    ]
)

#: Outcomes as a table: a face row, or (``reason`` set) a record that was left out.
OUTCOME_SCHEMA = pa.schema(
    [
        *(pa.field(field.name, field.type) for field in SCHEMA),
        pa.field("path", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
    ]
)


def record_table(records: Sequence[SourceRecord]) -> pa.Table:
    """Records as a table of ``RECORD_SCHEMA``."""
    return pa.Table.from_pylist([_as_row(record) for record in records], schema=RECORD_SCHEMA)


def outcomes_of(records: pa.Table, detector: Detector, crop: CropSpec, split: SplitSpec) -> pa.Table:
    """A table of records -> a table of outcomes (``OUTCOME_SCHEMA``), in the same order."""
    rows = []
    with warnings.catch_warnings():
        # Pillow tells of every odd tag in a warning: thousands of lines from one hostile file.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for row in records.to_pylist():
            record = _record_of(row)
            outcome = face_row(record, detector, crop, split)
            if isinstance(outcome, Rejected):
                rows.append(asdict(outcome))
            else:
                rows.append({**outcome, "path": record.path})
    return pa.Table.from_pylist(rows, schema=OUTCOME_SCHEMA)


def face_row(
    record: SourceRecord, detector: Detector, crop: CropSpec, split: SplitSpec
) -> dict[str, Any] | Rejected:
    """Read, decode, detect, align, crop and encode one face; a row of ``SCHEMA``, or why there is none."""

    def chosen(photograph: Photograph, found: list[Detection]) -> list[Detection]:
        given = None if record.box is None else scaled_box(record.box, 1 / photograph.reduction)
        height, width = photograph.pixels.shape[:2]
        return [choose_face(found, given, width, height)]

    def decoded(enough: int | None) -> Photograph:
        return decode_photograph(data, formats=ARCHIVE_FORMATS, enough=enough)

    try:
        data = read_image(record.path)
        photograph, (face,) = locate(decoded, detector, crop, chosen)
    except BadImage as error:
        return Rejected(record.path, error.reason, str(error), record.source)
    identity = identify(data, record.box)
    image = encode_crop(crop_face(photograph.pixels, face, crop), crop)
    face = in_file_pixels(face, photograph.reduction)
    points = None if face.landmarks is None else face.landmarks.ravel().tolist()
    return {
        **asdict(record),
        "sample_id": identity.sample_id,
        "photo_digest": identity.photo_digest,
        "image": image,
        "split": split_of(record, identity.photo_sha256, split).value,
        "box": list(face.box),
        "landmarks": points,
    }


def _as_row(record: SourceRecord) -> dict[str, Any]:
    return {
        name: printable(value) if isinstance(value, str) else value for name, value in asdict(record).items()
    }


def _record_of(row: dict[str, Any]) -> SourceRecord:
    box = row.pop("box")
    split = row.pop("split")
    return SourceRecord(
        **row, split=None if split is None else Split(split), box=None if box is None else tuple(box)
    )
