"""Small trees in the exact layouts of public datasets, quirks included; the images come from the caller.

Each builder writes ``root`` and takes one image (bytes) from ``photos`` for each picture it puts down.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat


def small_images() -> Iterator[bytes]:
    """Distinct sound JPEG images, 40 x 48 pixels."""
    for index in itertools.count():
        pixels = np.full((48, 40, 3), (index * 7 % 256, index * 31 % 256, index // 36 % 256), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=95)
        yield stream.getvalue()


def put(root: Path, names: Iterator[str] | list[str], photos: Iterator[bytes]) -> None:
    """Write one image for each name."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(next(photos))


def write(path: Path, *lines: str) -> None:
    """Write a text file of lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def vggface2(root: Path, photos: Iterator[bytes]) -> None:
    """Ten people for training and one for the test; the tables of a part are in different orders."""
    train = [f"n{person:06d}/{number:04d}_01.jpg" for person in range(2, 12) for number in (1, 2)]
    test = [f"n000001/{number:04d}_01.jpg" for number in (1, 2, 3)]
    put(root / "train", train, photos)
    put(root / "test", test, photos)
    faces = [f"{row},0.99,{name},{int(name[1:7])},2,3,30,36" for row, name in enumerate(train)]
    write(
        root / "annotations" / "train.detected.csv",
        *faces,
        "20,0.99,n000002/0001_01.jpg,2,5,5,20,20",
        "21,0.99,n000003/0009_01.jpg,3,2,3,30,36",
        "22,0.99,../secret.jpg,3,2,3,30,36",
        "23,0.99,n000003/0008_01.jpg,3,2,3,wide,36",
        "24,0.99,n000003/0007_01.jpg,nobody,2,3,30,36",
        "25,0.99,n000003/0006_01.jpg,3,2,3,30,36",
        "26,0.99,n000003/0005_01.jpg,3,2,3,30,36",
        "27,0.99,,3,2,3,30,36",
    )
    write(
        root / "annotations" / "train.age_detected.csv",
        *(f"{name}, {20 + row}.125" for row, name in reversed(list(enumerate(train)))),
        "n000003/0008_01.jpg, 30.0",
        "n000003/0006_01.jpg, 100.5",
        "n000003/0005_01.jpg, young",
        "n000004/0099_01.jpg, 40.0",
    )
    write(
        root / "annotations" / "test.detected.csv",
        *(f"{n},1,{name},1,0,0,40,48" for n, name in enumerate(test)),
    )
    write(
        root / "annotations" / "test.age_detected.csv", *(f"{name},{50 + n}" for n, name in enumerate(test))
    )
    write(
        root / "annotations" / "identity_meta.csv",
        "Class_ID, Name, Sample_Num, Flag, Gender",
        'n000001, "Lama, the 14th", 424, 0, m',
        'n000002, "A_Fine_Frenzy", 315, 1, f',
    )


def imdb_wiki_csv(root: Path, photos: Iterator[bytes]) -> None:
    """The cleaned form: aligned crops and tables without header."""
    put(
        root / "imdb" / "imdb_crop_aligned",
        [f"0{n}/nm000000{n}_rm{n}_1960-5-4_1990.jpg" for n in range(9)],
        photos,
    )
    put(root / "wiki" / "wiki_crop_aligned", ["17/10000217_1981-05-05_2009.jpg"], photos)
    write(
        root / "imdb" / "imdb_aligned.csv",
        *(f"{n},{30 + n},0{n}/nm000000{n}_rm{n}_1960-5-4_1990.jpg,1,2,30,40,Star {n}" for n in range(9)),
        "9,0,01/nm0000001_rm10_1990-1-1_1990.jpg,1,2,30,40,Star 1",
        "10,101,01/nm0000001_rm11_1889-1-1_1990.jpg,1,2,30,40,Star 1",
        "11,69,01/nm0000001_rm12_1899-0-0_1968.jpg,1,2,30,40,Star 1",
        "12,40,01/nm0000001_rm13_1950-1-1_1990.jpg,1,2,30,40,",
        "13,40,/etc/passwd.jpg,1,2,30,40,Star 1",
        "14,40,01/nm0000001_rm14_1950-1-1_1990.jpg,1,2,30",
        "15,,01/nm0000001_rm15_1950-1-1_1990.jpg,1,2,30,40,Star 1",
    )
    write(
        root / "wiki" / "wiki_aligned.csv", "0,28,17/10000217_1981-05-05_2009.jpg,3,4,20,20, Sami,Jauhojärvi "
    )


def _objects(values: list[object]) -> np.ndarray:
    cells = np.empty((1, len(values)), object)
    for index, value in enumerate(values):
        cells[0, index] = value
    return cells


def datenum(year: int, month: int, day: int) -> float:
    """MATLAB's day number."""
    return float(
        (np.datetime64(f"{year:04d}-{month:02d}-{day:02d}") - np.datetime64("0001-01-01")).astype(int) + 367
    )


def save_struct(path: Path, name: str, rows: list[tuple], *, stars: list[str] | None = None) -> None:
    """An ``imdb.mat`` or ``wiki.mat`` as the owner saves it, from rows of ``dob, photo_taken, full_path,
    gender, name, face_location, face_score, second_face_score``.
    """
    dob, taken, paths, gender, names, boxes, first, second = zip(*rows, strict=True)
    struct = {
        "dob": np.array([dob]),
        "photo_taken": np.array([taken], np.uint16),
        "full_path": _objects(list(paths)),
        "gender": np.array([gender], float),
        "name": _objects(list(names)),
        "face_location": _objects([np.array([box], float) for box in boxes]),
        "face_score": np.array([first], float),
        "second_face_score": np.array([second], float),
    }
    if stars is not None:
        struct["celeb_names"] = _objects(list(stars))
        struct["celeb_id"] = np.array([[1.0 + index % len(stars) for index in range(len(rows))]])
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {name: struct})


def imdb_wiki_mat(root: Path, photos: Iterator[bytes]) -> None:
    """The owner's form: photographs of IMDb with boxes, crops of Wikipedia."""
    nan, box = float("nan"), (3.0, 5.0, 32.0, 44.0)
    born = datenum(1960, 5, 4)
    kept = ["01/nm0000001_rm1_1960-5-4_1990.jpg", "02/nm0000002_rm2_1960-7-3_1990.jpg"]
    put(root / "imdb", kept, photos)
    put(root / "wiki_crop", ["17/10000217_1981-05-05_2009.jpg"], photos)
    save_struct(
        root / "imdb" / "imdb.mat",
        "imdb",
        [
            (born, 1990, kept[0], 1.0, "Fred Astaire", box, 3.5, nan),
            (datenum(1960, 7, 3), 1990, kept[1], 0.0, "", box, 2.0, nan),
            (born, 1990, "01/nm0000001_rm3_1960-5-4_1990.jpg", 1.0, "Fred Astaire", box, float("-inf"), nan),
            (born, 1990, "01/nm0000001_rm4_1960-5-4_1990.jpg", 1.0, "Fred Astaire", box, 3.0, 2.5),
            (born, 1960, "01/nm0000001_rm5_1960-5-4_1960.jpg", 1.0, "Fred Astaire", box, 3.0, nan),
            (5.0, 1990, "01/nm0000001_rm6_0-1-5_1990.jpg", 1.0, "Fred Astaire", box, 3.0, nan),
            (born, 1990, "01/nm0000001_rm7_1960-0-0_1990.jpg", 1.0, "Fred Astaire", box, 3.0, nan),
            (nan, 1990, "01/nm0000001_rm8_x_1990.jpg", 1.0, "Fred Astaire", box, 3.0, nan),
            (born, 0, "01/nm0000001_rm9_1960-5-4_0.jpg", 1.0, "Fred Astaire", box, 3.0, nan),
            (born, 1990, "../nm0000001_rm10_1960-5-4_1990.jpg", 1.0, "Fred Astaire", box, 3.0, nan),
        ],
        stars=["Fred Astaire", "Lauren Bacall"],
    )
    save_struct(
        root / "wiki_crop" / "wiki.mat",
        "wiki",
        [
            (
                datenum(1981, 5, 5),
                2009,
                "17/10000217_1981-05-05_2009.jpg",
                nan,
                "Sami Jauhojärvi",
                box,
                4.3,
                nan,
            ),
            (datenum(1981, 5, 5), 2009, "18/10000218_1981-05-05_2009.jpg", 1.0, [], box, 4.3, nan),
        ],
    )


def imdb_clean(root: Path, photos: Iterator[bytes]) -> None:
    """Three tables with header beside the crops; one star is in train and valid."""
    header = "filename,age,gender,x_min,y_min,x_max,y_max,head_roll,head_yaw,head_pitch"
    rows = {
        "train": [
            "01/nm0000001_rm1_1960-5-4_1990.jpg,30,M,4,5,30,40,1.5,-2,3",
            "02/nm0000002_rm1.jpg,44.0,F,1,1,9,9,0,0,0",
        ],
        "valid": ["01/nm0000001_rm2_1960-5-4_1995.jpg,35,M,4,5,30,40,0,0,0"],
        "test": ["03/nm0000003_rm1.jpg,7,F,2,2,20,30,0,0,0"],
    }
    bad = [
        "04/rm1.jpg,20,F,2,2,20,30,0,0,0",
        "05/nm0000005_rm1.jpg,101,F,2,2,20,30,0,0,0",
        "05/nm0000005_rm2.jpg,,F,2,2,20,30,0,0,0",
        "05/nm0000005_rm3.jpg,20,F,,,,,0,0,0",
        "05/../../nm0000005_rm4.jpg,20,F,2,2,20,30,0,0,0",
    ]
    for part, lines in rows.items():
        put(root / "data" / "imdb-clean-1024", [line.split(",")[0] for line in lines], photos)
        write(root / "csvs" / f"imdb_{part}_new_1024.csv", header, *lines, *(bad if part == "train" else ()))


def lfw_plus(root: Path, photos: Iterator[bytes]) -> None:
    """No header, bars as quotes, a file name with a comma."""
    names = [
        "Aaron_Eckhart_0001.jpg",
        "Aaron_Eckhart_0002.jpg",
        "Zico_0003.jpg",
        "Smith,_Jr_0001.jpg",
        "child 7.jpg",
    ]
    put(root / "lfw_cropped", names, photos)
    write(
        root / "lfw_theirs.csv",
        "1,41.3,Aaron_Eckhart_0001.jpg",
        "1, 43,Aaron_Eckhart_0002.jpg",
        "1,52,|Zico_0003.jpg|",
        "1,30,|Smith,_Jr_0001.jpg|",
        "0,7.5,child 7.jpg",
        "0,,Zico_0004.jpg",
        "0,old,Zico_0005.jpg",
        "0,30,../../Zico_0006.jpg",
        "0,30",
    )


def appa_real(root: Path, photos: Iterator[bytes]) -> None:
    """Photographs and crops, one of which is absent; sex and race are known for the training part only."""
    header = "file_name,num_ratings,apparent_age_avg,apparent_age_std,real_age"
    rows = {
        "train": ["000000.jpg,36,5.1111,0.8123,4", "000001.jpg,30,21.5,2.5,18"],
        "valid": ["004113.jpg,38,51.25,4.75,55"],
        "test": ["005613.jpg,38,33.0,0.0,30", "005614.jpg,38,,4.0,31", "005615.jpg,38,40,4.0,131"],
    }
    for part, lines in rows.items():
        names = [line.split(",")[0] for line in lines]
        put(root / part, [name for name in names if name != "000001.jpg"], photos)
        put(
            root / part,
            [f"{name}_face.jpg" for name in names if name not in ("000001.jpg", "004113.jpg")],
            photos,
        )
        write(root / f"gt_avg_{part}.csv", header, *lines)
    put(root / "train", ["000001.jpg", "000001.jpg_face.jpg"], photos)
    write(
        root / "allcategories_train.csv",
        "file,gender,race",
        "000000.jpg,female,caucasian",
        "000001.jpg,male,asian",
    )


def adience(root: Path, photos: Iterator[bytes]) -> None:
    """Five folds of one album each with a good face; fold 0 has the set's odd labels as well."""
    header = "\t".join(
        ["user_id", "original_image", "face_id", "age", "gender", "x", "y", "dx", "dy", "tilt_ang",
         "fiducial_yaw_angle", "fiducial_score"]
    )  # fmt: skip
    tail = "0\t414\t1086\t1383\t-115\t30\t17"
    labels = ["(0, 2)", "(8, 12)", "(25, 32)", "(48, 53)", "(60, 100)"]
    sexes = ["f", "m", "u", "", "f"]
    odd = ["35", "(27, 32)", "(38, 48)", "None", "", "(8, 23)", "soon"]
    for fold, (label, sex) in enumerate(zip(labels, sexes, strict=True)):
        user, image = f"3060125{fold}@N03", f"10399{fold}_a04f_o.jpg"
        put(root / "faces" / user, [f"coarse_tilt_aligned_face.{fold + 1}.{image}"], photos)
        put(root / "aligned" / user, [f"landmark_aligned_face.{fold + 1}.{image}"], photos)
        row = f"{user}\t{image}\t{fold + 1}\t{label}\t{sex}\t{tail}"
        others = [f"{user}\t{n}.jpg\t9\t{age}\tm\t{tail}" for n, age in enumerate(odd)] if fold == 0 else []
        outside = (
            [f"../../x\ta.jpg\t9\t(0, 2)\tm\t{tail}", f"\ta.jpg\t9\t(0, 2)\tm\t{tail}"] if fold == 0 else []
        )
        write(root / f"fold_{fold}_data.txt", header, row, *others, *outside)
        write(root / f"fold_frontal_{fold}_data.txt", header, row)
