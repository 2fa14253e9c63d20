"""A study under way in a drill: its scene, hosts and driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agesearch.bench.chaos.study import Scene, read_begun, read_events
from agesearch.bench.drills.hosts import Hosts
from agesearch.errors import AgeSearchError

PATIENCE_S = 300.0


def temporary(folder: Path) -> dict[str, str]:
    """A folder for temporary files; Ray's own lie where all of its processes find them."""
    return {"TMPDIR": str(folder), "RAY_TMPDIR": tempfile.gettempdir()}


class Stage:
    """A study under way, and its driver, which has ``environment`` set otherwise than this process."""

    def __init__(
        self, scene: Scene, hosts: Hosts, private: Path, environment: Mapping[str, str | None]
    ) -> None:
        self.scene, self.hosts = scene, hosts
        self._private, self._environment, self._runs = private, environment, 0
        self.resume()

    def resume(self) -> None:
        """Begin the study or go on with it, by another driver that has none of the first one's files."""
        code = "from agesearch.bench.chaos.study import drive; drive()"
        self._runs += 1
        own = self._private / str(self._runs)
        own.mkdir()
        changed = {**os.environ, **temporary(own), **self._environment}
        with open(f"{self.scene.log}.err", "ab") as errors:
            self.driver = subprocess.Popen(
                [sys.executable, "-c", code, json.dumps(asdict(self.scene))],
                stdout=errors,
                stderr=errors,
                env={name: value for name, value in changed.items() if value is not None},
            )

    @property
    def told(self) -> list[dict[str, Any]]:
        """What the drivers told so far."""
        return read_events(Path(self.scene.events))

    def await_epochs(self, count: int) -> None:
        """Wait until so many epochs have begun."""
        end = time.monotonic() + PATIENCE_S
        while len(read_begun(Path(self.scene.log))) < count:
            self._look(end)

    def await_second_trial_of(self, host: str) -> None:
        """Wait until a host is within an epoch of its second trial."""
        end = time.monotonic() + PATIENCE_S
        while True:
            own = self.trained_by(host)
            begun = read_begun(Path(self.scene.log))
            processes = {row.pid for row in begun if row.trial in own}
            if any(row.pid in processes and row.trial not in own for row in begun):
                return
            self._look(end)

    def trained_by(self, host: str, since: float = 0.0) -> set[int]:
        """The trials that a host trained to their end, later than ``since`` (seconds since 1970)."""
        ended = [row for row in self.told if row["kind"] == "finished" and row["time"] > since]
        return {
            int(row["record"]["number"]) for row in ended if str(row["record"]["node"]).startswith(f"{host} ")
        }

    def await_note(self, words: str) -> str:
        """Wait until a note with these words was told, and give it."""
        end = time.monotonic() + PATIENCE_S
        while True:
            found = [row["reason"] for row in self.told if row["kind"] == "note" and words in row["reason"]]
            if found:
                return str(found[0])
            self._look(end)

    def _look(self, end: float) -> None:
        if self.driver.poll() is not None or time.monotonic() > end:
            raise AgeSearchError(f"The study ended or stands still: {self.scene.last_line()[:300]}")
        time.sleep(0.1)

    def finish(self) -> None:
        """Wait for the study's end."""
        try:
            code = self.driver.wait(PATIENCE_S)
        except subprocess.TimeoutExpired as error:
            raise AgeSearchError(f"The study stands still: {self.scene.last_line()[:300]}") from error
        if code != 0:
            raise AgeSearchError(f"The study ended with exit code {code}: {self.scene.last_line()[:300]}")
