"""Small copies of public datasets in their owners' exact layouts, quirks included; ``put`` makes images."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.io import savemat

from agesearch.data.dataset.records import Rejected
from agesearch.data.sources import SOURCES, SourceOptions
from agesearch.storage import Location

Put = Callable[[Path], None]


def _files(root: Path, names: list[str], put: Put) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        put(root / name)


def utkface(root: Path, put: Put) -> Path:
    """Crops and photographs; names without a sex, without a race, with neither; ages over 100."""
    names = [
        "UTKFace/100_0_0_20170112213500903.jpg.chip.jpg",
        "UTKFace/26_1_1_20170116184024662.jpg.chip.jpg",
        "UTKFace/24_0_1_20170116220224657 .jpg.chip.jpg",
        "UTKFace/55_0_0_20170116232725357jpg.chip.jpg",
        "UTKFace/44_1_4_20170116235150272.pg.chip.jpg",
        "UTKFace/1_0_2_20161219140530307.jpg.chip.jpg",
        "UTKFace/8_1_3_20161220222308131.jpg.chip.jpg",
        "UTKFace/39_1_20170116174525125.jpg.chip.jpg",
        "UTKFace/61_1_20170109142408075.jpg.chip.jpg",
        "UTKFace/116_1_0_20170120134921760.jpg.chip.jpg",
        "part1/34_1_0_20170109004755204.jpg",
        "part1/61_3_20170109150557335.jpg",
        "part2/53__0_20170116184028385.jpg",
    ]
    _files(root, names, put)
    (root / "UTKFace" / "landmark_list_part1.txt").write_text("34_1_0_20170109004755204.jpg -4 71\n")
    return root


def fgnet(root: Path, put: Put) -> Path:
    """Suffixes and letters in both cases, several images of one age, an index of a viewer, the landmarks."""
    names = ["001A02.JPG", "001A43a.JPG", "001a43b.jpg", "009A00.jpg", "082A18.JPG", "notes.jpg"]
    _files(root / "images", names, put)
    (root / "images" / "Thumbs.db").write_bytes(b"x")
    (root / "points").mkdir()
    (root / "points" / "001a02.pts").write_text("version: 1\n")
    return root


def agedb(root: Path, put: Put) -> Path:
    """Underscores, apostrophes, a stray space and accents in names; an age over 100; other names."""
    names = [
        "0_MariaCallas_35_f.jpg",
        "16079_WillSmith _45_m.jpg",
        "16080_WillSmith_46_m.jpg",
        "77_Peter_O'Toole_71_m.jpg",
        "901_Zoe\u0308Kravitz_24_f.jpg",
        "902_Zo\u00ebKravitz_25_f.jpg",
        "500_SomeOne_101_m.jpg",
        "600_NoAge_m.jpg",
        "700__40_f.jpg",
    ]
    _files(root / "AgeDB", names, put)
    return root


MORPH_HEADER = "id_num,picture_num,dob,doa,race,gender,facial_hair,age,age_diff,glasses,photo"
MORPH_ROWS = [
    "009055,1,09/12/1950,10/06/2004,W,M,NULL,54,0,NULL,Album2/009055_1M54.JPG",
    "009055,2,09/12/1950,09/12/2005,W,M,NULL,55,1,NULL,Album2/009055_2M55.JPG",
    "012345,1,1980-01-31,2005-01-30,B,F,NULL,24,0,NULL,Album2/012345_1F24.JPG",
    "012345,2,1980-01-31,2006-02-01,B,M,NULL,26,2,NULL,Album2/012345_2F26.JPG",
    "020000,1,3/4/54,5/6/05,A,F,NULL,51,0,NULL,Album2/020000_1F51.JPG",
    "020001,1,,05/06/2005,O,M,NULL,33,0,NULL,Album2/020001_1M33.JPG",
    "030000,1,01/01/1970,06/01/2005,H,M,NULL,31,0,NULL,Album2/030000_1M31.JPG",
    "040000,1,01/01/1970,06/01/2005,W,M,NULL,35,0,NULL,Album2/040000_1M35.JPG",
    "040000,2,01/01/1975,06/01/2006,W,M,NULL,31,1,NULL,Album2/040000_2M31.JPG",
    "050000,1,soon,06/01/2006,W,M,NULL,31,1,NULL,Album2/050000_1M31.JPG",
    "050001,1,01/01/1975,06/01/2006,W,M,NULL,,1,NULL,Album2/050001_1M31.JPG",
    "050002,1,01/01/1975,06/01/2006,W,M,NULL,old,1,NULL,Album2/050002_1M31.JPG",
    ",1,01/01/1975,06/01/2006,W,M,NULL,31,1,NULL,Album2/050003_1M31.JPG",
    "050004,1,01/01/1975,06/01/2006,W,M,NULL,31,1,NULL,../secret/050004_1M31.JPG",
    "050005,1,01/01/1975,06/01/2006,W,M,NULL,31",
]


def morph2(root: Path, put: Put) -> Path:
    """The owner's table, with rows that contradict each other."""
    photos = [row.split(",")[-1] for row in MORPH_ROWS]
    _files(root, [photo for photo in photos if photo.startswith("Album2/")], put)
    (root / "morph_2008_nonCommercial.csv").write_text("\r\n".join([MORPH_HEADER, *MORPH_ROWS]) + "\r\n")
    return root


CACD = [
    ("53_Robin_Williams_0001.jpg", 53, 1, 1),
    ("14_Aaron_Johnson_0001.jpg", 14, 2, 2),
    ("23_Zo\u00eb_Kravitz_0004.jpg", 23, 3, 3),
    ("44_Someone_Else_0002.jpg", 44, 4, 5),
    ("30_Third_Person_0009.jpg", 30, 5, 6),
    ("62_Third_Person_0010.jpg", 62, 5, 6),
    ("120_Wrong_Age_0001.jpg", 120, 6, 50),
    ("30_No_Rank_0001.jpg", 30, 6, 0),
    ("../30_Out_Side_0001.jpg", 30, 6, 7),
]


def cacd2000(root: Path, put: Put) -> Path:
    """Images in ``CACD2000/``, a MATLAB struct of columns beside them, numbers as MATLAB's doubles."""
    _files(root / "CACD2000", [name for name, *_ in CACD if "/" not in name], put)
    names = np.empty((len(CACD), 1), dtype=object)
    names[:, 0] = [name for name, *_ in CACD]
    columns = {
        key: np.array([[float(row[index])] for row in CACD])
        for key, index in (("age", 1), ("identity", 2), ("rank", 3))
    }
    zeros = np.zeros((len(CACD), 1))
    images = {**columns, "year": zeros + 2004, "feature": zeros, "lfw": zeros, "birth": zeros, "name": names}
    celebrities = {"name": names[:3], "identity": zeros[:3], "birth": zeros[:3], "rank": zeros[:3]}
    savemat(
        root / "celebrity2000_meta.mat",
        {"celebrityImageData": images, "celebrityData": celebrities},
        do_compression=True,
    )
    return root


def afad(root: Path, put: Put) -> Path:
    """Folders of age and sex, the owner's index, a viewer's index, and folders that are neither."""
    names = [
        "15/111/58945-0.jpg",
        "15/112/58945-2.jpg",
        "72/112/671487-0.jpg",
        "40/113/1-0.jpg",
        "old/111/1-0.jpg",
    ]
    _files(root / "AFAD-Full", [*names, "loose.jpg"], put)
    (root / "AFAD-Full" / "AFAD-Full.txt").write_text("./15/111/58945-0.jpg\n")
    (root / "AFAD-Full" / "15" / "111" / "Thumbs.db").write_bytes(b"x")
    return root


FAIRFACE_HEADER = "file,age,gender,race,service_test"


def fairface(root: Path, put: Put) -> Path:
    """Two tables and one size of crop; one age that is none of the nine groups."""
    train = [
        "train/1.jpg,50-59,Male,East Asian,True",
        "train/2.jpg,0-2,Female,Latino_Hispanic,False",
        "train/3.jpg,more than 70,Female,Middle Eastern,False",
        "train/4.jpg,30-35,Male,White,False",
        "train/5.jpg,,Male,White,False",
        "../train/6.jpg,3-9,Male,White,False",
    ]
    val = ["val/1.jpg,3-9,Male,East Asian,False", "val/2.jpg,60-69,Female,Black,True"]
    crops = root / "fairface-img-margin025-trainval"
    _files(crops, ["train/1.jpg", "train/2.jpg", "train/3.jpg", "val/1.jpg", "val/2.jpg"], put)
    for name, rows in (("train", train), ("val", val)):
        (root / f"fairface_label_{name}.csv").write_text("\n".join([FAIRFACE_HEADER, *rows]) + "\n")
    return root


TURNS = [
    {"trn": [0, 1], "val": [2], "tst": [3]},
    {"trn": [1, 2], "val": [3], "tst": [0]},
]


def _entry(name: str, /, **fields: object) -> dict[str, object]:
    square = {"aligned_bbox": [11, 11, 31, 11, 31, 31, 11, 31], "alignment_source": "in the wild"}
    usual = {"img_path": f"AgeDB/AgeDB/{name}", "age": 30, "gender": "F", "database": "AgeDB", "folder": 0}
    return {**usual, **square, **fields}


PAPLHAM = [
    _entry("0.jpg", id_num=638660, age=15, gender="M"),
    _entry("1.jpg", name="WillSmith ", folder=2, aligned_bbox=[21, 11, 41, 21, 31, 41, 11, 31]),
    _entry("2.jpg", name="JoanCusack", folder=3, race="Black", std_age=4.5),
    _entry("3.jpg", name="JoanCusack", folder=3, gender="U", age="(25, 32)", std_age=float("nan")),
    _entry("4.jpg", age=-1),
    _entry("5.jpg", age=float("nan")),
    _entry("6.jpg", aligned_bbox=[]),
    _entry("7.jpg", aligned_bbox=[1, 2, 3]),
    _entry("8.jpg", aligned_bbox=[5, 5, 5, 5, 5, 5, 5, 5]),
    _entry("9.jpg", folder=9),
    _entry("10.jpg", folder=-1),
    _entry("11.jpg", age=130),
    _entry("../../../etc/passwd"),
    _entry("12.jpg", img_path=None),
]


def benchmark_yaml() -> str:
    """As the benchmark publishes it: one database to train on, the others to test on in every turn."""
    turn = "".join(
        f"  - trn: {turn['trn']}\n    val: {turn['val']}\n    tst: {turn['tst']}\n" for turn in TURNS
    )
    others = "  - trn: []\n    val: []\n    tst: [0,1]\n" * len(TURNS)
    return (
        f'- database: "databases/AgeDB_aligned.json"\n  tag: "AgeDB"\n  split: \n{turn}'
        f'- database: "databases/MORPH_aligned.json"\n  tag: "MORPH"\n  split: \n{others}'
    )


def paplham(root: Path, put: Put) -> Path:
    """``AgeDB.yaml`` and its database; the images lie elsewhere, under ``Faces``. Returns the benchmark."""
    (root / "benchmarks" / "databases").mkdir(parents=True)
    (root / "benchmarks" / "databases" / "AgeDB_aligned.json").write_text(json.dumps(PAPLHAM, indent=4))
    (root / "benchmarks" / "AgeDB.yaml").write_text(benchmark_yaml())
    _files(root / "Faces" / "AgeDB" / "AgeDB", [f"{number}.jpg" for number in range(13)], put)
    return root / "benchmarks" / "AgeDB.yaml"


def put_nothing(path: Path) -> None:
    """An image that no reader opens."""
    path.write_bytes(b"x")


def read_tree(source: str, root: Path, base: Path | None = None, **options: object) -> tuple[dict, dict]:
    """Records and rejection reasons of a tree, by path relative to ``base`` (or else ``root``)."""
    records, reasons = {}, {}
    for item in SOURCES[source].read(SourceOptions(Location.of(root), **options)):
        name = item.path.removeprefix(f"{base or root}/")
        if isinstance(item, Rejected):
            reasons[name] = item.reason
        else:
            records[name] = replace(item, path=name)
    return records, reasons
