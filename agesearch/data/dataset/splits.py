"""Which part of a dataset a face belongs to: decided by a hash of who it shows, never by row order."""

from __future__ import annotations

import hashlib

from agesearch.data.dataset.records import SourceRecord, Split
from agesearch.specs import SplitSpec


def split_of(record: SourceRecord, image_digest: str, spec: SplitSpec) -> Split:
    """The owner's split where the source gives one; else that of the subject, or of the image where the
    source knows no subjects.

    ``image_digest`` is the digest of the source file, so that all faces of one photograph stay together.
    """
    if record.split is not None:
        return record.split
    if record.subject_id is not None:
        return split_of_key(f"subject:{record.subject_id}", spec)
    return split_of_key(f"image:{image_digest}", spec)


def split_of_key(key: str, spec: SplitSpec) -> Split:
    """The split of a key: its seeded hash, as a number in [0, 1), falls below ``test``, below ``test + val``,
    or in the rest. Adding rows never moves a key, and a larger share keeps the keys a smaller one had.
    """
    digest = hashlib.sha256(f"{spec.seed}:{key}".encode()).digest()
    draw = int.from_bytes(digest[:8], "big") / 2**64
    if draw < spec.test:
        return Split.TEST
    return Split.VAL if draw < spec.test + spec.val else Split.TRAIN
