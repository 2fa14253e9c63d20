"""A folder that another run took between the look at it and the hold on it is left to that run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from agesearch import artefacts
from agesearch.errors import ConflictError
from agesearch.search.view import rerun
from agesearch.storage import Location
from agesearch.training.protocols import finetune


def others_come_first(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
    """As if another run had begun and ended just before this one gets hold of the folder."""
    real = module.exclusive

    @contextmanager
    def late(folder: Location, what: str) -> Iterator[None]:
        (folder / artefacts.RUN).write_json({"theirs": 1})
        with real(folder, what):
            yield

    monkeypatch.setattr(module, "exclusive", late)


@pytest.mark.parametrize(
    ("module", "hold"),
    [
        (finetune, lambda place: finetune.run_folder(place, {"ours": 1}, "fine-tuning")),
        (rerun, rerun._new_folder),
    ],
    ids=["fine-tuning", "rerun"],
)
def test_who_comes_second_leaves_the_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, hold: object
) -> None:
    place = Location.of(tmp_path / "out")
    others_come_first(monkeypatch, module)
    held: AbstractContextManager[None] = hold(place)  # type: ignore[operator]
    with pytest.raises(ConflictError, match="choose another --out"), held:
        pytest.fail("two runs in one folder")
    assert (place / artefacts.RUN).read_json() == {"theirs": 1}


def test_a_rerun_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    place = Location.of(tmp_path / "out")

    def interrupted() -> None:
        with rerun._new_folder(place):
            (place / "spec.json").write_json({})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not place.exists()
