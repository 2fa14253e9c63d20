"""What is wrong, or will be, with a machine or a cluster: facts in, findings with a remedy out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from agesearch.cluster.facts import PACKAGES, MachineFacts, PlaceFacts, machine_facts
from agesearch.cluster.nodes import alive_nodes, ask_each
from agesearch.errors import AgeSearchError

Level = Literal["good", "note", "fault"]

_GIB = 1024**3
_PYTHONS = ((3, 11), (3, 13))
#: Ray spills and logs into the folder for temporary files; below this a study may end for want of room.
_LEAST_DISK = 5 * _GIB
_LEAST_MEMORY = 2 * _GIB
#: Ray keeps shared data here, or in slower files where it is smaller.
_LEAST_SHARED = 1 * _GIB
_LEAST_FILES = 4096
#: Clocks that differ by more make times in records, and leases on object stores, misleading.
_MOST_SKEW_S = 2.0
_PRIVATE = 0o077


@dataclass(frozen=True)
class Finding:
    """One line of a check-up: of which machine, how grave, what is so, and what to do ("" where nothing)."""

    machine: str
    level: Level
    about: str
    says: str
    remedy: str = ""


def check_machine(facts: MachineFacts, name: str = "this machine") -> list[Finding]:
    """What one machine's facts mean."""
    return [
        Finding(name, level, about, says, remedy)
        for check in (_python, _opencv, _memory, _shared_memory, _files, _token, _gpus, _ports, _places)
        for level, about, says, remedy in check(facts)
    ]


def compare_machines(here: MachineFacts, there: MachineFacts, name: str, skew_s: float) -> list[Finding]:
    """Where a node differs from the machine of the command: versions, clock."""
    found = []
    mine, its = (_versions(facts) for facts in (here, there))
    for package in sorted(mine.keys() | its.keys()):
        ours, other = mine.get(package), its.get(package)
        if ours != other:
            remedy = f"install {package} {ours} there" if ours else f"remove {package} there"
            says = f"{package} is {other or 'not installed'}, and {ours or 'not installed'} here"
            found.append(Finding(name, "fault", "versions", says, remedy))
    if not found:
        found.append(Finding(name, "good", "versions", "the same as here"))
    late = abs(skew_s) > _MOST_SKEW_S
    says = f"its clock is {abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's"
    found.append(
        Finding(name, "fault", "clock", says, "run NTP (chrony, systemd-timesyncd) on every node")
        if late
        else Finding(name, "good", "clock", f"within {_MOST_SKEW_S:.0f} s of this machine's")
    )
    return found


def check_cluster(here: MachineFacts, places: list[str]) -> tuple[list[Finding], dict[str, MachineFacts]]:
    """Look at every node of the Ray cluster that was joined; also gives the facts by the node's name."""
    findings: list[Finding] = []
    facts: dict[str, MachineFacts] = {}
    nodes = alive_nodes()
    for node, answer in ask_each(nodes, machine_facts, places).items():
        name = str(node)
        if isinstance(answer, AgeSearchError):
            remedy = "install the same agesearch and Python there, and look at the node's logs"
            findings.append(Finding(name, "fault", "node", str(answer), remedy))
            continue
        facts[name] = answer
        findings += check_machine(answer, name)
        # Its clock was read at some time between the question and the answer, which takes seconds where a
        # process has to start: so only what no such time explains is a skew.
        findings += compare_machines(here, answer, name, _skew(here.clock, answer.clock))
    return findings, facts


def _skew(asked: float, read: float) -> float:
    """Seconds by which a clock that was read after ``asked``, and before now, is ahead (or behind, < 0)."""
    now = time.time()
    return read - now if read > now else min(0.0, read - asked)


def _versions(facts: MachineFacts) -> dict[str, str]:
    python = ".".join(facts.python.split(".")[:2])
    return {"Python": python} | {name: facts.packages[name] for name in PACKAGES if name in facts.packages}


_Line = tuple[Level, str, str, str]


def _python(facts: MachineFacts) -> Iterator[_Line]:
    version = tuple(int(part) for part in facts.python.split(".")[:2])
    low, high = (".".join(map(str, bound)) for bound in _PYTHONS)
    says = f"Python {facts.python}, agesearch {facts.packages.get('agesearch', 'not installed')}"
    if _PYTHONS[0] <= version <= _PYTHONS[1]:
        yield "good", "Python", says, ""
    else:
        yield "fault", "Python", says, f"use Python {low} to {high}"


def _opencv(facts: MachineFacts) -> Iterator[_Line]:
    if len(facts.opencv) == 1:
        ((name, version),) = facts.opencv.items()
        yield "good", "OpenCV", f"{name} {version}", ""
        return
    names = ", ".join(f"{name} {version}" for name, version in facts.opencv.items()) or "none"
    remedy = (
        f"pip uninstall {' '.join(facts.opencv)}; pip install opencv-python-headless: wheels of OpenCV write "
        "over each other's files"
        if facts.opencv
        else "pip install opencv-python-headless"
    )
    yield "fault", "OpenCV", f"wheels installed: {names}", remedy


def _memory(facts: MachineFacts) -> Iterator[_Line]:
    free, total = _size(facts.memory_free_bytes), _size(facts.memory_bytes)
    says = f"{facts.cores} cores, {free} of {total} memory are free"
    if facts.memory_free_bytes < _LEAST_MEMORY:
        remedy = f"end other programs, or use fewer trials at once: {_size(_LEAST_MEMORY)} are needed"
        yield "fault", "memory", says, remedy
    else:
        yield "good", "memory", says, ""


def _shared_memory(facts: MachineFacts) -> Iterator[_Line]:
    size = facts.shared_memory_bytes
    if size is None:
        yield "note", "/dev/shm", "there is none: Ray keeps shared data in slower files", ""
    elif size < _LEAST_SHARED:
        remedy = f"give the container more (docker run --shm-size={_LEAST_SHARED // _GIB}g)"
        yield "note", "/dev/shm", f"has {_size(size)}: Ray keeps shared data in slower files", remedy
    else:
        yield "good", "/dev/shm", f"has {_size(size)}", ""


def _files(facts: MachineFacts) -> Iterator[_Line]:
    if facts.open_files is not None and 0 <= facts.open_files < _LEAST_FILES:
        remedy = f"ulimit -n {_LEAST_FILES}: Ray opens thousands of files and sockets"
        yield "note", "open files", f"at most {facts.open_files} at once", remedy


def _token(facts: MachineFacts) -> Iterator[_Line]:
    if facts.token_in_environment:
        yield "good", "token", "Ray's token is in the environment", ""
    elif facts.token_mode is None:
        remedy = "it is made at the first start; on other machines copy ~/.ray/auth_token, mode 0600"
        yield "note", "token", "there is no Ray token yet", remedy
    elif facts.token_mode & _PRIVATE:
        remedy = "chmod 600 ~/.ray/auth_token: whoever has the token runs code on the cluster"
        yield "fault", "token", f"others may read Ray's token (mode {facts.token_mode:04o})", remedy
    else:
        yield "good", "token", "Ray's token is there, for its owner alone", ""


def _gpus(facts: MachineFacts) -> Iterator[_Line]:
    if facts.gpus:
        yield "good", "GPUs", ", ".join(facts.gpus), ""
    elif facts.gpus_unseen:
        remedy = "install the CUDA build of torch that the driver supports"
        yield "fault", "GPUs", f"there is a GPU, but this is {facts.gpus_unseen}", remedy
    else:
        yield "good", "GPUs", "none: all runs on the CPU", ""


def _ports(facts: MachineFacts) -> Iterator[_Line]:
    if facts.listening:
        remedy = "put a firewall before them; cluster/README.md names each"
        yield "note", "open ports", f"Ray listens beyond loopback: {', '.join(facts.listening)}", remedy


def _places(facts: MachineFacts) -> Iterator[_Line]:
    for place in facts.places:
        yield _place(place)


def _place(place: PlaceFacts) -> _Line:
    if place.unread is not None:
        remedy = "make it, share it with this machine, or give this machine the credentials"
        return "fault", "place", f"'{place.place}' cannot be read: {place.unread}", remedy
    if place.unwritten is not None:
        remedy = "let this user write there, or choose another place for what is made"
        return "note", "place", f"'{place.place}' can be read and not written: {place.unwritten}", remedy
    if place.free_bytes is None:
        return "good", "place", f"'{place.place}' can be read and written", ""
    says = f"'{place.place}' can be read and written, {_size(place.free_bytes)} are free"
    if place.free_bytes < _LEAST_DISK:
        return "fault", "place", says, f"make room: {_size(_LEAST_DISK)} are needed"
    return "good", "place", says, ""


def _size(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"
