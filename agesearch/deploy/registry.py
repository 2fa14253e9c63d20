"""The registry: immutable model versions under names, and movable aliases that say which one is in use.

    registry/NAME/versions/0001/{model.onnx, weights.safetensors, manifest.json, card.md, SHA256SUMS}
    registry/NAME/aliases/champion.json         the version it points to, and every move so far

A version is written beside its place and renamed into it, so it is there whole or not at all, and is never
written again; ``agesearch.deploy.integrity`` tells whether it still is what it was.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from agesearch.deploy.aliases import Alias, Canary, Move, Step, read_aliases
from agesearch.deploy.integrity import SIGNATURE, SUMS, VERSIONS, number_words, sums_of, verify
from agesearch.errors import InputError, unknown_name
from agesearch.models.foreign.document import is_teacher_file
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import MANIFEST, MAX_WEIGHTS_BYTES, ONNX, ModelManifest
from agesearch.provenance import now, without_places
from agesearch.specs import parse_spec
from agesearch.storage import Location, distinct_names, exclusive

DEFAULT_REGISTRY = "registry"
#: The registry that comes with the package: its models answer to their names where the user's has none such.
SHIPPED = str(Path(__file__).parents[1] / "assets" / "models")
CHAMPION = "champion"
CARD = "card.md"

_ALIASES = "aliases"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_REFERENCE = re.compile(r"(?P<name>[^@:]+)(?:@(?P<alias>[^@:]+)|:(?P<version>[^@:]+))?")
#: 1, 0001, v2, 1.0, version-3
_NUMBER = re.compile(r"(?:v|ver|version)?[._-]?\d+(?:[._-]\d+)*")


@dataclass(frozen=True)
class Version:
    """One version of a model in a registry; ``number`` as its folder is named, such as ``0001``."""

    name: str
    number: str
    folder: Location
    aliases: tuple[str, ...] = field(default=())

    @property
    def label(self) -> str:
        """The reference that always names this version."""
        return f"{self.name}:{self.number}"

    def manifest(self) -> ModelManifest:
        """The version's manifest."""
        return read_model_manifest(self.folder)

    @property
    def fault(self) -> str | None:
        """Why its manifest cannot be read; None where it can."""
        try:
            self.manifest()
        except (InputError, OSError) as error:
            return str(error)
        return None

    @property
    def onnx(self) -> Location:
        """The network as it is served."""
        return self.folder / ONNX

    @property
    def size_bytes(self) -> int | None:
        """The bytes of the network as it is served; None where it has none."""
        return self.onnx.size_bytes


class Registry:
    """Reads and writes one registry, on this machine or behind a URI."""

    def __init__(self, root: str | Location) -> None:
        self.root = Location.of(root)

    @property
    def of_package(self) -> bool:
        """Whether this is the one that comes with the package."""
        return self.root == Location.of(SHIPPED)

    def folder(self, name: str) -> Location:
        """Where all that belongs to a model lies."""
        return self.root / checked_name(name)

    def names(self) -> list[str]:
        """The names of all models, sorted; empty where there is no registry yet."""
        return [place.name for place in self.root.children() if (place / VERSIONS).is_dir()]

    def known_names(self) -> list[str]:
        """Those of its models and of the package's, which answer to their names here, too."""
        return sorted({*self.names(), *Registry(SHIPPED).names()})

    def has(self, name: str) -> bool:
        """Whether a model of this name lies here, and not only among those of the package."""
        return bool(self._numbers(checked_name(name)))

    def holder(self, name: str) -> Registry:
        """The registry that answers for a name: this one, or the package's where only that has the model."""
        shipped = Registry(SHIPPED)
        return shipped if not self.of_package and not self.has(name) and shipped.has(name) else self

    def own(self, version: Version) -> Version:
        """A version that this registry may change and add to: what came with the package stays as it was
        installed, and is first copied here, with the aliases that name it.
        """
        theirs = Registry(SHIPPED)._version_folder(version.name, version.number)
        if self.of_package or version.folder != theirs or self.has(version.name):
            return version
        verify(theirs)
        kept = [file for file in theirs.children() if file.name not in (SUMS, SIGNATURE)]
        with self.locked(version.name):
            files = {file.name: file.read_bytes(MAX_WEIGHTS_BYTES) for file in kept}
            copied = self.add(version.name, int(version.number), files)
            for alias in version.aliases:
                self.move_alias(copied, alias, why="came with the package")
        return replace(copied, aliases=version.aliases)

    def versions(self, name: str) -> list[Version]:
        """The versions of a model, oldest first; an ``InputError`` lists the known names."""
        numbers = self._numbers(checked_name(name))
        if not numbers:
            raise self._unknown(name)
        pointed = {alias.alias: alias.version for alias in self.aliases(name)}
        return [
            Version(
                name,
                number,
                self._version_folder(name, number),
                tuple(alias for alias, target in pointed.items() if target == number),
            )
            for number in numbers
        ]

    def aliases(self, name: str) -> list[Alias]:
        """The aliases of a model with their histories, but for those that cannot be read."""
        return read_aliases(self.folder(name) / _ALIASES)[0]

    def faults(self, name: str) -> list[str]:
        """What of a model cannot be read: an alias, the manifest of a version."""
        found = read_aliases(self.folder(name) / _ALIASES)[1]
        return found + [f"{one.label}: {one.fault}" for one in self.versions(name) if one.fault]

    def find(self, reference: str) -> Version:
        """The version that ``NAME``, ``NAME@ALIAS`` or ``NAME:VERSION`` names; without either, the champion.

        A name that is not here is looked for among the models that come with the package. An ``InputError``
        lists the names, aliases or versions there are.
        """
        name, alias, number = _parsed(reference)
        holder = self.holder(name)
        if holder is not self:
            return holder.find(reference)
        versions = {version.number: version for version in self.versions(name)}
        if number is None:
            aliases = {entry.alias: entry.version for entry in self.aliases(name) if entry.version}
            wanted = alias or CHAMPION
            if wanted not in aliases:
                self.alias(name, wanted)  # says so where it cannot be read
                raise unknown_name(f"alias of {name}", wanted, aliases)
            number = aliases[wanted]
        if number not in versions:
            place = self._version_folder(name, number)
            if place.exists():
                raise InputError(f"The version {name}:{number} is not whole: '{place}' has no {SUMS}.")
            raise unknown_name(f"version of {name}", number, versions)
        return versions[number]

    def with_digest(self, name: str, content_digest: str) -> Version | None:
        """The newest version of a model that has this content, None where none has."""
        if not self._numbers(name):
            return None
        for version in reversed(self.versions(name)):
            with suppress(InputError):  # what cannot be read has no content
                if version.manifest().provenance.get("content_digest") == content_digest:
                    return version
        return None

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the model for one writer; a second one gets a ``ConflictError``."""
        with exclusive(self.root / checked_name(name), "The model"):
            yield

    def next_number(self, name: str) -> int:
        """The number that the next version gets."""
        return max(map(int, self._numbers(name)), default=0) + 1

    def add(self, name: str, number: int, files: Mapping[str, bytes]) -> Version:
        """Write a version at once and for ever; call it within ``locked``. Refuses a number that exists."""
        folder = self._version_folder(name, number_words(number))
        if folder.exists():
            raise InputError(
                f"The version '{name}:{number_words(number)}' exists; versions are never overwritten."
            )
        for leftover in (self.root / name / VERSIONS).children():
            if leftover.name.endswith(".tmp"):  # of a publish that was killed; nobody else holds the lock
                leftover.delete()
        with folder.staged() as staging:
            staging.make_dir()
            # Where nothing can be renamed (object stores) the sums come last: a version without is
            # incomplete.
            for file, content in {**files, SUMS: sums_of(files)}.items():
                (staging / file).write_bytes(content)
        return Version(name, number_words(number), folder)

    def alias(self, name: str, alias: str) -> Alias:
        """An alias with its history; a new one points nowhere."""
        file = self._alias_file(name, alias)
        if not file.exists():
            return Alias(alias=alias, version=None)
        return parse_spec(Alias, file.read_json(), f"'{file}'")

    def pointed(self, name: str, alias: str) -> Version | None:
        """The version that an alias points to; None where it points nowhere."""
        number = self.alias(name, alias).version
        known = {version.number: version for version in self.versions(name)} if number else {}
        return known.get(number or "")

    def move_alias(self, version: Version, alias: str, step: Step = "move", why: str = "") -> Alias:
        """Point an alias at a version and record the step; nothing changes where it points there already.
        What was tried beside it is tried no longer.

        What could be read as the number of a version is no alias, but an ``InputError``.
        """
        return self._stepped(version.name, checked_alias(alias), version.number, step, why)

    def try_beside(self, name: str, alias: str, canary: Canary | None, why: str) -> Alias:
        """Have services that follow the alias try a version beside its own; None: try none any more."""
        known = self.alias(name, alias)
        tried = canary or known.canary
        if tried is None:
            return known
        kept = known.model_copy(update={"canary": canary})
        return self._kept(name, kept, tried.version, "refuse" if canary is None else "canary", why)

    def drop_alias(self, name: str, alias: str) -> Alias:
        """Let an alias point nowhere; its history is kept. An ``InputError`` lists those that point
        somewhere.
        """
        known = {entry.alias: entry.version for entry in self.aliases(name) if entry.version}
        if alias not in known:
            self.versions(name)  # says so where the name is unknown
            raise unknown_name(f"alias of {name}", alias, known)
        return self._stepped(name, alias, None)

    def _stepped(
        self, name: str, alias: str, target: str | None, step: Step = "move", why: str = ""
    ) -> Alias:
        known = self.alias(name, alias)
        if known.version == target:
            return known
        moved = known.model_copy(update={"version": target, "canary": None})
        return self._kept(name, moved, target, step, why)

    def _kept(self, name: str, alias: Alias, target: str | None, step: Step, why: str) -> Alias:
        """Write an alias with one more step in its history."""
        source = self.alias(name, alias.alias).version
        told = without_places(why)  # a registry may be shared, and copied
        move = Move(when=now(), who=_user(), **{"from": source, "to": target}, step=step, why=told)
        kept = alias.model_copy(update={"history": (*alias.history, move)})
        self._alias_file(name, alias.alias).write_json(kept.model_dump(mode="json", by_alias=True))
        return kept

    def _alias_file(self, name: str, alias: str) -> Location:
        return self.root / checked_name(name) / _ALIASES / f"{checked_name(alias, 'alias')}.json"

    def _numbers(self, name: str) -> list[str]:
        places = (self.root / name / VERSIONS).children()
        complete = [place.name for place in places if place.name.isdecimal() and (place / SUMS).exists()]
        return sorted(complete, key=int)

    def _version_folder(self, name: str, number: str) -> Location:
        return self.root / name / VERSIONS / number

    def _unknown(self, name: str) -> InputError:
        names = self.names()
        if not names:
            return InputError(
                f"The registry '{self.root}' has no model yet: publish a study's with 'agesearch publish', "
                "or name another registry with --registry."
            )
        return unknown_name("model", name, names)


def resolve(registry: str | Location, reference: str) -> Location:
    """The folder of the version that a reference names (see ``Registry.find``), with every file checked."""
    version = Registry(registry).find(reference)
    verify(version.folder)
    return version.folder


def model_folder(model: str, registry: str | Location = DEFAULT_REGISTRY) -> Location:
    """The folder of a model said as a path or URI, or as ``NAME``, ``NAME@ALIAS`` or ``NAME:VERSION``; a
    teacher's document (``agesearch.models.foreign.document``) is its own place.

    A folder goes before a registry name. What is neither is an ``InputError`` that says where was looked.
    """
    folder = Location.of(model)
    if (folder / MANIFEST).exists() or (is_teacher_file(folder) and folder.exists()):
        return folder
    if folder.exists() or _REFERENCE.fullmatch(model) is None or "/" in model:
        read_model_manifest(folder)  # says what the folder lacks
    try:
        return resolve(registry, model)
    except InputError as error:
        raise InputError(f"There is no folder '{model}', and as a registry name: {error}") from error


def model_folders(models: Sequence[str], registry: str | Location = DEFAULT_REGISTRY) -> dict[str, Location]:
    """The folder of each model by the name to show: as it was said, but for an absolute path, of which the
    last parts are left that tell it from the others. One that is named twice is an ``InputError``.
    """
    places = [model_folder(model, registry) for model in models]
    if len(set(places)) < len(models):
        raise InputError(f"One model is named twice in: {', '.join(models)}. Name each model once.")
    shown = zip(models, distinct_names(places), strict=True)
    names = [model if without_places(model) == model else name for model, name in shown]
    return dict(zip(names, places, strict=True))


def checked_name(name: str, kind: str = "model name") -> str:
    """The name itself where it is one; an ``InputError`` states the rule. No name can leave the registry."""
    if _NAME.fullmatch(name) is None or ".." in name:
        raise InputError(
            f"The {kind} is '{name[:80]}', but must be 1 to 64 lower-case letters, digits, '.', '_' or '-', "
            "starting with a letter or digit."
        )
    return name


def checked_alias(alias: str) -> str:
    """The alias itself where it is one; what could be read as a version's number is none."""
    if _NUMBER.fullmatch(checked_name(alias, "alias")):
        raise InputError(
            f"The alias is '{alias}', which reads as the number of a version: choose a word, such as "
            f"{CHAMPION} or candidate."
        )
    return alias


def _parsed(reference: str) -> tuple[str, str | None, str | None]:
    match = _REFERENCE.fullmatch(reference)
    number = match["version"] if match else None
    if match is None or (number is not None and not (number.isascii() and number.isdecimal())):
        raise InputError(
            f"'{reference[:80]}' names no model: expected NAME, NAME@ALIAS or NAME:VERSION, such as ages:1."
        )
    return match["name"], match["alias"], number_words(int(number)) if number else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in some containers
        return "unknown"
