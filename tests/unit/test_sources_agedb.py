"""AgeDB: person, age and sex from names as people write them."""

from __future__ import annotations

from pathlib import Path

from more_public_trees import agedb, put_nothing, read_tree

from agesearch.data.dataset.records import SourceRecord


def test_person_age_and_sex_come_from_the_names(tmp_path: Path) -> None:
    root = agedb(tmp_path, put_nothing)
    records, reasons = read_tree("agedb", root, root / "AgeDB")
    labels = {
        "0_MariaCallas_35_f.jpg": ("MariaCallas", 35.0, "female"),
        "16079_WillSmith _45_m.jpg": ("WillSmith", 45.0, "male"),
        "16080_WillSmith_46_m.jpg": ("WillSmith", 46.0, "male"),
        "77_Peter_O'Toole_71_m.jpg": ("Peter_O'Toole", 71.0, "male"),
        "901_Zoe\u0308Kravitz_24_f.jpg": ("Zo\u00ebKravitz", 24.0, "female"),
        "902_Zo\u00ebKravitz_25_f.jpg": ("Zo\u00ebKravitz", 25.0, "female"),
    }
    assert records == {
        name: SourceRecord(name, "agedb", age=age, sex=sex, subject_id=person)
        for name, (person, age, sex) in labels.items()
    }
    assert reasons == {
        "500_SomeOne_101_m.jpg": "bad_age",
        "600_NoAge_m.jpg": "bad_name",
        "700__40_f.jpg": "bad_name",
    }
