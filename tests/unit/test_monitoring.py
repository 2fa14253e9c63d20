"""Monitoring of a cluster: what a study records, that nothing breaks by it, and that dashboard and rules ask
for metrics that there are.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
from functools import partial
from itertools import combinations
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from agesearch.bench.monitoring.expressions import DASHBOARD, RULES, Expression, panels, rules
from agesearch.bench.monitoring.prometheus import local_config
from agesearch.cluster import monitoring
from agesearch.cluster.monitoring import EPOCHS, FIGURES, TRIALS, Recorder
from agesearch.errors import InputError
from agesearch.search.store.events import (
    Outcome,
    StudyEnded,
    StudyStarted,
    TrialFinished,
    TrialParked,
    TrialPaused,
    TrialProgress,
    TrialRetried,
    TrialStarted,
)
from agesearch.search.store.records import State, TrialRecord
from agesearch.search.tracking.monitoring import StudyFigures, front_volume
from agesearch.serving.rollout.state import ServedVersion, ServiceState
from agesearch.serving.schema import ModelName
from agesearch.serving.web.metrics import ServiceMetrics

FOLDER = Path(__file__).resolve().parents[2] / "cluster" / "monitoring"


class Board(Recorder):
    """Keeps what is recorded: each series by its labels."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: dict[str, float] = {}

    def set(self, figure: Any, value: float | None, **labels: str) -> None:
        if value is not None:
            self.shown[labels.get("state", figure.name)] = value

    def add(self, figure: Any, count: float, **labels: str) -> None:
        self.shown[figure.name] = self.shown.get(figure.name, 0) + count


def record(number: int, state: State, error: float | None = None, **others: Any) -> TrialRecord:
    return TrialRecord(
        number, state, f"{number:04d}-x-48px", val_mae_years=error, latency_ms_p50=1.0, **others
    )


def started(*records: TrialRecord, front: tuple[TrialRecord, ...] = ()) -> StudyStarted:
    header: Any = None
    return StudyStarted("/studies/first", 6, records, 0, 2, None, header, front)


def test_a_study_tells_its_trials_by_state_and_its_front() -> None:
    board = Board()
    figures = StudyFigures(board)
    best = record(0, State.COMPLETE, 8.0)
    figures.take(started(best, record(1, State.RUNNING, retries=2), front=(best,)))
    states = {state.value: 0.0 for state in State} | {"WAITING": 5.0, "COMPLETE": 1.0}
    assert board.shown.items() >= states.items()
    assert board.shown["agesearch_trial_retries"] == 2
    assert board.shown["agesearch_best_error_years"] == 8.0
    for number in (1, 2, 3, 4):
        figures.take(TrialStarted(record(number, State.RUNNING), epochs=3))
    assert (board.shown["RUNNING"], board.shown["WAITING"]) == (4, 1)
    for epoch in (1, 2, 3):
        figures.take(TrialProgress(1, epoch, 3, 7.0))
    better = record(1, State.COMPLETE, 7.0)
    figures.take(TrialFinished(better, 2, 6, (better,)))
    figures.take(TrialPaused(record(2, State.PAUSED)))
    figures.take(TrialRetried(record(3, State.RUNNING), "its node was lost"))
    figures.take(TrialParked(record(4, State.RUNNING), 1))
    figures.take(StudyEnded(Outcome.INTERRUPTED))
    assert board.shown["agesearch_epochs"] == 3
    assert board.shown["agesearch_best_error_years"] == 7.0
    assert board.shown["agesearch_trial_retries"] == 3
    assert board.shown["agesearch_front_trials"] == 1
    left = {"RUNNING": 0, "PAUSED": 1, "COMPLETE": 2, "WAITING": 3, "FAIL": 0}
    assert board.shown.items() >= left.items()
    assert abs(board.shown["agesearch_last_progress_timestamp_seconds"] - time.time()) < 60


def test_the_front_is_measured_in_a_fixed_rectangle() -> None:
    assert front_volume([]) == 0.0
    assert front_volume([record(0, State.COMPLETE, 10.0)]) == pytest.approx(0.5 * 2 / 3)  # 1 of 0.1 to 100 ms
    fast = TrialRecord(1, State.COMPLETE, "", val_mae_years=0.0, latency_ms_p50=0.01)
    assert front_volume([fast]) == pytest.approx(1.0)
    assert front_volume([record(0, State.COMPLETE, 25.0)]) == 0.0


def test_a_listener_hears_every_event_where_no_ray_runs() -> None:
    heard: list[Any] = []
    listen = StudyFigures(Recorder(study="first")).hearing(heard.append)
    listen(started())
    listen(TrialProgress(0, 1, 2, 9.0))
    assert len(heard) == 2


class Metric:
    """Ray's object of a figure: ``told`` is what all of them were."""

    def __init__(self, told: list[Any], *about: Any) -> None:
        self._told, self._name = told, about[0]

    def set(self, value: float, tags: dict[str, str]) -> None:
        self._told.append((self._name, value, tags))

    def inc(self, value: float, tags: dict[str, str]) -> None:
        raise RuntimeError("the agent is gone")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What Ray, which runs, is told."""
    found: list[Any] = []
    ray: Any = ModuleType("ray")
    ray.is_initialized = lambda: True
    ray.util = SimpleNamespace(
        metrics=SimpleNamespace(Counter=partial(Metric, found), Gauge=partial(Metric, found))
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.util", ray.util)
    return found


def test_figures_that_ray_refuses_end_no_work(told: list[Any]) -> None:
    recorder = Recorder(study="first")
    recorder.add(EPOCHS, 0)  # Ray's counters refuse it
    recorder.set(TRIALS, None, state="RUNNING")
    recorder.set(TRIALS, 2, state="RUNNING")
    recorder.add(EPOCHS, 1)
    recorder.set(TRIALS, 3, state="RUNNING")  # not tried again
    assert told == [("agesearch_trials", 2.0, {"study": "first", "state": "RUNNING"})]


def test_gauges_are_told_again_until_the_work_is_over(
    told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring, "_REFRESH_S", 0.001)
    recorder = Recorder(study="first")
    recorder.set(TRIALS, 2, state="RUNNING")
    recorder.set(TRIALS, 5, state="WAITING")
    recorder.set(TRIALS, 4, state="WAITING")
    told.clear()
    with recorder.refreshed():
        end = time.monotonic() + 30
        while len(told) < 4 and time.monotonic() < end:
            time.sleep(0.001)
    found = {(tags["state"], value) for _, value, tags in told}
    assert found == {("RUNNING", 2.0), ("WAITING", 4.0)}


def of_the_service() -> set[str]:
    """What a service tells, by the names that expressions have."""
    state = ServiceState(models=(ServedVersion(name="ages", version="0001", group="1"),))
    text = ServiceMetrics(ModelName(name="ages", version="0001")).text(state, lambda _: 1).decode()
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return names


def of_ray() -> set[str]:
    """What Ray tells, as its own dashboards ask for it."""
    (root,) = importlib.util.find_spec("ray").submodule_search_locations  # type: ignore[union-attr, misc]
    files = (Path(root) / "dashboard" / "modules" / "metrics" / "dashboards").glob("*.py")
    return {name for file in files for name in re.findall(r"\bray_\w+", file.read_text(encoding="utf-8"))}


def test_dashboard_and_rules_ask_for_metrics_that_there_are() -> None:
    recorded = {rule.where for rule in rules(FOLDER) if ":" in rule.where}
    known = {figure.exported for figure in FIGURES} | of_the_service() | of_ray() | recorded | {"up"}
    asked = {name: one.where for one in (*panels(FOLDER), *rules(FOLDER)) for name in one.metrics}
    assert not {name: where for name, where in asked.items() if name not in known}
    assert {figure.exported for figure in FIGURES} <= asked.keys()  # and each of ours is shown


def test_metrics_of_an_expression() -> None:
    text = (
        'sum by (model, le) (rate(a_bucket{le="b",x=~"c|d"}[5m] offset 1h)) / on (model) group_left (e) '
        "(f:g:rate5m > bool 0) unless histogram_quantile(0.99, h)"
    )
    assert Expression("", text).metrics == {"a_bucket", "f:g:rate5m", "h"}


def test_panels_have_numbers_and_places_of_their_own() -> None:
    document = json.loads((FOLDER / DASHBOARD).read_text())
    assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])
    for first, second in combinations([panel["gridPos"] for panel in document["panels"]], 2):
        apart = any(
            one[at] + one[length] <= other[at]
            for at, length in (("x", "w"), ("y", "h"))
            for one, other in ((first, second), (second, first))
        )
        assert apart, (first, second)
    units = {panel["fieldConfig"]["defaults"]["unit"] for panel in document["panels"] if "targets" in panel}
    assert units <= {"short", "years", "percent", "percentunit", "s", "reqps", "bytes"}


def test_each_alert_is_tested() -> None:
    groups = yaml.safe_load((FOLDER / "rules_test.yml").read_text())["tests"]
    raised = {one["alertname"] for group in groups for one in group["alert_rule_test"] if "exp_alerts" in one}
    assert raised == {rule.where for rule in rules(FOLDER) if ":" not in rule.where}


def test_a_damaged_or_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--files"):
        panels(tmp_path)
    (tmp_path / RULES).write_text("groups: [")
    with pytest.raises(InputError, match="damaged"):
        rules(tmp_path)


def promtool(*words: str, folder: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool: apt-get install prometheus")
    done = subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_rules_and_they_alert(tmp_path: Path) -> None:
    promtool("check", "rules", RULES, folder=FOLDER)
    promtool("test", "rules", "rules_test.yml", folder=FOLDER)


def test_promtool_takes_the_configuration(tmp_path: Path) -> None:
    for name in ("ray", "service"):
        (tmp_path / name).write_text("0" * 32)
    text = local_config(
        FOLDER,
        dashboard="http://127.0.0.1:1",
        service="127.0.0.1:2",
        ray_token=tmp_path / "ray",
        service_token=tmp_path / "service",
    )
    assert "/etc/prometheus" not in text
    (tmp_path / "prometheus.yml").write_text(text)
    promtool("check", "config", "prometheus.yml", folder=tmp_path)
    promtool("check", "config", "kubernetes.yml", folder=FOLDER)


def test_tokens_are_sent_as_bearer_tokens() -> None:
    # Prometheus 2.42 has no default of the type in 'http_sd_configs', and promtool takes its absence.
    text = (FOLDER / "prometheus.yml").read_text()
    assert re.findall(r"authorization:\n +(\S+ \S+)", text) == ["type: Bearer"] * 2


def test_prometheus_finds_the_pods_of_the_manifests() -> None:
    (job,) = yaml.safe_load((FOLDER / "kubernetes.yml").read_text())["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    base = FOLDER.parent / "kubernetes" / "base"
    service = yaml.safe_load((base / "metrics.yaml").read_text())
    namespace = yaml.safe_load((base / "kustomization.yaml").read_text())["namespace"]
    assert found["names"] == [f"{service['metadata']['name']}.{namespace}.svc"]
    (port,) = service["spec"]["ports"]
    clusters = [
        one for one in yaml.safe_load_all((base / "cluster.yaml").read_text()) if one["kind"] == "RayCluster"
    ]
    for spec in (one["spec"] for one in clusters):
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            open_ones = group["template"]["spec"]["containers"][0]["ports"]
            assert {"name": port["targetPort"], "containerPort": found["port"]} in open_ones
    assert clusters
