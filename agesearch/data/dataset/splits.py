"""Which part of a dataset a face belongs to: decided by a hash of who it shows, never by row order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from agesearch.data.dataset.records import SourceRecord, Split
from agesearch.specs import SplitSpec

_SUBJECT = "subject:"


def split_of(record: SourceRecord, photo_sha256: str, spec: SplitSpec) -> Split:
    """The owner's split where the source gives one; else that of the subject, or of the photograph where the
    source knows no subject: all boxes of one file fall into one split, since its digest decides.
    """
    if record.split is not None:
        return record.split
    if record.subject_id is not None:
        return split_of_key(f"{_SUBJECT}{record.subject_id}", spec)
    return split_of_key(f"image:{photo_sha256}", spec)


def tied_splits(shown: Iterable[tuple[str, str]], spec: SplitSpec) -> dict[str, Split]:
    """One split for all whom photographs tie to each other, directly or through others.

    ``shown`` are pairs of a photograph and who is on it: ``subject:NAME``, or a name of the photograph itself
    for a face of nobody known. Gives the split of each of them that shares a photograph with another: that of
    the first subject by name, so that it depends on the source's content only, not on its order.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    first_on: dict[str, str] = {}
    for photo, who in shown:
        parent.setdefault(who, who)
        parent[root(who)] = root(first_on.setdefault(photo, who))
    groups: dict[str, list[str]] = {}
    for who in parent:
        groups.setdefault(root(who), []).append(who)
    found: dict[str, Split] = {}
    for members in groups.values():
        if len(members) > 1:
            split = split_of_key(min(who for who in members if who.startswith(_SUBJECT)), spec)
            found |= dict.fromkeys(members, split)
    return found


def split_of_key(key: str, spec: SplitSpec) -> Split:
    """The split of a key: its seeded hash, as a number in [0, 1), falls below ``test``, below ``test + val``,
    or in the rest. Adding rows never moves a key, and a larger share keeps the keys a smaller one had.
    """
    digest = hashlib.sha256(f"{spec.seed}:{key}".encode()).digest()
    draw = int.from_bytes(digest[:8], "big") / 2**64
    if draw < spec.test:
        return Split.TEST
    return Split.VAL if draw < spec.test + spec.val else Split.TRAIN
