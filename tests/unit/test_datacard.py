"""The data card: histograms hold every face, many values share a colour, left-out pictures only by wish."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from agesearch.data.audit.card_data import inspect_dataset
from agesearch.data.dataset.records import Rejected, Turn, read_manifest
from agesearch.data.dataset.writer import DatasetWriter
from agesearch.data.reading.demo_pack import demo_pack
from agesearch.reporting.charts.histograms import histogram
from agesearch.reporting.datacard import write_datacard
from agesearch.specs import CropSpec
from agesearch.storage import Location

SPLITS = ("train", "val", "test")


def _years(**ages: int) -> list[int]:
    counts = [0] * 101
    for age, count in ages.items():
        counts[int(age[1:])] = count
    return counts


def _drawn_faces(drawn: object) -> int:
    return sum(int(bar.title.rsplit(" ", 1)[1].replace(",", "")) for bar in drawn.bars)


def test_every_age_is_drawn_and_a_hundred_falls_into_the_last_bin() -> None:
    years = {"female": _years(a0=2, a37=3, a100=1), "male": _years(a38=4)}
    parts = {"female": {"train": 5, "val": 1, "test": 0}, "male": {"train": 4}}
    drawn = histogram("sex", "Sex", years, parts, SPLITS)
    assert _drawn_faces(drawn) == 10
    assert [bar.title for bar in drawn.bars] == [
        "female, 0-4 years: 2",
        "female, 35-39 years: 3",
        "male, 35-39 years: 4",
        "female, 95-99 years: 1",
    ]
    female, male = drawn.series
    assert (female.by_split, female.faces, round(female.mean_age, 1)) == ((5, 1, 0), 6, 35.2)
    assert male.faces == 4
    stacked = [bar for bar in drawn.bars if "35-39" in bar.title]
    assert stacked[0].y == round(stacked[1].y + stacked[1].height, 2), "one stands on the other"
    assert drawn.ages.ticks()[-1][1] == "100"


def test_many_faces_get_bars_of_a_year_and_many_values_few_colours() -> None:
    years = {f"source{index}": _years(a30=1000 - index) for index in range(12)}
    parts = {name: {"train": sum(counts)} for name, counts in years.items()}
    drawn = histogram("source", "Source", years, parts, SPLITS)
    assert drawn.bars[0].title == "source0, 30 years: 1,000"
    assert [row.name for row in drawn.series] == [*(f"source{index}" for index in range(6)), "6 others"]
    assert _drawn_faces(drawn) == sum(1000 - index for index in range(12))
    assert len({row.colour for row in drawn.series}) == 7


def test_faces_without_an_age_are_counted_but_not_drawn() -> None:
    drawn = histogram("sex", "Sex", {"unknown": [0] * 101}, {"unknown": {"train": 3}}, SPLITS)
    assert not drawn.bars
    assert drawn.series[0].mean_age is None


def _dataset(folder: Path, pictures: Path) -> Path:
    pictures.mkdir()
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(pictures / "nobody.png")
    (pictures / "torn.jpg").write_bytes(b"torn")
    writer = DatasetWriter(
        Location.of(folder), name="faces", label_kind="group", licence="CC0", detector="none",
        crop=CropSpec(detector="none", size=32), notes=("Ages are <b>guesses</b>.",),
        turns=(Turn(name="fold 0", train=(2, 3, 4), val=(1,), test=(0,)),),
    )  # fmt: skip
    rows = [
        {"sample_id": f"{index:02d}", "image": b"x", "age_low": 25.0, "age_high": 32.0, "source": "s",
         "split": "train" if index else "test", "sex": ("male", "female", None)[index % 3]}
        for index in range(9)
    ]  # fmt: skip
    writer.add(rows)
    writer.finish(
        [Rejected(str(pictures / name), "no_face", "no face", "s") for name in ("nobody.png", "torn.jpg")]
    )
    return folder


def test_counts_by_value_split_and_year(tmp_path: Path) -> None:
    found = inspect_dataset(_dataset(tmp_path / "ds", tmp_path / "pictures"))
    assert found.totals("sex") == {"female": 3, "male": 3, "unknown": 3}
    assert found.values["sex"]["male"] == {"train": 2, "val": 0, "test": 1}
    assert found.values["label_kind"] == {"group": {"train": 8, "val": 0, "test": 1}}
    assert found.years["sex"]["female"][28] == 3, "a group counts in its middle"
    assert found.document()["by_split"]["source"] == {"s": {"train": 8, "val": 0, "test": 1}}


def test_the_card_shows_notes_turns_and_left_out_pictures_by_wish(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path / "ds", tmp_path / "pictures")
    write_datacard(dataset, tmp_path / "plain.html", faces=0)
    plain = (tmp_path / "plain.html").read_text()
    assert "data:image" not in plain, "left-out files are opened only when asked for"
    assert "Ages are &lt;b&gt;guesses&lt;/b&gt;." in plain
    assert re.search(r"fold 0: train 2, 3, 4; val 1; test 0", plain)
    assert 'id="by-sex"' in plain
    assert 'id="by-ethnicity"' not in plain, "one value tells nothing apart"
    write_datacard(dataset, tmp_path / "shown.html", faces=0, show_left_out=True)
    assert (tmp_path / "shown.html").read_text().count("data:image/jpeg;base64,") == 1


def test_the_card_tells_what_the_check_of_this_content_found(tmp_path: Path) -> None:
    pack = tmp_path / "faces"
    shutil.copytree(demo_pack().local(), pack)
    write_datacard(pack, tmp_path / "before.html", faces=0)
    assert "Not checked since it was made" in (tmp_path / "before.html").read_text()
    record = {
        "dataset": "faces", "content_digest": read_manifest(pack).content_digest, "faces": 1500,
        "verdict": "leaks", "subject_exclusive": False, "leaks": ["subject <anna> is in train and test"],
        "counts": {"photographs_across": 0}, "created": "2026-01-01T00:00:00+00:00",
        "ages": {"counts": {}, "lacking": {}, "largest": None, "largest_share": 0, "empty_splits": []},
    }  # fmt: skip
    Location.of(pack / "check.json").write_json(record)
    write_datacard(pack, tmp_path / "after.html", faces=0)
    page = (tmp_path / "after.html").read_text()
    assert "No: it leaks" in page
    assert "subject &lt;anna&gt; is in train and test" in page
    Location.of(pack / "check.json").write_json(record | {"content_digest": "of another day"})
    write_datacard(pack, tmp_path / "stale.html", faces=0)
    assert "Not checked since it was made" in (tmp_path / "stale.html").read_text()
