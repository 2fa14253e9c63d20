"""``agesearch.tune``, ``resume`` and ``open_study``: a search, and what it found as tables."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agesearch.api.places import Kept, Place, text_of
from agesearch.api.predict import Model, load_model
from agesearch.session import set_environment

if TYPE_CHECKING:
    import pyarrow as pa

    from agesearch.search.front.latencies import StudyLatencies
    from agesearch.search.run.study import RunLimits, StudyResult
    from agesearch.search.store.events import EventListener
    from agesearch.search.store.records import StudyFolder, TrialRecord
    from agesearch.specs import StudySpec

#: What stands before a parameter's name in the tables, as in Optuna's.
PARAMETER = "params_"


@dataclass(frozen=True)
class Study(Kept):
    """A study on disk. ``outcome`` says how the run that returned it ended: ``complete``, ``time is up`` or
    ``interrupted``; None where it was only opened.
    """

    path: str
    outcome: str | None = None

    @property
    def records(self) -> pa.Table:
        """Every trial, by number, as it stands on disk now.

        Columns: ``number``, ``name``, ``state`` (COMPLETE, PRUNED, PAUSED, RUNNING or FAIL), ``reason``,
        ``val_mae_years``, ``val_cs5``, ``latency_ms_p50``, ``epochs``, ``started``, ``seconds``, ``retries``,
        ``folder``, ``inherited``, ``curve`` (the error in years after each epoch),
        ``val_worst_decade_mae_years`` (the error in the decade of age where it is largest, which begins with
        ``val_worst_decade_first_years``), and a column for each parameter, such as ``params_model.arch``.
        Latencies are the search's until the study was reported or published, and then those of the run beside
        the teacher.
        """
        return _table(self._latencies().trials)

    @property
    def front(self) -> pa.Table:
        """The trials that no other beats in error and latency, by rising latency; the columns of
        ``records``. Empty where no trial is COMPLETE.
        """
        return _table(self._latencies().front)

    @property
    def knee(self) -> int | None:
        """The number of the trial at the front's knee; None where there is no front."""
        knee = self._latencies().knee
        return knee.number if knee else None

    @property
    def notes(self) -> list[str]:
        """Sentences: which neighbours on the front are not told apart by their errors, what was confirmed,
        and by which rule the knee is chosen.
        """
        return self._latencies().choice_notes()

    @property
    def confirmation(self) -> list[dict[str, Any]]:
        """The candidates that are trained again with other seeds (``confirm``): ``number``, ``trainings``
        that are COMPLETE of how many ``planned``, ``mean_val_mae_years``, ``spread_years``, ``interval``.
        """
        from agesearch.search.choice.confirmed import candidates_of

        return [one.as_json() for one in candidates_of(self._folder())]

    def load_model(self, pick: str | int = "knee", *, threads: int = 1) -> Model:
        """The student that ``knee``, ``best``, ``fastest`` or a trial's number names."""
        trial = self._latencies().pick(str(pick))
        return load_model(str(self._folder().trial_folder(trial)), threads=threads)

    def _latencies(self) -> StudyLatencies:
        from agesearch.search.front.latencies import study_latencies

        return study_latencies(self._folder())

    def _folder(self) -> StudyFolder:
        from agesearch.search.store.records import open_study as open_folder

        return open_folder(self.path)


def open_study(study: Place) -> Study:
    """The study in a folder, finished or still running; reads records only.

    >>> study = agesearch.open_study("study")
    >>> study.records.num_rows
    24
    >>> study.front.to_pandas()[["number", "params_model.arch", "latency_ms_p50"]].round(2)
       number      params_model.arch  latency_ms_p50
    0      22              lcnet_050            0.70
    1      13  mobilenetv3_small_050            0.80
    2      16        mobilenetv2_050            0.90
    3      18     efficientnet_lite0            8.45

    Raises:
        InputError: there is no study.
    """
    opened = Study(os.fspath(study))
    opened._folder()
    return opened


def tune(
    space: Place | Mapping[str, Any] | StudySpec,
    *,
    data: Place,
    teacher: Place | None = None,
    order_teacher: Place | None = None,
    like: Place | None = None,
    out: Place,
    trials: int | None = None,
    minutes: float | None = None,
    concurrency: int | None = None,
    workers_per_trial: int = 1,
    gpus_per_trial: float | None = None,
    address: str | None = None,
    seed: int | None = None,
    scale: float | None = None,
    max_latency_ms: float | None = None,
    max_params: int | None = None,
    max_bytes: int | None = None,
    max_memory_mb: float | None = None,
    max_mae_years: float | None = None,
    max_mae_c_years: float | None = None,
    max_shift_years: float | None = None,
    max_worst_decade_mae_years: float | None = None,
    epoch_faces: int | None = None,
    val_faces: int | None = None,
    rungs: bool | None = None,
    confirm: int | None = None,
    keep: str | None = None,
    dashboard: bool = False,
    stall_minutes: float | None = None,
    checkpoint_minutes: float | None = None,
    log: Sequence[str] = (),
    on_event: EventListener | None = None,
) -> Study:
    """Search ``space`` for small students of ``teacher`` on the faces of ``data``, in the new folder ``out``.

    >>> study = agesearch.tune("space.yaml", data="faces", teacher="teacher", out="study", trials=2)
    >>> study.outcome, study.records.num_rows
    ('complete', 2)

    Ctrl-C lets running trials write a checkpoint and returns the study as ``interrupted``; ``resume`` goes
    on.

    Args:
        space: a YAML file (``search_spaces/README.md``), or what one holds as a mapping.
        teacher: a model folder, or the document of a foreign teacher or an ensemble; before those of
            ``space``.
        like: an earlier study, whose best configurations come first.
        trials: finished trials to reach; ``minutes``: when to stop, from now on.
        gpus_per_trial: a share of one GPU, or one for each of ``workers_per_trial``.
        scale: train for this share of the epochs.
        max_latency_ms: train no network that takes longer a face on one thread; ``max_params``: none with
            more parameters; ``max_bytes``: none whose file has more; ``max_memory_mb``: none whose session
            takes more (10^6 bytes); ``max_mae_years``: keep students of a larger error off the front;
            ``max_mae_c_years``: of a larger one on corrupted faces; ``max_shift_years``: whose answers
            glasses, light or skin tone move further; ``max_worst_decade_mae_years``: of a larger error in the
            decade of age where it is largest, of those with ten validation faces.
        epoch_faces: faces of an epoch, in place of all; ``val_faces``: of so many validation faces, the same
            ones, each epoch is judged.
        rungs: True: stop trials at fixed rungs; False: stop none early; None: as ``space`` says.
        confirm: train the front's candidates again with so many other seeds, and pick by the means.
        keep: "front" removes the weights of trials clearly behind it; None: as it was, or "all".
        checkpoint_minutes: how much work a kill may cost; None: as ``space`` says, or ten.
        log: also write to ``mlflow=URI`` or ``tensorboard=FOLDER``.
        on_event: called with each event (``agesearch.search.store.events``).

    Raises:
        InputError: whatever is wrong before a trial starts; ``out`` holds a study already.
    """
    set_environment()
    from agesearch.search.run.study import run_study

    study, factor = asked_study(
        space,
        scale=scale,
        rungs=rungs,
        confirm=confirm,
        keep=keep,
        trials=trials,
        seed=seed,
        max_latency_ms=max_latency_ms,
        max_params=max_params,
        max_bytes=max_bytes,
        max_memory_mb=max_memory_mb,
        max_mae_years=max_mae_years,
        max_mae_c_years=max_mae_c_years,
        max_shift_years=max_shift_years,
        max_worst_decade_mae_years=max_worst_decade_mae_years,
        epoch_faces=epoch_faces,
        val_faces=val_faces,
    )
    limits = _limits(
        minutes=minutes,
        concurrency=concurrency,
        workers_per_trial=workers_per_trial,
        gpus_per_trial=gpus_per_trial,
        address=address,
        dashboard=dashboard,
        stall_minutes=stall_minutes,
        checkpoint_minutes=checkpoint_minutes,
    )
    with _listening(log, on_event) as listener:
        result = run_study(
            study,
            os.fspath(data),
            text_of(teacher),
            os.fspath(out),
            order_teacher=text_of(order_teacher),
            like=text_of(like),
            scale=factor,
            limits=limits,
            on_event=listener,
        )
    return _study_of(result)


def resume(
    study: Place,
    *,
    trials: int | None = None,
    confirm: int | None = None,
    keep: str | None = None,
    minutes: float | None = None,
    concurrency: int | None = None,
    workers_per_trial: int = 1,
    gpus_per_trial: float | None = None,
    data: Place | None = None,
    teacher: Place | None = None,
    order_teacher: Place | None = None,
    address: str | None = None,
    dashboard: bool = False,
    stall_minutes: float | None = None,
    checkpoint_minutes: float | None = None,
    log: Sequence[str] = (),
    on_event: EventListener | None = None,
) -> Study:
    """Go on with a study, to ``trials`` finished trials where that is given; none is repeated.

    >>> agesearch.resume("study", trials=3).records.num_rows
    3

    Args:
        confirm: train the front's candidates again with so many other seeds, and pick by the means.
        keep: "front" removes the weights of trials clearly behind it; None: as it was, or "all".
        data: where the dataset lies now, if it was moved; ``teacher``, ``order_teacher``: the same.

    Raises:
        InputError: there is no such study, or its dataset or teacher is another one now.
    """
    set_environment()
    from agesearch.search.run.study import resume_study

    limits = _limits(
        minutes=minutes,
        concurrency=concurrency,
        workers_per_trial=workers_per_trial,
        gpus_per_trial=gpus_per_trial,
        address=address,
        dashboard=dashboard,
        stall_minutes=stall_minutes,
        checkpoint_minutes=checkpoint_minutes,
    )
    with _listening(log, on_event) as listener:
        result = resume_study(
            os.fspath(study),
            dataset=text_of(data),
            teacher=text_of(teacher),
            order_teacher=text_of(order_teacher),
            trials=trials,
            confirm=confirm,
            keep=keep,
            limits=limits,
            on_event=listener,
        )
    return _study_of(result)


#: What may be asked for of the student, by its field.
_FIELDS = {"epoch_faces": "student.optim.epoch_faces", "val_faces": "student.val_faces"}


def asked_study(
    space: Place | Mapping[str, Any] | StudySpec,
    *,
    scale: float | None = None,
    rungs: bool | None = None,
    confirm: int | None = None,
    **values: Any,
) -> tuple[StudySpec, float]:
    """The study that ``space`` describes with what is asked for in place (None: as it is), and its scale."""
    from agesearch.search.choice.confirmed import with_seeds
    from agesearch.search.space.scaling import scaled_study
    from agesearch.specs import RungSpec

    study = _described(space)
    given = {_FIELDS.get(name, name): value for name, value in values.items() if value is not None}
    if rungs is not None:
        given["rungs"] = (study.rungs or RungSpec()).model_dump() if rungs else None
        given["stopping"] = None
    if confirm is not None:
        given["confirm"] = with_seeds(study, confirm)
    factor = 1.0 if scale is None else scale
    return scaled_study(study.with_values(given), factor), factor


def _described(space: Place | Mapping[str, Any] | StudySpec) -> StudySpec:
    from agesearch.search.space.space import check_space, load_space
    from agesearch.specs import StudySpec, parse_spec

    if isinstance(space, StudySpec):
        return check_space(space)
    if isinstance(space, Mapping):
        return check_space(parse_spec(StudySpec, dict(space), "the space"))
    return load_space(space)


def _limits(*, stall_minutes: float | None, **limits: Any) -> RunLimits:
    from agesearch.search.run.study import RunLimits
    from agesearch.search.run.watchdog import STALL_MINUTES

    return RunLimits(**limits, stall_minutes=STALL_MINUTES if stall_minutes is None else stall_minutes)


def _listening(log: Sequence[str], on_event: EventListener | None) -> Any:
    from agesearch.search.store.events import unheard
    from agesearch.search.tracking.feed import tracked

    return tracked(log, on_event or unheard)


def _study_of(result: StudyResult) -> Study:
    return Study(str(result.folder.root), result.outcome.value)


def _table(trials: Sequence[TrialRecord]) -> pa.Table:
    """Trials as a table, with a column for each parameter that any of them has."""
    import pyarrow as pa

    from agesearch.search.store.records import CURVE, SCHEMA

    rows = [{**trial.as_json(), CURVE: list(trial.curve)} for trial in trials]
    fields = [field for field in SCHEMA if field.name != "params"]
    columns = {field.name: pa.array([row.get(field.name) for row in rows], field.type) for field in fields}
    names = sorted({name for trial in trials for name in trial.params})
    return pa.table(columns | {f"{PARAMETER}{name}": _parameter(trials, name) for name in names})


def _parameter(trials: Sequence[TrialRecord], name: str) -> pa.Array:
    """One parameter's values, null where a trial has none; of several kinds (0.1 and ``off``), as JSON."""
    import pyarrow as pa

    values = [trial.params.get(name) for trial in trials]
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else json.dumps(value) for value in values])
