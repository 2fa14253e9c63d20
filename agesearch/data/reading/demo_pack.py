"""The pack of synthetic faces that ships with agesearch, so that a demo renders nothing."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from agesearch.data.dataset.records import MANIFEST
from agesearch.errors import InputError
from agesearch.storage import Location

PACK = "synthetic-faces"


def asset(name: str) -> Path:
    """The path of a file or folder that ships inside the package."""
    return Path(str(files("agesearch"))) / "assets" / name


def demo_pack() -> Location:
    """The dataset folder of about 1,500 rendered faces (112 px, ages 1 to 90) inside the package.

    It was made by ``agesearch data synth``; ``dataset.json`` holds the digest of its spec. Raises
    ``InputError`` where the installation lacks it.
    """
    folder = asset(PACK)
    if not (folder / MANIFEST).is_file():
        raise InputError(
            f"This installation has no demo faces in '{folder}': install agesearch again, or make some with "
            "'agesearch data synth'."
        )
    return Location.of(folder)
