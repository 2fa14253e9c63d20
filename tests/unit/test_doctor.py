"""``agesearch doctor``: every fault is found and says what to do; a sound machine has none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agesearch.cli.main import app
from agesearch.cluster.checkup import Finding, check_machine, compare_machines
from agesearch.cluster.facts import OPENCV, MachineFacts, PlaceFacts, machine_facts

_GIB = 1024**3
SOUND = MachineFacts(
    host="one",
    python="3.12.4",
    packages={"agesearch": "0.1.0", "torch": "2.15.0"},
    opencv={"opencv-python-headless": "5.0.0"},
    clock=1000.0,
    cores=4,
    memory_bytes=16 * _GIB,
    memory_free_bytes=8 * _GIB,
    shared_memory_bytes=8 * _GIB,
    open_files=65536,
    token_mode=0o600,
    token_in_environment=False,
    gpus=(),
    gpus_unseen=None,
    listening=(),
    places=(PlaceFacts("/tmp", None, None, 100 * _GIB),),
)


def _wrong(found: list[Finding]) -> list[tuple[str, str]]:
    assert all(finding.remedy for finding in found if finding.level == "fault")
    return [(finding.level, finding.about) for finding in found if finding.level != "good"]


def test_a_sound_machine_has_no_fault() -> None:
    assert _wrong(check_machine(SOUND)) == []
    assert _wrong(compare_machines(SOUND, SOUND, "two", 0.3)) == []


@pytest.mark.parametrize(
    ("change", "wrong", "says"),
    [
        ({"python": "3.10.2"}, ("fault", "Python"), "use Python 3.11 to 3.13"),
        (
            {"opencv": dict.fromkeys(OPENCV[:2], "5")},
            ("fault", "OpenCV"),
            "uninstall",
        ),
        ({"opencv": {}}, ("fault", "OpenCV"), "pip install opencv-python-headless"),
        ({"memory_free_bytes": _GIB}, ("fault", "memory"), "fewer trials"),
        ({"shared_memory_bytes": 64 * 1024**2}, ("note", "/dev/shm"), "--shm-size"),
        ({"open_files": 1024}, ("note", "open files"), "ulimit -n 4096"),
        ({"token_mode": 0o644}, ("fault", "token"), "chmod 600"),
        ({"token_mode": None}, ("note", "token"), "copy ~/.ray/auth_token"),
        ({"gpus_unseen": "a build of torch without CUDA"}, ("fault", "GPUs"), "CUDA build"),
        ({"listening": ("0.0.0.0:8265 (dashboard)",)}, ("note", "open ports"), "firewall"),
        (
            {"places": (PlaceFacts("s3://b", "denied", None, None),)},
            ("fault", "place"),
            "credentials",
        ),
        (
            {"places": (PlaceFacts("/d", None, "read-only", _GIB),)},
            ("note", "place"),
            "let this user write",
        ),
        ({"places": (PlaceFacts("/data", None, None, _GIB),)}, ("fault", "place"), "make room"),
    ],
)
def test_what_is_wrong_is_found_and_says_what_to_do(
    change: dict[str, object], wrong: tuple[str, str], says: str
) -> None:
    found = check_machine(replace(SOUND, **change))  # type: ignore[arg-type]
    assert _wrong(found) == [wrong]
    assert says in next(finding.remedy for finding in found if finding.level != "good")


def test_a_node_of_other_versions_or_another_time_is_named() -> None:
    other = replace(SOUND, python="3.13.0", packages={"agesearch": "0.1.0"})
    found = compare_machines(SOUND, other, "two (10.0.0.2)", -7.0)
    assert _wrong(found) == [("fault", "versions"), ("fault", "versions"), ("fault", "clock")]
    assert {finding.machine for finding in found} == {"two (10.0.0.2)"}
    assert [finding.says for finding in found] == [
        "Python is 3.13, and 3.12 here",
        "torch is not installed, and 2.15.0 here",
        "its clock is 7.0 s behind this machine's",
    ]


def test_a_place_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    facts = machine_facts([str(tmp_path), str(tmp_path / "file"), str(tmp_path / "absent")])
    folder, file, absent = facts.places[1:]
    assert folder.unread is folder.unwritten is None
    assert folder.free_bytes
    assert file.unread is file.unwritten is None
    assert absent.unread == "there is none"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_faults_are_counted_in_json_and_end_with_1(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["doctor", str(tmp_path / "absent"), "--json"])
    told = json.loads(done.stdout)
    faults = [finding for finding in told["findings"] if finding["level"] == "fault"]
    assert done.exit_code == 1
    assert told["faults"] == len(faults) >= 1
    assert any("absent' cannot be read: there is none" in finding["says"] for finding in faults)
    assert set(told["machines"]) == {"this machine"}
