"""The latency of a trial, and from which run it is: what front, plot, table, report, card and picks go by.

The search times networks before they are trained; ``agesearch report`` times teacher and students side by
side. Figures of two runs differ by what the machine did meanwhile, so they are never set against each other:

- where the side-by-side run has all COMPLETE trials, its figures hold, and the front is drawn by them;
- where it has the front's trials only (studies measured by earlier versions), they hold for those, and of
  them the front is drawn;
- else those of the search hold, and nobody is said to be faster than the teacher.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from shlex import quote
from typing import Any

from agesearch.errors import InputError
from agesearch.measure.speed.rows import EngineTime, Setting, SpeedRow, beyond_noise
from agesearch.models.runtimes.engines import DEFAULT, Engine
from agesearch.search.choice.knee import Choice, choose
from agesearch.search.choice.noise import Difference, neighbours, words
from agesearch.search.front.measurements import TEACHER, read_speed
from agesearch.search.run.latencies import StudyTimings
from agesearch.search.space.space import network_of
from agesearch.search.store.records import State, StudyFolder, TrialRecord, front_of

#: So many trials are named one by one.
_LISTED = 4


class Run(StrEnum):
    """Which timing a latency is from."""

    SEARCH = "search"
    SIDE_BY_SIDE = "side by side"


@dataclass(frozen=True)
class Latency:
    """Milliseconds a face of one trial, how many times faster than the teacher it is in the same run, and on
    which engine that is; ``others`` are the rest of those it was timed on, the fastest first.
    """

    ms: float | None
    run: Run
    times_teacher: float | None = None
    engine: Engine = DEFAULT
    others: tuple[EngineTime, ...] = ()
    row: SpeedRow | None = None

    @property
    def file_bytes(self) -> int | None:
        """The bytes of the network's file there; None where nobody has looked."""
        return None if self.row is None else self.row.file_bytes

    @property
    def session_bytes(self) -> int | None:
        """The memory that a session takes there at its peak, in bytes; None where nobody has measured it."""
        return None if self.row is None else self.row.session_bytes

    def engines_json(self) -> dict[str, Any]:
        """The engine, what it takes besides time, and the others, for a program."""
        return {
            **self.engine._asdict(),
            "file_bytes": self.file_bytes,
            "session_bytes": self.session_bytes,
            "other_engines": [other.model_dump(mode="json") for other in self.others],
        }


@dataclass(frozen=True)
class StudyLatencies:
    """The trials of a study by number and its front by rising latency, as ``run`` timed them.

    ``searched`` are the trials with the search's timings, ``rows`` the side-by-side rows by the number of the
    trial, empty where those do not hold, ``teacher`` the teacher's row beside them.
    """

    study: StudyFolder
    searched: Sequence[TrialRecord]
    trials: list[TrialRecord]
    front: list[TrialRecord]
    rows: Mapping[int, SpeedRow]
    teacher: SpeedRow | None = None

    @property
    def run(self) -> Run:
        """The run that the front was timed in."""
        return Run.SIDE_BY_SIDE if self.rows else Run.SEARCH

    @cached_property
    def searched_front(self) -> list[TrialRecord]:
        """The front as the search saw it."""
        return front_of(self.searched, self.study.limits())

    @cached_property
    def choice(self) -> Choice | None:
        """Which trial is the knee, with intervals or by means; None where the front is empty."""
        return choose(self.study, self.trials, self.front)

    @cached_property
    def broken_limits(self) -> dict[int, str]:
        """The COMPLETE trials that are off the front because they break limits of the study: which ones, and
        by how much, by the number of the trial.
        """
        limits = self.study.limits()
        complete = [trial for trial in self.trials if trial.state is State.COMPLETE]
        return {trial.number: limits.broken(trial) for trial in complete if not limits.hold(trial)}

    @property
    def limit_note(self) -> str:
        """The same as a sentence; empty where all keep the limits."""
        broken = self.broken_limits
        if not broken:
            return ""
        shown = "; ".join(f"trial {number} {words}" for number, words in list(broken.items())[:_LISTED])
        more = "; ..." if len(broken) > _LISTED else ""
        complete = sum(trial.state is State.COMPLETE for trial in self.trials)
        return (
            f"{len(broken)} of {complete} COMPLETE trials break a limit of the study and are not on the "
            f"front: {shown}{more}."
        )

    @property
    def knee(self) -> TrialRecord | None:
        """The trial that is chosen as the knee, None where there is no front."""
        return self.choice.chosen if self.choice else None

    @cached_property
    def differences(self) -> list[Difference]:
        """Each member of the front against the next slower one."""
        return neighbours(self.study, self.front)

    def trial(self, number: int) -> TrialRecord:
        """A trial with the latency that holds; an ``InputError`` says which numbers there are."""
        self.study.trial(number)
        return next(trial for trial in self.trials if trial.number == number)

    def latency(self, trial: TrialRecord) -> Latency:
        """The latency of a trial, and from which run."""
        row = self.rows.get(trial.number)
        if row is None:
            ms = next((one.latency_ms_p50 for one in self.searched if one.number == trial.number), None)
            timed = self._searched_row(trial)
            engines = (timed.engine, timed.others) if timed else (DEFAULT, ())
            return Latency(ms, Run.SEARCH, None, *engines, timed)
        times = self.teacher.latency_ms_p50 / row.latency_ms_p50 if self.teacher else None
        return Latency(row.latency_ms_p50, Run.SIDE_BY_SIDE, times, row.engine, row.others, row)

    def _searched_row(self, trial: TrialRecord) -> SpeedRow | None:
        """The search's timing of a trial's network, where the study has kept it."""
        if not trial.params or not self.study.exists():
            return None
        return self._searched_rows.known(network_of(self.study.header().spec, trial.params))

    @cached_property
    def _searched_rows(self) -> StudyTimings:
        return StudyTimings(self.study)

    def pick(self, pick: str = "knee") -> TrialRecord:
        """The COMPLETE trial that ``knee``, ``best`` (smallest error), ``fastest`` or a number names."""
        if not self.front:
            raise InputError(
                f"The study '{self.study.root}' has no COMPLETE trial within its limits, so there is no "
                f"front to pick from: go on with it by 'agesearch resume {quote(str(self.study.root))}'."
            )
        assert self.choice is not None  # there is a front
        named = {"knee": self.choice.chosen, "best": self.choice.best, "fastest": self.front[0]}
        if pick in named:
            return named[pick]
        if not pick.isdecimal():
            raise InputError(
                f"The pick is '{pick}', but must be knee, best, fastest or the number of a trial."
            )
        trial = self.trial(int(pick))
        if trial.state is not State.COMPLETE:
            raise InputError(
                f"Trial {trial.number} is {trial.state}, but only COMPLETE trials can be picked."
            )
        return trial

    def notes(self) -> list[str]:
        """Sentences: where the side-by-side figures are not those that the search went by and what that
        changes, or that the front was not timed beside the teacher. None where there is nothing to say.
        """
        if not self.rows:
            measured = bool(read_speed(self.study))
            return [self._not_timed()] if measured and self.front else []
        different = self.different()
        moved = self._moved()
        if not different:
            return [moved] if moved else []
        shown = "; ".join(
            f"trial {trial.number} {_ms(ms)} ms, {_ms(before)} in the search"
            for trial, ms, before in different[:_LISTED]
        )
        shown += "; ..." if len(different) > _LISTED else ""
        changes = moved or "No place on the front changes."
        return [
            f"Timed beside the teacher{self._on_engine()}, {len(different)} of the front's {len(self.front)} "
            f"trials differ from the search's timing by more than noise ({shown}). {changes}"
        ]

    def choice_notes(self) -> list[str]:
        """Sentences: which trials break a limit, which neighbours on the front are not told apart, what was
        confirmed, and which trial is the knee by which rule.
        """
        limited = [self.limit_note] if self.limit_note else []
        if self.choice is None:
            return limited
        confirmed = [one.words for one in self.choice.candidates]
        said = f"Confirmed with other seeds: {'; '.join(confirmed)}." if confirmed else ""
        found = (words(self.front, self.differences), said, self.choice.words)
        return limited + [line for line in found if line]

    def different(self) -> list[tuple[TrialRecord, float, float]]:
        """Trials of the front whose two timings differ by more than noise: the trial, its side-by-side ms and
        the search's.
        """
        before = {trial.number: trial for trial in self.searched}
        found = []
        for trial in self.front:
            row, ms = self.rows[trial.number], before[trial.number].latency_ms_p50
            if ms is None:
                continue
            searched = self._searched_row(trial)
            slowest = searched.latency_ms_p95 if searched else ms
            if beyond_noise((row.latency_ms_p50, row.latency_ms_p95), (ms, slowest)):
                found.append((trial, row.latency_ms_p50, ms))
        return found

    def _on_engine(self) -> str:
        """The engine of the side-by-side run, where it is one."""
        engines = {self.rows[trial.number].engine for trial in self.front}
        return f" on {engines.pop()}" if len(engines) == 1 else ""

    def _moved(self) -> str:
        """Which trials leave the front by the figures that hold, and which join it."""
        now = {trial.number for trial in self.front}
        before = {trial.number for trial in self.searched_front}
        parts = []
        for numbers, verb in ((before - now, "off"), (now - before, "on")):
            if numbers:
                parts.append(f"{_trials(sorted(numbers))} {'are' if len(numbers) > 1 else 'is'} {verb} it")
        return f"By these figures the front changes: {', '.join(parts)}." if parts else ""

    def _not_timed(self) -> str:
        timed = {row.model for row in read_speed(self.study)}
        missing = [trial.number for trial in self.front if trial.name not in timed]
        which = _trials(missing) if missing else "the teacher"
        return (
            f"Not timed beside the teacher yet: {which}; figures are those of the search until "
            f"'agesearch report {quote(str(self.study.root))}' has timed them."
        )


def study_latencies(study: StudyFolder) -> StudyLatencies:
    """The latencies of a study that hold now; nothing is measured."""
    searched = study.trials()
    threads = study.header().spec.latency.threads if study.exists() else 1
    side = {row.model: row for row in read_speed(study) if row.setting == Setting(threads)}
    teacher, limits = side.get(TEACHER), study.limits()
    front = front_of(searched, limits)
    complete = [trial for trial in searched if trial.state is State.COMPLETE]
    if teacher is None or any(trial.name not in side for trial in front):
        return StudyLatencies(study, searched, searched, front, {})
    every = all(trial.name in side for trial in complete)
    rows = _rows(study, searched, side)
    trials = [_as_timed(trial, rows) for trial in searched]
    numbers = {trial.number for trial in (complete if every else front)}
    shown = front_of((trial for trial in trials if trial.number in numbers), limits)
    return StudyLatencies(study, searched, trials, shown, rows, teacher)


def picked(study: StudyFolder, pick: str = "knee") -> TrialRecord:
    """See ``StudyLatencies.pick``."""
    return study_latencies(study).pick(pick)


def _rows(
    study: StudyFolder, trials: Sequence[TrialRecord], side: Mapping[str, SpeedRow]
) -> dict[int, SpeedRow]:
    """The side-by-side row of each trial: its own, or that of a COMPLETE trial with the same network."""
    if not study.exists():
        return {trial.number: side[trial.name] for trial in trials if trial.name in side}
    spec = study.header().spec
    networks = {trial.number: network_of(spec, trial.params) for trial in trials}
    known = {networks[trial.number]: side[trial.name] for trial in trials if trial.name in side}
    found = {trial.number: side.get(trial.name) or known.get(networks[trial.number]) for trial in trials}
    return {number: row for number, row in found.items() if row is not None}


def _as_timed(trial: TrialRecord, rows: Mapping[int, SpeedRow]) -> TrialRecord:
    row = rows.get(trial.number)
    return trial if row is None else replace(trial, latency_ms_p50=row.latency_ms_p50)


def _trials(numbers: Sequence[int]) -> str:
    listed = ", ".join(map(str, numbers))
    return f"trial {listed}" if len(numbers) == 1 else f"trials {listed}"


def _ms(value: float) -> str:
    return f"{value:.3g}"
