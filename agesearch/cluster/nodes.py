"""[ray] The nodes of a Ray cluster: which there are, what each can see, and who is left out of some work.

A cluster is several machines, and a path, a credential or a version of one need not be that of another. So
work that reads or writes outside Ray asks every node first; a node that cannot do it takes no part, and says
why. Ray must be running.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from agesearch.errors import AgeSearchError, InputError, first_line
from agesearch.provenance import installed
from agesearch.storage import Location, is_denied

_Answer = TypeVar("_Answer")
#: Seconds until a node that does not answer counts as one that cannot: a worker process starts in 5 to 20 s.
_PATIENCE_S = 60.0
#: The label that Ray gives each node.
_NODE_ID = "ray.io/node-id"


@dataclass(frozen=True)
class Node:
    """A node that is alive: Ray's ``id``, the host's name, its address, and the CPUs that it offers."""

    id: str
    host: str
    address: str
    cpus: float

    def __str__(self) -> str:
        return f"{self.host} ({self.address})"


def alive_nodes() -> list[Node]:
    """The nodes of the cluster, by address."""
    import ray

    found = [
        Node(
            node["NodeID"],
            node["NodeManagerHostname"],
            node["NodeManagerAddress"],
            float(node["Resources"].get("CPU", 0)),
        )
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]
    return sorted(found, key=lambda node: (node.address, node.id))


def cpus_now() -> int:
    """The CPUs of the cluster at this moment, at least 1: nodes join and leave while work goes on."""
    return max(1, int(sum(node.cpus for node in alive_nodes())))


def this_node() -> str:
    """Ray's id of the node that this process runs on."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def ask_each(
    nodes: Sequence[Node], look: Callable[..., _Answer], *given: Any
) -> dict[Node, _Answer | AgeSearchError]:
    """Call ``look(*given)`` in a process on each node, all at once; an error says why a node did not answer.

    ``look`` must be a function of an installed module. It takes no CPU: a node that is busy answers, too.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task: Any = ray.remote(num_cpus=0, max_retries=1)(look)
    asked = {
        node: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(
            *given
        )
        for node in nodes
    }
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=_PATIENCE_S)
    found: dict[Node, _Answer | AgeSearchError] = {}
    for node, reference in asked.items():
        try:
            found[node] = ray.get(reference, timeout=0)
        except ray.exceptions.GetTimeoutError:
            found[node] = AgeSearchError(f"it did not answer within {_PATIENCE_S:.0f} s")
        except ray.exceptions.RayError as error:
            found[node] = AgeSearchError(f"it cannot run agesearch: {_last_line(error)}")
    return found


def without(nodes: Iterable[str]) -> dict[str, Any]:
    """Ray options of tasks that are to run on any node but these (by id), now or when others join."""
    left_out = ",".join(sorted(nodes))
    return {"label_selector": {_NODE_ID: f"!in({left_out})"}} if left_out else {}


def check_shared(folder: Location, what: str, holding: str = ".lock") -> None:
    """Every node must see a folder and what it is ``holding``, with this agesearch: work is done there.

    ``InputError`` names a node that does not.
    """
    nodes = alive_nodes()
    if len(nodes) < 2:
        return
    for node, why in unfit(nodes, [str(folder / holding)]).items():
        raise InputError(
            f"The node {node} cannot take part: {why}. Put {what} into a folder that all nodes share "
            "('--address' names a cluster of several machines)."
        )


def unfit(nodes: Sequence[Node], paths: Sequence[str], folders: Sequence[str] = ()) -> dict[Node, str]:
    """The nodes that cannot read all ``paths`` (local or URIs) and write into all ``folders``, or run another
    agesearch, and why.
    """
    return faults_of(ask_each(nodes, sight_of, list(paths), list(folders)))


def faults_of(answers: Mapping[Node, Sight | AgeSearchError]) -> dict[Node, str]:
    """The nodes that miss something, did not answer, or run another agesearch, and why."""
    found = {}
    for node, answer in answers.items():
        why = str(answer) if isinstance(answer, AgeSearchError) else _difference(answer)
        if why is not None:
            found[node] = why
    return found


@dataclass(frozen=True)
class Sight:
    """What a node found: its versions, and the first path that it could not read or folder that it could not
    write into, with the reason.
    """

    versions: dict[str, str]
    unread: str | None = None


def sight_of(paths: Sequence[str], folders: Sequence[str] = ()) -> Sight:
    """What this machine sees of files and folders."""
    unread = (f"it cannot read '{path}' ({why})" for path in paths if (why := unreadable(path)) is not None)
    unwritten = (
        f"it cannot write '{path}' ({why})" for path in folders if (why := unwritable(path)) is not None
    )
    return Sight(_versions(), next(chain(unread, unwritten), None))


def unreadable(path: str) -> str | None:
    """Why a file or folder cannot be read from here; None where it can."""
    try:
        place = Location.of(path)
        if not place.exists():
            return "there is none"
        if not place.is_dir():
            with place.filesystem.open_input_stream(place.path) as stream:
                stream.read(1)
    except (AgeSearchError, OSError, ValueError) as error:
        return _reason(error)
    return None


def unwritable(folder: str) -> str | None:
    """Why nothing can be written into a folder from here, and read again; None where it can. What was there
    stays.
    """
    try:
        probe = Location.of(folder) / f".agesearch-probe-{uuid.uuid4().hex}"
        with probe.filesystem.open_output_stream(probe.path) as stream:
            stream.write(b"probe")
        why = unreadable(str(probe))
        probe.filesystem.delete_file(probe.path)
    except (AgeSearchError, OSError, ValueError) as error:
        return _reason(error)
    return why


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    denied = "access denied: credentials are missing there, or do not allow it"
    return denied if is_denied(error) else first_line(error)[:200]


def _versions() -> dict[str, str]:
    return {"Python": f"{sys.version_info.major}.{sys.version_info.minor}"} | installed(("agesearch",))


def _difference(there: Sight) -> str | None:
    for name, here in _versions().items():
        if (version := there.versions.get(name)) != here:
            return f"it has {name} {version or 'not installed'}, and this machine {here}"
    return there.unread


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
