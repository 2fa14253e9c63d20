"""Copies of one photograph among many faces: resized, compressed, brightened, cropped anew or mirrored.

Three steps. (1) Every crop gets pHashes (ImageHash: the signs of the 8 x 8 lowest DCT frequencies, 64 bits)
of two views, as it is and registered to the mean face, each also mirrored: a detector finds a slightly other
box in every copy, and registration takes most of that back. (2) Pairs within ``RADIUS`` bits come from tables
keyed by random samples of the bits (Indyk & Motwani 1998), so that strangers are hardly ever compared: a pair
at distance d in a view is proposed with probability 1 - (1 - C(64 - d, m) / C(64, m))^L, more than 0.99 at 6
bits and 0.94 at 8. (3) A proposal counts only where the pixels agree: the correlation that is left when small
shifts, zooms and turns are free (tangent distance, Simard et al. 1993).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from agesearch.data.audit.similarity import Registration, Thumbnails, similarity, thumbnail
from agesearch.data.dataset.arrays import Pixels
from agesearch.progress import Listener, Progress, silent

BITS = 64
RADIUS = 8
TABLES, SAMPLED_BITS = 32, 16
#: 95 of 100 copies of portraits score 0.991 or more, two different people at most 0.973, and two rendered
#: faces of 1,500 at most 0.987.
MIN_SIMILARITY = 0.99
_SEED = 20_240_501
#: Pairs that are compared at once, and the longest run of one key that is searched whole.
_CHUNK = 250_000
_LONGEST_RUN = 4096
#: Hashes that are sorted at once, some 50 bytes each.
_BLOCK = 2_000_000

PARAMETERS = {
    "hash_bits": float(BITS),
    "hash_radius": float(RADIUS),
    "hash_tables": float(TABLES),
    "hash_sampled_bits": float(SAMPLED_BITS),
    "min_similarity": MIN_SIMILARITY,
}

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]
#: Two faces each, the distance of their hashes in bits, and whether the second is mirrored, all ``[n]``.
Proposal = tuple[Indices, Indices, Indices, npt.NDArray[np.bool_]]

_STAGE = "compare"


@dataclass(frozen=True, slots=True)
class Match:
    """Two faces (indices in the order they were added) that show one photograph; ``distance`` in bits."""

    first: int
    second: int
    distance: int
    similarity: float
    mirrored: bool


class Fingerprints:
    """What N faces look like, 32 bytes each in memory and 576 on disk; ``matches`` finds the copies among
    them.
    """

    def __init__(self, capacity: int) -> None:
        self._size = 0
        self._thumbs = Thumbnails()
        self._hashes = np.zeros((4, capacity), np.uint64)  # two views, each plain and mirrored
        self._registration: Registration | None = None

    def __len__(self) -> int:
        return self._size

    def add(self, images: Pixels) -> None:
        """Take RGB crops ``uint8 [n, S, S, 3]``. The first ones make the mean face of all."""
        grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
        if self._registration is None:
            self._registration = Registration.to_mean_of(grey)
        plain, registered = self._registration.views(grey)
        for offset in range(len(grey)):
            place = self._size + offset
            views = (plain[offset], plain[offset][:, ::-1], registered[offset], registered[offset][:, ::-1])
            self._hashes[:, place] = [_phash(view) for view in views]
        self._thumbs.add(np.stack([thumbnail(face) for face in grey]))
        self._size += len(grey)

    def matches(self, on_progress: Listener = silent) -> list[Match]:
        """Pairs that tie all copies of a photograph together (not every pair of many copies)."""
        search = _Search(self._thumbs)
        for table, proposals in enumerate(self._tables()):
            on_progress(Progress(_STAGE, table, 2 * TABLES))
            for first, second, distance, mirrored in proposals:
                search.confirm(first, second, distance, mirrored)
                on_progress(Progress(_STAGE, table, 2 * TABLES, note=f"{len(search.matches)} copies so far"))
        on_progress(Progress(_STAGE, 2 * TABLES, 2 * TABLES, note=f"{len(search.matches)} copies"))
        return search.matches

    def _tables(self) -> Iterator[Iterator[Proposal]]:
        """The proposals of each table of each view."""
        rng = np.random.default_rng(_SEED)
        size = self._size
        for view in (self._hashes[0:2, :size], self._hashes[2:4, :size]):
            both = np.ascontiguousarray(view).reshape(-1)  # the plain hashes, then the mirrored ones
            for _ in range(TABLES):
                yield _proposals(both, size, rng.choice(BITS, SAMPLED_BITS, replace=False))


def _proposals(both: Hashes, size: int, bits: npt.NDArray[np.int64]) -> Iterator[Proposal]:
    """Pairs of ``size`` faces by the sampled ``bits`` of their hashes, plain and mirrored ``[2 * size]``."""
    for a, b, distance in close_pairs(both, bits):
        first, second = np.minimum(a, b), np.maximum(a, b)
        # Two mirrored hashes say what the two plain ones say; a face is no copy of itself.
        kept = (first < size) & (second - first != size)
        first, second, distance = first[kept], second[kept], distance[kept]
        yield first, second % size, distance, second >= size


def close_pairs(hashes: Hashes, bits: npt.NDArray[np.int64]) -> Iterator[tuple[Indices, Indices, Indices]]:
    """Index pairs (with their distance) of 64-bit hashes that agree in the sampled ``bits`` and differ in at
    most ``RADIUS`` of all, in parts of bounded size.
    """
    key = _keys(hashes, bits)
    if len(hashes) <= _BLOCK:
        yield from _close_in(hashes, key, np.arange(len(hashes)))
        return
    parts = len(hashes) // _BLOCK + 1
    for part in range(parts):
        inside = (key.astype(np.uint32) * parts) >> len(bits) == part
        yield from _close_in(hashes, key, np.flatnonzero(inside))


def _keys(hashes: Hashes, bits: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
    """The sampled bits of each hash as one number."""
    keys = np.zeros(len(hashes), np.uint16)
    for start in range(0, len(hashes), _BLOCK):
        part, found = hashes[start : start + _BLOCK], keys[start : start + _BLOCK]
        for bit in bits:
            found <<= np.uint16(1)
            found |= ((part >> np.uint64(bit)) & np.uint64(1)).astype(np.uint16)
    return keys


def _close_in(
    hashes: Hashes, keys: npt.NDArray[np.uint16], members: Indices
) -> Iterator[tuple[Indices, Indices, Indices]]:
    """The close pairs of hashes of equal keys among some ``members``, which hold all of a key or none."""
    # Equal hashes come to lie side by side, so that a run that is cut short still ties them together.
    order = members[np.lexsort((hashes[members], keys[members]))]
    key, sorted_hashes = keys[order], hashes[order]
    waiting: list[tuple[Indices, Indices, Indices]] = []
    left = np.arange(len(order) - 1)
    for offset in range(1, _LONGEST_RUN + 1):
        left = left[left + offset < len(key)]
        left = left[key[left] == key[left + offset]]
        if not left.size:
            break
        distance = np.bitwise_count(sorted_hashes[left] ^ sorted_hashes[left + offset])
        near = np.flatnonzero(distance <= RADIUS)
        if near.size:
            waiting.append((order[left[near]], order[left[near] + offset], distance[near].astype(np.int64)))
        # Neighbours come first and alone: they tie many copies of one picture together in one go.
        if waiting and (offset == 1 or sum(len(part[0]) for part in waiting) >= _CHUNK):
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


class _Search:
    """Confirms proposed pairs, each once, and leaves out those whose faces are tied together already."""

    def __init__(self, thumbs: Thumbnails) -> None:
        self.matches: list[Match] = []
        self._thumbs = thumbs
        self._group = np.arange(len(thumbs))
        self._refused = np.zeros(0, np.int64)

    def confirm(
        self, first: Indices, second: Indices, distance: Indices, mirrored: npt.NDArray[np.bool_]
    ) -> None:
        first, second = np.minimum(first, second), np.maximum(first, second)
        code = (first * len(self._thumbs) + second) * 2 + mirrored
        code, chosen = np.unique(code, return_index=True)
        apart = self._group[first[chosen]] != self._group[second[chosen]]
        new = apart & ~np.isin(code, self._refused, assume_unique=True)
        code, chosen = code[new], chosen[new]
        first, second, distance = first[chosen], second[chosen], distance[chosen]
        mirrored = mirrored[chosen]
        if not first.size:
            return
        alike = similarity(self._thumbs, first, second, mirrored)
        sure = alike >= MIN_SIMILARITY
        self._refused = np.union1d(self._refused, code[~sure])
        found = zip(first[sure], second[sure], distance[sure], alike[sure], mirrored[sure], strict=True)
        self.matches += [Match(int(a), int(b), int(d), float(r), bool(m)) for a, b, d, r, m in found]
        if sure.any():
            self._group = _grouped(self._group, first[sure], second[sure])


def groups_of(size: int, matches: list[Match]) -> list[list[int]]:
    """The sets of faces that matches tie together, each in ascending order."""
    if not matches:
        return []
    first, second = (np.array([getattr(match, name) for match in matches]) for name in ("first", "second"))
    label = _grouped(np.arange(size), first, second)
    members: dict[int, list[int]] = {}
    for index in np.unique(np.concatenate([first, second])).tolist():
        members.setdefault(int(label[index]), []).append(index)
    return list(members.values())


def _grouped(group: Indices, first: Indices, second: Indices) -> Indices:
    """The groups after some are joined."""
    size = len(group)
    ties = coo_array((np.ones(len(first), np.int8), (group[first], group[second])), shape=(size, size))
    label: Indices = connected_components(ties, directed=False)[1]
    return label[group]


def _joined(parts: list[tuple[Indices, Indices, Indices]]) -> tuple[Indices, Indices, Indices]:
    first, second, distance = (np.concatenate(column) for column in zip(*parts, strict=True))
    return first, second, distance


def _phash(view: npt.NDArray[np.uint8]) -> int:
    flags = imagehash.phash(Image.fromarray(view)).hash
    return int.from_bytes(np.packbits(flags).tobytes(), "big")
