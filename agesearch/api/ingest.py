"""``agesearch.ingest``: photographs with ages become a dataset of face crops."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agesearch.api.places import Kept, Place, text_of
from agesearch.progress import Listener, silent
from agesearch.session import set_environment

if TYPE_CHECKING:
    from agesearch.data.dataset.records import Manifest
    from agesearch.data.ingest.record_index import Changes


@dataclass(frozen=True)
class Dataset(Kept):
    """A dataset: where it lies, its manifest, whether this run made or changed it, and how many records of
    the source were new, changed, kept or gone; and which nodes of a cluster took no part, with the reasons.
    """

    path: str
    manifest: Manifest
    is_new: bool
    changes: Changes
    left_out_nodes: tuple[str, ...] = ()

    @property
    def faces(self) -> int:
        """How many faces it holds."""
        return self.manifest.faces

    @property
    def counts(self) -> dict[str, int]:
        """Faces of each split."""
        return dict(self.manifest.counts)

    @property
    def left_out(self) -> dict[str, int]:
        """Rows that became no face, by reason; ``quarantine.parquet`` holds each."""
        return dict(self.manifest.left_out)


def ingest(
    source: str,
    path: Place,
    *,
    out: Place,
    images: Place | None = None,
    column: Mapping[str, str] | None = None,
    detector: str = "auto",
    scale: float = 1.3,
    size: int = 112,
    align: bool = True,
    val: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
    unlabelled: bool = False,
    variant: str | None = None,
    label_kind: str | None = None,
    licence: str | None = None,
    replace: bool = False,
    address: str | None = None,
    on_progress: Listener = silent,
) -> Dataset:
    """Make the dataset ``out`` of what the reader ``source`` finds at ``path``, split by subject.

    >>> faces = agesearch.ingest("csv", "faces.csv", images="photos", out="faces", detector="none")
    >>> faces.faces, faces.is_new
    (40, True)

    A second run works only on what is new or changed in the source.

    Args:
        source: a reader's name: ``csv``, ``folder``, ``adience``, ... (``agesearch data list``).
        column: the source's column for a field, such as ``{"age": "years"}``.
        detector: ``auto``, ``yuface``, ``yunet``, ``yunet:FILE.onnx``, or ``none`` for images that are
            face crops.
        scale: side of the crop over the longer side of the face's box; ``size``: its side in pixels.
        val: share of the subjects for validation; ``test``: for the test.

    Raises:
        InputError: a source that cannot be read or holds not one face; ``out`` holds something else.
    """
    set_environment()
    from agesearch.data.ingest.run import IngestSpec
    from agesearch.data.ingest.run import ingest as run_ingest
    from agesearch.specs import parse_spec

    document = {
        "source": source,
        "root": os.fspath(path),
        "images": text_of(images),
        "columns": dict(column or {}),
        "unlabelled": unlabelled,
        "variant": variant,
        "label_kind": label_kind,
        "licence": licence,
        "crop": {"detector": detector, "scale": scale, "size": size, "align": align},
        "split": {"val": val, "test": test, "seed": seed},
    }
    spec = parse_spec(IngestSpec, document, "data ingest")
    done = run_ingest(spec, os.fspath(out), replace=replace, address=address, on_progress=on_progress)
    return Dataset(os.fspath(out), done.manifest, done.is_new, done.changes, done.left_out_nodes)
