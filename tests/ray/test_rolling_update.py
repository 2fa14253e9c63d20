"""A service changes its version under load, and no request fails for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agesearch.bench.serve.altered import NAME, altered_versions
from agesearch.bench.serve.asking import Asking
from agesearch.bench.serve.requests import write_faces
from agesearch.deploy.registry import CHAMPION
from agesearch.errors import AgeSearchError
from agesearch.serving.app import ServiceOptions, serving
from agesearch.serving.client import Client
from agesearch.serving.rollout.models import served_models
from agesearch.serving.rollout.promotion import Trial, promote

TOKEN = "a-token-of-enough-length"
_LOADS = 3
#: Minutes that a verdict may take, and those within which there is none.
_ENOUGH, _TOO_FEW = 2.0, 0.01


def test_versions_are_tried_taken_and_refused_under_load(ray_local: None, tmp_path: Path) -> None:
    registry = altered_versions(str(tmp_path / "registry"))
    (tmp_path / "faces").mkdir()
    faces = [Path(file).read_bytes() for file in write_faces(tmp_path / "faces", 64)]
    served = served_models([NAME], str(registry.root))
    with serving(served, TOKEN, ServiceOptions(port=0)) as service:
        with Asking(service.url, TOKEN, faces, _LOADS, pause_s=0.01) as load:
            # Asked besides, face by face: eight years are seen at the first look, and no client is told.
            with pytest.raises(AgeSearchError, match=r"0003 is not taken: .* mean age \+\d\.\d to"):
                promote(registry, NAME, "3", trial=Trial(1.0, shadow=True, minutes=_ENOUGH))
            assert set(load.seen) == {"0001"}, load.seen
            # Some requests go to it, but not as many as a verdict takes: the champion stays.
            with pytest.raises(AgeSearchError, match="decide nothing"):
                promote(registry, NAME, "2", trial=Trial(0.5, minutes=_TOO_FEW))
            change = promote(registry, NAME, "2")
            with Client(service.url, TOKEN) as client:
                (summary,) = client.models()
        assert set(load.seen) == {"0001", "0002"}, load.seen
    assert (change.version, change.services) == ("0002", [service.url])
    assert (summary.version, summary.role, summary.alias) == ("0002", "live", CHAMPION)
    steps = [move.step for move in registry.alias(NAME, CHAMPION).history]
    assert steps == ["move", "canary", "refuse", "canary", "refuse", "promote"]
