"""What of a command line a job on another machine has: words that name files and folders of this one.

Small files of settings travel with the job. Every other place is named by its full path or URI, which the
cluster must see, too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from agesearch.errors import InputError

#: Files that say what to do, not what to work on.
_SETTINGS = (".yaml", ".yml", ".json", ".toml")
_MOST_BYTES = 1_000_000
#: Where files of settings lie in the job's folder.
FILES = "files"
_PACKAGE = "agesearch"
_UNWANTED = shutil.ignore_patterns("__pycache__", "*.pyc")


class Parcel:
    """A folder that is sent with a job: settings, and agesearch itself where it is not the cluster's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sent: dict[Path, str] = {}

    @property
    def folder(self) -> str:
        """Where it is put together."""
        return str(self._folder)

    @property
    def is_empty(self) -> bool:
        return not any(self._folder.iterdir())

    def add_code(self, source: str) -> None:
        """Send the package ``agesearch`` that lies in the folder ``source``, and nothing else of that."""
        package = Path(source).expanduser() / _PACKAGE
        if not (package / "__init__.py").is_file():
            raise InputError(f"--code '{source}' holds no folder 'agesearch' with its modules.")
        shutil.copytree(package, self._folder / _PACKAGE, ignore=_UNWANTED)

    def told(self, word: str, *, is_output: bool = False) -> str:
        """How a job is told of what ``word`` names here: a name stays, a place gets its full path, and a file
        of settings is taken along. ``InputError`` where a URI carries a secret, which all would read.
        """
        if "://" in word:
            if "@" in urlsplit(word.partition("=")[2] if _is_pair(word) else word).netloc:
                raise InputError(
                    "A URI with a password would stand in the cluster's list of jobs: leave it out, and give "
                    "the cluster's nodes the credentials (environment, role, ~/.aws)."
                )
            return word
        if _is_pair(word):  # mlflow=FOLDER
            name, _, place = word.partition("=")
            return f"{name}={os.path.abspath(os.path.expanduser(place))}"
        path = Path(word).expanduser()
        if is_output or (path.exists() and not _is_settings(path)) or _is_way(word, path):
            return os.path.abspath(path)
        if path.suffix.lower() in _SETTINGS and not path.exists():
            raise InputError(f"There is no file '{word}' here to send along with the job.")
        return self._taken_along(path) if path.is_file() else word

    def _taken_along(self, path: Path) -> str:
        path = path.resolve()
        if path not in self._sent:
            taken = set(self._sent.values())
            names = [path.name, *(f"{count}-{path.name}" for count in range(2, len(taken) + 3))]
            self._sent[path] = next(name for name in names if f"{FILES}/{name}" not in taken)
            self._sent[path] = f"{FILES}/{self._sent[path]}"
            (self._folder / FILES).mkdir(exist_ok=True)
            shutil.copyfile(path, self._folder / self._sent[path])
        return self._sent[path]


@contextmanager
def parcel() -> Iterator[Parcel]:
    """A parcel, and its folder for as long as the block lasts."""
    with TemporaryDirectory(prefix="agesearch-job-") as folder:
        yield Parcel(Path(folder))


def _is_settings(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in _SETTINGS and path.stat().st_size <= _MOST_BYTES


def _is_way(word: str, path: Path) -> bool:
    """Whether a word can only mean a path, though nothing lies there (yet)."""
    return not path.exists() and word.startswith(("/", "./", "../", "~"))


def _is_pair(word: str) -> bool:
    """Whether a word says NAME=PLACE, as loggers are given."""
    name, sign, _ = word.partition("=")
    return bool(sign) and name.isidentifier()
