"""``import agesearch``: the examples in its docstrings run, its names are those of the command line, and it
costs nothing until it is used.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doc_examples import examples
from fake_study import write_study
from typer.main import get_command

import agesearch
from agesearch.api.study import asked_study
from agesearch.cli.main import app
from agesearch.specs import StudySpec
from agesearch.storage import Location


def test_every_function_has_an_example() -> None:
    functions = [name for name in agesearch.__all__ if name[0].islower()]
    assert functions
    assert [name for name in functions if not examples(name)] == []


def _verb(name: str) -> Any:
    commands: Any = get_command(app)
    group, _, verb = name.rpartition("_")
    within = {"ingest": "data", "augment": "data"}.get(name, group)
    return (commands.commands[within].commands if within else commands.commands)[verb]


#: Options that a program has no use for, and one whose default differs: a library starts no dashboard.
_OF_THE_TERMINAL = {"as_json", "json_output", "out_file", "predictions", "resume", "no_faces"}
_OF_THE_PROGRAM = {"on_progress", "on_event"}
_OF_A_FOLDER = {"out_folder", "out_place", "to"}
_OTHER_DEFAULT = {"dashboard", "stall_minutes", "severities"}  # and numbers, which are text there


def _argument(option: Any) -> str:
    """What a program calls an option of the command line."""
    name = str(option.name)
    return "out" if name in _OF_A_FOLDER and "--out" in option.opts else name


@pytest.mark.parametrize(
    "name",
    [name for name in agesearch.__all__ if name[0].islower() and name not in {"load_model", "open_study"}],
)
def test_arguments_are_named_as_the_options_of_the_verb_and_have_their_defaults(name: str) -> None:
    verb = _verb(name)
    options = {_argument(option): option for option in verb.params}
    taken = inspect.signature(getattr(agesearch, name)).parameters
    own = _OF_THE_PROGRAM | ({"out"} if name == "calibrate" else set())  # its --out is a file of its own
    assert set(taken) - own == set(options) - _OF_THE_TERMINAL - {"help"}
    for argument in set(taken) - own - _OTHER_DEFAULT:
        default = taken[argument].default
        if default is not inspect.Parameter.empty and not options[argument].required:
            assert (default or None) == (options[argument].default or None), argument


def test_a_study_without_a_complete_trial_has_an_empty_front(tmp_path: Path) -> None:
    write_study(Location.of(tmp_path / "study"), complete=False)
    study = agesearch.open_study(tmp_path / "study")
    assert (study.front.num_rows, study.knee) == (0, None)
    assert study.front.column_names[:2] == ["number", "name"]


def test_a_parameter_of_several_kinds_is_still_a_column(tmp_path: Path) -> None:
    written = write_study(Location.of(tmp_path / "study"), trials=3)
    pairs = zip(written.trials(), (0.1, "off", True), strict=True)
    written.write_trials([replace(trial, params={"mix": value}) for trial, value in pairs])
    column = agesearch.open_study(tmp_path / "study").records["params_mix"]
    assert column.to_pylist() == ["0.1", '"off"', "true"]


SPACE = {
    "trials": 5,
    "student": {"model": {"arch": "lcnet_050"}},
    "space": {"model.input_size": {"choices": [48, 64]}},
}


def test_a_space_may_be_a_mapping_or_a_spec() -> None:
    study, scale = asked_study(SPACE, trials=2, seed=None, max_latency_ms=3.0)
    assert (study.trials, study.max_latency_ms, scale) == (2, 3.0, 1.0)
    assert asked_study(study)[0] == study
    assert isinstance(study, StudySpec)
    with pytest.raises(agesearch.InputError, match="lcnet_05"):
        asked_study(SPACE | {"student": {"model": {"arch": "lcnet_05"}}})


def test_importing_costs_nothing_and_names_are_known() -> None:
    script = (
        "import sys, agesearch; heavy = {'torch', 'ray', 'numpy', 'pandas', 'pyarrow', 'pydantic'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); "
        "assert set(agesearch.__all__) <= set(dir(agesearch)); "
        "[getattr(agesearch, name) for name in ('ingest', 'teach', 'tune', 'open_study', 'load_model')]; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    for name in agesearch.__all__:
        assert getattr(agesearch, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'predict'"):
        _ = agesearch.predict  # type: ignore[attr-defined]
