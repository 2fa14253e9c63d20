"""Reader of the facial age estimation benchmark of Paplham & Franc (CVPR 2024): one of its databases
(``AgeDB_aligned.json``, ...) with the published folds, and the turns over them of a ``benchmark.yaml``.

Folds are counted within each database, so a dataset is made of one database. PATH names it: either the
database itself, or a benchmark that trains on one database only, as all that are published do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ConfigDict

from agesearch.data.dataset.records import Rejected, SourceRecord, Split, Turn
from agesearch.data.sources.base import Source, SourceOptions, inside
from agesearch.data.sources.jsonlist import json_objects
from agesearch.data.sources.tables import entry, missing_files
from agesearch.data.sources.values import BadLabel, clean, parse_age, parse_spread
from agesearch.errors import InputError, first_line
from agesearch.specs import Spec, load_yaml, parse_spec
from agesearch.storage import Location

_BENCHMARK = "benchmark.yaml"
_DATABASE = "database.json"
_YAML_SUFFIXES = (".yaml", ".yml")
_LAST_FOLD = 127
#: The aligned square frames the whole head. The longer side of a detector's face box is 0.72 of it (median of
#: 80 portraits, 5-95 %: 0.67-0.78), so the square is shrunk to that to say the same as other sources' boxes.
_FACE_IN_SQUARE = 0.72
#: Databases whose ``id_num`` is no person's; see the source 'afad'.
_WITHOUT_PERSONS = ("AFAD",)
_SEXES = {"M": "male", "F": "female"}


class _Turn(Spec):
    """One split of a benchmark: folders for training, validation and test."""

    model_config = ConfigDict(extra="ignore")
    trn: tuple[int, ...] = ()
    val: tuple[int, ...] = ()
    tst: tuple[int, ...] = ()


class _Part(Spec):
    """One database of a benchmark, its path relative to the benchmark's folder."""

    model_config = ConfigDict(extra="ignore")
    database: str
    tag: str = ""
    split: tuple[_Turn, ...]


class _Benchmark(Spec):
    parts: tuple[_Part, ...]


@dataclass(frozen=True)
class _Plan:
    """What is read: a database, and its turns (none where no benchmark trains on it)."""

    database: Location
    turns: tuple[Turn, ...]

    def split_of(self, fold: int) -> Split | None:
        """The split of a fold in the first turn. ``BadLabel`` for a fold that no turn uses."""
        if not self.turns:
            return None
        for split, folds in self.turns[0].folds.items():
            if fold in folds:
                return split
        if not any(fold in folds for turn in self.turns for folds in turn.folds.values()):
            raise BadLabel("not_in_a_turn", f"no turn of the benchmark uses the folder {fold}")
        return None


def read(options: SourceOptions) -> Iterator[SourceRecord | Rejected]:
    """One record per entry of the database: ``folder`` becomes the fold, and the split is that of turn 0.

    Entries with an empty ``aligned_bbox`` (``no_box``) and folders outside every turn (``not_in_a_turn``) are
    left out, as in the benchmark. ``InputError`` for a missing file or broken JSON, with the place.
    """
    plan = _plan(options.root)
    if not plan.database.exists():
        raise InputError(f"There is no file '{plan.database}', the database that '{options.root}' names.")
    images = options.image_root
    for number, fields in json_objects(plan.database):
        written = fields.get("img_path")

        def build(path: str, fields: dict[str, Any] = fields) -> SourceRecord:
            return _record(path, fields, plan, unlabelled=options.unlabelled)

        yield entry(
            plan.database, number, _source(fields), images, written if isinstance(written, str) else "", build
        )


def turns(options: SourceOptions) -> tuple[Turn, ...]:
    """The turns that the benchmark publishes over the folds of the database, named ``<tag>/<number>``."""
    return _plan(options.root).turns


def _plan(root: Location) -> _Plan:
    if root.is_dir():
        found = next((root / name for name in (_BENCHMARK, _DATABASE) if (root / name).exists()), None)
        if found is None:
            raise missing_files(root, "paplham", [_BENCHMARK, _DATABASE])
        return _plan(found)
    if not root.exists():
        raise missing_files(root, "paplham", [_BENCHMARK, _DATABASE])
    if root.name.lower().endswith(_YAML_SUFFIXES):
        return _plan_of_benchmark(root)
    return _Plan(root, _turns_beside(root))


def _plan_of_benchmark(where: Location) -> _Plan:
    trained = [part for part in _benchmark(where).parts if _trains(part)]
    if len(trained) != 1:
        listed = ", ".join(part.database for part in trained) or "none"
        raise InputError(
            f"'{where}' must train on one database, but trains on: {listed}. Give a database (.json) instead."
        )
    return _Plan(_database(where, trained[0]), _turns(trained[0]))


def _turns_beside(database: Location) -> tuple[Turn, ...]:
    """The turns of the benchmark that trains on a database, looked for beside it and in the folder above."""
    found: dict[str, tuple[Turn, ...]] = {}
    for folder in (database.parent, database.parent.parent):
        for place in _yaml_files(folder):
            try:
                trained = [part for part in _benchmark(place).parts if _trains(part)]
                turns = [_turns(part) for part in trained if _database(place, part) == database]
            except InputError:
                continue  # some other YAML file
            if turns:
                found[place.name] = turns[0]
    if len(set(found.values())) > 1:
        names = ", ".join(sorted(found))
        raise InputError(f"Several benchmarks train on '{database}' ({names}): give one of them as PATH.")
    return next(iter(found.values()), ())


def _yaml_files(folder: Location) -> list[Location]:
    try:
        return [place for place in folder.children() if place.name.lower().endswith(_YAML_SUFFIXES)]
    except OSError:  # a folder above the database that may not be listed
        return []


def _benchmark(where: Location) -> _Benchmark:
    try:
        document = load_yaml(str(where))
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"'{where}' is not valid YAML: {first_line(error)[:200]}.") from error
    return parse_spec(_Benchmark, {"parts": document}, f"'{where}'")


def _trains(part: _Part) -> bool:
    return any(turn.trn for turn in part.split)


def _database(benchmark: Location, part: _Part) -> Location:
    try:
        return Location.of(inside(part.database, benchmark.parent))
    except BadLabel as error:
        raise InputError(f"'{benchmark}' names a database outside its folder: {error}.") from error


def _turns(part: _Part) -> tuple[Turn, ...]:
    tag = part.tag or part.database.rsplit("/", 1)[-1].removesuffix(".json")
    return tuple(
        Turn(name=f"{tag}/{number}", train=turn.trn, val=turn.val, test=turn.tst)
        for number, turn in enumerate(part.split)
    )


def _source(fields: dict[str, Any]) -> str:
    return str(fields.get("database") or "paplham")[:80]


def _record(path: str, fields: dict[str, Any], plan: _Plan, *, unlabelled: bool) -> SourceRecord:
    age, low, high = _age(fields.get("age"), unlabelled=unlabelled)
    fold = fields.get("folder")
    if not isinstance(fold, int) or isinstance(fold, bool) or not 0 <= fold <= _LAST_FOLD:
        raise BadLabel("bad_fold", f"the folder is {str(fold)[:40]!r}, not a number in 0..{_LAST_FOLD}")
    return SourceRecord(
        path,
        _source(fields),
        age=age,
        age_std=parse_spread(_text(fields.get("std_age"))),
        age_low=low,
        age_high=high,
        subject_id=_person(fields),
        sex=_SEXES.get(_text(fields.get("gender")).upper()),
        ethnicity=_text(fields.get("race")).lower() or None,
        split=plan.split_of(fold),
        fold=fold,
        box=_box(fields),
    )


def _person(fields: dict[str, Any]) -> str | None:
    if _source(fields).startswith(_WITHOUT_PERSONS):
        return None
    return _text(fields.get("id_num")) or _text(fields.get("name")) or None


def _age(value: Any, *, unlabelled: bool) -> tuple[float | None, float | None, float | None]:
    """As ``parse_age``; -1 is the benchmark's unknown age."""
    written = _text(value)
    if written not in ("", "-1", "-1.0"):
        return parse_age(written)
    if unlabelled:
        return None, None, None
    raise BadLabel("no_age", "the age is unknown")


def _text(value: Any) -> str:
    """A value as text; empty for null and for the NaN that pandas writes for a missing one."""
    return "" if value is None else clean(str(value))


def _box(fields: dict[str, Any]) -> tuple[float, float, float, float] | None:
    """The face's box ``x, y, w, h`` from the corners A B C D (clockwise from the upper left, counted from 1)
    of the turned, aligned square, or of the owner's box where there is no aligned one.
    """
    corners = fields.get("aligned_bbox") or fields.get("bbox")
    if not corners:
        if "aligned_bbox" in fields:
            raise BadLabel("no_box", f"no face was found ({_text(fields.get('alignment_source'))[:40]})")
        return None
    if not isinstance(corners, list) or len(corners) != 8 or not all(_is_finite(value) for value in corners):
        raise BadLabel("bad_box", f"'{str(corners)[:60]}' are not four corners")
    xs, ys = corners[0::2], corners[1::2]
    side = math.dist(corners[0:2], corners[2:4])
    if side <= 0:
        raise BadLabel("bad_box", f"the square '{str(corners)[:60]}' has no area")
    if fields.get("aligned_bbox"):
        side *= _FACE_IN_SQUARE
    return sum(xs) / 4 - 1 - side / 2, sum(ys) / 4 - 1 - side / 2, side, side


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


SOURCE = Source(
    layout="BENCHMARK.yaml that names databases/<NAME>.json, or that .json; --images: where img_path starts",
    label_kind="real",
    licence="each database's own, mostly research only",
    identities="from id_num or name, where the database has them",
    read=read,
    turns=turns,
    notes=(
        "The column 'split' is the benchmark's first turn; its other turns are in 'turns'.",
        "The folds of its UTKFace are random, since that set has no identities, and those of its AFAD are by "
        "a number that is not a person's: neither is known to be subject-exclusive. Those of AgeDB and the "
        "others were checked by the benchmark's own scripts only: check them on the data.",
        "Ages of CLAP2016 are apparent, rounded means of votes: ingest it with --label-kind apparent.",
    ),
)
