"""What is published, served or reported names files, and no folder of the machine that made it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_study import write_measured, write_study
from published_sets import CROP, Brightness, write_set
from starlette.testclient import TestClient

from agesearch.artefacts import RUN, begin_run, own_run, with_weights
from agesearch.data.audit.check import CheckRecord
from agesearch.data.dataset.records import Manifest
from agesearch.deploy.publish import publish
from agesearch.distill.sorting import OrderFacts
from agesearch.measure.evaluate import Evaluation, evaluate
from agesearch.measure.files import write_record
from agesearch.measure.protocols import protocol_named
from agesearch.measure.teachers import TeacherFacts
from agesearch.models.folder import write_model
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import MANIFEST, ModelManifest
from agesearch.models.order_net import OrderManifest
from agesearch.models.zoo import build, untrained
from agesearch.provenance import without_places
from agesearch.reporting.datacard import write_datacard
from agesearch.reporting.report import build_report
from agesearch.search.front.latencies import picked
from agesearch.search.store.records import StudyFolder
from agesearch.serving.auth import TokenCheck
from agesearch.serving.estimator import AgeEstimator
from agesearch.serving.faces import FaceService
from agesearch.serving.images import ImageLimits
from agesearch.serving.web.routes import create_app
from agesearch.specs import ModelSpec, SharedRecord, TrainSpec
from agesearch.storage import Location
from agesearch.training.comparison.records import MethodComparison
from agesearch.training.protocols.finetune import Finetuning
from agesearch.training.protocols.matrix import Matrix

TOKEN = "a-token-of-enough-length"


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    """A measured study whose picked student started from a file; its records know where all of that lies."""
    rows = [{"age": 10.0 + index, "split": "val"} for index in range(5)]
    write_set(tmp_path / "faces", rows, "real")
    study = write_study(Location.of(tmp_path / "home" / "first"), trials=10)
    header = study.header()
    moved = {
        name: getattr(header, name).model_copy(update={"path": str(tmp_path / folder)})
        for name, folder in (("dataset", "faces"), ("teacher", "teacher"))
    }
    spec = header.spec.model_copy(update={"weights": {"lcnet_050": str(tmp_path / "nets" / "lcnet.pth")}})
    study.write_header(header.model_copy(update={**moved, "spec": spec}))
    reason = f"InputError: '{tmp_path}/nets/a b.pth' is damaged"
    study.write_trials([replace(record, reason=record.reason and reason) for record in study.trials()])
    model = ModelSpec(
        arch="lcnet_035", input_size=32, init="file", weights=str(tmp_path / "nets" / "lcnet.pth")
    )
    torch.manual_seed(0)
    net = build(untrained(model)).eval()
    for parameter in net.head.parameters():
        torch.nn.init.normal_(parameter, std=1.0)
    manifest = ModelManifest(
        kind="trial",
        model=model,
        crop=CROP,
        train=TrainSpec(model=model),
        provenance={"started_from": {"weights": model.weights, "tensors": 4}},
    )
    folder = study.trial_folder(picked(study))
    write_model(folder, net.state_dict(), manifest)
    write_measured(study)
    # As folders of earlier versions have it.
    document = json.loads((folder / MANIFEST).read_text())
    document["model"]["weights"] = document["train"]["model"]["weights"] = model.weights
    document["provenance"]["started_from"]["weights"] = model.weights
    (folder / MANIFEST).write_json(document)
    return study


def test_nothing_published_served_or_reported_names_a_folder_of_this_machine(
    study: StudyFolder, tmp_path: Path
) -> None:
    out = tmp_path / "shared"
    published = publish(study.root, "ages", str(out / "registry"))
    build_report(study, Location.of(out / "report.html"))
    write_datacard(tmp_path / "faces", out / "card.html")
    trial = study.trial_folder(picked(study))
    found = evaluate({"student": trial}, tmp_path / "faces", protocol_named("standard", split="val"))
    write_record(found.record, str(out / "evaluation.json"))
    manifest = published.version.manifest()
    write_model(Location.of(out / "teacher"), {"a": torch.zeros(1)}, read_model_manifest(trial))
    estimator = AgeEstimator(read_model_manifest(trial), Brightness(), _NoFaces())
    service = FaceService(estimator, ImageLimits())
    with TestClient(create_app(service, TokenCheck(TOKEN), ImageLimits())) as web:
        answer = web.get("/v1/model", headers={"Authorization": f"Bearer {TOKEN}"})
    (out / "model.json").write_text(answer.text)
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {
        "manifest.json", "card.md", "report.html", "card.html", "evaluation.json", "model.json",
    }  # fmt: skip
    for path in files:
        text = path.read_bytes()
        assert str(tmp_path).encode() not in text, path
        assert str(Path.home()).encode() + b"/" not in text, path
    assert manifest.model.weights == "lcnet.pth"
    assert answer.json()["train"]["model"]["weights"] == "lcnet.pth"
    page = (out / "report.html").read_text()
    assert "a b.pth&#39; is damaged" in page
    assert "--data faces --teacher teacher --out first" in page


@pytest.mark.parametrize(
    "record",
    [ModelManifest, OrderManifest, Manifest, Evaluation, Finetuning, Matrix, MethodComparison, TeacherFacts,
     OrderFacts, CheckRecord],
)  # fmt: skip
def test_records_that_others_read_leave_folders_out(record: type[Any]) -> None:
    assert issubclass(record, SharedRecord)


@pytest.mark.parametrize(
    ("told", "shared"),
    [
        ("/home/ada/nets/small.pth", "small.pth"),
        ("~/nets/small.pth", "small.pth"),
        ("file:///home/ada/nets", "nets"),
        ("s3://bucket/ada/nets?endpoint_override=http://10.0.0.7", "nets"),
        (r"C:\Users\ada\small.pth", "small.pth"),
        ("'/tmp/a b/x.png' and /srv/y.png.", "'x.png' and y.png."),
        ("--data /srv/faces --out '/srv/a b'", "--data faces --out 'a b'"),
        ("weights=/srv/nets/x.pth", "weights=x.pth"),
        ("studies/first", "studies/first"),
        ("CC BY 4.0, https://example.org/a/b", "CC BY 4.0, https://example.org/a/b"),
        ("and/or, 5 km/h, /", "and/or, 5 km/h, /"),
        ("/", "/"),
    ],
)
def test_a_place_is_told_by_its_name(told: str, shared: str) -> None:
    assert without_places({"a": [told, (told, 1.5)]}) == {"a": [shared, [shared, 1.5]]}


def test_a_run_is_known_by_its_weights_wherever_they_lie(tmp_path: Path) -> None:
    here, there = ({"weights": f"{tmp_path}/{place}/net.pth"} for place in ("a", "b"))
    out = Location.of(tmp_path / "teacher")
    begin_run(out, with_weights(here, "1" * 64))
    assert str(tmp_path) not in (out / RUN).read_text()
    assert own_run(out, "a teacher", with_weights(there, "1" * 64)) == {RUN}
    with pytest.raises(Exception, match="holds a teacher with other settings"):
        own_run(out, "a teacher", with_weights(here, "2" * 64))
    (out / RUN).write_json(here)  # as earlier versions wrote it: a path, and no digest
    assert own_run(out, "a teacher", with_weights(there, "1" * 64)) == {RUN}


class _NoFaces:
    name = "none"

    def detect(self, bgr: object, min_score: float) -> list[Any]:
        return []
