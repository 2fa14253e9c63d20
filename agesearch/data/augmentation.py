"""New faces without labels, made of the faces of a dataset, for a teacher to label.

A teacher can label any pixels: jittered views of a face, two faces blended (mixup, Zhang 2018), a face with
a piece of another (cutmix, Yun 2019). A student learns from the teacher's answers for them, where it would
learn the few faces that they are made of by heart (Beyer 2022).

Nothing but the faces of the chosen part is read. Made faces are a pure function of (seed, options, sample
ids of the part), as far as the versions of OpenCV and NumPy go, and of no machine, thread or order.

Memory does not grow with the dataset: the part is read in windows of at most ``WINDOW_FACES`` faces, still
encoded, and the second face of a pair is drawn from the window of the first. Rows of a dataset lie in the
order of a hash, so a window is a fair sample of the part; a part of up to ``WINDOW_FACES`` faces is one
window, and any two of them may meet. In a dataset whose rows lie in the order of its source (``data reshard``
mixes them) the faces of a larger part meet only those that stand near them there.

A made face counts as the person and the photograph of its first face, of which it shows the most: splits by
person stay right within the part, whose faces all go to one split, and a mixture leaves it out where that
photograph is tested. Of its second face that is not known: do not test on faces of the part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from agesearch.data.dataset.arrays import stored_crop
from agesearch.data.dataset.records import (
    SCHEMA_VERSION,
    Augmentation,
    Manifest,
    Part,
    Split,
    photographs_of,
    read_manifest,
)
from agesearch.data.dataset.shards import row_batches, rows_of_shards, shard_names
from agesearch.data.dataset.writer import DatasetWriter, check_output, made_already
from agesearch.data.images.augment import VIEWS_RECIPE, Augmenter, Draws
from agesearch.data.images.crop import encode_crop
from agesearch.data.images.mixing import blended, drawn_rectangle, drawn_share, pasted
from agesearch.data.images.transforms import Pixels
from agesearch.data.reading.teacher_outputs import stored_key
from agesearch.errors import InputError
from agesearch.machine import cores
from agesearch.progress import Listener, Progress, silent
from agesearch.specs import AugmentSpec, CropSpec, Seed, Spec, digest_of
from agesearch.storage import Location, exclusive

#: Raise it whenever the same options give other pairs or pixels (what a view looks like: ``VIEWS_RECIPE``).
RECIPE = 1

#: Faces that are held at once, encoded: some 10 MB of 112-pixel crops.
WINDOW_FACES = 2048
#: The most faces that are made: beyond it a slip of the keyboard is likelier than a wish.
MOST_FACES = 100_000_000
_MOST_A_FACE = 1000

_STAGE = "augment"
#: Faces that the threads work on before what they made is written.
_FACES_AT_ONCE = 64
_COLUMNS = ["sample_id", "photo_digest", "image", "subject_id", "sex", "ethnicity", "source"]

Kind = Literal["view", "mixup", "cutmix"]
Row = Mapping[str, Any]


class AugmentationSpec(Spec):
    """What is made of each face of ``part``: so many ``views`` of it, jittered by a ``policy`` (a row of
    ``agesearch.data.images.augment.POLICIES``) at a ``strength``, and so many blends (``mixup``) and pastings
    (``cutmix``) of it and another face of the part, both jittered likewise.

    View number i of a face is the very one that ``augment: {views: ..., view_seed: seed}`` trains on.
    """

    views: int = Field(4, ge=0, le=_MOST_A_FACE)
    mixup: int = Field(4, ge=0, le=_MOST_A_FACE)
    cutmix: int = Field(4, ge=0, le=_MOST_A_FACE)
    policy: Literal["default", "greco"] = "default"
    strength: float = Field(1.0, ge=0.0, le=3.0)
    seed: Seed = 0
    part: Part = Part(Split.TRAIN)

    @model_validator(mode="after")
    def _makes_new_faces(self) -> Self:
        if not sum(self.made.values()):
            raise ValueError("views, mixup and cutmix are all 0, but one of them must say how many faces")
        if self.views and not self.strength:
            raise ValueError("views at strength 0 are copies of the faces: give a strength, or views 0")
        return self

    @property
    def made(self) -> dict[Kind, int]:
        """How many faces of each kind are made of a face."""
        return {"view": self.views, "mixup": self.mixup, "cutmix": self.cutmix}

    @property
    def pairs(self) -> bool:
        """Whether any face is made of two."""
        return bool(self.mixup or self.cutmix)


def augment(
    dataset: str | Location,
    out: str | Location,
    spec: AugmentationSpec | None = None,
    *,
    replace: bool = False,
    on_progress: Listener = silent,
) -> tuple[Manifest, bool]:
    """Write the dataset of made faces to ``out``, all of the split ``train``; returns its manifest, and
    whether this run made it.

    Nothing is done where ``out`` is that dataset already; a run that fails or is killed leaves ``out`` as it
    was. Raises ``InputError`` where the part has no faces (or one, of which no pair can be made), a face
    cannot be decoded or too many would be made; ``ConflictError`` where ``out`` holds something else (another
    dataset may be replaced by ``replace``).
    """
    asked = spec or AugmentationSpec()
    folder, target = Location.of(dataset), Location.of(out)
    manifest = read_manifest(folder)
    if folder == target:
        raise InputError(f"'{target}' is the dataset that faces are made of, so it cannot be its output too.")
    source, recipe = stored_key(manifest), _recipe(asked)
    if existing := made_already(target, source, recipe, replace=replace):
        return existing, False
    faces = _counted(folder, asked)
    with exclusive(target, "The dataset"):
        check_output(target, replace=replace)  # another run may have come in between
        writer = _writer(target, manifest, asked, faces, replace=replace)
        try:
            _fill(writer, folder, _Maker(asked, manifest.crop), faces, on_progress)
            return writer.finish(source_digest=source, spec_digest=recipe), True
        except BaseException:
            writer.discard()
            raise


class _Maker:
    """Makes faces of the faces of a window; threads may share it."""

    def __init__(self, spec: AugmentationSpec, crop: CropSpec) -> None:
        self.spec = spec
        self._crop = crop
        self._jitter = Augmenter(AugmentSpec(policy=spec.policy, strength=spec.strength), spec.seed)

    def of_face(self, window: Sequence[Row], index: int) -> list[dict[str, Any]]:
        """The rows that are made of a face of a window, and of those that it is paired with."""
        row = window[index]
        face = self._decoded(row)
        rows = [
            self._row("view", number, [row], self._jitter(face, number, row["sample_id"]))
            for number in range(self.spec.views)
        ]
        for kind, count in self.spec.made.items():
            if kind != "view":
                rows += [self._pair(kind, number, window, index, face) for number in range(count)]
        return rows

    def _pair(
        self, kind: Kind, number: int, window: Sequence[Row], index: int, face: Pixels
    ) -> dict[str, Any]:
        """The row of a blend or a pasting, with any other face of the window."""
        row, key = window[index], f"{kind}/{window[index]['sample_id']}"
        draws = Draws(self.spec.seed, number, key)
        at = draws.whole(0, len(window) - 2)
        partner = window[at + (at >= index)]
        first = self._jitter(face, number, f"{key}/first")
        second = self._jitter(self._decoded(partner), number, f"{key}/second/{partner['sample_id']}")
        if kind == "mixup":
            made = blended(first, second, drawn_share(draws))
        else:
            made = pasted(first, second, drawn_rectangle(self._crop.size, draws))
        return self._row(kind, number, [row, partner], made)

    def _row(self, kind: Kind, number: int, of: Sequence[Row], made: Pixels) -> dict[str, Any]:
        """A made face; what is written of a person stays where it holds for both."""
        first = of[0]
        return {
            "sample_id": self._name(kind, number, of),
            "photo_digest": first["photograph"],
            "image": encode_crop(made, self._crop),
            "subject_id": first["subject_id"],
            "sex": _shared(of, "sex"),
            "ethnicity": _shared(of, "ethnicity"),
            "source": f"{first['source']}/{kind}",
            "split": Split.TRAIN.value,
        }

    def _name(self, kind: Kind, number: int, of: Sequence[Row]) -> str:
        """A sample id that names the pixels, as far as the pixels of the faces they are made of are named by
        theirs; 32 hex digits, as others have.
        """
        spec, ids = self.spec, [row["sample_id"] for row in of]
        key = [RECIPE, VIEWS_RECIPE, spec.policy, spec.strength, spec.seed, kind, number, *ids]
        return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]

    def _decoded(self, row: Row) -> Pixels:
        try:
            return stored_crop(row["image"], self._crop.size)
        except InputError as error:
            raise InputError(f"The face '{row['sample_id']}': {error}") from error


def _fill(writer: DatasetWriter, folder: Location, maker: _Maker, faces: int, on_progress: Listener) -> None:
    total = faces * sum(maker.spec.made.values())
    on_progress(Progress(_STAGE, 0, total))
    with ThreadPoolExecutor(cores()) as pool:
        for window in _windows(folder, maker.spec.part, faces):
            for start in range(0, len(window), _FACES_AT_ONCE):
                some = range(start, min(start + _FACES_AT_ONCE, len(window)))
                for rows in pool.map(lambda index, window=window: maker.of_face(window, index), some):
                    writer.add(rows)
                on_progress(Progress(_STAGE, writer.faces, total))


def _windows(folder: Location, part: Part, faces: int) -> Iterator[list[Row]]:
    """The faces of the part in windows of about equal numbers, each sorted by sample id."""
    count = -(-faces // WINDOW_FACES)
    ends = [faces * (number + 1) // count for number in range(count)]
    waiting: list[Row] = []
    seen = 0
    for shard in shard_names(folder):
        for batch in row_batches(folder, part, _COLUMNS, shards=[shard]):
            photographs = photographs_of(batch)
            waiting += [
                row | {"photograph": photograph}
                for row, photograph in zip(batch.to_pylist(), photographs, strict=True)
            ]
            while ends and len(waiting) >= ends[0] - seen:
                size = ends.pop(0) - seen
                window, waiting = waiting[:size], waiting[size:]
                seen += size
                yield sorted(window, key=lambda row: str(row["sample_id"]))
    if ends or waiting:
        raise InputError(f"'{folder}' changed while it was read: run again.")


def _counted(folder: Location, spec: AugmentationSpec) -> int:
    """How many faces the part has, where they are enough and what is asked for is not too much."""
    faces = sum(rows_of_shards(folder, spec.part).values())
    if not faces:
        raise InputError(f"'{folder}' has no faces in {spec.part}: give another --split or --fold.")
    if spec.pairs and faces == 1:
        raise InputError(
            f"'{folder}' has one face in {spec.part}, but mixup and cutmix need two: ask for --views alone."
        )
    total = faces * sum(spec.made.values())
    if total > MOST_FACES:
        raise InputError(
            f"{total:,} faces would be made of {faces:,}, but {MOST_FACES:,} are the most: ask for fewer a "
            "face (--views, --mixup, --cutmix)."
        )
    return faces


def _writer(
    target: Location, source: Manifest, spec: AugmentationSpec, faces: int, *, replace: bool
) -> DatasetWriter:
    made = {kind: faces * count for kind, count in spec.made.items()}
    note = (
        f"Its faces are no photographs: they are made of {faces:,} faces of '{source.name}' ({spec.part}), "
        f"{made['view']:,} jittered, {made['mixup']:,} blended of two, {made['cutmix']:,} with a piece of "
        "another. Each counts as its first face's person."
    )
    return DatasetWriter(
        target,
        name=f"{source.name}-augmented",
        label_kind="none",
        licence=source.licence,
        crop=source.crop,
        detector=source.detector,
        notes=(*source.passed_on_notes, note),
        augmentation=Augmentation(
            data=source.name,
            data_digest=source.content_digest,
            part=spec.part,
            options=spec.model_dump(mode="json", exclude={"part"}),
            made_of=faces,
        ),
        replace=replace,
    )


def _recipe(spec: AugmentationSpec) -> str:
    """Digest of all that decides the faces, besides those that they are made of."""
    return digest_of([RECIPE, VIEWS_RECIPE, SCHEMA_VERSION, spec.model_dump(mode="json")])


def _shared(rows: Sequence[Row], name: str) -> Any:
    """The value that all rows have; None where they differ."""
    first = rows[0][name]
    return first if all(row[name] == first for row in rows) else None
