"""``agesearch.evaluate``: how good models are on a dataset, by a published protocol."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agesearch.api.places import Place, listed
from agesearch.progress import Listener, silent
from agesearch.session import set_environment

if TYPE_CHECKING:
    import pyarrow as pa

    from agesearch.measure.evaluate import Evaluation
    from agesearch.measure.predictions import Predictions


@dataclass(frozen=True)
class EvaluationResult:
    """``record`` is the whole evaluation, as ``agesearch evaluate --json`` prints it; the rest are tables."""

    record: Evaluation
    by_model: Mapping[str, Predictions]

    @property
    def scores(self) -> pa.Table:
        """Every figure as a row: ``protocol``, ``model``, ``label_kind``, ``of`` and ``name`` (of which
        faces: all, a decade, a sex, ...), ``score``, ``value``, ``low`` and ``high`` (its 95 % interval),
        ``faces`` and ``persons``.
        """
        import pyarrow as pa

        from agesearch.measure.files import tidy_rows

        return pa.Table.from_pylist(tidy_rows(self.record))

    @property
    def predictions(self) -> pa.Table:
        """A row for each model and face: its labels, ``predicted_age`` and ``spread`` in years."""
        from agesearch.measure.files import predictions_table

        return predictions_table(self.by_model)


def evaluate(
    models: Place | Sequence[Place],
    *,
    data: Place,
    protocol: str = "standard",
    split: str | None = None,
    k: float = 5.0,
    runtime: Literal["onnx", "torch"] = "onnx",
    threads: int | None = None,
    registry: Place = "registry",
    on_progress: Listener = silent,
) -> EvaluationResult:
    """Score models on a dataset, side by side on the same faces, with 95 % intervals.

    >>> result = agesearch.evaluate("teacher", data="faces")
    >>> scores = result.scores.to_pandas()
    >>> scores.query("of == 'all'")[["model", "score", "faces"]].head(2)
         model      score  faces
    0  teacher  mae_years     10
    1  teacher        cs5     10

    Args:
        models: model folders, or names of ``registry`` (see ``load_model``).
        protocol: ``standard``, ``lap2016``, ``adience``, ``lfw+``, ``lopo`` or ``paplham``.
        split: what ``standard`` tests: ``train``, ``val`` or ``test`` (None: test).
        k: years of CS@k, the share of faces that are at most k years off.

    Raises:
        InputError: a dataset that lacks what the protocol needs; no such model.
    """
    set_environment()
    from agesearch.deploy.registry import model_folders
    from agesearch.measure.evaluate import evaluate as run_evaluate
    from agesearch.measure.protocols import protocol_named, split_named

    chosen = protocol_named(protocol, split=split_named(split), k=k)
    folders = model_folders(listed(models), os.fspath(registry))
    found = run_evaluate(
        folders, os.fspath(data), chosen, runtime=runtime, threads=threads, on_progress=on_progress
    )
    return EvaluationResult(found.record, found.predictions)
