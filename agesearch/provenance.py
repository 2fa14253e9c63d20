"""What every record says of its making: when, and with which versions of which packages."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version


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
