"""The latencies that a study goes by: which networks are timed before its first trial, and what is kept.

Timing takes seconds a network, on a machine that does nothing else, so it comes before the trials. A study of
four trials needs four networks, not all 48 of its space: timed are those that its first, drawn trials will
be, and for each trial that the sampler chooses itself ``CHOICES_PER_TRIAL`` others, drawn by the study's
seed. The rest is not searched. Which networks those are follows from the spec alone, limits aside, and never
from what a cache holds, so that the same spec, seed and data give the same suggestions on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from agesearch.errors import first_line
from agesearch.measure.speed.rows import SpeedRow
from agesearch.models.architectures import Network
from agesearch.progress import Progress
from agesearch.search.sampler.sampler import StudySampler
from agesearch.search.space.limits import Fitting, Latencies, NetworkLimits, limits_of
from agesearch.search.space.space import grid, network_of, networks
from agesearch.search.store.events import EventListener, Note
from agesearch.search.store.records import LATENCY_FILE, StudyFolder, TrialRecord
from agesearch.specs import ModelSpec, StudySpec, parse_spec

#: Networks that the sampler may choose among, for each trial that it chooses.
CHOICES_PER_TRIAL = 4


class NetworkRow(SpeedRow):
    """A line of ``latency.json``: the timing of a network. Earlier versions named no head: any had it."""

    head: str | None = None
    pixels: str | None = None
    groups: tuple[tuple[int, int], ...] = ()

    @property
    def network(self) -> Network | None:
        """The network that was timed; None where the row stands for all of its architecture and size."""
        if self.head is None or self.pixels is None:
            return None
        return Network(self.arch, self.input_size, self.head, self.pixels, self.groups)


class StudyTimings:
    """The timings that a study has: they are kept for good, so that all of its trials compare."""

    def __init__(self, folder: StudyFolder) -> None:
        self.place = folder.root / LATENCY_FILE
        found = self.place.read_json() if self.place.exists() else []
        self.rows = [parse_spec(NetworkRow, row, f"'{self.place}'") for row in found]
        self._known = {row.network: row for row in self.rows if row.network}
        self._of_any_head = {(row.arch, row.input_size): row for row in self.rows if not row.network}

    def known(self, network: Network) -> NetworkRow | None:
        """The row of a network, where the study has one."""
        return self._known.get(network) or self._of_any_head.get((network.arch, network.input_size))

    def memory(self, network: Network) -> int | None:
        """The bytes that a session of a timed network takes at its peak; None where that is not known."""
        row = self.known(network)
        return None if row is None else row.session_bytes

    def add(self, network: Network, row: SpeedRow) -> NetworkRow:
        """A new timing; ``write`` keeps it."""
        added = self._known[network] = NetworkRow(**row.model_dump() | network.fields())
        self.rows.append(added)
        return added

    def write(self) -> None:
        """Write them into the study."""
        self.place.write_json([row.model_dump(mode="json") for row in self.rows])


class _Timer:
    """Gives the latency of networks as they are asked for: what the study has, else timed now."""

    def __init__(
        self,
        timings: StudyTimings,
        measure: Callable[[ModelSpec], SpeedRow],
        on_event: EventListener,
        expected: int,
    ) -> None:
        self._timings, self._measure = timings, measure
        self._on_event, self._expected = on_event, expected
        self._asked = self._faults = 0

    def latency(self, network: Network) -> float | str:
        """Latency in ms, or why the network has none."""
        self._report(str(network))
        self._asked += 1
        row = self._timings.known(network)
        if row is None:
            try:
                row = self._timings.add(network, self._measure(network.model()))
            except Exception as error:  # whatever an exporter cannot take: its trials FAIL, the study goes on
                self._faults += 1
                return first_line(error)
        return row.latency_ms_p50

    def close(self) -> None:
        """Nothing more is asked for."""
        self._expected = self._asked
        self._report("")
        self._timings.write()

    def _report(self, note: str) -> None:
        total = max(self._expected, self._asked + bool(note))
        self._on_event(Progress("Latency", self._asked, total, failed=self._faults, note=note))


def time_networks(
    folder: StudyFolder,
    spec: StudySpec,
    latency: Callable[[ModelSpec], SpeedRow],
    parameters: Callable[[ModelSpec], int],
    begun: Iterable[TrialRecord],
    on_event: EventListener,
    file_bytes: Callable[[ModelSpec], int] | None = None,
) -> tuple[Latencies, Fitting]:
    """Time what a study needs, and say which networks it may train.

    Always among them are those that the study has timed before and those of trials that have ``begun``.
    Raises ``InputError`` where no network is within the study's limits.
    """
    timings = StudyTimings(folder)
    timer = _Timer(timings, latency, on_event, _wanted(spec))
    limits = NetworkLimits(spec, timer.latency, parameters, file_bytes, timings.memory)
    for network in networks(spec):
        if timings.known(network) is not None:
            limits.fits(network)
    for record in begun:
        if not record.state.ended and record.params:
            limits.fits(network_of(spec, record.params))
    _time_enough(spec, limits.fits)
    timer.close()
    fitting = limits.fitting()
    _say(spec, fitting, on_event)
    return limits.latencies, fitting


def fitting_trials(spec: StudySpec, fitting: Fitting) -> StudySpec:
    """The spec with no more trials than its grid has points whose network fits: each is tried once."""
    if spec.sampler != "grid":
        return spec
    points = sum(fitting.fits(point) for point in grid(spec))
    return spec.model_copy(update={"trials": min(spec.trials, points)})


def timing_order(spec: StudySpec) -> Iterator[Network]:
    """All networks of the space: those of the trials that are drawn come first, then the others as
    the study's seed draws them.
    """
    sampler = StudySampler(spec, Fitting())
    seen = dict.fromkeys(network_of(spec, sampler.drawn(number)) for number in range(_random_trials(spec)))
    yield from seen
    others = [network for network in networks(spec) if network not in seen]
    for index in np.random.default_rng([abs(spec.seed), len(others)]).permutation(len(others)):
        yield others[index]


def _time_enough(spec: StudySpec, fits: Callable[[Network], bool]) -> None:
    if spec.sampler == "grid":  # its points are tried in their order, however many choices a network has
        left = spec.trials
        for point in grid(spec):
            left -= fits(network_of(spec, point))
            if not left:
                return
        return
    found, wanted = 0, _wanted(spec)
    for network in timing_order(spec):
        if found == wanted:
            return
        found += fits(network)


def _wanted(spec: StudySpec) -> int:
    """How many networks that fit a study is given, at most."""
    drawn = _random_trials(spec)
    return min(len(networks(spec)), drawn + CHOICES_PER_TRIAL * (spec.trials - drawn))


def _random_trials(spec: StudySpec) -> int:
    """How many trials are drawn before the sampler has learnt anything; no more than could matter."""
    first = spec.trials if spec.sampler in ("random", "grid") else min(spec.trials, spec.startup_trials)
    return min(first, 4 * len(networks(spec)))


def _say(spec: StudySpec, fitting: Fitting, on_event: EventListener) -> None:
    total = len(networks(spec))
    if fitting.left_out:
        share = f"{len(fitting.left_out)} of the space's {total} networks"
        on_event(Note(f"{share} are above {limits_of(spec)}: they are never trained."))
    if fitting.untimed and spec.sampler != "grid":
        words = "one trial" if spec.trials == 1 else f"{spec.trials} trials"
        on_event(
            Note(
                f"{len(fitting.networks)} of the space's {total} networks are searched, drawn by the seed: "
                f"enough for {words}; more trials time more of them."
            )
        )
