"""Ingest from and into an object store: a real S3 API server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ingest_helpers import Source, content, lay_in_order, small_source
from s3_server import s3_server

from agesearch import claims
from agesearch.data.audit.card_data import inspect_dataset
from agesearch.data.dataset.records import Split
from agesearch.data.ingest import workers
from agesearch.data.ingest.record_index import Changes
from agesearch.data.ingest.run import IngestSpec, ingest
from agesearch.data.reading.loading import load_split
from agesearch.data.reshard import reshard
from agesearch.errors import ConflictError, InputError
from agesearch.specs import CropSpec, SplitSpec
from agesearch.storage import Location, exclusive


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The options of a URI in an empty bucket ``faces``."""
    with s3_server("faces") as server:
        yield server.options


def upload(root: Path, where: Location) -> None:
    """Put a source's files into the bucket."""
    for path in sorted(root.rglob("*")):
        if path.is_file():
            place = where
            for part in path.relative_to(root).parts:
                place = place / part
            place.write_bytes(path.read_bytes())


def spec_of(where: Location) -> IngestSpec:
    return IngestSpec(
        source="csv",
        root=str(where / "faces.csv"),
        images=str(where / "images"),
        crop=CropSpec(detector="none", size=32),
        split=SplitSpec(val=0.3, test=0.3),
    )


@pytest.mark.usefixtures("ray_local")
def test_from_a_bucket_into_a_bucket_grown_resumed_and_read(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = small_source(tmp_path)
    source.add("with space.png", 33, "s0", shade=80)
    source.write()
    place, out = Location.of(f"s3://faces/photos?{bucket}"), Location.of(f"s3://faces/sets/ds?{bucket}")
    upload(tmp_path, place)
    first = ingest(spec_of(place), out)
    assert first.manifest.faces == 13
    assert first.manifest.left_out["missing_file"] == 1
    assert not ingest(spec_of(place), out).is_new

    source.rows = [row for row in source.rows if row[0] != "3.png"]
    for index in range(40):
        source.add(f"more{index}.png", 50, "s1", shade=100 + index)
    source.write()
    upload(tmp_path, place)
    results = workers.results

    def cut(*arguments: object) -> object:
        for number, table in enumerate(results(*arguments)):  # type: ignore[arg-type]
            yield table
            if number == 1:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(workers, "results", cut)
        with pytest.raises(Exception, match="Stopped"):
            ingest(spec_of(place), out)
    notes: list[str] = []
    done = ingest(spec_of(place), out, on_progress=lambda update: notes.append(update.note))
    assert any("done by the run before" in note for note in notes)
    assert done.changes == Changes(kept=15, new=40, gone=1)
    fresh = Location.of(f"s3://faces/sets/fresh?{bucket}")
    ingest(spec_of(place), fresh)
    assert content(out) == content(fresh)
    assert inspect_dataset(out).manifest.faces == 53
    lay_in_order(out)
    assert reshard(out)[1]
    assert content(out) == content(fresh)
    assert load_split(out, Split.TRAIN).count() == done.manifest.counts["train"]


def test_two_runs_at_once_refuse_each_other(bucket: str) -> None:
    out = Location.of(f"s3://faces/held?{bucket}")
    with (
        exclusive(out, "The dataset"),
        pytest.raises(ConflictError, match="The dataset .* is in use by process [0-9]+ on"),
        exclusive(out, "The dataset"),
    ):
        pass
    with exclusive(out, "The dataset"):
        assert len((out / ".lock").children()) == 1
    assert (out / ".lock").children() == []


def test_of_many_at_once_one_at_most_holds(bucket: str) -> None:
    out = Location.of(f"s3://faces/raced?{bucket}")
    held, most = [0], [0]

    def race(_: int) -> bool:
        try:
            with exclusive(out, "The dataset"):
                held[0] += 1
                most[0] = max(most[0], held[0])
                out.children()
                held[0] -= 1
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(race, range(6)))
    assert most[0] <= 1


def test_claims_of_the_dead_and_the_expired_count_for_nothing(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json
    import subprocess

    out = Location.of(f"s3://faces/dead?{bucket}")
    ended = subprocess.Popen(["true"])
    ended.wait()
    mine = claims._myself()
    (out / ".lock" / "dead.json").write_bytes(json.dumps(mine | {"pid": ended.pid}).encode())
    with exclusive(out, "The dataset"):
        pass
    (out / ".lock" / "far.json").write_bytes(json.dumps(mine | {"machine": "another"}).encode())
    with pytest.raises(ConflictError), exclusive(out, "The dataset"):
        pass
    monkeypatch.setattr(claims, "EXPIRY_S", 0.0)
    with exclusive(out, "The dataset"):
        pass


def test_a_lost_claim_is_noticed_before_publishing(bucket: str) -> None:
    out = Location.of(f"s3://faces/lost?{bucket}")
    with exclusive(out, "The dataset") as check_held:
        check_held()
        (out / ".lock").children()[0].delete()
        with pytest.raises(ConflictError, match="taken by another run"):
            check_held()


def test_a_bucket_that_is_not_there_is_one_line(tmp_path: Path, bucket: str) -> None:
    source = Source(tmp_path)
    source.add("0.png", 30, shade=0)
    source.write()
    with pytest.raises(InputError, match="nobucket"):
        ingest(source.spec(), f"s3://nobucket/ds?{bucket}")
