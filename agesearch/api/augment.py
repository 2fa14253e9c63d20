"""``agesearch.augment``: new faces without labels, made of the faces of a dataset, for a teacher to label."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agesearch.api.places import Kept, Place
from agesearch.progress import Listener, silent
from agesearch.session import set_environment

if TYPE_CHECKING:
    from agesearch.data.dataset.records import Manifest


@dataclass(frozen=True)
class AugmentedFaces(Kept):
    """A dataset of made faces: where it lies, its manifest, and whether this run made it."""

    path: str
    manifest: Manifest
    is_new: bool

    @property
    def faces(self) -> int:
        """How many faces it holds, all of them in the split ``train``."""
        return self.manifest.faces


def augment(
    data: Place,
    *,
    out: Place,
    views: int = 4,
    mixup: int = 4,
    cutmix: int = 4,
    policy: str = "default",
    strength: float = 1.0,
    split: str = "train",
    folds: Sequence[int] | None = None,
    seed: int = 0,
    replace: bool = False,
    on_progress: Listener = silent,
) -> AugmentedFaces:
    """Make new faces of those of ``data``, without labels, as the dataset ``out``.

    >>> made = agesearch.augment("faces", out="faces-augmented", views=2, mixup=1, cutmix=1)
    >>> made.faces, made.manifest.label_kind
    (92, 'none')

    A teacher gives them ages (``agesearch annotate``), a mixture joins them with the faces they were made of
    (``agesearch data mix``). Called again with the same arguments it does nothing.

    Args:
        views: of each face so many jittered views; ``mixup``: so many blends with another face (Zhang 2018);
            ``cutmix``: so many with a rectangle of another face (Yun 2019); all of jittered faces.
        policy: how faces are jittered: ``default`` or ``greco``, at a ``strength`` of 0 to 3.
        split: ``train``, ``val``, ``test`` or ``all``: the faces to make them of, and no others;
            ``folds``: of these folds alone.

    Raises:
        InputError: no such faces; nothing to be made; ``out`` holds something else.
    """
    set_environment()
    from agesearch.data.augmentation import AugmentationSpec
    from agesearch.data.augmentation import augment as run_augment
    from agesearch.measure.protocols import part_named
    from agesearch.specs import parse_spec

    document = {
        "views": views,
        "mixup": mixup,
        "cutmix": cutmix,
        "policy": policy,
        "strength": strength,
        "seed": seed,
        "part": part_named(split, folds),
    }
    spec = parse_spec(AugmentationSpec, document, "data augment")
    made = run_augment(os.fspath(data), os.fspath(out), spec, replace=replace, on_progress=on_progress)
    return AugmentedFaces(os.fspath(out), *made)
