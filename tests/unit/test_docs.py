"""What documents and messages say holds: links resolve, commands exist with their options, and the map of
CONTRIBUTING names every module.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from agesearch.cli.main import app
from agesearch.data.sources import SOURCES

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part == "build" for part in path.relative_to(ROOT).parts)
)
README_LINES = 110

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_SPAN = re.compile(r"(?<!`)`(agesearch [^`]+)`(?!`)")
_QUOTED = re.compile(r"'(agesearch [^']+)'|Example: (agesearch .+)")
_PATH = re.compile(r"`((?:agesearch|tests|reports|search_spaces|cluster)/[\w./-]*)`")
_VERBS: Any = get_command(app)
#: Typer's own click is private to it; what parses wrongly raises this.
UsageError: Any = typer.BadParameter.__base__


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(document: Path) -> set[str]:
    """The names under which a document's headings can be reached, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_links_and_paths_resolve(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for link in _LINK.findall(text):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{ids(document)} links to {link}, which is not there"
        if anchor:
            assert anchor in anchors(target), f"{ids(document)} links to {link}, but no heading is called so"
    for path in _PATH.findall(text):
        assert (ROOT / path).exists(), f"{ids(document)} names {path}, which is not there"


def in_blocks(text: str) -> Iterator[str]:
    """The lines of code blocks, fenced or indented, with continued lines joined."""
    fenced = False
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()


def in_document(document: Path) -> Iterator[str]:
    text = document.read_text(encoding="utf-8")
    for line in in_blocks(text):
        command = re.sub(r"^(?:# +|[A-Z_]+=\S+ +)+", "", line)
        if command.startswith("agesearch "):
            yield command
    for span in _SPAN.findall(text):
        yield " ".join(span.split())


def in_space(file: Path) -> Iterator[str]:
    for line in file.read_text(encoding="utf-8").splitlines():
        command = line.lstrip("# ")
        if line.startswith("#") and command.startswith("agesearch "):
            yield command


def in_source(file: Path) -> Iterator[str]:
    """Commands that messages and examples quote; what a message fills in becomes a word."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
            text = "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = " ".join(node.value.split())
        else:
            continue
        for quoted, example in _QUOTED.findall(text):
            yield quoted or example


def refuse_unknown(command: str) -> None:
    """Raises ``UsageError`` for a verb or an option that the command line does not have."""
    words = shlex.split(command.replace("...", " "), comments=True)[1:]
    verb = _VERBS
    while hasattr(verb, "commands") and words and not words[0].startswith("-"):
        if words[0] not in verb.commands:
            if not hasattr(verb, "default"):
                raise UsageError(f"there is no verb '{words[0]}'")
            words = [verb.default, *words]
        verb, words = verb.commands[words[0]], words[1:]
    context = verb.context_class(verb, info_name=verb.name, **verb.context_settings)
    given, left, _ = verb.make_parser(context).parse_args(words)
    if left and not hasattr(verb, "commands"):
        raise UsageError(f"{left} are too many")
    if context.ignore_unknown_options:  # they are those of the verb that is submitted
        refuse_unknown(shlex.join(["agesearch", *(given["words"] or [])]))


SPACES = sorted((ROOT / "search_spaces").rglob("*.yaml"))
MODULES = sorted((ROOT / "agesearch").rglob("*.py"))


@pytest.mark.parametrize(
    ("files", "commands_of", "least"),
    [(DOCUMENTS, in_document, 60), (SPACES, in_space, 6), (MODULES, in_source, 60)],
    ids=["documents", "spaces", "messages"],
)
def test_every_command_shown_exists(files: list[Path], commands_of: Any, least: int) -> None:
    wrong, seen = [], 0
    for file in files:
        for command in commands_of(file):
            seen += 1
            try:
                refuse_unknown(command)
            except (UsageError, ValueError) as error:
                wrong.append(f"{ids(file)}: {command}: {getattr(error, 'message', error)}")
    assert not wrong, "\n".join(wrong)
    assert seen >= least


@pytest.mark.parametrize(
    "command",
    ["agesearch tuen x", "agesearch tune --trails 3", "agesearch models a b c", "agesearch data lst"],
)
def test_what_does_not_exist_is_found(command: str) -> None:
    with pytest.raises(UsageError):
        refuse_unknown(command)


def test_the_readme_fits_on_two_screens() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


def the_map() -> dict[str, set[str]]:
    """The modules that CONTRIBUTING names, by the package that their heading names."""
    named: dict[str, set[str]] = {}
    package = ""
    for line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            title = line.lstrip("# ")
            package = title if re.fullmatch(r"[a-z/]+", title) else ""
        elif line.startswith("- `"):
            names = re.findall(r"`(\w+)`", line.partition(":")[0])
            named.setdefault(package, set()).update(names)
    return named


def rows_of_tables() -> dict[str, set[str]]:
    """Files that are not spelled out: readers and verbs, each in a file of its own name."""
    verbs = dict(_VERBS.commands)
    for verb in _VERBS.commands.values():
        verbs |= getattr(verb, "commands", {})
    readers = {row.read.__module__.rpartition(".")[2] for row in SOURCES.values()}
    return {"cli": {name.replace("-", "_") for name in verbs}, "data/sources": readers}


def test_the_map_names_every_module_and_no_other() -> None:
    there: dict[str, set[str]] = {}
    for file in MODULES:
        package = str(file.parent.relative_to(ROOT / "agesearch")).removeprefix(".")
        if file.stem != "__init__":
            there.setdefault(package, set()).add(file.stem)
    named, rows = the_map(), rows_of_tables()
    unnamed = {
        package: modules - named.get(package, set()) - rows.get(package, set())
        for package, modules in there.items()
    }
    missing = {package: modules for package, modules in unnamed.items() if modules}
    assert not missing, f"give each a line in CONTRIBUTING's map: {missing}"
    gone = {
        package: modules - there.get(package, set())
        for package, modules in named.items()
        if modules - there.get(package, set())
    }
    assert not gone, f"CONTRIBUTING's map names what is gone: {gone}"
