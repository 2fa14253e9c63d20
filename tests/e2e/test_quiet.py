"""Nothing that libraries write reaches the terminal or standard output; a verb that fails names their log."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agesearch.cli.common import err, out, print_json
from agesearch.cli.quiet import libraries_into, new_log
from agesearch.errors import AgeSearchError, InputError

#: The command line with a verb that writes as libraries do, and then does what it is told.
SCRIPT = """
import logging, os, subprocess, sys, time, warnings
from agesearch.cli import main
from agesearch.cli.common import print_json, say
from agesearch.errors import AgeSearchError

@main.app.command()
def noisy(what: str):
    logging.warning("noise of logging")
    warnings.warn("noise of warnings")
    print("noise of print")
    print("noise of print", file=sys.stderr)
    os.write(1, b"noise of native code\\n")
    os.write(2, b"noise of native code\\n")
    subprocess.run(["sh", "-c", "echo noise of a child; echo noise of a child >&2"])
    print_json({"ours": 1})
    if what == "fail":
        raise AgeSearchError("It did not work.")
    if what == "vanish":
        os._exit(1)  # as Ray's native code does where its node dies
    if what == "wait":
        say("waiting")
        time.sleep(60)

main._ORDER.append("noisy")
main.run()
"""


def started(tmp_path: Path, what: str, *before: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *before, "noisy", what],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
    )


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("succeed", 0, ""),
        ("fail", 1, "error: It did not work.\n"),
    ],
)
def test_the_terminal_is_ours(tmp_path: Path, what: str, code: int, said: str) -> None:
    child = started(tmp_path, what)
    printed, told = child.communicate(timeout=60)
    assert json.loads(printed) == {"ours": 1}
    assert "noise" not in told
    assert told.startswith(said)
    assert child.returncode == code
    logs = list((tmp_path / "agesearch/logs").iterdir())
    if code != 1:
        assert told == said
        assert logs == []
    else:
        assert str(logs[0]) in told
        assert logs[0].read_text().count("noise of") == 8


@pytest.mark.parametrize(("what", "code"), [("succeed", 0), ("fail", 1)])
def test_debugging_keeps_standard_output_for_the_document(tmp_path: Path, what: str, code: int) -> None:
    child = started(tmp_path, what, "--debug")
    printed, told = child.communicate(timeout=60)
    assert json.loads(printed) == {"ours": 1}
    assert told.count("noise of") >= 8  # and a warning's own line of source
    assert ("Traceback" in told) == (child.returncode == 1) == bool(code)
    assert not (tmp_path / "agesearch").exists()


def test_a_process_that_a_library_ends_names_its_log(tmp_path: Path) -> None:
    child = started(tmp_path, "vanish")
    _, told = child.communicate(timeout=60)
    assert child.returncode == 1
    log = next((tmp_path / "agesearch/logs").iterdir())
    assert told.startswith("error: The run was ended from outside, or by a library")
    assert told.endswith(f"What libraries wrote is in {log}\n")
    assert "noise of native code" in log.read_text()


def test_sigterm_ends_a_verb_as_ctrl_c_does(tmp_path: Path) -> None:
    child = started(tmp_path, "wait")
    assert child.stderr is not None
    assert child.stderr.readline() == "waiting\n"
    child.send_signal(signal.SIGTERM)
    _, told = child.communicate(timeout=30)
    assert told.endswith("Stopped.\n")
    assert child.returncode == 130


def test_our_consoles_write_where_they_wrote_before(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    with libraries_into(log):
        os.write(2, b"noise\n")
        out.print("ours")
        print_json([1])
        err.print("also ours")
    assert capfd.readouterr() == ("ours\n[\n  1\n]\n", "also ours\n")
    assert not log.exists()
    out.print("after")
    os.write(1, b"after too\n")
    assert capfd.readouterr().out == "after\nafter too\n"
    with pytest.raises(AgeSearchError) as caught, libraries_into(log):
        raise AgeSearchError("nothing was written")
    assert not hasattr(caught.value, "__notes__")  # an empty log is not worth a line


def test_the_log_of_a_wrong_input_is_nobodys_business(tmp_path: Path) -> None:
    def refuse() -> None:
        with libraries_into(tmp_path / "log"):
            os.write(1, b"noise\n")
            raise InputError("the user's")

    with pytest.raises(InputError):
        refuse()
    assert not (tmp_path / "log").exists()


def test_where_no_cache_can_be_written_the_log_is_a_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert new_log().parent == tmp_path


def test_consoles_follow_standard_output_again_after_a_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with libraries_into(tmp_path / "log"):
        pass
    later = io.StringIO()
    monkeypatch.setattr("sys.stdout", later)
    out.print("heard")
    assert later.getvalue() == "heard\n"
