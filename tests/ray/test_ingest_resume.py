"""An ingest whose driver was killed goes on; a worker that dies costs one image."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ingest_helpers import Source, content
from PIL import Image

from agesearch.data.dataset.records import MANIFEST
from agesearch.data.images import detectors
from agesearch.data.ingest import work_unit as units
from agesearch.data.ingest import workers
from agesearch.data.ingest.run import ingest
from agesearch.errors import AgeSearchError
from agesearch.progress import Progress
from agesearch.specs import CropSpec
from agesearch.storage import Location

DRIVER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from ingest_helpers import Source
from agesearch.data.ingest import run as module
from agesearch.errors import AgeSearchError

source = Source(Path({root!r}))
try:
    module.ingest(
        source.spec(), {out!r},
        on_progress=lambda update: print(update.stage, update.done, flush=True),
    )
except AgeSearchError as error:
    print(error, flush=True)
    sys.exit(error.exit_code)
"""


def many_faces(root: Path, faces: int = 160) -> Source:
    """Ten units of work."""
    source = Source(root)
    for index in range(faces):
        source.add(f"{index}.png", index % 90, f"s{index // 3}", shade=index % 150)
    source.write()
    return source


def cut_by(signum: int, root: Path, out: Path) -> tuple[str, int]:
    """Ingest in a process of its own and cut it when some records are done; its last line and exit code."""
    code = DRIVER.format(tests=str(Path(__file__).parents[1]), root=str(root), out=str(out))
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    lines = []
    for line in driver.stdout:
        lines.append(line.strip())
        stage, _, done = line.partition(" ")
        if stage == "ingest" and int(done) >= 32:
            os.kill(driver.pid, signum)
            break
    lines += [line.strip() for line in driver.stdout]
    return lines[-1], driver.wait(timeout=60)


def resumed_records(source: Source, out: Path) -> int:
    """Go on with a cut run; how many records it did not have to do again."""
    seen: list[Progress] = []
    ingest(source.spec(), out, on_progress=seen.append)
    began = next(update for update in seen if update.stage == "ingest")
    assert f"{began.done} done by the run before" in began.note
    ingest(source.spec(), out.with_name("fresh"))
    assert content(out) == content(out.with_name("fresh"))
    assert not (out / ".staging").exists()
    return began.done


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, Path]:
    """Faces, and what a killed run of them left behind."""
    root = tmp_path_factory.mktemp("killed")
    source = many_faces(root)
    cut_by(signal.SIGKILL, root, root / "ds")
    assert not (root / "ds" / MANIFEST).exists()
    return source, root / "ds"


@pytest.mark.usefixtures("ray_local")
def test_a_killed_run_goes_on(killed: tuple[Source, Path], tmp_path: Path) -> None:
    source, left = killed
    shutil.copytree(left, tmp_path / "ds")
    assert resumed_records(source, tmp_path / "ds") >= 32


@pytest.mark.usefixtures("ray_local")
def test_ctrl_c_says_what_is_kept(tmp_path: Path) -> None:
    source = many_faces(tmp_path)
    line, code = cut_by(signal.SIGINT, tmp_path, tmp_path / "ds")
    assert code == 130
    assert "of 160 records" in line
    assert "The same command goes on" in line
    assert resumed_records(source, tmp_path / "ds") >= 32


@pytest.mark.usefixtures("ray_local")
def test_another_recipe_discards_what_was_staged(killed: tuple[Source, Path], tmp_path: Path) -> None:
    source, left = killed
    shutil.copytree(left, tmp_path / "ds")
    seen: list[Progress] = []
    other = source.spec(crop=CropSpec(detector="none", size=40))
    ingest(other, tmp_path / "ds", on_progress=seen.append)
    assert next(update for update in seen if update.stage == "ingest").done == 0
    ingest(other, tmp_path / "fresh")
    assert content(tmp_path / "ds") == content(tmp_path / "fresh")


class Deadly(detectors.WholeImage):
    """Takes the worker down on images whose first pixel is the mark."""

    MARK = (1, 2, 3)

    def detect(self, bgr: object, min_score: float) -> list[detectors.Detection]:
        if tuple(int(value) for value in bgr[0, 0]) == self.MARK[::-1]:  # type: ignore[index]
            os.kill(os.getpid(), signal.SIGKILL)
        return super().detect(bgr, min_score)  # type: ignore[arg-type]


@pytest.fixture
def deadly(ray_local: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A detector ``none`` that kills, here and in the workers (each unit carries it there)."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    process_unit = workers.process_unit

    def armed(work: object, context: object) -> object:
        detectors.DETECTORS["none"] = Deadly
        units._detector.cache_clear()
        try:
            return process_unit(work, context)  # type: ignore[arg-type]
        finally:
            detectors.DETECTORS["none"] = detectors.WholeImage
            units._detector.cache_clear()

    cloudpickle.register_pickle_by_value(workers)
    monkeypatch.setattr(workers, "process_unit", armed)
    yield
    cloudpickle.unregister_pickle_by_value(workers)


def _mark(path: Path) -> None:
    pixels = np.array(Image.open(path).convert("RGB"))
    pixels[0, 0] = Deadly.MARK
    Image.fromarray(pixels).save(path)


@pytest.mark.usefixtures("deadly")
def test_an_image_that_kills_its_worker_is_quarantined_and_the_rest_goes_on(tmp_path: Path) -> None:
    source = many_faces(tmp_path, 40)
    for name in ("3.png", "21.png"):
        _mark(tmp_path / "images" / name)
    done = ingest(source.spec(), tmp_path / "ds")
    assert done.manifest.left_out == {"crashed_worker": 2}
    assert done.manifest.faces == 38
    rows = Location.of(tmp_path / "ds" / "quarantine.parquet").read_table().to_pylist()
    assert [Path(row["path"]).name for row in rows] == ["3.png", "21.png"]


@pytest.mark.usefixtures("deadly")
def test_a_detector_that_kills_on_everything_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_MOST_CRASHES", 1)
    source = many_faces(tmp_path, 4)
    for path in (tmp_path / "images").iterdir():
        _mark(path)
    with pytest.raises(AgeSearchError, match="took their worker down"):
        ingest(source.spec(), tmp_path / "ds")
