"""Short drills of the service without Ray: HAProxy and two replicas of the application in this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from agesearch.ages import gaussian_pmf
from agesearch.bench.serve.faults import drills
from agesearch.bench.serve.faults.finding import Finding
from agesearch.bench.serve.requests import write_images
from agesearch.bench.serve.servers import TOKEN, Server
from agesearch.data.images.recipe import open_recorded
from agesearch.models.manifest import ModelManifest
from agesearch.serving.auth import TokenCheck
from agesearch.serving.estimator import AgeEstimator
from agesearch.serving.faces import FaceService
from agesearch.serving.images import ImageLimits
from agesearch.serving.ingress.config import IngressLimits, IngressOptions
from agesearch.serving.ingress.supervisor import Ingress
from agesearch.serving.ports import bound
from agesearch.serving.replica import ReplicaServer
from agesearch.serving.web.routes import create_app
from agesearch.session import LOOPBACK
from agesearch.specs import CropSpec, ModelSpec

#: As the service has them, but shorter.
LIMITS = IngressLimits(headers_s=1, idle_s=1, packet_s=2)


class Middle:
    """Says 50 years of every face."""

    input_size = 32

    def pmf(self, images: Any) -> Any:
        return gaussian_pmf([50.0] * len(images), [5.0] * len(images)) if len(images) else np.empty((0, 101))


@pytest.fixture(scope="module")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[drills.Drilled]:
    listener, images = bound(LOOPBACK, 0), ImageLimits(body_timeout_s=2.0)
    port = listener.getsockname()[1]
    crop, photo = write_images(tmp_path_factory.mktemp("images"))
    manifest = ModelManifest(kind="version", model=ModelSpec(arch="lcnet_035"), crop=CropSpec(size=32))
    with Ingress(listener, IngressOptions(LIMITS)) as ingress:
        replicas = []
        for name in "ab":
            service = FaceService(
                AgeEstimator(manifest, Middle(), open_recorded(manifest.crop)[0]), ImageLimits()
            )
            replicas.append(
                ReplicaServer(create_app(service, TokenCheck(TOKEN), images), ingress.folder, name)
            )
        ingress.wait_for(2, 10)
        server = Server("here", port, psutil.Process(), {"Authorization": f"Bearer {TOKEN}"})
        yield drills.Drilled(server, crop, photo, seconds=2.0, replicas=2)
        for replica in replicas:
            replica.drain()


def _figures(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.figure: finding for finding in findings}


def test_overload_is_refused_with_a_time_to_come_back_and_breaks_nothing(drilled: drills.Drilled) -> None:
    found = _figures(drills.overload(drilled))
    assert found["fulfilled"].measured > 0
    assert found["refused"].measured > 0
    assert found["refused without Retry-After"].holds
    assert found["connections that broke"].holds


def test_who_dawdles_keeps_nobody_out_and_is_sent_away(drilled: drills.Drilled) -> None:
    found = _figures(drills.slow_clients(drilled))
    assert found["good requests that failed"].holds
    assert found["slow connections left after 60 s"].holds
    assert found["the last was sent away after"].measured > 0


def test_hostile_requests_make_nothing_fail(drilled: drills.Drilled) -> None:
    found = _figures(drills.hostile(drilled, 180))
    for figure in ("answered with 5xx", "answered with words of the inside"):
        assert found[figure].holds, found[figure]
    assert found["good requests that failed afterwards"].holds
    assert found["let through (200)"].measured > 0
    assert found["without an answer"].measured < 90
