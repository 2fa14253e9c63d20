"""The files of Ray's cluster launcher hold to its own schema, and start every node with the token."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def _schema() -> Any:
    found = importlib.util.find_spec("ray")
    assert found is not None
    assert found.origin is not None
    return json.loads((Path(found.origin).parent / "autoscaler" / "ray-schema.json").read_text())


@pytest.mark.parametrize("name", ["ssh", "aws"])
def test_the_launchers_files_hold_to_rays_schema_and_ask_for_the_token(name: str) -> None:
    document = yaml.safe_load((ROOT / "cluster" / "vm" / f"{name}.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(document, _schema())
    with pytest.raises(jsonschema.ValidationError, match="head_start_commands"):
        jsonschema.validate(document | {"head_start_commands": []}, _schema())
    starts = [*document["head_start_ray_commands"], *document["worker_start_ray_commands"]]
    started = [line for line in starts if "ray start" in line]
    assert len(started) == 2
    assert all("RAY_AUTH_MODE=token" in line for line in started)
    assert "~/.ray/auth_token" in document["file_mounts"]
    types = document.get("available_node_types")
    assert types is None or document["head_node_type"] in types
