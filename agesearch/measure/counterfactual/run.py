"""[ray] ``agesearch measure counterfactual``: persons rendered once with every change, scored by all models.

Rendering costs more than any network, so that a task renders some persons and lets all models answer; only
answers and digests come back, and memory does not grow with the pictures.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from agesearch.cluster.nodes import cpus_now
from agesearch.data.synthetic.actor import Studio, open_studio
from agesearch.data.synthetic.generate import RECIPE
from agesearch.data.synthetic.mesh import find_data
from agesearch.errors import AgeSearchError
from agesearch.measure.counterfactual.changes import CHANGES
from agesearch.measure.counterfactual.faces import AS_IS, CounterfactualSpec, RenderedPerson, rendered
from agesearch.measure.counterfactual.records import Counterfactuals, ModelShifts, ToldChange
from agesearch.measure.counterfactual.shifts import Answered
from agesearch.measure.decisions.rates import Counting
from agesearch.measure.decisions.rules import sides
from agesearch.measure.robustness.run import answers
from agesearch.measure.speed.hardware import hardware_name
from agesearch.models.identity import crop_notes, model_digest
from agesearch.models.manifest import library_versions
from agesearch.models.predictors import Predictor
from agesearch.models.scorers import Scorer, scorer_of
from agesearch.progress import Listener, Progress, silent
from agesearch.provenance import now
from agesearch.session import in_order, ray_session
from agesearch.specs import digest_of
from agesearch.storage import Location

_STAGE = "Counterfactuals"
#: Persons that a task renders: some five seconds of work.
_TASK_PERSONS = 2
#: A model that is off by more than this on persons as they are hardly sees ages in them.
_LOST_YEARS = 12.0
#: Where more of the minors pass as they are, that changes let few more in means nothing.
_MOST_PASS = 0.5

Answers = npt.NDArray[np.float32]


class Scored(NamedTuple):
    """Of n persons: true ages ``[n]``, answers ``[models, 1 + changes, n]`` in years (NaN: does not apply),
    and what names their pixels.
    """

    age: npt.NDArray[np.float64]
    answers: Answers
    digests: list[str]


def measure_counterfactual(
    models: Mapping[str, Location],
    spec: CounterfactualSpec,
    *,
    address: str | None = None,
    on_progress: Listener = silent,
) -> Counterfactuals:
    """How far the answers of models (by the name to show) move when one thing about a person changes.

    Raises ``InputError`` for changes and ages that are none, a model that cannot be opened, and where the
    package that renders is missing. Starts Ray, or joins the one at ``address``.
    """
    began = time.monotonic()
    spec.check()
    data = find_data()
    scorers = {name: scorer_of(place, spec.crop()) for name, place in models.items()}
    with ray_session(address, on_progress=on_progress):
        found = _scored(scorers, spec, open_studio(data), on_progress)
    names = [AS_IS, *spec.named]
    return Counterfactuals(
        legal_age=spec.legal_age,
        challenge_age=spec.at,
        persons=spec.persons,
        minors=int((found.age < spec.legal_age).sum()),
        min_persons=spec.min_persons,
        seed=spec.seed,
        size=spec.size,
        recipe=RECIPE,
        pictures=int(np.isfinite(found.answers[0]).sum()),
        pixels_digest=digest_of([names, found.digests]),
        changes=tuple(
            ToldChange(name=name, of=CHANGES[name].of, about=CHANGES[name].about) for name in spec.named
        ),
        models=tuple(
            _of_model(name, place, found.age, answered, spec)
            for (name, place), answered in zip(models.items(), found.answers, strict=True)
        ),
        seconds=round(time.monotonic() - began, 1),
        hardware=hardware_name(),
        versions=library_versions(),
        created=now(),
    )


def render_persons(spec: CounterfactualSpec) -> tuple[RenderedPerson, ...]:
    """All persons of a spec with their pictures, which are held: for a few. Needs a running Ray."""
    import ray

    kept = ray.put(open_studio(find_data()))
    task: Any = ray.remote(num_cpus=1, max_retries=3)(rendered)
    tasks = ((task.remote(kept, spec, index), index) for index in range(spec.persons))
    return tuple(person for _, person in in_order(tasks, lambda: 2 * cpus_now()))


def _of_model(
    name: str, place: Location, age: npt.NDArray[np.float64], answered: Answers, spec: CounterfactualSpec
) -> ModelShifts:
    found = Answered(
        age=age,
        answers=answered.astype(np.float64),
        changes=spec.named,
        legal_age=spec.legal_age,
        challenge_age=spec.at,
        counting=Counting(spec.min_persons),
    )
    return ModelShifts(
        name=name,
        path=place.name,
        model_digest=model_digest(place),
        bias_years=found.bias,
        mae_years=found.mae,
        minors_pass=found.minors_pass,
        shifts=tuple(found.shifts()),
        notes=tuple(_notes(place, found, spec)),
    )


def _notes(place: Location, found: Answered, spec: CounterfactualSpec) -> Iterator[str]:
    yield from crop_notes(place, spec.crop(), "its answers may be poor", "The model")
    off = found.mae.estimate
    if off is not None and off.value > _LOST_YEARS:
        yield (
            f"It is off by {off.value:.1f} years on these persons as they are: it hardly sees ages in "
            "rendered faces, and its shifts say little."
        )
    passing = found.minors_pass.estimate
    if passing is not None and passing.value > _MOST_PASS:
        below = sides(spec.legal_age).below
        yield (
            f"{passing.value:.0%} of the {below} pass at {spec.at:g} as they are: few are left for a change "
            "to let in."
        )


def _scored(
    scorers: Mapping[str, Scorer],
    spec: CounterfactualSpec,
    studio: Studio,
    on_progress: Listener,
) -> Scored:
    """All persons in their order, whoever rendered them."""
    import ray  # here, since Ray reads the settings of ``ray_session`` when it is first imported
    from ray.exceptions import RayError

    kept, models = ray.put(studio), [ray.put(scorer) for scorer in scorers.values()]
    task: Any = ray.remote(num_cpus=1, max_retries=3)(_score_persons)
    starts = range(0, spec.persons, _TASK_PERSONS)
    parts = [range(first, min(first + _TASK_PERSONS, spec.persons)) for first in starts]
    found: list[Scored] = []
    on_progress(Progress(_STAGE, 0, spec.persons, note="persons"))
    try:
        tasks = ((task.remote(kept, spec, part, models), part) for part in parts)
        for part, scored in in_order(tasks, lambda: 2 * cpus_now()):
            found.append(scored)
            on_progress(Progress(_STAGE, part.stop, spec.persons, note="persons"))
    except RayError as error:
        raise AgeSearchError(f"Rendering failed: {str(error).strip().splitlines()[-1]}") from error
    return Scored(
        np.concatenate([part.age for part in found]),
        np.concatenate([part.answers for part in found], axis=2),
        [digest for part in found for digest in part.digests],
    )


def _score_persons(
    studio: Studio, spec: CounterfactualSpec, persons: Sequence[int], models: Sequence[Any]
) -> Scored:
    """One task: render persons with every change, and let every model answer."""
    predictors = [_opened(model) for model in models]
    return score_persons(predictors, spec, [rendered(studio, spec, index) for index in persons])


def score_persons(
    predictors: Sequence[Predictor], spec: CounterfactualSpec, persons: Sequence[RenderedPerson]
) -> Scored:
    """What models say of rendered persons."""
    names = [AS_IS, *spec.named]
    found = np.full((len(predictors), len(names), len(persons)), np.nan, dtype=np.float32)
    for column, person in enumerate(persons):
        rows = [names.index(name) for name in person.pictures]
        found[:, rows, column] = answers(predictors, list(person.pictures.values()))[0]
    ages = np.array([person.age for person in persons], dtype=np.float64)
    return Scored(ages, found, [person.digest for person in persons])


@lru_cache(maxsize=64)
def _opened(model: Any) -> Predictor:
    """A model in the object store, opened once a process."""
    import ray

    scorer: Scorer = ray.get(model)
    return scorer.open()
