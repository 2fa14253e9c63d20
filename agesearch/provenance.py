"""What every record says of its making: when, with which versions of which packages, and from which files.

A record that others will read names files, and says nothing of where they lay on the machine that made it
(``without_places``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

#: The version of this package, as ``pyproject.toml`` has it.
VERSION = "0.1.0"


def now() -> str:
    """The time as records keep it: UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def installed(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are installed (another build of one may stand in for it)."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


#: How an absolute path starts: at a root, a home, a Windows drive, or as a URI of files and object stores.
_START = r"(?:(?:file|s3|gs|gcs)://|~\w*[/\\]|[A-Za-z]:[/\\]|/(?!/))"
_WHOLE = re.compile(rf"{_START}[^\n]*")
_QUOTED = re.compile(rf"(['\"]){_START}[^'\"\n]*\1")
#: A path within words has a folder at least ("and/or" and "km/h" have none); no address of the web matches.
_AMONG_WORDS = re.compile(rf"(?<![\w.~/\\-]){_START}[^\s'\"<>|,;/\\]+[/\\][^\s'\"<>|,;]*[^\s'\"<>|,;:.!?)\]]")


def without_places(value: Any) -> Any:
    """The value (JSON: mappings, lists, text, numbers) with the name alone of every file and folder that it
    names by an absolute path or the URI of an object store, also within a sentence.

    >>> without_places({"weights": "/home/ada/nets/small.pth", "why": "'/tmp/a b/x.png' is damaged."})
    {'weights': 'small.pth', 'why': "'x.png' is damaged."}
    """
    if isinstance(value, str):
        return _named(value)
    if isinstance(value, Mapping):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    return value


def name_of(place: str) -> str:
    """The last part of a path or URI, without the options of a URI; a place without a name is told as it
    is.
    """
    address = place.partition("?")[0] if "://" in place else place
    return re.split(r"[/\\]", address.rstrip("/\\"))[-1] or place


def _named(text: str) -> str:
    if "/" not in text and "\\" not in text:
        return text
    if _WHOLE.fullmatch(text) and "'" not in text:
        return name_of(text)
    quoted = _QUOTED.sub(lambda found: f"{found[1]}{name_of(found[0][1:-1])}{found[1]}", text)
    return _AMONG_WORDS.sub(lambda found: name_of(found[0]), quoted)
