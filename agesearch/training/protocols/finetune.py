"""Fine-tuning a trained model by a published protocol: each of its turns trains and tests a model of its own.

``DIR/run.json`` says what was asked, ``DIR/turns/<name>/`` is a turn's model folder with its predictions, and
``DIR/result.json`` the record. Run again, it goes on where it was: what is finished is not done again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from agesearch.artefacts import begin_run, own_run
from agesearch.cluster.nodes import check_shared
from agesearch.data.dataset.records import Manifest, Part, Turn, read_manifest
from agesearch.errors import InputError
from agesearch.machine import cores
from agesearch.measure.leakage import Leak, leaks, seen_count
from agesearch.measure.predictions import Labels, Picker, Predictions, read_labels
from agesearch.measure.protocols import Protocol
from agesearch.measure.scores import KindScores, scored
from agesearch.measure.speed.hardware import hardware_name
from agesearch.models.identity import crop_notes, model_digest, read_model_manifest
from agesearch.models.manifest import MANIFEST, ModelManifest, library_versions
from agesearch.progress import Listener, silent
from agesearch.provenance import now
from agesearch.session import ray_session
from agesearch.specs import SharedRecord, Spec, TrainSpec, digest_of
from agesearch.storage import Location, exclusive
from agesearch.training.preflight import plan
from agesearch.training.protocols.jobs import ModelJob, Test, Training, run_jobs
from agesearch.training.protocols.recipes import Recipe

RESULT = "result.json"
TURNS = "turns"

_TEST = "test"
#: The share of a turn's training persons that choose its best epoch where the protocol has no such faces.
_HELD_OUT = 0.1


class TurnRecord(Spec):
    """How a turn went: its model folder (in the fine-tuning's), the best epoch's validation metrics, its
    faces, or why it failed.

    ``faces_seen``: how many of the faces it tests had trained the model that was fine-tuned.
    """

    name: str
    folder: str
    failure: str = ""
    epoch: int = 0
    validation: dict[str, float] = {}
    faces_tested: int = 0
    faces_seen: int = 0


class Start(Spec):
    """The model that was fine-tuned, and what of it each turn starts from."""

    path: str
    model_digest: str
    arch: str
    tensors: int
    head: bool


class Finetuning(SharedRecord):
    """The record of a fine-tuning: what ``--json`` prints and ``result.json`` holds.

    ``kinds`` holds, for each label kind, the scores over all faces tested with 95 % bootstrap intervals, each
    turn's own, and mean and sample standard deviation over the turns; empty where every turn failed.
    """

    protocol: str
    about: str
    recipe: str
    spec: TrainSpec
    start: Start
    dataset: str
    data_digest: str
    turns: tuple[TurnRecord, ...]
    kinds: tuple[KindScores, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float
    hardware: str
    versions: dict[str, str]
    created: str

    @property
    def failed(self) -> int:
        """The number of turns that failed."""
        return sum(bool(turn.failure) for turn in self.turns)


@dataclass(frozen=True)
class _Asked:
    """What a run is asked to do, checked."""

    protocol: Protocol
    recipe: Recipe
    spec: TrainSpec
    model: Location
    dataset: Location
    data: Manifest
    out: Location


def finetune(
    model: str | Location,
    dataset: str | Location,
    protocol: Protocol,
    recipe: Recipe,
    spec: TrainSpec,
    out: str | Location,
    *,
    concurrency: int | None = None,
    address: str | None = None,
    on_progress: Listener = silent,
    warn: Callable[[str], None] = lambda _: None,
) -> Finetuning:
    """Fine-tune a model folder in every turn of a protocol, side by side on Ray, and score the tests.

    ``spec`` comes from ``finetune_spec``. A turn that fails is told in the record, and the others go on.
    Where the model has seen faces of a turn's test, ``warn`` hears so before anything is trained.
    Raises ``InputError`` for anything wrong before a turn starts, and ``ConflictError`` where ``out`` holds
    something else or another run.
    """
    started = time.monotonic()
    asked = _Asked(
        protocol,
        recipe,
        spec,
        Location.of(model),
        Location.of(dataset),
        read_manifest(dataset),
        Location.of(out),
    )
    start = _start(asked)
    jobs, notes = _jobs(asked)
    if address is None:
        plan(cores(), 0, concurrency=concurrency, what="turn")
    with run_folder(asked.out, _identity(asked, start, jobs), "fine-tuning"):
        known = _leaks(asked, jobs)
        leaking = _leak_notes(jobs, known)
        for note in leaking:
            warn(note)
        failures = run_side_by_side(jobs, asked.out, concurrency, address, on_progress, asked.model)
        said = [*leaking, *_crop_notes(asked), *notes]
        record = _record(asked, start, jobs, failures, said, known, started)
        (asked.out / RESULT).write_json(record.model_dump(mode="json"))
    return record


def run_side_by_side(
    jobs: Sequence[ModelJob],
    out: Location,
    concurrency: int | None,
    address: str | None,
    on_progress: Listener,
    model: Location | None = None,
) -> dict[str, str]:
    """Run the jobs that are not finished on a Ray session; returns why some failed. No Ray for nothing."""
    if all(job.finished for job in jobs):
        return {}
    with ray_session(address, on_progress=on_progress) as session:
        slots = plan(
            session.cpus,
            session.gpus,
            concurrency=concurrency,
            trials=len(jobs),
            what="turn",
            grows=not session.is_local,
        )
        check_shared(out, "the run")
        if model is not None:
            check_shared(model, "the model", MANIFEST)
        return run_jobs(jobs, slots, on_progress)


@contextmanager
def run_folder(out: Location, identity: dict[str, Any], what: str) -> Iterator[None]:
    """Hold the folder of a run with these settings, a new one or one to go on with; see ``own_run``.

    It is looked at before it is touched, and again once it is held: another run may have come in between.
    """
    own_run(out, f"a {what}", identity)
    with exclusive(out, f"The {what}"):
        own_run(out, f"a {what}", identity)
        begin_run(out, identity)
        yield


def folder_name(name: str) -> str:
    """A name as that of a folder: itself where it is plain, else made plain and told apart by a digest."""
    plain = "".join(
        letter if letter.isascii() and letter.isalnum() or letter in "._-" else "-" for letter in name
    )
    if plain == name and not name.startswith(".") and 0 < len(name) <= 64:
        return name
    return f"{plain.strip('.-')[:48] or 'turn'}-{digest_of(name)[:6]}"


def _start(asked: _Asked) -> Start:
    """What the turns start from; a model that does not fit the spec is told here, before Ray starts."""
    from agesearch.models.zoo import build

    loaded = build(asked.spec.model).loaded
    return Start(
        path=asked.model.name,
        model_digest=model_digest(asked.model),
        arch=asked.spec.model.arch,
        tensors=loaded.tensors,
        head=loaded.head,
    )


def _identity(asked: _Asked, start: Start, jobs: Sequence[ModelJob]) -> dict[str, Any]:
    parts = [[job.name, str(job.training), job.tests[_TEST].labels.sample_id.tolist()] for job in jobs]
    return {
        "protocol": asked.protocol.name,
        "spec": asked.spec.identity(),
        "start": start.model_digest,
        "data": asked.data.content_digest,
        "turns": digest_of(parts),
    }


def _jobs(asked: _Asked) -> tuple[list[ModelJob], list[str]]:
    """One job a turn whose test has faces that can be scored; notes on what is not as published."""
    turns = asked.protocol.turns(asked.dataset, asked.data)
    everything = read_labels(asked.dataset)
    usable = asked.protocol.require_usable(everything, asked.dataset)
    picker = Picker(everything)
    jobs, empty, without_val = [], 0, 0
    for turn in turns:
        at = picker.indices(turn.test)
        labels = everything.take(at[usable[at]])
        if not len(labels):
            empty += 1
            continue
        without_val += turn.val is None
        train, val = _learnt_from(turn, picker, everything)
        training = Training(asked.spec, asked.dataset, train, val, asked.data.crop, asked.data.content_digest)
        folder = asked.out / TURNS / folder_name(turn.name)
        jobs.append(
            ModelJob(turn.name, folder, folder, training, {_TEST: Test(asked.dataset, turn.test, labels)})
        )
    if not jobs:
        raise InputError(f"No turn of '{asked.protocol.name}' has a face in '{asked.dataset}' to score.")
    notes = []
    if empty:
        notes.append(f"{empty} of {len(turns)} turns have no face that can be scored, and were left out.")
    if without_val:
        notes.append(
            f"{without_val} turns have no validation faces of their own: a tenth of their training persons, "
            "by a hash of their names, chose the best epoch and did not train."
        )
    return jobs, notes


def _learnt_from(turn: Turn, picker: Picker, labels: Labels) -> tuple[Part, Part]:
    """The parts that train and validate; where a turn has no validation, some of its persons are held out."""
    if turn.train is None:
        raise InputError(
            "This protocol tests models that were trained on other data, so there is nothing to fine-tune: "
            "use 'agesearch evaluate'."
        )
    if turn.val is not None:
        return turn.train, turn.val
    known = {name for name in labels.subject_id[picker.indices(turn.train)].counts() if name is not None}
    if len(known) < 2:
        raise InputError(
            f"The turn '{turn.name}' has no validation faces, and no persons known of whom some could be "
            "held out to choose the best epoch."
        )
    ranked = sorted(known, key=lambda name: hashlib.sha256(str(name).encode()).digest())
    held = tuple(sorted(ranked[: max(1, round(_HELD_OUT * len(ranked)))]))
    train = replace(turn.train, without=(*(turn.train.without or ()), *held))
    return train, replace(turn.train, subjects=held)


def _leaks(asked: _Asked, jobs: Sequence[ModelJob]) -> dict[str, list[Leak]]:
    """The faces of each turn's test that the model has seen before it is fine-tuned."""
    model = read_model_manifest(asked.model)
    return {job.name: leaks(model, asked.data, job.tests[_TEST].labels) for job in jobs}


def _leak_notes(jobs: Sequence[ModelJob], found: Mapping[str, list[Leak]]) -> list[str]:
    notes = []
    for trained, words in ((True, "was trained"), (False, "had its best epoch chosen")):
        counts = {job.name: seen_count(found[job.name], trained=trained) for job in jobs}
        tested = [len(job.tests[_TEST].labels) for job in jobs if counts[job.name]]
        if tested:
            notes.append(
                f"The model that is fine-tuned {words} on {sum(counts.values()):,} of the {sum(tested):,} "
                f"faces that {len(tested)} of {len(jobs)} turns test: their figures are no test."
            )
    return notes


def _crop_notes(asked: _Asked) -> list[str]:
    """Where the model learnt from crops of another recipe."""
    return crop_notes(asked.model, asked.data.crop, "it starts further from its goal", "The model")


def _record(
    asked: _Asked,
    start: Start,
    jobs: Sequence[ModelJob],
    failures: dict[str, str],
    notes: Sequence[str],
    known: Mapping[str, list[Leak]],
    started: float,
) -> Finetuning:
    predictions: dict[str, Predictions] = {}
    turns = []
    for job in jobs:
        found = None if job.name in failures else job.predictions(_TEST)
        if found is not None:
            predictions[job.name] = found
        turn = _turn_record(job, failures.get(job.name, ""), found)
        seen = seen_count(known[job.name], trained=True)
        turns.append(turn.model_copy(update={"faces_seen": seen}))
    return Finetuning(
        protocol=asked.protocol.name,
        about=asked.protocol.about,
        recipe=asked.recipe.about,
        spec=asked.spec,
        start=start,
        dataset=asked.dataset.name,
        data_digest=asked.data.content_digest,
        turns=tuple(turns),
        kinds=tuple(scored(asked.protocol, predictions)) if predictions else (),
        notes=tuple(notes),
        seconds=round(time.monotonic() - started, 1),
        hardware=hardware_name(),
        versions=library_versions(),
        created=now(),
    )


def _turn_record(job: ModelJob, failure: str, predictions: Predictions | None) -> TurnRecord:
    folder = f"{TURNS}/{job.out.name}"
    if predictions is None:
        return TurnRecord(name=job.name, folder=folder, failure=failure or "it left no predictions")
    model: ModelManifest = read_model_manifest(job.model)
    validation = {name: value for name, value in model.metrics.items() if name.startswith("val_")}
    return TurnRecord(
        name=job.name,
        folder=folder,
        epoch=int(model.metrics.get("epoch", 0)),
        validation=validation,
        faces_tested=len(predictions),
    )
