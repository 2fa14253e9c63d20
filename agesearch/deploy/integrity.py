"""Whether a version is what was published: its files, their sums, its name and number.

``SHA256SUMS`` is the usual file of that name: loading checks it, and so does ``sha256sum -c``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from agesearch.errors import InputError
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import MANIFEST, ModelManifest
from agesearch.storage import Location

#: The folder of a model's versions in a registry.
VERSIONS = "versions"
SUMS = "SHA256SUMS"
#: Lies beside a version's files where it was signed; made later than its sums.
SIGNATURE = "model.sig"

_BLOCK_BYTES = 1024 * 1024


def verify(folder: Location) -> None:
    """Check a version: that its files are those of ``SHA256SUMS``, all of them and none else, unchanged and
    no links; and that its manifest says the same of them, and the name and number of its folders. An
    ``InputError`` names what differs.
    """
    _refuse_links(folder)
    sums = dict(
        line.split("  ", 1)[::-1] for line in (folder / SUMS).read_text().splitlines() if "  " in line
    )
    if MANIFEST not in sums or any("/" in name for name in sums):
        raise InputError(f"'{folder / SUMS}' is damaged: it does not list the version's files.")
    for name, digest in sums.items():
        if not (folder / name).exists():
            raise InputError(f"'{folder}' is damaged: its file '{name}' is missing.")
        if _digest_of_file(folder / name) != digest:
            raise InputError(
                f"'{folder / name}' was changed after it was published (its SHA-256 is not the one in "
                f"{SUMS}): use another version, or publish again."
            )
    unlisted = sorted({child.name for child in folder.children()} - sums.keys() - {SUMS, SIGNATURE})
    if unlisted:
        raise InputError(f"'{folder / unlisted[0]}' is none of the version's files: {SUMS} does not list it.")
    _check_manifest(folder, sums)


def _refuse_links(folder: Location) -> None:
    if not folder.is_local:
        return
    for file in (folder.local(), *folder.local().iterdir()):
        if file.is_symlink():
            raise InputError(f"'{file}' is a symbolic link: what a version holds must lie in its own folder.")


def _check_manifest(folder: Location, sums: Mapping[str, str]) -> None:
    manifest = read_model_manifest(folder)
    wrong = sorted(name for name, digest in manifest.files.items() if sums.get(name) != digest)
    if wrong:
        raise InputError(f"'{folder}' is damaged: its {MANIFEST} and {SUMS} differ on '{wrong[0]}'.")
    check_place(folder, manifest, f"'{folder}'")


def check_place(folder: Location, manifest: ModelManifest, what: str) -> None:
    """Refuse (``InputError``) a version in another one's place: an old or a foreign model under a good name.

    Outside a registry a folder says nothing of what must lie in it.
    """
    if manifest.name is None or folder.parent.name != VERSIONS:
        return
    own = f"{manifest.name}:{version_of(manifest)}"
    place = f"{folder.parent.parent.name}:{folder.name}"
    if own != place:
        raise InputError(f"{what} holds the version {own} in the place of {place}: it was moved there.")


def version_of(manifest: ModelManifest) -> str:
    """The version number as it is written everywhere: four digits, ``0000`` for a model that has none."""
    return number_words(manifest.version or 0)


def number_words(number: int) -> str:
    """A version's number as its folder is named: ``0001``."""
    return f"{number:04d}"


def file_digest(content: bytes) -> str:
    """The SHA-256 of a file's content, as manifests and ``SHA256SUMS`` keep it."""
    return hashlib.sha256(content).hexdigest()


def sums_of(files: Mapping[str, bytes]) -> bytes:
    """The content of ``SHA256SUMS`` for a version's files."""
    lines = [f"{file_digest(content)}  {name}\n" for name, content in sorted(files.items())]
    return "".join(lines).encode("ascii")


def _digest_of_file(file: Location) -> str:
    digest = hashlib.sha256()
    with file.filesystem.open_input_stream(file.path) as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
