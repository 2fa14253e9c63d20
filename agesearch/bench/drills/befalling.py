"""What befalls the hosts of a study, one thing a drill."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agesearch.bench.drills.service import STUDY_CPUS, service_lost
from agesearch.bench.drills.stage import PATIENCE_S, Stage
from agesearch.bench.drills.store import KEYS
from agesearch.errors import AgeSearchError
from agesearch.search.run.driver import EXPIRY_S, ask_to_stop, wait_until_stopped
from agesearch.storage import Location

#: Seconds that a link is cut for: Ray gives the host up meanwhile.
CUT_S = 30.0
#: Seconds for the Ray of a host that was given up to see that, and end.
_LEAVE_S = 90.0
#: Room for temporary files where a disk is full: for two files.
_FULL_KB = 8
#: The environment of a host without credentials.
_BARE: Mapping[str, str | None] = dict.fromkeys(KEYS)
#: The host of one CPU that something befalls, and one that joins later.
SECOND, LATE = "second", "late"


@dataclass(frozen=True)
class Drill:
    """What is done to a study under way, which says in a line what happened.

    ``second`` are options of the second host's start; ``keys_in_file``: the driver has its credentials from a
    file, which none of the hosts has; ``slower`` is how many times as long an epoch takes; ``at_once``
    how many trials run at once, where they are not to be as many as there are CPUs.
    """

    befall: Callable[[Stage], str]
    second: Mapping[str, Any] = field(default_factory=dict)
    keys_in_file: bool = False
    slower: float = 1.0
    at_once: int | None = None


def _host_killed(stage: Stage) -> str:
    stage.await_epochs(6)
    stage.hosts.kill(SECOND)
    return "a host was killed: its trials went on elsewhere from their last epoch"


def _joins_late(stage: Stage) -> str:
    stage.await_epochs(3)
    stage.hosts.start(LATE, 1)
    return "a host joined late and was used"


def _stopped(stage: Stage) -> str:
    stage.await_epochs(4)
    place = Location.of(stage.scene.study)
    driver = ask_to_stop(place)
    if driver is None or not wait_until_stopped(place, driver, PATIENCE_S):
        raise AgeSearchError("The study did not stop when it was asked to.")
    stage.finish()
    stage.resume()
    return "'stop' at the URI let the running epochs end, and kept them: 'resume' went on from there"


def _head_killed(stage: Stage) -> str:
    stage.await_epochs(6)
    os.kill(stage.driver.pid, signal.SIGKILL)
    stage.driver.wait()
    for name in list(stage.hosts.started):
        stage.hosts.kill(name)
    stage.hosts.address = ""
    stage.hosts.start("head", 0)
    stage.hosts.start("third", 1)
    stage.scene = replace(stage.scene, address=stage.hosts.address)
    time.sleep(EXPIRY_S + 1.0)  # the lease of a killed driver
    stage.resume()
    return "head, hosts and driver were killed: 'resume' went on from what was published"


def _link_cut(stage: Stage) -> str:
    stage.await_second_trial_of(SECOND)
    stage.hosts.cut(SECOND)
    time.sleep(CUT_S)
    stage.hosts.mend(SECOND)
    end = time.monotonic() + _LEAVE_S
    while stage.hosts.runs(SECOND) and time.monotonic() < end:
        time.sleep(0.5)
    if stage.hosts.runs(SECOND):
        return f"a link was cut for {CUT_S:.0f} s, and the host went on"
    stage.hosts.kill(SECOND)
    stage.hosts.start(SECOND, 1)
    back = time.time()
    stage.finish()
    used = "used again" if stage.trained_by(SECOND, back) else "back too late"
    return (
        f"a link was cut for {CUT_S:.0f} s: the host's trial went on elsewhere; its Ray, which had been "
        f"given up, was started again and {used}"
    )


def _disk_full(stage: Stage) -> str:
    return stage.await_note(f"node {SECOND} ")


def _no_credentials(stage: Stage) -> str:
    before = stage.await_note(f"node {SECOND} ")
    stage.hosts.start(LATE, 1, environment=_BARE)
    return f"{before} {stage.await_note(f'node {LATE} ')}"


#: What befalls the hosts, by name; the first two are the shortest.
DRILLS: dict[str, Drill] = {
    "host killed": Drill(_host_killed),
    "host joins late": Drill(_joins_late),
    "stop": Drill(_stopped, slower=10.0),
    "disk full": Drill(_disk_full, second={"room_kb": _FULL_KB}),
    "no credentials": Drill(_no_credentials, second={"environment": _BARE}, keys_in_file=True, slower=2.0),
    "link cut": Drill(_link_cut, slower=10.0),
    "head killed": Drill(_head_killed),
    "service lost": Drill(service_lost, slower=4.0, at_once=STUDY_CPUS),
}
