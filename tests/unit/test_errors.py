"""What the messages of errors are made of."""

import shlex

import pytest

from agesearch.errors import command, first_line
from agesearch.storage import Location


@pytest.mark.parametrize("path", ["runs/a", "my study", "it's", "a;b", "$HOME", "s3://b/k?x=1&y=2", "*", ""])
def test_a_suggested_command_can_be_pasted(path: str) -> None:
    line = command("report", path, "--out", "x.html")
    assert shlex.split(line) == ["agesearch", "report", path, "--out", "x.html"]


def test_plain_words_and_locations_are_written_as_they_are() -> None:
    assert command("resume", Location.of("/runs/a")) == "agesearch resume /runs/a"
    assert command("tune", "SPACE.yaml", "--trials", 3) == "agesearch tune SPACE.yaml --trials 3"


@pytest.mark.parametrize(
    ("said", "line"), [("one\ntwo", "one"), ("\n \ntwo", "two"), ("", "ValueError"), ("\n", "ValueError")]
)
def test_the_first_line_of_an_error_says_something(said: str, line: str) -> None:
    assert first_line(ValueError(said)) == line
