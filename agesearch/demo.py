"""The whole way on the faces that come with the package: teacher, search, report, registry, service, a query.

``run_demo`` calls the same functions as the verbs, in one Ray session, and leaves what they leave: a second
run in the same folder does only what is missing.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agesearch.artefacts import own_folder
from agesearch.data.dataset.records import Split, read_manifest
from agesearch.data.reading.demo_pack import asset, demo_pack
from agesearch.errors import AgeSearchError, ConflictError
from agesearch.progress import Listener, Progress
from agesearch.reporting.findings import Findings
from agesearch.search.store.events import EventListener, Outcome
from agesearch.search.store.records import StudyFolder
from agesearch.specs import StudySpec, TrainSpec, load_spec
from agesearch.storage import Location

MODEL_NAME = "demo"
_FACES = "faces"
TEACHER_SPEC = "demo-teacher.yaml"
STUDY_SPEC = "demo.yaml"
#: Faces that the served student is asked about: the ages in the middle of each third of the validation split.
QUERIES = 3


class DemoView(Protocol):
    """Whoever shows the demo: a heading a stage, and listeners for what happens inside it."""

    def stage(self, title: str, explanation: str) -> None: ...

    def progress(self) -> AbstractContextManager[Listener]: ...

    def study(self) -> AbstractContextManager[EventListener]: ...


@dataclass(frozen=True)
class Answer:
    """What the served student said of a face whose age is known; years. ``interval_level`` is the share of
    true ages that its intervals hold.
    """

    age: float
    predicted_age: float
    interval: tuple[float, float]
    interval_level: float | None


@dataclass(frozen=True)
class DemoResult:
    """What the demo left, what it found, and the seconds that each stage took."""

    folder: Path
    findings: Findings
    answers: list[Answer]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def faces(self) -> Path:
        return self.folder / _FACES

    @property
    def teacher(self) -> Path:
        return self.folder / "teacher"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def registry(self) -> Path:
        return self.folder / "registry"


def run_demo(out: str | Path, view: DemoView) -> DemoResult:
    """Run every stage into the folder ``out``; at most five minutes on 2 cores.

    Raises ``InputError`` where the folder cannot be made, and whatever a stage raises.
    """
    from agesearch.session import ray_session

    folder = Location.of(out)
    folder.local()
    _require_own(folder)
    folder.make_dir()
    seconds: dict[str, float] = {}
    with ExitStack() as stack:
        with view.progress() as on_progress:
            session = stack.enter_context(ray_session(dashboard=True, on_progress=on_progress))
        with _stage(view, seconds, "faces", "procedural faces with exactly known ages, from the package"):
            _copy_pack(folder / _FACES, view)
        note = f"; Ray dashboard: {session.dashboard_url}" if session.dashboard_url else ""
        with _stage(view, seconds, "teacher", "a network too large for its budget learns the ages"):
            _teach(folder, view)
        with _stage(view, seconds, "search", f"small students learn from the teacher, two at a time{note}"):
            _search(folder, view)
        with _stage(view, seconds, "report", "speed side by side, accuracy, robustness, honest intervals"):
            findings = _report(folder, view)
        with _stage(view, seconds, "service", "the picked student is published and answers over HTTP"):
            answers = _ask(folder, view)
    return DemoResult(folder.local(), findings, answers, seconds)


def _require_own(folder: Location) -> None:
    """A ``ConflictError`` where the folder holds other things than a demo, whose faces are the package's."""
    names = own_folder(folder, "a demo", (_FACES,))
    if names and read_manifest(folder / _FACES).content_digest != read_manifest(demo_pack()).content_digest:
        raise ConflictError(f"'{folder / _FACES}' holds other faces than the demo's: choose another --out.")


@contextmanager
def _stage(view: DemoView, seconds: dict[str, float], title: str, explanation: str) -> Iterator[None]:
    view.stage(title, explanation)
    start = time.monotonic()
    yield
    seconds[title] = time.monotonic() - start


def _copy_pack(faces: Location, view: DemoView) -> None:
    """The pack lies inside the installation, which may be read-only; targets are written beside a dataset."""
    pack = demo_pack()
    total = read_manifest(pack).faces
    if not faces.exists():
        with faces.staged() as temporary:
            shutil.copytree(pack.local(), temporary.local(), ignore=shutil.ignore_patterns(".*"))
    with view.progress() as on_progress:
        on_progress(Progress("faces", read_manifest(faces).faces, total))


def _spec_file(name: str) -> str:
    return str(asset(name))


def _teach(folder: Location, view: DemoView) -> None:
    from agesearch.training.teach import teach

    with view.progress() as on_progress:
        spec = load_spec(TrainSpec, _spec_file(TEACHER_SPEC))
        teach(spec, folder / _FACES, folder / "teacher", on_progress=on_progress)


def _search(folder: Location, view: DemoView) -> None:
    from agesearch.search.run.study import resume_study, run_study

    study = StudyFolder(folder / "study")
    with view.study() as on_event:
        if study.exists():
            result = resume_study(study.root, on_event=on_event)
        else:
            spec = load_spec(StudySpec, _spec_file(STUDY_SPEC))
            result = run_study(spec, folder / _FACES, folder / "teacher", study.root, on_event=on_event)
    if result.outcome is Outcome.INTERRUPTED:
        raise KeyboardInterrupt
    if not result.front:
        reasons = sorted({record.reason for record in result.records})
        raise AgeSearchError(f"No student of '{study.root}' was trained to its end: {'; '.join(reasons)}")


def _report(folder: Location, view: DemoView) -> Findings:
    from agesearch.reporting.findings import read_findings
    from agesearch.reporting.report import build_report
    from agesearch.search.front.latencies import picked
    from agesearch.search.front.measure import measure_study

    study = StudyFolder(folder / "study")
    with view.progress() as on_progress:
        measure_study(study, on_progress=on_progress)
        _calibrate(study.trial_folder(picked(study)), folder / _FACES, on_progress)
    build_report(study, folder / "report.html")
    return read_findings(study)


def _ask(folder: Location, view: DemoView) -> list[Answer]:
    from agesearch.deploy.publish import publish
    from agesearch.serving.app import ServiceOptions, serving
    from agesearch.serving.client import Client

    token = secrets.token_urlsafe(32)
    options = ServiceOptions(port=0)
    answers = []
    with ExitStack() as stack:
        with view.progress() as on_progress:
            published = publish(folder / "study", MODEL_NAME, folder / "registry", on_progress=on_progress)
            on_progress(Progress("Starting the service", 0, 1))
            service = stack.enter_context(serving(published.version.folder, token, options))
            on_progress(Progress("Starting the service", 1, 1))
        client = stack.enter_context(Client(service.url, token))
        for age, image in _known_faces(folder / _FACES):
            answer = client.predict(image, faces="whole")
            face = answer.faces[0]
            answers.append(Answer(age, face.age, face.interval, answer.interval_level))
    return answers


def _calibrate(student: Location, faces: Location, on_progress: Listener) -> None:
    """Honest intervals from the test faces, which chose nothing; once, like every other stage."""
    from agesearch.deploy.calibration import calibrate_model
    from agesearch.measure.calibration.run import CalibrationSpec
    from agesearch.models.manifest import folder_calibration

    if folder_calibration(student) is None:
        calibrate_model(student, faces, CalibrationSpec(), on_progress=on_progress)


def _known_faces(dataset: Location) -> list[tuple[float, bytes]]:
    """Age and encoded crop of ``QUERIES`` validation faces, young to old."""
    rows = (dataset / "shards").read_table(columns=["age", "image", "split"]).to_pylist()
    ranked = sorted((row["age"], row["image"]) for row in rows if row["split"] == Split.VAL)
    return [ranked[len(ranked) * (2 * part + 1) // (2 * QUERIES)] for part in range(QUERIES)]
