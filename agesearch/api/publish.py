"""``agesearch.publish``: an immutable version of a student in the registry."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agesearch.api.places import Place, text_of
from agesearch.progress import Listener, silent
from agesearch.session import set_environment

if TYPE_CHECKING:
    from agesearch.deploy.publish import Published


def publish(
    source: Place,
    *,
    name: str,
    pick: str | int = "knee",
    registry: Place = "registry",
    alias: str = "champion",
    data: Place | None = None,
    teacher: Place | None = None,
    max_drop: float = 0.1,
    on_progress: Listener = silent,
) -> Published:
    """Publish a student of the study ``source``, or a model folder with its dataset ``data``, as the next
    version of ``name``, and point ``alias`` at it.

    >>> published = agesearch.publish("teacher", data="faces", name="ages", alias="candidate")
    >>> published.version.label, published.alias.alias
    ('ages:0001', 'candidate')

    What the model's card says and nobody has measured yet is measured first: speed beside the teacher,
    accuracy and robustness. The ONNX export is compared with the trained network. Content that is in the
    registry already is not written again.

    Args:
        pick: ``knee``, ``best`` (smallest error), ``fastest`` or a trial's number.
        data: the dataset the export is checked on; None: the study's own. ``teacher``: where the study's
            teacher is now; None: where the study found it.
        max_drop: years of MAE that int8 or bf16 may lose to be served; 0: fp32 alone.

    Raises:
        InputError: no study and no model; nothing to pick.
        AgeSearchError: the export does not answer as the network does.
    """
    set_environment()
    from agesearch.deploy.publish import publish as publish_model

    return publish_model(
        os.fspath(source),
        name,
        os.fspath(registry),
        pick=str(pick),
        dataset=text_of(data),
        teacher=text_of(teacher),
        max_drop=max_drop,
        alias=alias,
        on_progress=on_progress,
    )
