"""``agesearch data augment``: what made faces look like, whom they show, and that no other face gets in."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from foreign_graphs import write_teacher
from typer.testing import CliRunner

import agesearch
from agesearch.cli.main import app
from agesearch.data import augmentation as module
from agesearch.data.audit.check import check_dataset
from agesearch.data.augmentation import AugmentationSpec, augment
from agesearch.data.dataset.commit import STAGING
from agesearch.data.dataset.records import Manifest, Part, Split, read_manifest
from agesearch.data.dataset.shards import read_rows
from agesearch.data.dataset.writer import DatasetWriter
from agesearch.data.images.augment import Augmenter, Draws
from agesearch.data.images.crop import decode_crop, encode_crop
from agesearch.data.images.mixing import AREAS, blended, drawn_rectangle, drawn_share, pasted
from agesearch.data.mixture import MixtureSpec, kinds_by_split, mix
from agesearch.distill.annotate import annotate
from agesearch.errors import ConflictError, InputError
from agesearch.models.trained_on import trained_on
from agesearch.specs import AugmentSpec, CropSpec, parse_spec
from agesearch.storage import Location

SIZE = 32
CROP = CropSpec(detector="none", size=SIZE, jpeg_quality=100)
RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)
#: Faces are not jittered, so that colours stay what they are.
STILL = {"views": 0, "strength": 0.0}


def _plain(colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), colour, np.uint8)


def _dataset(folder: Path, faces: list[dict[str, Any]]) -> str:
    """A dataset of faces with a ``colour`` each, or an ``image``."""
    writer = DatasetWriter(
        Location.of(folder), name="colours", label_kind="real", licence="CC0", crop=CROP, detector="none"
    )
    rows = []
    for number, face in enumerate(faces):
        row = {"sample_id": f"face-{number}", "split": "train", "source": "csv", "age": 30.0} | face
        image = encode_crop(_plain(row.pop("colour", RED)), CROP)
        rows.append({"image": image, "subject_id": f"person-{number}"} | row)
    writer.add(rows)
    writer.finish()
    return str(folder)


def _spec(**options: Any) -> AugmentationSpec:
    return parse_spec(AugmentationSpec, {"views": 0, "mixup": 0, "cutmix": 0, **options}, "the options")


def _made(folder: Path) -> dict[str, dict[str, Any]]:
    columns = ["sample_id", "photo_digest", "image", "age", "subject_id", "sex", "source", "split", "fold"]
    table = read_rows(str(folder), None, columns)
    return {row["sample_id"]: row for row in table.to_pylist()}


def _colours(rows: dict[str, dict[str, Any]]) -> np.ndarray:
    """The mean colour of each face, ``[N, 3]``."""
    return np.stack([decode_crop(row["image"]).mean(axis=(0, 1)) for row in rows.values()])


@pytest.fixture
def two(tmp_path: Path) -> str:
    return _dataset(tmp_path / "two", [{"colour": RED, "sex": "female"}, {"colour": BLUE, "sex": "male"}])


def test_a_blend_of_two_plain_faces_has_their_colours_by_its_share() -> None:
    assert blended(_plain((200, 0, 100)), _plain((0, 100, 100)), 0.75)[0, 0].tolist() == [150, 25, 100]
    assert (blended(_plain(RED), _plain(BLUE), 1.0) == _plain(RED)).all()


def test_shares_are_even_over_one_half_to_one() -> None:
    shares = [drawn_share(Draws(0, number, "a")) for number in range(2000)]
    assert 0.5 < min(shares) < 0.505
    assert 0.995 < max(shares) < 1.0
    assert np.mean(shares) == pytest.approx(0.75, abs=0.01)


def test_a_pasted_rectangle_is_the_other_face_and_the_rest_is_the_first() -> None:
    first = _plain(RED)
    picture = pasted(first, _plain(BLUE), (4, 8, 10, 20))
    assert (picture[8:20, 4:10] == BLUE).all()
    assert (picture == BLUE).all(axis=2).sum() == 12 * 6
    assert (first == RED).all(), "the first face is left as it is"


def test_rectangles_lie_within_the_picture_and_have_the_areas_that_are_promised() -> None:
    boxes = [drawn_rectangle(96, Draws(3, number, "b")) for number in range(2000)]
    assert all(0 <= left < right <= 96 and 0 <= top < bottom <= 96 for left, top, right, bottom in boxes)
    areas = np.array([(right - left) * (bottom - top) for left, top, right, bottom in boxes]) / 96**2
    low, high = AREAS
    assert low - 0.01 < areas.min() < low + 0.01
    assert high - 0.01 < areas.max() < high + 0.015
    assert areas.mean() == pytest.approx((low + high) / 2, abs=0.01)


def test_a_made_blend_lies_between_its_two_faces_nearer_to_its_own_person(tmp_path: Path, two: str) -> None:
    manifest, is_new = augment(two, tmp_path / "made", _spec(mixup=20, **STILL))
    rows = _made(tmp_path / "made")
    assert is_new
    assert manifest.counts == {"train": 40, "val": 0, "test": 0}
    for row, colour in zip(rows.values(), _colours(rows), strict=True):
        own, other = (RED, BLUE) if row["subject_id"] == "person-0" else (BLUE, RED)
        share = (colour - other)[0] / (np.array(own) - other)[0]
        assert 0.49 < share < 1.01
        assert colour == pytest.approx(
            share * np.array(own) + (1 - share) * np.array(other), abs=4
        )  # a JPEG's


def test_a_made_pasting_covers_what_is_promised(tmp_path: Path, two: str) -> None:
    augment(two, tmp_path / "made", _spec(cutmix=20, **STILL))
    shares = []
    for row in _made(tmp_path / "made").values():
        own, other = (RED, BLUE) if row["subject_id"] == "person-0" else (BLUE, RED)
        pixels = decode_crop(row["image"]).astype(int)
        near = np.abs(pixels - other).sum(axis=2) < np.abs(pixels - own).sum(axis=2)
        shares.append(near.mean())
    assert 0.03 < min(shares) < 0.15
    assert 0.3 < max(shares) < 0.45


def test_a_view_is_the_one_that_a_training_with_this_view_seed_sees(tmp_path: Path) -> None:
    image = encode_crop(np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), np.uint8), CROP)
    faces = _dataset(tmp_path / "one", [{"image": image}])
    augment(faces, tmp_path / "made", _spec(views=3, seed=5, strength=1.5))
    views = Augmenter(AugmentSpec(strength=1.5), 5)
    wanted = {encode_crop(views(decode_crop(image), number, "face-0"), CROP) for number in range(3)}
    assert {row["image"] for row in _made(tmp_path / "made").values()} == wanted


def test_a_made_face_tells_whom_it_shows_and_what_it_is(tmp_path: Path, two: str) -> None:
    manifest, _ = augment(two, tmp_path / "made", _spec(views=1, mixup=1))
    rows = _made(tmp_path / "made").values()
    assert {(row["subject_id"], row["photo_digest"], row["source"], row["sex"]) for row in rows} == {
        ("person-0", "face-0", "csv/view", "female"),
        ("person-1", "face-1", "csv/view", "male"),
        ("person-0", "face-0", "csv/mixup", None),
        ("person-1", "face-1", "csv/mixup", None),
    }
    assert {(row["age"], row["fold"], row["split"]) for row in rows} == {(None, None, "train")}
    assert (manifest.label_kind, manifest.crop, manifest.licence) == ("none", CROP, "CC0")
    assert "2 faces of 'colours' (split 'train'), 2 jittered, 2 blended of two" in manifest.notes[-1]
    told = read_manifest(tmp_path / "made").augmentation
    assert told is not None
    assert (told.data_digest, told.made_of) == (read_manifest(two).content_digest, 2)
    assert told.part == Part(Split.TRAIN)


def _many(folder: Path, count: int = 60) -> str:
    draw = np.random.default_rng(1)
    pixels = (draw.integers(0, 255, (SIZE, SIZE, 3), np.uint8) for _ in range(count))
    return _dataset(folder, [{"image": encode_crop(face, CROP)} for face in pixels])


def test_the_same_options_make_the_same_faces_on_any_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces, spec = _many(tmp_path / "faces"), _spec(views=1, mixup=2, cutmix=1)
    made = []
    for threads in (1, 7):
        monkeypatch.setattr(module, "cores", lambda threads=threads: threads)
        augment(faces, tmp_path / f"made-{threads}", spec)
        made.append(_made(tmp_path / f"made-{threads}"))
    assert made[0] == made[1]
    augment(faces, tmp_path / "other", _spec(views=1, mixup=2, cutmix=1, seed=1))
    assert not set(made[0]) & set(_made(tmp_path / "other"))


def test_asking_for_more_keeps_the_faces_that_were_made(tmp_path: Path) -> None:
    faces = _many(tmp_path / "faces", 10)
    augment(faces, tmp_path / "few", _spec(mixup=1))
    augment(faces, tmp_path / "more", _spec(views=1, mixup=2))
    few, more = _made(tmp_path / "few"), _made(tmp_path / "more")
    assert (len(few), len(more)) == (10, 30)
    assert {name: more[name] for name in few} == few


def test_only_the_chosen_split_and_folds_are_seen(tmp_path: Path) -> None:
    """Red faces are chosen; blue ones are of another fold, green ones of another split: none shows at all."""
    places = {("train", 0): RED, ("train", 1): RED, ("train", 2): BLUE, ("val", 0): GREEN, ("test", 1): GREEN}
    faces = [
        {"colour": colour, "split": split, "fold": fold}
        for (split, fold), colour in places.items()
        for _ in range(8)
    ]
    data, options = _dataset(tmp_path / "faces", faces), {"mixup": 6, "cutmix": 6, **STILL}
    part = Part(Split.TRAIN, (0, 1))
    manifest, _ = augment(data, tmp_path / "made", _spec(**options, part=part))
    assert manifest.faces == 16 * 12
    colours = _colours(_made(tmp_path / "made"))
    assert np.abs(colours - RED).max() < 3
    # The same with all faces of the split: other colours do get in, so the test above can fail.
    augment(data, tmp_path / "all", _spec(**options))
    assert np.abs(_colours(_made(tmp_path / "all")) - RED).max() > 50


def test_no_more_than_a_window_is_held_and_partners_come_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WINDOW_FACES", 8)
    faces = _dataset(tmp_path / "faces", [{"colour": (number, 0, 0)} for number in range(45)])
    windows = list(module._windows(Location.of(faces), Part(Split.TRAIN), 45))
    assert [len(window) for window in windows] == [7, 8, 7, 8, 7, 8]
    known = [row["sample_id"] for row in itertools.chain(*windows)]
    assert sorted(known) == sorted(f"face-{number}" for number in range(45))
    seen: list[set[str]] = []
    decoded = module._Maker._decoded

    def watched(maker: Any, row: Any) -> Any:
        seen[-1].add(row["sample_id"])
        return decoded(maker, row)

    monkeypatch.setattr(module._Maker, "_decoded", watched)
    maker = module._Maker(_spec(mixup=4), CROP)
    for window in windows:
        seen.append(set())
        for index in range(len(window)):
            maker.of_face(window, index)
    assert seen == [{row["sample_id"] for row in window} for window in windows]


def test_a_face_is_never_its_own_partner(monkeypatch: pytest.MonkeyPatch) -> None:
    image = encode_crop(_plain(RED), CROP)
    window = [
        {"sample_id": name, "photograph": name, "image": image, "source": "csv"}
        | dict.fromkeys(("subject_id", "sex", "ethnicity"))
        for name in "abcde"
    ]
    maker, pairs = module._Maker(_spec(mixup=200), CROP), set()
    monkeypatch.setattr(
        maker, "_name", lambda kind, number, of: pairs.add(tuple(row["sample_id"] for row in of))
    )
    for index in range(5):
        maker.of_face(window, index)
    assert pairs == set(itertools.permutations("abcde", 2))


def test_a_second_run_does_nothing_and_other_options_are_refused(tmp_path: Path, two: str) -> None:
    first, _ = augment(two, tmp_path / "made", _spec(views=1))
    again, is_new = augment(two, tmp_path / "made", _spec(views=1))
    assert (again, is_new) == (first, False)
    with pytest.raises(ConflictError, match="--replace"):
        augment(two, tmp_path / "made", _spec(views=2))
    made, is_new = augment(two, tmp_path / "made", _spec(views=2), replace=True)
    assert (made.faces, is_new) == (4, True)


def test_a_run_that_is_cut_leaves_nothing_and_the_next_one_is_whole(tmp_path: Path) -> None:
    faces, out = _many(tmp_path / "faces", 100), tmp_path / "made"

    def interrupt(update: Any) -> None:
        if update.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        augment(faces, out, _spec(mixup=1), on_progress=interrupt)
    assert not (out / STAGING).exists()
    assert not (out / "dataset.json").exists()
    augment(faces, out, _spec(mixup=1))
    augment(faces, tmp_path / "undisturbed", _spec(mixup=1))
    assert _made(out) == _made(tmp_path / "undisturbed")


def test_a_damaged_face_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    faces = _dataset(tmp_path / "faces", [{}, {"image": b"no picture"}])
    with pytest.raises(InputError, match="face 'face-1': .*damaged"):
        augment(faces, tmp_path / "made", _spec(views=1))
    assert not (tmp_path / "made" / "dataset.json").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--views", "0", "--mixup", "0", "--cutmix", "0"], "are all 0"),
        (["--views", "-1"], "views"),
        (["--mixup", "1001"], "mixup"),
        (["--strength", "0"], "copies"),
        (["--strength", "4"], "strength"),
        (["--policy", "gentle"], "policy"),
        (["--split", "val"], "no faces in split 'val'"),
        (["--split", "trian"], "train"),
        (["--fold", "3"], "no faces in split 'train' of folds 3"),
        (["--fold", "300"], "fold"),
        (["--fold", "0"], "--views alone"),
    ],
)
def test_bad_options_end_with_one_line(tmp_path: Path, options: list[str], told: str) -> None:
    faces = _dataset(tmp_path / "faces", [{"fold": 0}, {"fold": 1}])
    done = CliRunner().invoke(app, ["data", "augment", faces, "--out", str(tmp_path / "made"), *options])
    assert isinstance(done.exception, InputError)
    assert told in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not (tmp_path / "made").exists()


def test_bad_places_are_refused(tmp_path: Path, two: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="cannot be its output"):
        augment(two, two, _spec(views=1), replace=True)
    with pytest.raises(InputError, match="not a dataset"):
        augment(tmp_path / "nothing", tmp_path / "made", _spec(views=1))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(ConflictError, match=r"thesis\.txt"):
        augment(two, tmp_path / "other", _spec(views=1), replace=True)
    monkeypatch.setattr(module, "MOST_FACES", 5)
    with pytest.raises(InputError, match="6 faces would be made of 2"):
        augment(two, tmp_path / "made", _spec(views=3))


def test_the_verb_and_the_function_make_the_same_and_say_so(tmp_path: Path, two: str) -> None:
    command = ["data", "augment", two, "--out", str(tmp_path / "made"), "--mixup", "1", "--seed", "3"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.exception
    assert "18 faces without labels, made of 2 faces" in done.stderr
    assert "agesearch annotate --teacher TEACHER" in done.stderr
    again = agesearch.augment(two, out=tmp_path / "made", mixup=1, seed=3)
    assert (again.is_new, again.faces) == (False, 18)
    assert "nothing to do" in CliRunner().invoke(app, command).stderr


def _annotated_mixture(tmp_path: Path) -> tuple[str, Manifest]:
    """Red and blue faces of both sides, those made of the training ones by a teacher, and both as one."""
    faces = [
        {"colour": colour, "split": split} for split in ("train", "val") for colour in (RED, BLUE, GREEN) * 2
    ]
    data = _dataset(tmp_path / "faces", faces)
    output = {"kind": "scalar", "name": "means", "column": 0, "spread": 2.0}
    write_teacher(tmp_path, name="red", output=output)
    augment(data, tmp_path / "made", _spec(views=1, mixup=1))
    annotate(tmp_path / "red.yaml", tmp_path / "made", tmp_path / "ages")
    parts = [{"data": data}, {"data": str(tmp_path / "ages"), "splits": ["train"], "weight": 0.5}]
    return data, mix(parse_spec(MixtureSpec, {"datasets": parts}, "mixture"), tmp_path / "mixed")[0]


def test_made_faces_go_through_a_teacher_into_a_mixture(tmp_path: Path) -> None:
    data, mixed = _annotated_mixture(tmp_path)
    assert mixed.counts == {"train": 18, "val": 6, "test": 0}
    assert kinds_by_split(tmp_path / "mixed")["train"] == {"teacher": 12, "real": 6}
    assert [part.weight for part in mixed.parts] == [1.5, 0.75]
    found = check_dataset(tmp_path / "mixed")
    assert found.verdict != "leaks"
    assert found.subject_exclusive
    assert read_manifest(tmp_path / "ages").augmentation == read_manifest(tmp_path / "made").augmentation
    assert yaml.safe_load((tmp_path / "mixed" / "dataset.json").read_text())["parts"][1]["augmentation"]


def test_a_model_of_made_faces_has_seen_the_part_they_were_made_of(tmp_path: Path) -> None:
    data, mixed = _annotated_mixture(tmp_path)
    digest = read_manifest(data).content_digest
    for manifest in (read_manifest(tmp_path / "ages"), mixed):
        seen = [record for record in trained_on(manifest) if record.data_digest == digest]
        assert seen[-1].train == Part(Split.TRAIN)
        assert seen[-1].val == Part(folds=())


def test_a_photograph_that_a_mixture_tests_is_not_trained_on_through_a_made_face(tmp_path: Path) -> None:
    train = _dataset(tmp_path / "train", [{"colour": RED}, {"colour": BLUE}])
    test = _dataset(tmp_path / "test", [{"colour": RED, "split": "test"}])  # its face-0 is that photograph
    augment(train, tmp_path / "made", _spec(views=2))
    parts = [{"data": test}, {"data": str(tmp_path / "made")}]
    manifest, _ = mix(parse_spec(MixtureSpec, {"datasets": parts}, "mixture"), tmp_path / "mixed")
    assert manifest.counts == {"train": 2, "val": 0, "test": 1}
    assert manifest.left_out == {"photo_in_other_split": 2}
