"""Beginning with what an earlier study found (``tune --like STUDY``): its best configurations come first.

The two spaces need not be the same. A dimension that is searched here only has what the earlier student had;
one that is not searched here is left out; a configuration with a value that this space does not take is left
out. What differs is said. The earlier study is only read. Transfer by the best configurations is the warm
start of Feurer 2015; half of the trials before a model is made stay random, so that a study on other faces is
not misled.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agesearch.errors import InputError
from agesearch.metrics import or_nan
from agesearch.search.space.conditions import active, setting
from agesearch.search.space.space import Params, configuration_key
from agesearch.search.store.pareto import front
from agesearch.search.store.records import EarlierStudy, State, StudyHeader, TrialRecord, open_study
from agesearch.specs import StudySpec
from agesearch.storage import Location

#: So many dimensions, and kinds of faults, are told of.
_TOLD = 4


@dataclass(frozen=True)
class Beginning:
    """A study that begins with an earlier one's configurations: its spec, what the header keeps, and what
    there is to say.
    """

    spec: StudySpec
    source: EarlierStudy
    notes: tuple[str, ...]


def begin_like(where: str | os.PathLike[str] | Location, spec: StudySpec, data_digest: str = "") -> Beginning:
    """``spec`` with at most half of its startup trials taken from the study at ``where``.

    Raises ``InputError`` where there is no study, none of its trials is COMPLETE, or none fits.
    """
    folder = open_study(where)
    header = folder.header()
    ranked = _ranked([record for record in folder.trials() if record.state is State.COMPLETE])
    if not ranked:
        raise InputError(f"The study '{folder.root}' has no COMPLETE trial to begin with.")
    most, faults = max(1, spec.startup_trials // 2), Counter[str]()
    found: dict[Any, tuple[int, Params]] = {}
    for record in ranked:
        params = _moved(record, header.spec, spec, faults)
        if params and len(found) < most:
            found.setdefault(configuration_key(params), (record.number, params))
    if not found:
        why = "; ".join(fault for fault, _ in faults.most_common(_TOLD))
        raise InputError(
            f"No COMPLETE trial of '{folder.root}' fits this space: {why or 'nothing is shared'}."
        )
    first = [params for _, params in found.values()] + list(spec.first)
    source = EarlierStudy(
        path=str(folder.root),
        spec_digest=header.spec_digest,
        trials=tuple(number for number, _ in found.values()),
    )
    notes = _notes(source, header, spec, faults, data_digest)
    return Beginning(spec.with_values({"first": first}), source, tuple(notes))


def _ranked(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The front's first, then the layers behind it, each by rising error."""
    points = np.array([[or_nan(r.latency_ms_p50), or_nan(r.val_mae_years)] for r in records]).reshape(-1, 2)
    left, ranked = np.arange(len(records)), list[TrialRecord]()
    while len(left):
        layer = front(points[left])
        if not layer:
            break
        ranked += sorted((records[index] for index in left[layer]), key=_error_and_number)
        left = np.delete(left, layer)
    return ranked


def _error_and_number(record: TrialRecord) -> tuple[float, int]:
    return or_nan(record.val_mae_years), record.number


def _moved(record: TrialRecord, old: StudySpec, new: StudySpec, faults: Counter[str]) -> Params:
    """A trial's values for the dimensions of another space; none where one of them is not taken there."""
    params: Params = {}
    for name, dimension in new.space.items():
        value = _value(record, old, name)
        if value is None:  # it is drawn, as in any other trial
            continue
        if not dimension.takes(value):
            faults[f"{name} of {_shown(value)} is not in this space"] += 1
            return {}
        params[name] = value
    there = active(new, params)
    return {name: value for name, value in params.items() if name in there}


def _value(record: TrialRecord, old: StudySpec, name: str) -> Any:
    """What an earlier trial had for a dimension or a field of its student; None where it had none."""
    try:
        return setting(old, record.params, name)
    except (AttributeError, KeyError, LookupError, ValueError):
        return None  # a set of variants that only this space names


def _notes(
    source: EarlierStudy, header: StudyHeader, spec: StudySpec, faults: Counter[str], data_digest: str
) -> list[str]:
    numbers = ", ".join(map(str, source.trials))
    many = len(source.trials) > 1
    notes = [
        f"Begins with {len(source.trials)} configuration{'s' if many else ''} of '{source.path}' "
        f"(trial{'s' if many else ''} {numbers})."
    ]
    there, here = header.spec.space.keys(), spec.space.keys()
    gone, new = sorted(there - here), sorted(here - there)
    if gone:
        notes.append(f"Searched there and not here, so left out: {_listed(gone)}.")
    if new:
        notes.append(f"Searched here and not there, so as the earlier student had it: {_listed(new)}.")
    if faults:
        told = "; ".join(f"{count} with {fault}" for fault, count in faults.most_common(_TOLD))
        notes.append(f"Trials of it that do not fit this space: {told}.")
    if data_digest and header.dataset.content_digest != data_digest:
        notes.append("It ran on another dataset: its best may not be the best here.")
    return notes


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_TOLD]) + (", ..." if len(names) > _TOLD else "")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
