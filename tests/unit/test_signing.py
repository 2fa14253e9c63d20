"""Signed versions: a consistent tampering that rewrites SHA256SUMS is found, and a key is never told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agesearch.cli.main import app
from agesearch.deploy import signing
from agesearch.deploy.integrity import SUMS, file_digest
from agesearch.deploy.registry import CHAMPION, Registry, Version, resolve
from agesearch.deploy.signing import PASSWORD, SIGNATURE, sign_version, verify_version
from agesearch.errors import ConflictError, InputError
from agesearch.models.manifest import ModelManifest
from agesearch.specs import CropSpec, ModelSpec

pytest.importorskip("model_signing", reason="needs the optional package model-signing")

from cryptography.hazmat.primitives import serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

_PEM = serialization.Encoding.PEM


def _pair(folder: Path, name: str, password: bytes | None = None) -> tuple[Path, Path]:
    """A new key pair as two files."""
    key = ec.generate_private_key(ec.SECP256R1())
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, hidden))
    public.write_bytes(key.public_key().public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return _pair(tmp_path, "owner")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    store = Registry(str(tmp_path / "registry"))
    for number in (1, 2):
        spec = ModelSpec(arch="lcnet_035")
        manifest = ModelManifest(kind="version", model=spec, crop=CropSpec(), name="ages", version=number)
        files = {"model.onnx": b"graph", "manifest.json": manifest.model_dump_json().encode()}
        store.move_alias(store.add("ages", number, files), CHAMPION)
    return store


def _change(version: Version, file: str, content: bytes) -> None:
    """Change a file as one would who knows the registry: its sum is rewritten, too."""
    folder = version.folder.local()
    sums = (folder / SUMS).read_text().splitlines()
    (folder / file).write_bytes(content)
    kept = [line for line in sums if not line.endswith(f"  {file}")]
    (folder / SUMS).write_text("\n".join([*kept, f"{file_digest(content)}  {file}"]) + "\n")


def test_a_signed_version_verifies_and_is_served_as_before(
    registry: Registry, keys: tuple[Path, Path]
) -> None:
    signed = sign_version("ages", keys[0], registry.root)
    assert (signed.label, signed.files) == ("ages:0002", 3)
    assert verify_version("ages:2", keys[1], registry.root) == signed
    assert verify_version(str(signed.folder), keys[1], registry.root).files == 3
    assert resolve(registry.root, "ages") == signed.folder
    with pytest.raises(ConflictError, match="signed already"):
        sign_version("ages", keys[0], registry.root)
    sign_version("ages", keys[0], registry.root, replace=True)


@pytest.mark.parametrize("file", ["model.onnx", "manifest.json", "card.md"])
def test_a_consistent_tampering_is_found(registry: Registry, keys: tuple[Path, Path], file: str) -> None:
    sign_version("ages", keys[0], registry.root)
    version = registry.find("ages")
    content = b"another"
    if file == "manifest.json":
        content = (version.folder / file).read_bytes().replace(b'"parameters":0', b'"parameters":1')
    _change(version, file, content)
    assert resolve(registry.root, "ages") == version.folder  # the sums say that all is well
    with pytest.raises(
        InputError,
        match=rf"ages:0002 was changed after it was signed: [\w., :;]*{file}[\w., ]*$",
    ):
        verify_version("ages", keys[1], registry.root)


def test_a_file_taken_away_and_a_version_in_another_place_are_found(
    registry: Registry, keys: tuple[Path, Path]
) -> None:
    sign_version("ages:1", keys[0], registry.root)
    old, new = registry.find("ages:1").folder.local(), registry.find("ages:2").folder.local()
    shutil.rmtree(new)
    shutil.copytree(old, new)
    with pytest.raises(InputError, match="version ages:0001 in the place of ages:0002"):
        verify_version("ages:2", keys[1], registry.root)
    (old / "model.onnx").unlink()
    with pytest.raises(InputError, match=r"signed: missing: model\.onnx\.$"):
        verify_version("ages:1", keys[1], registry.root)


def test_another_key_no_signature_and_a_torn_one_are_told_apart(
    registry: Registry, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="ages:0002 is not signed"):
        verify_version("ages", keys[1], registry.root)
    signed = sign_version("ages", keys[0], registry.root)
    _, other = _pair(tmp_path, "other")
    with pytest.raises(InputError, match=r"not signed with the key that belongs to .*other\.pub"):
        verify_version("ages", other, registry.root)
    (signed.folder / SIGNATURE).write_bytes(b"{")
    with pytest.raises(InputError, match="The signature of ages:0002 is damaged"):
        verify_version("ages", keys[1], registry.root)


def test_a_service_may_ask_for_a_signature(registry: Registry, keys: tuple[Path, Path]) -> None:
    words = ["serve", "ages", "--registry", str(registry.root), "--signed-by", str(keys[1])]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, InputError)
    assert "ages:0002 is not signed" in str(result.exception)


def test_what_was_broken_is_not_signed(registry: Registry, keys: tuple[Path, Path]) -> None:
    folder = registry.find("ages").folder
    (folder / "model.onnx").write_bytes(b"torn")
    with pytest.raises(InputError, match="was changed after it was published"):
        sign_version("ages", keys[0], registry.root)
    assert not (folder / SIGNATURE).exists()


def test_a_wrong_key_is_told_without_its_content(
    registry: Registry, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    secret = tmp_path / "secret.pem"
    secret.write_text("-----BEGIN PRIVATE KEY-----\nTOPSECRET\n-----END PRIVATE KEY-----\n")
    for key in (secret, keys[1]):
        result = CliRunner().invoke(
            app, ["models", "sign", "ages", "--key", str(key), "--registry", str(registry.root)]
        )
        assert isinstance(result.exception, InputError)
        assert "is no private key in PEM form" in str(result.exception)
        assert "TOPSECRET" not in str(result.exception) + result.output
    sign_version("ages", keys[0], registry.root)
    with pytest.raises(InputError, match="is no public key"):
        verify_version("ages", keys[0], registry.root)
    with pytest.raises(InputError, match="There is no key .*openssl"):
        sign_version("ages", tmp_path / "none.pem", registry.root, replace=True)


def test_an_encrypted_key_takes_its_password_from_the_environment(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = _pair(tmp_path, "locked", b"open sesame")
    with pytest.raises(InputError, match=f"its password is read from {PASSWORD}"):
        sign_version("ages", private, registry.root)
    monkeypatch.setenv(PASSWORD, "open sesame")
    sign_version("ages", private, registry.root)
    assert verify_version("ages", public, registry.root).files == 3


def test_without_the_package_it_says_how_to_get_it(
    registry: Registry, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'agesearch\[sign\]'"):
        sign_version("ages", keys[0], registry.root)
