"""Trains one trial of a study anew, elsewhere, and compares: is the recorded result what its spec makes?

The same spec, seed, data, targets and threads as in the study, in this process. On the machine that trained
it the result is bit-identical: every figure of every epoch, and the weights. Nothing of the study is
touched. Ray only holds the faces.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from agesearch.artefacts import own_folder
from agesearch.errors import InputError
from agesearch.measure.speed.hardware import hardware_name
from agesearch.metrics import EPOCH, VAL_MAE_YEARS
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import MANIFEST, WEIGHTS, library_versions
from agesearch.progress import Listener, Progress, silent
from agesearch.search.run.setup import (
    SetupFunctions,
    dataset_digest,
    default_functions,
    same_source,
    same_teachers,
)
from agesearch.search.store.records import State, TrialRecord, trial_id
from agesearch.search.view.trial_details import SPEC_FILE, TrialDetails, trial_details
from agesearch.session import ray_session
from agesearch.storage import Location, exclusive
from agesearch.training.curve import Row, read_curve

#: What the names of an epoch's figures begin with; its seconds are its own.
_FIGURES = ("train_", "val_")


@dataclass(frozen=True)
class Rerun:
    """A trial as it was recorded and as it came out anew. ``figures`` are (name, recorded, new); ``epochs``
    how many epochs were compared, ``differing`` those of them that differ anywhere.

    ``weights_equal`` is None where one of the two left no weights; ``failure`` is what the new run raised;
    ``changed`` names what is not as it was: hardware and versions.
    """

    record: TrialRecord
    out: Location
    figures: tuple[tuple[str, float | None, float | None], ...]
    epochs: int
    differing: tuple[int, ...]
    largest: float
    weights_equal: bool | None
    failure: str
    changed: tuple[str, ...]

    @property
    def is_identical(self) -> bool:
        """Whether all that can be compared is equal to the last bit."""
        figures = all(old == new for _, old, new in self.figures)
        return self.epochs > 0 and figures and not self.differing and self.weights_equal is not False

    @property
    def verdict(self) -> str:
        """Whether the two agree, in one line."""
        if self.is_identical:
            weights = ", and so are the weights" if self.weights_equal else ""
            return f"Bit-identical: all figures of {self.epochs} epochs are equal{weights}."
        if not self.epochs:
            return "Nothing to compare: one of the two has no finished epoch."
        where = f" first in epoch {self.differing[0]}" if self.differing else ""
        words = f"They differ{where}; validation errors by at most {self.largest:.4f} years."
        changed = f" Not as it was: {', '.join(self.changed)}." if self.changed else ""
        return words + changed

    def as_json(self) -> dict[str, Any]:
        """The comparison as one JSON object."""
        return {
            "trial": self.record.number,
            "state": self.record.state.value,
            "out": str(self.out),
            "identical": self.is_identical,
            "verdict": self.verdict,
            "figures": [{"name": name, "recorded": old, "new": new} for name, old, new in self.figures],
            "epochs_compared": self.epochs,
            "epochs_differing": list(self.differing),
            "largest_difference_years": self.largest,
            "weights_equal": self.weights_equal,
            "recorded_reason": self.record.reason,
            "new_failure": self.failure,
            "changed": list(self.changed),
        }


class _Enough(Exception):  # noqa: N818 - named for what it says
    """The recorded trial was stopped after this epoch; so is the new one."""


def rerun_trial(
    where: str | os.PathLike[str] | Location,
    number: int,
    out: str | os.PathLike[str] | Location | None = None,
    *,
    on_progress: Listener = silent,
    functions: SetupFunctions | None = None,
) -> Rerun:
    """Train trial ``number`` of a study anew into the folder ``out`` (``STUDY-0007-rerun`` here, if not
    said), for as many epochs as it trained.

    Raises ``InputError`` where the trial still runs, or its dataset or teacher is gone or another one.
    """
    known = trial_details(where, number)
    if not known.record.state.ended:
        raise InputError(
            f"Trial {number} of '{known.folder.root}' is not finished: there is nothing to compare."
        )
    place = _place(known, out)
    header = known.header.model_copy(
        update={
            "dataset": same_source("dataset", known.header.dataset, None, dataset_digest),
            **same_teachers(known.folder, known.header),
        }
    )
    with _new_folder(place):
        with ray_session(on_progress=on_progress):
            inputs = (functions or default_functions()).inputs(header, on_progress)
            (place / SPEC_FILE).write_json(known.spec.model_dump(mode="json"))
            final, failure = _trained(known, inputs, place, on_progress)
        return _compared(known, place, final, failure)


def _trained(
    known: TrialDetails, inputs: Any, place: Location, on_progress: Listener
) -> tuple[dict[str, float], str]:
    """The new run's final metrics, or why it failed; a PRUNED trial's stops where that one did."""
    epochs = known.record.epochs if known.record.state is State.PRUNED else known.spec.optim.epochs
    on_progress(Progress("Training", 0, epochs))
    last: dict[str, float] = {}

    def report(metrics: dict[str, float]) -> None:
        last.update(metrics)
        epoch = int(metrics[EPOCH])
        note = f"val MAE {metrics[VAL_MAE_YEARS]:.2f} years" if VAL_MAE_YEARS in metrics else ""
        on_progress(Progress("Training", epoch, epochs, note=note))
        if known.record.state is State.PRUNED and epoch >= known.record.epochs:
            raise _Enough

    try:
        final = inputs.trainer(
            known.spec, inputs.train, inputs.val, place, inputs.crop, report=report, resume=False
        )
    except _Enough:
        return last, ""
    except Exception as error:  # a FAILed trial shall fail again
        return last, f"{type(error).__name__}: {error}".splitlines()[0]
    return final, ""


def _compared(known: TrialDetails, place: Location, final: dict[str, float], failure: str) -> Rerun:
    record = known.record
    old, new = _by_epoch(known.rows), _by_epoch(read_curve(place))
    shared = sorted(old.keys() & new.keys())
    differing = [epoch for epoch in shared if _differs(old[epoch], new[epoch])]
    gaps = [_gap(old[epoch], new[epoch]) for epoch in differing]
    figures: list[tuple[str, float | None, float | None]] = [("epochs", record.epochs, len(new))]
    if record.val_mae_years is not None:
        figures.append((VAL_MAE_YEARS, record.val_mae_years, final.get(VAL_MAE_YEARS)))
    if record.val_cs5 is not None:
        figures.append(("val_cs5", record.val_cs5, final.get("val_cs5")))
    return Rerun(
        record=record,
        out=place,
        figures=tuple(figures),
        epochs=len(shared),
        differing=tuple(differing),
        largest=max(gaps, default=0.0),
        weights_equal=_weights_equal(known, place),
        failure=failure,
        changed=tuple(_changes(known)),
    )


def _by_epoch(rows: Any) -> dict[int, Row]:
    return {int(row[EPOCH]): row for row in rows if EPOCH in row}


def _differs(old: Row, new: Row) -> bool:
    return any(old[name] != new[name] for name in old.keys() & new.keys() if name.startswith(_FIGURES))


def _gap(old: Row, new: Row) -> float:
    return abs(old[VAL_MAE_YEARS] - new[VAL_MAE_YEARS]) if VAL_MAE_YEARS in old.keys() & new.keys() else 0.0


def _weights_equal(known: TrialDetails, place: Location) -> bool | None:
    if known.manifest is None or not (place / MANIFEST).exists():
        return None
    old, new = known.manifest.files, read_model_manifest(place).files
    return old[WEIGHTS] == new[WEIGHTS] if WEIGHTS in old and WEIGHTS in new else None


def _changes(known: TrialDetails) -> list[str]:
    """What of the machine is not as the study found it."""
    header = known.header
    found = []
    if header.hardware and header.hardware != hardware_name():
        found.append(f"hardware ({header.hardware}; here {hardware_name()})")
    here = library_versions()
    for package, version in header.versions.items():
        if here.get(package) != version:
            found.append(f"{package} ({version}; here {here.get(package, 'none')})")
    return found


def _place(known: TrialDetails, out: str | os.PathLike[str] | Location | None) -> Location:
    study = known.folder.root
    place = Location.of(out if out is not None else f"{study.name}-{trial_id(known.record.number)}-rerun")
    if f"{place.path}/".startswith(f"{study.path}/"):
        raise InputError(
            f"'{place}' lies inside the study, which a rerun must not touch: choose another --out."
        )
    _require_empty(place)
    return place


@contextmanager
def _new_folder(place: Location) -> Iterator[None]:
    """Hold the rerun's folder, which is removed where the rerun fails: half of one compares with nothing, and
    would be in the way of the next.
    """
    with exclusive(place, "The rerun"):
        _require_empty(place)  # another run may have come in between
        try:
            yield
        except BaseException:
            place.delete()
            raise


def _require_empty(place: Location) -> None:
    own_folder(place, "the rerun", ())
