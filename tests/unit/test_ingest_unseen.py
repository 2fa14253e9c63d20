"""A photograph that one machine lacks is not missing: only where nobody can read it is it settled so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from ingest_helpers import small_source

from agesearch.cluster import left_out as left_out_nodes
from agesearch.cluster import nodes
from agesearch.cluster.nodes import Node, sight_of, unfit, without
from agesearch.data.ingest.record_index import RecordIndex
from agesearch.data.ingest.survey import survey
from agesearch.data.ingest.unseen import LeftOut
from agesearch.data.ingest.work_unit import LEDGERS, WORK_SCHEMA, UnitContext, process_unit
from agesearch.data.sources import source_named
from agesearch.errors import AgeSearchError, InputError
from agesearch.storage import Location

_NODES = [Node("a1", "one", "10.0.0.1", 2.0), Node("b2", "two", "10.0.0.2", 4.0)]


@pytest.fixture
def work(tmp_path: Path) -> pa.Table:
    """The work of a source whose first photograph has gone since it was read."""
    source = small_source(tmp_path, faces=3)
    with_index = RecordIndex()
    options = source.spec().options()
    survey(source_named("csv"), options, with_index.add)
    with_index.match()
    (tmp_path / "images" / "0.png").unlink()
    return pa.Table.from_pylist(list(with_index.work()), schema=WORK_SCHEMA)


@pytest.fixture
def context(tmp_path: Path) -> UnitContext:
    spec = small_source(tmp_path / "spec", faces=1).spec()
    return UnitContext(str(tmp_path / "staging"), spec.crop.model_dump(), spec.split.model_dump())


def test_what_a_worker_does_not_see_is_not_settled(work: pa.Table, context: UnitContext) -> None:
    found = process_unit(work, context).to_pylist()
    reasons = {row["path"].rpartition("/")[2]: (row["reason"], row["unseen"]) for row in found}
    assert reasons["0.png"] == ("missing_file", True)
    assert reasons["absent.jpg"] == ("missing_file", False)  # the driver did not see it either
    assert reasons["torn.jpg"][1] is False
    (ledger,) = (Location.of(context.staging) / LEDGERS).children()
    assert len(ledger.read_table()) == len(found) - 1


def test_it_is_settled_where_the_driver_cannot_read_it_either(
    work: pa.Table, context: UnitContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left_out_nodes, "alive_nodes", lambda: _NODES)
    told: list[str] = []
    left_out = LeftOut(context, told.append)
    gone = [row for row in work.to_pylist() if row["within"].endswith("/0.png")]
    left_out.add(gone, "a1", "it cannot read it")
    (place,) = left_out.queue(64)
    (found,) = process_unit(place.read_table(), context).to_pylist()
    assert (found["reason"], found["unseen"], told) == ("missing_file", False, [])
    assert left_out.queue(64) == []


def test_a_node_that_lacks_what_the_driver_reads_is_left_out_until_none_is_left(
    work: pa.Table, context: UnitContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left_out_nodes, "alive_nodes", lambda: [*_NODES, Node("c3", "head", "10.0.0.3", 0.0)])
    told: list[str] = []
    left_out = LeftOut(context, told.append)
    there = [row for row in work.to_pylist() if row["within"].endswith("/1.png")]
    left_out.add(there, "b2", "it cannot read '1.png'")
    assert [len(place.read_table()) for place in left_out.queue(64)] == [1]
    assert told == ["The node two (10.0.0.2) takes no part in the ingest: it cannot read '1.png'."]
    assert without(left_out.nodes) == {"label_selector": {"ray.io/node-id": "!in(b2)"}}
    left_out.add(there, "a1", "it cannot read '1.png'")
    with pytest.raises(InputError, match=r"two .* one .* No other node with CPUs is left"):
        left_out.queue(64)


def test_a_node_of_other_versions_or_without_an_answer_is_unfit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = sight_of([str(tmp_path)])
    assert here.unread is None
    absent = sight_of([str(tmp_path), str(tmp_path / "absent")])
    assert absent.unread == f"it cannot read '{tmp_path / 'absent'}' (there is none)"
    older = replace(here, versions=here.versions | {"agesearch": "0.0.1"})
    for answer, why in [
        (here, None),
        (absent, absent.unread),
        (older, f"it has agesearch 0.0.1, and this machine {here.versions['agesearch']}"),
        (AgeSearchError("it did not answer within 60 s"), "it did not answer within 60 s"),
    ]:
        monkeypatch.setattr(nodes, "ask_each", lambda *_, answer=answer: {_NODES[0]: answer})
        assert unfit(_NODES[:1], []) == ({} if why is None else {_NODES[0]: why})


def test_a_cluster_without_cpus_yet_counts_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for alive, cpus in [([], 1), ([SimpleNamespace(cpus=0.0)], 1), (_NODES, 6)]:
        monkeypatch.setattr(nodes, "alive_nodes", lambda alive=alive: alive)
        assert nodes.cpus_now() == cpus
