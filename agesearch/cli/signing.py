"""``agesearch models sign`` and ``models verify``: signatures of versions, by plain keys and offline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli.common import JsonOption, out, print_json, say
from agesearch.cli.publish import RegistryOption, registry_words
from agesearch.errors import command

if TYPE_CHECKING:
    from agesearch.deploy.signing import Signed

_MODEL = "NAME, NAME@ALIAS, NAME:VERSION of the registry, or a model folder."
_EXAMPLES = {
    "sign": "Example: agesearch models sign ages --key key.pem",
    "verify": "Example: agesearch models verify ages --key key.pub",
}


def add_to(group: typer.Typer) -> None:
    """Register both commands in the group ``models``."""
    group.command("sign", epilog=_EXAMPLES["sign"])(sign)
    group.command("verify", epilog=_EXAMPLES["verify"])(verify)


def sign(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL)],
    key: Annotated[str, typer.Option("--key", metavar="FILE", help="Private key in PEM form (ECDSA).")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of a signature that is there.")
    ] = False,
    registry: RegistryOption = "registry",
    json_output: JsonOption = False,
) -> None:
    """Sign a version: model.sig beside its files, made offline with your own key (OpenSSF Model Signing).

    The password of an encrypted key is read from AGESEARCH_KEY_PASSWORD. Needs the package model-signing (the
    extra sign).
    """
    from agesearch.deploy.signing import sign_version

    signed = sign_version(model, key, registry, replace=replace)
    _tell(signed, "Signed", json_output)
    if not json_output:
        words = command("models", "verify", model, "--key", "PUBLIC.pem", *registry_words(registry))
        say(f"Hand the public key over by another way than the model. Who has it checks with: {words}")


def verify(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL)],
    key: Annotated[str, typer.Option("--key", metavar="FILE", help="Public key in PEM form.")],
    registry: RegistryOption = "registry",
    json_output: JsonOption = False,
) -> None:
    """Verify a version's signature: that the key's owner signed just these files, and nothing was changed,
    added, removed or moved since, its SHA256SUMS included. Asks no network.
    """
    from agesearch.deploy.signing import verify_version

    _tell(verify_version(model, key, registry), "The signature holds:", json_output)


def _tell(signed: Signed, what: str, json_output: bool) -> None:
    if json_output:
        print_json({"model": signed.label, "folder": str(signed.folder), "files": signed.files})
        return
    out.print(
        f"{what} {signed.label}, {signed.files} files in {signed.folder}", highlight=False, markup=False
    )
