"""Imports only point up the list of CONTRIBUTING.md; only the files marked [ray] import Ray; importing does
nothing.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "agesearch"

ORDER = [
    "errors",
    "metrics",
    "ages",
    "progress",
    "provenance",
    "claims",
    "storage",
    "documents",
    "specs",
    "session",
    "data",
    "models",
    "measure",
    "distill",
    "training",
    "search",
    "deploy",
    "serving",
    "reporting",
    "demo",
    "bench",
    "cli",
]

RAY_FILES = {
    "session.py",
    "data/crew.py",
    "data/loading.py",
    "data/synthetic/generate.py",
    "measure/robustness.py",
    "distill/targets.py",
    "training/run.py",
    "training/jobs.py",
    "training/together.py",
    "bench/simulated_actors.py",
    "search/measured.py",
    "search/scheduler.py",
    "search/searcher.py",
    "search/study.py",
    "search/together.py",
    "search/trial.py",
    "serving/app.py",
}

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "__init__")


def _imports(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} uses a relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def _layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_package_has_a_place_in_the_order() -> None:
    assert {_layer(path) for path in FILES} <= set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_up_and_ray_stays_in_its_files(path: Path) -> None:
    own = ORDER.index(_layer(path))
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "agesearch" and len(parts) > 1 and parts[1] in ORDER:
            assert ORDER.index(parts[1]) <= own, f"{path} imports {name}, which lies below it"
        if parts[0] == "ray":
            assert str(path.relative_to(PACKAGE)) in RAY_FILES, f"{path} imports Ray but is not marked [ray]"


def test_importing_the_command_line_pulls_in_nothing_heavy() -> None:
    script = (
        "import os, sys; before = dict(os.environ); import agesearch.cli.main; "
        "heavy = {'torch', 'ray', 'cv2', 'onnxruntime', 'optuna', 'plotly', 'pandas'} & set(sys.modules); "
        "assert not heavy, heavy; assert dict(os.environ) == before"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
