"""A search space as data: which fields of a ``TrainSpec`` a study varies, and between which values.

The YAML of a study names fields by their dotted path (``model.arch``, ``optim.learning_rate``), each with
choices, a range, and where wanted a condition (``when``); a dimension of ``variants`` has a name of its own.
Everything is checked before anything runs: each field exists, each value is one the field accepts, each
architecture is in the zoo, each condition can hold. An error names the file and the line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from agesearch.documents import Document
from agesearch.errors import InputError
from agesearch.models.architectures import NETWORK_FIELDS, Network
from agesearch.models.foreign.document import start_named
from agesearch.search.space.conditions import (
    Dimension,
    Params,
    Value,
    field_values,
    settings,
    walk,
)
from agesearch.search.space.validation import ARCH, INPUT_SIZE, faults, field_names
from agesearch.specs import (
    Choices,
    ModelSpec,
    Range,
    StudySpec,
    TrainSpec,
    Variants,
    describe_validation,
)
from agesearch.storage import Location
from agesearch.validation_messages import first_fault

__all__ = [
    "ARCH",
    "INPUT_SIZE",
    "MAX_NETWORKS",
    "Dimension",
    "Params",
    "Value",
    "check_space",
    "configuration_key",
    "field_names",
    "grid",
    "load_space",
    "network_choices",
    "network_of",
    "networks",
    "optuna_distributions",
    "trial_name",
    "trial_spec",
]

#: More networks than this would take longer to time than most searches take to run.
MAX_NETWORKS = 400

#: The dimensions that decide a network.
_NETWORK = {name: f"model.{name}" for name in NETWORK_FIELDS}

_KINDS: Mapping[str, type[Dimension]] = {
    "choices": Choices,
    "variants": Variants,
    "low": Range,
    "high": Range,
}


def load_space(where: str | os.PathLike[str]) -> StudySpec:
    """The study described by a YAML file, fully checked; an ``InputError`` names the file and the line."""
    path = os.fspath(where)
    document = Document(path)
    if not isinstance(document.value, dict):
        raise InputError(
            f"'{path}' must hold a mapping with 'student' and 'space', but holds {document.value!r:.40}."
        )
    study = document.spec(StudySpec, _sorted_dimensions(document))
    for key, message in faults(study):
        raise InputError(f"{document.at(key)}: {message}")
    return study


def check_space(study: StudySpec) -> StudySpec:
    """The same study, or an ``InputError`` for its first fault (for studies that come from no file)."""
    for key, message in faults(study):
        raise InputError(f"{'.'.join(key)}: {message}")
    return study


def trial_spec(study: StudySpec, params: Mapping[str, Value], parent: Location | None = None) -> TrainSpec:
    """What one trial trains: the study's student with ``params`` in place, and its architecture's weights, or
    those of the trial whose folder is ``parent``.

    Every trial has the student's seed, so that two trials differ by their parameters alone.
    """
    values = field_values(study.space, params)
    arch = str(values.get(ARCH, study.student.model.arch))
    if parent is not None:
        values |= {"model.init": "model", "model.weights": str(parent)}
    elif arch in study.weights:
        values |= {f"model.{name}": value for name, value in start_named(study.weights[arch]).items()}
    return study.student.with_values(values)


def configuration_key(params: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What tells two configurations apart: names and values, numbers to 12 digits, so that one step of a
    range is one value whoever worked it out.
    """
    return tuple((name, _value_key(params[name])) for name in sorted(params))


def network_of(study: StudySpec, params: Mapping[str, Any]) -> Network:
    """The network of a trial with these parameters."""
    decided = settings(study.space, params)
    changes = {name: decided[field] for name, field in _NETWORK.items() if field in decided}
    return Network.of(study.student.model, changes)


def network_choices(study: StudySpec) -> list[tuple[Params, Network]]:
    """Every way to choose a network: the parameters that decide it, and the network."""
    return [(params, network_of(study, params)) for params in walk(study, _NETWORK.values())]


def networks(study: StudySpec) -> list[Network]:
    """Every network the study can suggest, in the order of the file."""
    found = list(dict.fromkeys(network for _, network in network_choices(study)))
    sizes = len({(network.arch, network.input_size) for network in found})
    if sizes > MAX_NETWORKS:
        raise InputError(
            f"The space has {sizes} networks (architectures and input sizes) to time, more than "
            f"{MAX_NETWORKS}: give '{INPUT_SIZE}' a step, or choices."
        )
    return found


def grid(study: StudySpec) -> list[Params]:
    """Every point of a space without ranges of broken numbers, in the order of the file."""
    return list(walk(study))


def optuna_distributions(space: Mapping[str, Dimension]) -> dict[str, Any]:
    """The space as Optuna's distributions, by dimension, in the order of their names."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    made: dict[str, Any] = {}
    for field in sorted(space):
        dimension = space[field]
        if isinstance(dimension, Choices):
            made[field] = CategoricalDistribution(dimension.choices)
        elif isinstance(dimension, Variants):
            made[field] = CategoricalDistribution(tuple(dimension.variants))
        elif dimension.integer:
            step = int(dimension.step or 1)
            made[field] = IntDistribution(int(dimension.low), int(dimension.high), dimension.log, step)
        else:
            made[field] = FloatDistribution(dimension.low, dimension.high, dimension.log, dimension.step)
    return made


def trial_name(number: int, model: ModelSpec) -> str:
    """How people and dashboards know a trial: ``0007-mobilenetv3_small_075-96px``."""
    return f"{number:04d}-{model.arch}-{model.input_size}px"


def _value_key(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:.12g}" if is_number else repr(value)


def _sorted_dimensions(document: Document) -> dict[str, Any]:
    """The document with each dimension parsed by its own kind, so that an error speaks of that kind alone."""
    value: dict[str, Any] = document.value
    space = value.get("space")
    if not isinstance(space, dict):
        return value
    parsed: dict[str, Dimension] = {}
    for name, entry in space.items():
        place = document.at(("space", name))
        kinds = {_KINDS[key] for key in entry if key in _KINDS} if isinstance(entry, dict) else set()
        if len(kinds) != 1:
            raise InputError(
                f"{place}: {_misspelt(entry)}'{name}' must be {{choices: [...]}}, {{low: a, high: b}} (with "
                f"log, step, integer) or {{variants: {{NAME: {{...}}}}}}, with 'when' if wanted, but is "
                f"{entry!r:.60}."
            )
        kind = kinds.pop()
        try:
            parsed[name] = kind.model_validate(entry)
        except ValidationError as error:
            place = document.at(("space", name, *first_fault(error, kind, entry).keys))
            raise InputError(f"{place}: '{name}': {describe_validation(error, kind, entry)}") from error
    return value | {"space": parsed}


def _misspelt(entry: Any) -> str:
    """The key that a dimension was to have, where one of its keys is nearly that."""
    for key in entry if isinstance(entry, dict) else ():
        guess = get_close_matches(str(key), _KINDS, n=1)
        if key not in _KINDS and guess:
            return f"'{key}' is not a known field: did you mean '{guess[0]}'? "
    return ""
