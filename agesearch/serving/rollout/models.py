"""The models of a service: where each begins, and which alias it follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agesearch.deploy.integrity import verify, version_of
from agesearch.deploy.registry import CHAMPION, Registry, Version
from agesearch.errors import InputError, first_line
from agesearch.models.identity import read_model_manifest
from agesearch.storage import Location


@dataclass(frozen=True)
class ServedModel:
    """A model by its name, the folder of the version that it begins with, and the alias of a registry that it
    follows (None: it stays with that version); with ``signed_by``, a public key's file, only to versions that
    its owner signed.
    """

    name: str
    version: str
    folder: Location
    registry: Registry | None = None
    alias: str | None = None
    signed_by: str | None = None

    @staticmethod
    def pinned(folder: str | Location) -> ServedModel:
        """A version's folder, wherever it lies."""
        place = Location.of(folder)
        manifest = read_model_manifest(place)
        return ServedModel(manifest.name or manifest.model.arch, version_of(manifest), place)

    @property
    def first(self) -> Version:
        """The version that it begins with."""
        return Version(self.name, self.version, self.folder)

    def checked(self, number: str | None = None) -> Version:
        """The version of that number (None: the one that it begins with), its files and signature checked."""
        if self.registry is None or number is None:
            version = self.first
        else:
            version = self.registry.find(f"{self.name}:{number}")
        verify(version.folder)
        if self.signed_by is not None and self.registry is not None:
            from agesearch.deploy.signing import verify_version

            verify_version(version.label, self.signed_by, str(self.registry.root))
        return version


def require_opens(version: Version) -> None:
    """Run a version once on a blank image: an ``InputError`` says why it cannot be, within a second and
    without a replica.
    """
    from agesearch.serving.estimator import open_estimator

    try:
        open_estimator(version.folder).warm_up()
    except Exception as error:  # whatever a runtime raises
        raise InputError(f"{version.label} cannot be opened: {first_line(error)}") from error


def served_models(
    references: Sequence[str], registry: str, signed_by: str | None = None
) -> list[ServedModel]:
    """What a service is started with, verified: ``NAME`` and ``NAME@ALIAS`` follow their alias,
    ``NAME:VERSION`` stays, and so does a model of the package, whose alias nobody moves. A name that comes
    twice is an ``InputError``.
    """
    store = Registry(registry)
    found: list[ServedModel] = []
    for reference in references:
        version = store.find(reference)
        if any(model.name == version.name for model in found):
            raise InputError(
                f"The model '{version.name}' is named twice: a service answers with one version of each."
            )
        stays = ":" in reference or not store.has(version.name)
        alias = None if stays else reference.partition("@")[2] or CHAMPION
        model = ServedModel(version.name, version.number, version.folder, store, alias, signed_by)
        model.checked()
        found.append(model)
    return found
