"""What must hold of a study that was cut again and again; pure, on its records and logs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agesearch.bench.chaos.study import Begun
from agesearch.search.stopping.rungs import OUT_OF_REACH
from agesearch.search.store.front_limits import FrontLimits
from agesearch.search.store.history import History
from agesearch.search.store.records import FRONT_FILE, State, StudyFolder, TrialRecord, front_of


@dataclass(frozen=True)
class Attempts:
    """How the epochs of all trials were trained: ``begun`` in all, ``distinct`` ones, and the most that one
    cut cost.
    """

    begun: int
    distinct: int
    cuts: int
    worst: int

    @property
    def lost(self) -> int:
        """Epochs that were begun more than once."""
        return self.begun - self.distinct


def attempts(begun: Sequence[Begun]) -> Attempts:
    """Follow each trial from process to process."""
    by_trial: dict[int, list[Begun]] = {}
    for row in begun:
        by_trial.setdefault(row.trial, []).append(row)
    cuts = [
        before.epoch - after.epoch + 1
        for rows in by_trial.values()
        for before, after in zip(rows, rows[1:], strict=False)
        if before.pid != after.pid or after.epoch != before.epoch + 1
    ]
    distinct = len({(row.trial, row.epoch) for row in begun})
    return Attempts(len(begun), distinct, len(cuts), max(cuts, default=0))


def faults_of(
    folder: StudyFolder, trials: int, begun: Sequence[Begun], events: Sequence[dict[str, Any]]
) -> list[str]:
    """What does not hold, a line each: of the count, of finished trials, of lost epochs, of the records."""
    header, records = folder.header(), folder.trials()
    stored = History.open(folder.database, header.spec)
    front = front_of(records, FrontLimits.of(header.spec))
    listed = json.loads((folder.root / FRONT_FILE).read_text())["trials"]
    faults = _count(records, trials) + _finished(records, events) + _epochs(records, begun, events)
    if stored.records != records:
        faults.append("optuna.db and trials.parquet tell different stories")
    if [row["number"] for row in listed] != [record.number for record in front]:
        faults.append("front.json is not the front of trials.parquet")
    return faults


def _count(records: Sequence[TrialRecord], trials: int) -> list[str]:
    faults = []
    if [record.number for record in records] != list(range(trials)):
        faults.append(f"the study has {len(records)} trials, and not {trials}")
    for record in records:
        if record.state is not State.COMPLETE and not record.reason.startswith(OUT_OF_REACH):
            faults.append(f"trial {record.number} is {record.state.value}: {record.reason}")
    return faults


def _finished(records: Sequence[TrialRecord], events: Sequence[dict[str, Any]]) -> list[str]:
    """A finished trial stays as it was told, and is told once."""
    faults, seen = [], set()
    now = {record.number: record.as_json() | {"curve": list(record.curve)} for record in records}
    for event in events:
        if event["kind"] != "finished":
            continue
        number = event["record"]["number"]
        if number in seen:
            faults.append(f"trial {number} was finished twice")
        seen.add(number)
        if now.get(number) != event["record"]:
            faults.append(f"trial {number} changed after it was finished")
    return faults


def _epochs(
    records: Sequence[TrialRecord], begun: Sequence[Begun], events: Sequence[dict[str, Any]]
) -> list[str]:
    """A cut costs one epoch at most; nothing is trained after the end; curves are whole."""
    faults = []
    found = attempts(begun)
    if found.worst > 1:
        faults.append(f"a cut cost {found.worst} epochs")
    ends = {row["record"]["number"]: row["time"] for row in events if row["kind"] == "finished"}
    late = {row.trial for row in begun if row.time > ends.get(row.trial, row.time)}
    faults += [f"trial {number} was trained after it was finished" for number in sorted(late)]
    for record in records:
        epochs = {row.epoch for row in begun if row.trial == record.number}
        if epochs != set(range(1, record.epochs + 1)):
            faults.append(f"trial {record.number} says {record.epochs} epochs, but trained {sorted(epochs)}")
        if len(record.curve) != record.epochs:
            faults.append(
                f"the curve of trial {record.number} has {len(record.curve)} of {record.epochs} epochs"
            )
    return faults


def same_story(one: Sequence[TrialRecord], other: Sequence[TrialRecord]) -> list[str]:
    """How two studies of one seed differ: parameters, errors epoch by epoch, latencies."""
    faults = []
    for left, right in zip(one, other, strict=False):
        for name in ("params", "val_mae_years", "latency_ms_p50", "curve", "state"):
            mine, theirs = getattr(left, name), getattr(right, name)
            if mine != theirs:
                faults.append(f"trial {left.number}: {name} is {mine}, undisturbed {theirs}")
                break
    if [record.number for record in front_of(one)] != [record.number for record in front_of(other)]:
        faults.append("the front differs from the undisturbed study's")
    return faults
