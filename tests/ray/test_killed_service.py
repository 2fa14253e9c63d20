"""What is killed of the whole service, in a process of its own as a user has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agesearch.bench.serve.faults import drills
from agesearch.bench.serve.faults.finding import Finding
from agesearch.bench.serve.requests import untrained_version, write_images
from agesearch.bench.serve.servers import our_service


def _figures(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.figure: finding for finding in findings}


def test_what_is_killed_comes_back_or_leaves_nothing(tmp_path: Path) -> None:
    crop, photo = write_images(tmp_path)
    with our_service(untrained_version(tmp_path), 2) as server:
        drilled = drills.Drilled(server, crop, photo, seconds=4.0, replicas=2)
        large = _figures(drills.large_images(drilled, tmp_path, 4))
        assert large["answered"].measured == 4
        assert large["more than before, a replica"].holds, large
        replica = _figures(drills.replica_killed(drilled))
        assert replica["asked with the client's retry"].measured > 0
        assert replica["failed with the client's retry"].holds
        assert _figures(drills.ingress_killed(drilled))["back after"].measured > 0
        for finding in drills.driver_killed(server):
            assert finding.holds, finding
