"""The real command line, from image files to an answer over HTTP, on a few faces of the embedded pack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from self_signed import self_signed

from agesearch.data.reading.demo_pack import demo_pack
from agesearch.deploy.integrity import SUMS
from agesearch.deploy.registry import Registry
from agesearch.machine import free_port

FACES = 120
#: The file of one of the two networks fits, that of the other (2.9 MB) does not.
SMALLER, MOST_BYTES = "mobilenetv3_small_050", 2_800_000
SPACE = {
    "trials": 3,
    "startup_trials": 2,
    "student": {
        "model": {"arch": "lcnet_050", "input_size": 48},
        "optim": {"epochs": 2, "batch_size": 16, "learning_rate": 0.004},
        "distill": {"label_sigma": 3.0},
    },
    "space": {
        "model.arch": {"choices": ["lcnet_050", SMALLER]},
        "distill.kd_weight": {"low": 0.3, "high": 3.0, "log": True},
    },
}


class House:
    """A folder in which the verbs are run, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "agesearch.cli.main", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, stdout=pipe, stderr=pipe, text=True)

    def run(self, *words: str, code: int = 0) -> str:
        """Standard output of a verb that ends with ``code``."""
        process = self.start(*words)
        printed, told = process.communicate(timeout=300)
        assert process.returncode == code, f"agesearch {' '.join(words)}:\n{printed}\n{told}"
        return printed if code == 0 else told

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json"))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    folder = tmp_path_factory.mktemp("house")
    rows = (demo_pack() / "shards").read_table(columns=["age", "image"]).slice(0, FACES).to_pylist()
    (folder / "photos").mkdir()
    lines = ["file,years,person"]
    for index, row in enumerate(rows):
        (folder / "photos" / f"{index}.jpg").write_bytes(row["image"])
        lines.append(f"{index}.jpg,{row['age']:.2f},person-{index}")
    lines.append("nowhere.jpg,30,person-x")
    (folder / "faces.csv").write_text("\n".join(lines) + "\n")
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE))
    return House(folder)


def test_from_files_to_an_answer(house: House) -> None:
    ingest = ["data", "ingest", "csv", "faces.csv", "--images", "photos", "--column", "age=years"]
    ingest += ["--column", "subject=person", "--detector", "none", "--out", "faces"]
    made = house.json(*ingest)
    assert made["is_new"]
    assert sum(made["manifest"]["counts"].values()) == FACES
    assert sum(made["manifest"]["left_out"].values()) == 1
    assert not house.json(*ingest)["is_new"]
    assert house.json("data", "inspect", "faces")

    teach = ["teach", "--data", "faces", "--arch", "mobilenetv3_small_050", "--input-size", "48"]
    house.run(*teach, "--epochs", "2", "--out", "teacher")
    house.run(
        *("tune", "space.yaml", "--data", "faces", "--teacher", "teacher", "--out", "study"),
        *("--max-bytes", str(MOST_BYTES), "--keep", "front"),
    )
    _leave_weights_of_the_front(house)
    house.run("report", "study", "--out", "report.html")
    page = (house.folder / "report.html").read_text()
    assert "<svg" in page
    assert 'src="http' not in page

    front = house.json("front", "study")
    assert front
    assert {row["name"].split("-")[1] for row in house.json("front", "study", "--all")} == {SMALLER}
    assert all(0 < row["file_bytes"] <= MOST_BYTES < 10 * row["session_bytes"] for row in front)
    calibrated = house.json("calibrate", "study", "--pick", "best", "--data", "faces", "--level", "0.6")
    assert calibrated["file"].endswith("calibration.json")
    house.run("publish", "study", "--pick", "best", "--name", "ages")
    answer = _served_answer(house)
    assert 0 <= answer["faces"][0]["age"] <= 100
    assert (answer["interval_kind"], answer["interval_level"]) == ("calibrated", 0.6)
    assert answer["faces"][0]["decision"] in ("pass", "refuse", "unsure")
    decided = house.json(
        "measure", "decisions", "ages", "--data", "faces", "--legal-age", "30", "--split", "all"
    )
    assert decided["models"][0]["interval_level"] == 0.6
    assert answer["model"]["name"] == "ages"


def _leave_weights_of_the_front(house: House) -> None:
    """As a longer study that is told to: no later verb may ask for those of dominated trials."""
    front = {row["number"] for row in house.json("front", "study")}
    for row in house.json("front", "study", "--all"):
        if row["number"] not in front:
            (house.folder / "study" / "trials" / f"{row['number']:04d}" / "weights.safetensors").unlink()


def _served_answer(house: House) -> Any:
    """Of the second version, which the service, over TLS, changed to while it ran."""
    port = free_port("127.0.0.1")
    (house.folder / "token").write_text("t" * 40)
    os.chmod(house.folder / "token", 0o600)
    self_signed(house.folder / "tls")
    where = ["--port", str(port), "--token-file", "token"]
    service = house.start("serve", "ages", *where, "--tls-cert", "tls/cert.pem", "--tls-key", "tls/key.pem")
    try:
        assert service.stdout is not None
        assert f"answers at https://127.0.0.1:{port}" in service.stdout.readline()
        reach = ["--url", f"https://127.0.0.1:{port}", "--token-file", "token"]
        ask = ["query", "photos/0.jpg", "--whole", "--challenge", "30", *reach]
        assert "certificate" in _one_line(house.run(*ask, code=2))
        _publish_again(house)
        assert f"now points to 0002.\nServices that follow it: {reach[1]}" in house.run(
            "promote", "ages", "2"
        )
        answers = house.json(*ask, "--ca", "tls/cert.pem")
        assert str(port) in _one_line(house.run("serve", "ages", *where, code=2))
    finally:
        service.send_signal(signal.SIGINT)
        service.communicate(timeout=60)
    assert service.returncode == 0
    assert answers[0]["model"]["version"] == "0002"
    return answers[0]


def _one_line(told: str) -> str:
    assert len(told.strip().splitlines()) == 1, told
    return told


def _publish_again(house: House) -> None:
    """The first version once more, as the second."""
    store = Registry(str(house.folder / "registry"))
    first = store.find("ages:1")
    files = {file.name: file.read_bytes() for file in first.folder.children() if file.name != SUMS}
    second = first.manifest().model_copy(update={"version": 2}).model_dump_json()
    with store.locked("ages"):
        store.add("ages", 2, {**files, "manifest.json": second.encode()})


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["data", "ingest", "csv", "none.csv", "--out", "d"], "none.csv"),
        (["data", "ingest", "csv", "empty.csv", "--out", "d"], "empty.csv"),
        (["data", "ingest", "cvs", "faces.csv", "--out", "d"], "Did you mean 'csv'?"),
        (["data", "inspect", "photos"], "dataset.json"),
        (["teach", "--data", "nowhere", "--arch", "lcnet_050", "--out", "t"], "nowhere"),
        (["teach", "--data", "faces", "--arch", "lcnet_05", "--out", "t"], "Did you mean 'lcnet_050'?"),
        (["tune", "none.yaml", "--data", "d", "--teacher", "t", "--out", "s"], "none.yaml"),
        (["tune", "space.yaml", "--data", "nowhere", "--teacher", "t", "--out", "s"], "nowhere"),
        (["resume", "nowhere"], "nowhere"),
        (["tune", "--resume", "nowhere"], "agesearch resume nowhere"),
        (["front", "nowhere"], "nowhere"),
        (["report", "nowhere"], "nowhere"),
        (["publish", "nowhere", "--name", "x"], "nowhere"),
        (["serve", "nobody"], "nobody"),
        (["serve", "portraits", "--tls-cert", "none.pem", "--tls-key", "none.pem"], "none.pem"),
        (["query", "none.jpg"], "none.jpg"),
        (["demo", "--out", "faces.csv"], "faces.csv"),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, list) else "",
)
def test_a_wrong_input_is_one_clear_line_and_exit_code_2(house: House, words: list[str], told: str) -> None:
    (house.folder / "empty.csv").write_text("")
    before = sorted(path.name for path in house.folder.iterdir())
    message = house.run(*words, code=2)
    *progress, error = message.strip().splitlines()
    assert error.startswith("error: ")
    assert told in error
    assert all(line.startswith(("survey: ", "starting (")) for line in progress)
    assert sorted(path.name for path in house.folder.iterdir()) == before, "something half-made stayed"
