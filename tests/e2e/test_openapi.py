"""What OpenAPI says of the service and what the service does, by schemathesis: no call fails, each answer has
the form that is promised, and none tells anything of the inside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from agesearch.ages import gaussian_pmf
from agesearch.data.images.recipe import open_recorded
from agesearch.models.manifest import ModelManifest
from agesearch.serving.auth import TokenCheck
from agesearch.serving.estimator import AgeEstimator
from agesearch.serving.faces import FaceService
from agesearch.serving.images import ImageLimits
from agesearch.serving.web.routes import create_app
from agesearch.specs import CropSpec, ModelSpec

TOKEN = "a-token-of-enough-length"
INSIDE = ("Traceback", "site-packages", ".py", "/home", "/tmp", TOKEN)


class Middle:
    """Says 50 years of every face."""

    input_size = 32

    def pmf(self, images: Any) -> Any:
        return gaussian_pmf([50.0] * len(images), [5.0] * len(images)) if len(images) else np.empty((0, 101))


@pytest.fixture(scope="module")
def described() -> Any:
    manifest = ModelManifest(
        kind="version", model=ModelSpec(arch="lcnet_035", input_size=32), crop=CropSpec(size=32), name="ages"
    )
    detector, _ = open_recorded(manifest.crop)
    service = FaceService(AgeEstimator(manifest, Middle(), detector), ImageLimits())
    app = create_app(service, TokenCheck(TOKEN), ImageLimits())
    with TestClient(app):
        yield schemathesis.openapi.from_asgi("/openapi.json", app)


CHECKS = [
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
    content_type_conformance,
]


def test_the_service_keeps_what_openapi_says(described: Any) -> None:
    asked: set[str] = set()
    for found in described.get_all_operations():
        operation = found.ok()

        # not by its plugin for pytest, which newer versions of that break
        @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def keeps(case: Any) -> None:
            answer = case.call(headers={"Authorization": f"Bearer {TOKEN}"})
            case.validate_response(answer, checks=CHECKS)
            assert not [word for word in INSIDE if word in answer.text]

        keeps()
        asked.add(operation.path)
    assert {"/v1/predict", "/v1/models", "/v1/models/{name}/card", "/metrics", "/readyz"} <= asked
