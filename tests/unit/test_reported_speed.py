"""On which engines a report times its models, and which timings it keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_records import made_model, made_speed
from published_sets import tiny_model, write_set

from agesearch.deploy.reported import measure
from agesearch.deploy.reported.measure import ReportSpec, measure_reported
from agesearch.deploy.reported.models import Placed
from agesearch.measure.speed.gate import closed
from agesearch.measure.speed.hardware import hardware_name
from agesearch.models.manifest import MANIFEST
from agesearch.models.runtimes.engines import OPENVINO, Engine, engines_here
from agesearch.storage import Location

SKIPPED = ("validation", "test", "decisions", "robustness")


@pytest.fixture
def timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the report's speeds of a model that may be served on some engines: whether it was timed, and on
    what is known alone.
    """
    write_set(tmp_path / "faces", [{"age": 20.0}], "real")
    place = Location.of(tiny_model(tmp_path / "model"))
    asked: list[bool] = []

    def speed(subjects: Any, engines: list[Engine], *_: Any, only_known: bool, **__: Any) -> Any:
        assert engines == engines_here()
        asked.append(only_known)
        return made_speed([subject.name for subject in subjects])

    monkeypatch.setattr(measure, "speed_of_subjects", speed)

    def run(*served: Engine, judge: bool = False) -> list[bool]:
        asked.clear()
        update = {"holds": True, "hardware": hardware_name()}
        rows = [closed(one, 0.1, "").with_values(update).model_dump(mode="json") for one in served]
        document = (place / MANIFEST).read_json() | {"precisions": rows}
        (place / MANIFEST).write_json(document)
        models = [Placed(made_model("ages", "student"), place)]
        spec = ReportSpec(skip=SKIPPED, judge=judge)
        measure_reported(models, str(tmp_path / "faces"), Location.of(tmp_path / "records"), spec)
        return list(asked)

    return run


def test_a_version_is_timed_where_it_may_be_served_and_anew_where_that_changes(timed: Any) -> None:
    assert timed() == [True]
    assert timed() == []  # it is kept
    int8 = Engine(OPENVINO, "int8")
    assert timed(int8) == [True]
    assert timed(int8) == []
    assert timed(int8, judge=True) == [False]
