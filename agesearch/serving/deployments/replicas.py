"""[ray] The replicas of a service on a cluster: actors on the node of its supervisor.

Ray starts a replica again that dies, and ends all of them with the supervisor, however that ends: nobody else
holds them. They ask for no CPU of their own, since the supervisor holds the CPUs of all: so a new version can
run beside the one that answers on a node that is full.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agesearch.cluster.nodes import this_node
from agesearch.errors import AgeSearchError, first_line
from agesearch.serving.access.check import Access
from agesearch.serving.images import ImageLimits
from agesearch.serving.rollout.groups import Group, Groups, Replica, Replicas

#: Seconds that replicas have for the requests that they work on when they are to end, and between two looks
#: of one at itself.
_DRAIN_S, _LOOK_S = 10.0, 2.0


class ReplicaActor:
    """A replica as an actor."""

    def __init__(self, folder: str, access: Access, threads: int, limits: ImageLimits, place: str) -> None:
        os.chdir("/")  # the folder of a job that deployed it goes
        self._replica = Replica(folder, access, threads, limits, place, secrets.token_hex(8))
        self._draining = threading.Event()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def ready(self) -> None:
        """Return once it serves."""

    def drain(self) -> None:
        """Answer what came, and stop."""
        self._draining.set()
        self._replica.drain()

    def _watch(self) -> None:
        while not self._draining.wait(_LOOK_S):
            try:
                self._replica.check()
            except AgeSearchError:
                os._exit(1)  # Ray starts another in its place


class ActorGroups(Groups):
    """Versions that run as actors, on the node of this process."""

    def __init__(self, folder: Path, access: Access, threads: int, limits: ImageLimits) -> None:
        super().__init__(folder, access, threads, limits)
        #: By group: each actor, and what says that it has started.
        self._actors: dict[str, list[tuple[Any, Any]]] = {}

    def close(self) -> None:
        """End all of them: first they answer what they have."""
        for name in list(self._actors):
            _drained(self._actors.pop(name))

    def _launch(self, wanted: Sequence[tuple[Group, Replicas]]) -> None:
        for group, replicas in wanted:
            actors = self._actors.setdefault(group.name, [])
            while len(actors) < replicas.least:
                actors.append(self._started_actor(group))
            self._actors[group.name], surplus = actors[: replicas.least], actors[replicas.least :]
            _drained(surplus)

    def _end(self, group: Group) -> None:
        _drained(self._actors.pop(group.name, []))

    def _fault(self, group: Group) -> str | None:
        import ray

        pairs = self._actors.get(group.name, [])
        done, _ = ray.wait([ready for _, ready in pairs], num_returns=len(pairs), timeout=0)
        for ready in done:
            try:
                ray.get(ready)
            except ray.exceptions.ActorDiedError as error:
                return _cause(error)
            except ray.exceptions.RayError:  # it is being started again
                continue
        return None

    def _started_actor(self, group: Group) -> tuple[Any, Any]:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        kind: Any = ray.remote(ReplicaActor)
        actor = kind.options(
            num_cpus=0,
            max_restarts=-1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(this_node(), soft=False),
            runtime_env={"env_vars": self._environment()},
        ).remote(group.folder, self._access, self._threads, self._limits, str(self._folder / group.name))
        return actor, actor.ready.remote()


def _drained(pairs: Sequence[tuple[Any, Any]]) -> None:
    """End actors, all at once, when they have answered what they have."""
    import ray

    if pairs:
        asked = [actor.drain.remote() for actor, _ in pairs]
        ray.wait(asked, num_returns=len(asked), timeout=_DRAIN_S)
    for actor, _ in pairs:
        ray.kill(actor)


def _cause(error: BaseException) -> str:
    """What an actor met when it started: the last line of the traceback that Ray hands on."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return first_line(RuntimeError(lines[-1])) if lines else first_line(error)
