"""[ray] What the simulated cluster needs of Ray that is not public: how Tune's controller hands actors out,
and where it keeps its files. Nothing else here imports a private module of Ray.

It is written for Ray 2.60. Where a version has none of a part, ``bench cluster`` says which and ends.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import ray

from agesearch.errors import AgeSearchError

WRITTEN_FOR = "2.60"

#: Each part, and what is used of it.
_PARTS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("ray.air.execution._internal.tracked_actor", "TrackedActor"): (),
    ("ray.train._internal.storage", "StorageContext"): ("_get_session_path",),
    ("ray.tune.experiment", "Experiment"): ("_storage_context_cls",),
    ("ray.tune.execution.tune_controller", "TuneController"): ("setup_experiments",),
}


def missing_parts() -> list[str]:
    """What is used of Ray's internals and this version does not have."""
    found = []
    for (module, name), used in _PARTS.items():
        try:
            part = getattr(importlib.import_module(module), name, None)
        except ImportError:
            part = None
        if part is None:
            found.append(f"{module}.{name}")
        found += [f"{module}.{name}.{one}" for one in used if part is not None and not hasattr(part, one)]
    return found


def require_parts() -> None:
    """An ``AgeSearchError`` that names what is missing."""
    missing = missing_parts()
    if missing:
        raise AgeSearchError(
            "A simulated cluster drives Tune's own controller through parts of Ray that are not public, and "
            f"Ray {ray.__version__} has no {', '.join(missing)}: it was written for Ray {WRITTEN_FOR}."
        )


def tracked_actor(number: int, **listeners: Any) -> Any:
    """An actor as the controller knows it; ``listeners`` are ``on_start``, ``on_stop`` and ``on_error``."""
    from ray.air.execution._internal.tracked_actor import TrackedActor

    return TrackedActor(number, **listeners)


def tell_started(actor: Any) -> None:
    """Tell the controller that an actor runs."""
    if actor._on_start is not None:
        actor._on_start(actor)


def tell_stopped(actor: Any) -> None:
    """Tell the controller that an actor has ended."""
    if actor._on_stop is not None:
        actor._on_stop(actor)


def experiment(*args: Any, **options: Any) -> Any:
    """A Tune experiment whose scratch files lie in the folder of the run: no Ray session keeps them."""
    from ray.train._internal.storage import StorageContext
    from ray.tune.experiment import Experiment

    class Storage(StorageContext):
        def _get_session_path(self) -> str:
            return f"{self.storage_fs_path}/session"

    class InFolder(Experiment):
        _storage_context_cls = Storage

    return InFolder(*args, **options)


def controller(actors: Any, **options: Any) -> Any:
    """Tune's controller with ``actors`` in place of its own manager of them."""
    from ray.tune.execution.tune_controller import TuneController

    made = TuneController(**options)
    made._actor_manager = actors
    return made
