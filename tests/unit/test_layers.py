"""Imports only point up the list of CONTRIBUTING.md, between layers and between the packages inside ``data``
and ``search``; no two files import each other, directly or round a corner; only the files marked [ray] import
Ray; importing does nothing.
"""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from longest_first import LONGEST_FIRST

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "agesearch"

ORDER = [
    "errors",
    "machine",
    "metrics",
    "ages",
    "progress",
    "provenance",
    "claims",
    "storage",
    "validation_messages",
    "documents",
    "specs",
    "artefacts",
    "cluster",
    "session",
    "remote",
    "data",
    "models",
    "measure",
    "distill",
    "training",
    "search",
    "deploy",
    "serving",
    "reporting",
    "api",
    "demo",
    "bench",
    "cli",
]

RAY_FILES = {
    "cluster/credentials.py",
    "cluster/monitoring.py",
    "cluster/nodes.py",
    "cluster/ray_internals.py",
    "cluster/room.py",
    "session.py",
    "remote/jobs.py",
    "data/ingest/workers.py",
    "data/reading/loading.py",
    "data/synthetic/generate.py",
    "measure/counterfactual/run.py",
    "measure/robustness/run.py",
    "distill/targets.py",
    "training/run.py",
    "training/ddp.py",
    "training/protocols/jobs.py",
    "bench/cluster/ray_internals.py",
    "bench/robustness.py",
    "bench/cluster/simulated_actors.py",
    "search/front/measure.py",
    "search/run/published/exchange.py",
    "search/run/published/trial.py",
    "search/run/scheduler.py",
    "search/run/searcher.py",
    "search/run/study.py",
    "search/run/phases/tune_run.py",
    "search/run/ddp.py",
    "search/run/trial.py",
    "serving/app.py",
    "serving/rollout/fleet.py",
    "serving/configured.py",
    "serving/deployments/operations.py",
    "serving/deployments/replicas.py",
    "serving/deployments/supervisor.py",
}

#: The order of what lies inside a layer, from the first that may be imported to the last.
INNER = {
    "data": [
        "images",
        "dataset",
        "sources",
        "reading",
        "audit",
        "mixture",
        "augmentation",
        "reshard",
        "ingest",
        "synthetic",
    ],
    "search": [
        "space",
        "store",
        "choice",
        "stopping",
        "tracking",
        "model",
        "sampler",
        "run",
        "front",
        "view",
        "replay",
    ],
}

#: Folders with a file for each row of a table; no other has more than ``MOST_FILES``.
TABLES = {"data/sources", "cli"}
MOST_FILES = 14

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "__init__")


@cache
def _imports(path: Path) -> list[str]:
    """The dotted names that a file imports, at its top or inside a function."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} uses a relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _graph() -> dict[str, set[str]]:
    """Each module and the modules of the package that it imports."""
    modules = {_module(path): path for path in [*FILES, PACKAGE / "__init__.py"]}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = {name if name in modules else name.rpartition(".")[0] for name in _imports(path)}
        graph[module] = (names & modules.keys()) - {module}
    return graph


def _layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_package_has_a_place_in_the_order() -> None:
    assert {_layer(path) for path in FILES} <= set(ORDER)


def test_imports_point_up_and_ray_stays_in_its_files() -> None:
    wrong = [fault for path in FILES for fault in _faults(path)]
    assert not wrong, "\n".join(wrong)


def _faults(path: Path) -> list[str]:
    """What a file imports that it may not."""
    own, name_here = ORDER.index(_layer(path)), str(path.relative_to(PACKAGE))
    found = []
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "agesearch" and len(parts) > 1 and parts[1] in ORDER and ORDER.index(parts[1]) > own:
            found.append(f"{name_here} imports {name}, which lies below it")
        if parts[0] == "ray" and name_here not in RAY_FILES:
            found.append(f"{name_here} imports Ray but is not marked [ray]")
    return found


def test_no_two_files_import_each_other() -> None:
    try:
        graphlib.TopologicalSorter(_graph()).prepare()
    except graphlib.CycleError as error:
        pytest.fail("round a corner: " + " -> ".join(error.args[1]))


@pytest.mark.parametrize("layer", INNER)
def test_packages_inside_a_layer_are_in_order(layer: str) -> None:
    inside, order = f"agesearch.{layer}.", INNER[layer]
    for module, names in _graph().items():
        if not module.startswith(inside):
            continue
        own = order.index(module.removeprefix(inside).split(".")[0])
        for name in names:
            if name.startswith(inside):
                other = name.removeprefix(inside).split(".")[0]
                assert order.index(other) <= own, f"{module} imports {name}, which lies below it"


def test_no_folder_is_too_full() -> None:
    folders = Counter(str(path.parent.relative_to(PACKAGE)) for path in FILES if path.stem != "__init__")
    full = {name: files for name, files in folders.items() if files > MOST_FILES and name not in TABLES}
    assert not full, full


def test_no_two_files_of_tests_have_the_same_name() -> None:
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert not [name for name, files in names.items() if files > 1], "pytest takes them for one module"
    assert names.keys() >= {f"{name}.py" for name in LONGEST_FIRST}, "the order of the suite names all it has"


def test_importing_the_command_line_pulls_in_nothing_heavy() -> None:
    script = (
        "import os, sys; before = dict(os.environ); import agesearch.cli.main; "
        "heavy = {'torch', 'ray', 'cv2', 'onnxruntime', 'optuna', 'plotly', 'pandas'} & set(sys.modules); "
        "assert not heavy, heavy; assert dict(os.environ) == before"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
