"""Certificates of this machine's loopback address that vouch for themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agesearch.serving.ingress.tls import Certificate
from agesearch.session import LOOPBACK


def self_signed(folder: Path, first_day: float = -1, last_day: float = 1) -> Certificate:
    """``cert.pem`` and ``key.pem`` in a folder, valid between two days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "agesearch")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number())
    made = made.not_valid_before(now + timedelta(first_day)).not_valid_after(now + timedelta(last_day))
    address = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(LOOPBACK))])
    made = made.add_extension(address, critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    folder.mkdir(parents=True, exist_ok=True)
    found = Certificate(str(folder / "cert.pem"), str(folder / "key.pem"))
    pem = serialization.Encoding.PEM
    Path(found.cert).write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem))
    private, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    Path(found.key).write_bytes(key.private_bytes(pem, private, plain))
    return found
