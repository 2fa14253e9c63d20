"""Latencies of untrained networks: measured once for all studies of a machine, whatever its cache holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_speed_rows import tiny_onnx

from agesearch.errors import AgeSearchError, InputError
from agesearch.measure.speed import footprint as weighing
from agesearch.measure.speed import latency_table
from agesearch.measure.speed.footprint import Footprint, known_footprint
from agesearch.measure.speed.latency_table import LatencyTable, machine_cache
from agesearch.models.architectures import Network
from agesearch.models.runtimes.engines import DEFAULT
from agesearch.specs import ModelSpec
from agesearch.storage import Location

TINY = ModelSpec(arch="tiny", input_size=32)


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[Network]:
    """The networks that were exported, each of them a graph that takes no time."""
    found: list[Network] = []

    def untrained(model: ModelSpec) -> bytes:
        found.append(Network.of(model))
        return tiny_onnx()

    monkeypatch.setattr(latency_table, "untrained_onnx", untrained)
    return found


def test_latency_is_measured_once_and_cached_across_tables(
    tmp_path: Path, exported: list[Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Location.of(tmp_path) / "latency"
    table = LatencyTable(cache)
    row = table.latency(TINY)
    alike = {"init": "pretrained", "dropout": 0.5, "head_sigma": 7.0, "groups": ((0, 9), (10, 99))}
    assert table.latency(TINY.model_copy(update=alike)) is row
    assert LatencyTable(cache).latency(TINY) == row
    assert exported == [Network("tiny", 32)]
    assert len(cache.children()) == 1

    monkeypatch.setattr(latency_table, "hardware_name", lambda: "another machine")
    LatencyTable(cache).latency(TINY)
    assert len(exported) == 2
    monkeypatch.setattr(latency_table, "_PROTOCOL", -1)  # what an earlier version has timed is not read
    LatencyTable(cache).latency(TINY)
    assert len(exported) == 3


@pytest.mark.parametrize(
    "change",
    [{"arch": "other"}, {"head": "coral"}, {"pixels": "vggface2"}, {"head": "groups"}],
)
def test_all_that_changes_the_graph_is_timed_by_itself(
    tmp_path: Path, exported: list[Network], change: dict[str, object]
) -> None:
    LatencyTable(Location.of(tmp_path)).latency(TINY)
    changed = TINY.model_copy(update=change)
    LatencyTable(Location.of(tmp_path)).latency(changed)
    assert exported == [Network.of(TINY), Network.of(changed)]


def test_age_groups_count_where_the_head_has_them(tmp_path: Path, exported: list[Network]) -> None:
    table = LatencyTable(Location.of(tmp_path))
    for groups in (((0, 49), (50, 100)), ((0, 29), (30, 59), (60, 100))):
        table.latency(TINY.model_copy(update={"head": "groups", "groups": groups}))
    assert len(exported) == 2
    assert exported[0].model().groups == ((0, 49), (50, 100))


@pytest.mark.parametrize("content", ["", '{"arch": "tiny"}', "\x00"])
def test_a_damaged_entry_is_measured_again_and_mended(
    tmp_path: Path, exported: list[Network], content: str
) -> None:
    cache = Location.of(tmp_path)
    LatencyTable(cache).latency(TINY)
    (entry,) = cache.children()
    entry.write_text(content)
    row = LatencyTable(cache).latency(TINY)
    assert LatencyTable(cache).latency(TINY) == row
    assert len(exported) == 2


def test_a_cache_that_cannot_be_written_is_none(tmp_path: Path, exported: list[Network]) -> None:
    (tmp_path / "file").write_text("in the way")
    for cache in (Location.of(tmp_path / "file" / "latency"), Location.of("/proc/agesearch"), None):
        table = LatencyTable(cache)
        assert table.latency(TINY) is table.latency(TINY)
    assert len(exported) == 3


def test_the_cache_lies_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/some")
    own = "/home/some/.cache"
    for value, expected in (("/caches", "/caches"), ("", own), ("beside", own)):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert str(machine_cache()) == os.path.join(expected, "agesearch", "latency")


def test_fewer_calls_than_the_protocol_asks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 50"):
        LatencyTable(Location.of(tmp_path), calls=10)


def test_a_row_says_its_bytes_and_the_size_alone_needs_no_timing(
    tmp_path: Path, exported: list[Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    size, cache = len(tiny_onnx()), Location.of(tmp_path)
    table = LatencyTable(cache, max_bytes=10)
    assert table.file_bytes(TINY) == size
    assert not cache.children()
    assert table.latency(TINY).file_bytes == size
    assert exported == [Network("tiny", 32)]  # once, for both
    found = Footprint(file_bytes=size, session_bytes=7, process_bytes=9)
    monkeypatch.setattr(latency_table, "known_footprint", lambda *_: found)
    weighed = LatencyTable(cache, memory=True).latency(TINY)  # the row that is there does not say it
    assert (weighed.session_bytes, len(exported)) == (7, 2)
    assert LatencyTable(cache, memory=True).latency(TINY) == weighed
    [entry] = cache.children()
    entry.write_json({name: value for name, value in entry.read_json().items() if name != "file_bytes"})
    assert LatencyTable(cache).latency(TINY).file_bytes is None  # as earlier versions left it
    assert LatencyTable(cache, max_bytes=10**6).latency(TINY).file_bytes == size


def test_memory_that_cannot_be_measured_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> Footprint:
        raise AgeSearchError("no such engine")

    monkeypatch.setattr(weighing, "footprint", refused)
    assert known_footprint([b"no network"], 32, DEFAULT) == Footprint(file_bytes=10)
