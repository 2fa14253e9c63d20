"""A model judged on the engines of this machine, on the faces of a dataset; its int8 network is made here."""

from __future__ import annotations

from collections.abc import Sequence

from agesearch.data.dataset.records import Split
from agesearch.errors import AgeSearchError, first_line
from agesearch.measure.labelled_faces import LabelledFaces, labelled_faces, some_crops
from agesearch.measure.speed.gate import (
    CALIBRATION_FACES,
    GATE_FACES,
    Gate,
    closed,
    gates,
    int8_within,
    too_few,
)
from agesearch.models.runtimes.engines import DEFAULT, INT8, Engine
from agesearch.models.scorers import EnsembleScorer, ForeignScorer, OnnxScorer, Scorer, int8_of
from agesearch.progress import Listener
from agesearch.storage import Location


def judge(
    scorer: Scorer, dataset: Location, engines: Sequence[Engine], max_drop: float, on_progress: Listener
) -> tuple[Scorer, list[Gate]]:
    """The gate of each engine but the usual one; the scorer comes back with the int8 network that was judged,
    made here where it had none.
    """
    faces = labelled_faces(dataset, Split.VAL, GATE_FACES)
    others = [engine for engine in engines if engine != DEFAULT]
    few = too_few(faces.persons)
    if few is not None:
        return scorer, [closed(engine, max_drop, few) for engine in others]
    why = tried = ""
    if any(engine.precision == INT8 for engine in others):
        try:
            scorer, tried = _with_int8(scorer, dataset, faces, max_drop, on_progress)
        except AgeSearchError as error:
            why = first_line(error)
    judged = [engine for engine in others if not (why and engine.precision == INT8)]
    found = [
        gate.with_values({"reason": f"{gate.reason}{tried}"})
        if gate.reason and gate.precision == INT8
        else gate
        for gate in gates(scorer, faces, judged, max_drop, on_progress=on_progress)
    ]
    return scorer, found + [closed(engine, max_drop, why) for engine in others if engine not in judged]


def _with_int8(
    scorer: Scorer, dataset: Location, faces: LabelledFaces, max_drop: float, on_progress: Listener
) -> tuple[Scorer, str]:
    """The scorer with an int8 network that the gate of OpenVINO lets pass, if there is one, and in words what
    was tried to make it.
    """
    if isinstance(scorer, EnsembleScorer):
        raise AgeSearchError("an ensemble is judged by its members: give each by itself")
    if int8_of(scorer) is not None:
        return scorer, ""
    tried = ""

    def made(one: OnnxScorer | ForeignScorer) -> bytes:
        nonlocal tried
        content, found = int8_within(one, calibration, faces, max_drop, on_progress=on_progress)
        tried = f"; {found}"
        return content

    calibration = some_crops(dataset, Split.TRAIN, CALIBRATION_FACES)
    if not len(calibration):
        raise AgeSearchError("the dataset has no training faces to take ranges from")
    return scorer.with_int8(made), tried
