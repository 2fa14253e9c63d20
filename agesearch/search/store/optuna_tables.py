"""The tables of Optuna's ``RDBStorage``, which are not public, and whether this version of Optuna has them.

Nothing else here imports a private module of Optuna. Where a version has other tables, ``tables_of`` says
what is missing and gives none: trials are then written through Optuna's public calls, which are slower.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import optuna

_MODELS, _STORAGE = "optuna.storages._rdb.models", "optuna.storages._rdb.storage"

#: Each part that is used, and of a table the columns that are written.
_PARTS: Mapping[tuple[str, str], tuple[str, ...]] = {
    (_MODELS, "TrialModel"): (
        "trial_id",
        "number",
        "study_id",
        "state",
        "datetime_start",
        "datetime_complete",
    ),
    (_MODELS, "TrialParamModel"): ("trial_id", "param_name", "param_value", "distribution_json"),
    (_MODELS, "TrialUserAttributeModel"): ("trial_id", "key", "value_json"),
    (_MODELS, "TrialSystemAttributeModel"): ("trial_id", "key", "value_json"),
    (_MODELS, "TrialValueModel"): ("trial_id", "objective", "value", "value_type"),
    (_MODELS, "TrialIntermediateValueModel"): (
        "trial_id",
        "step",
        "intermediate_value",
        "intermediate_value_type",
    ),
    (_STORAGE, "_create_scoped_session"): (),
}

_METHODS = {
    "TrialModel": "find_or_raise_by_id",
    "TrialValueModel": "value_to_stored_repr",
    "TrialIntermediateValueModel": "intermediate_value_to_stored_repr",
}


@dataclass(frozen=True)
class OptunaTables:
    """Optuna's classes of its tables, as SQLAlchemy has them, and how it opens a transaction."""

    trials: Any
    params: Any
    notes: Any
    attributes: Any
    values: Any
    curves: Any
    transaction: Callable[[Any], AbstractContextManager[Any]]


def missing_parts() -> list[str]:
    """What is used of Optuna's tables and this version does not have."""
    found = []
    for (module, name), columns in _PARTS.items():
        try:
            part = getattr(importlib.import_module(module), name, None)
        except ImportError:
            part = None
        wanted = [*columns, *([_METHODS[name]] if name in _METHODS else [])]
        if part is None:
            found.append(f"{module}.{name}")
        found += [f"{module}.{name}.{one}" for one in wanted if part is not None and not hasattr(part, one)]
    return found


def optuna_tables() -> OptunaTables | None:
    """The tables; None, with a line in the log, where this version of Optuna has others."""
    missing = missing_parts()
    if missing:
        logging.getLogger("agesearch").warning(
            "Optuna %s has no %s: trials are written through its public calls, which are slower.",
            optuna.__version__,
            ", ".join(missing),
        )
        return None
    parts = [getattr(importlib.import_module(module), name) for module, name in _PARTS]
    return OptunaTables(*parts)
