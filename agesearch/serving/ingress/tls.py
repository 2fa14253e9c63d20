"""The certificate of a service, checked before anything starts."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from agesearch.errors import InputError

_FILE = "certificate.pem"
#: Bytes: a chain of certificates is a few thousand.
_LARGEST = 1024 * 1024
#: What OpenSSL's verification says of a certificate that is not valid yet, and of one that is no longer.
_NOT_NOW = (9, 10)


@dataclass(frozen=True)
class Certificate:
    """The files of a certificate (with what stands between it and a root, in PEM form) and of its key."""

    cert: str
    key: str

    def check(self) -> None:
        """An ``InputError`` where HAProxy could not use them (missing, no PEM, an encrypted key, no pair), or
        no client would: expired, or not valid yet.
        """
        for path, what in ((self.cert, "certificate"), (self.key, "key")):
            _read(path, what)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.cert, self.key, password=_no_password)
        except ssl.SSLError as error:
            reason = f": {error.reason.replace('_', ' ').lower()}" if error.reason else ""
            raise InputError(
                f"'{self.cert}' and '{self.key}' are no certificate with its key in PEM form{reason}."
            ) from error
        refusal = _refusal_of(context, self.cert)
        if refusal is not None and refusal.verify_code in _NOT_NOW:
            raise InputError(
                f"The certificate '{self.cert}' cannot be used now: {refusal.verify_message}."
            ) from refusal

    def write(self, folder: Path) -> Path:
        """Both as one file, as HAProxy takes them, which only its owner can read."""
        path = folder / _FILE
        whole = _read(self.cert, "certificate") + b"\n" + _read(self.key, "key")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(whole)
        return path


def certificate_of(cert: str | None, key: str | None) -> Certificate | None:
    """The checked certificate of both options; None where neither is given."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise InputError("TLS needs both a certificate and its key: give --tls-cert and --tls-key.")
    found = Certificate(str(Path(cert).expanduser()), str(Path(key).expanduser()))
    found.check()
    return found


def _refusal_of(server: ssl.SSLContext, cert: str) -> ssl.SSLCertVerificationError | None:
    """What a client that trusts the certificate itself says of it, in a handshake within this process."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cafile=cert)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(back, there)
    answering = server.wrap_bio(there, back, server_side=True)
    for end in (asking, answering, asking):
        try:
            end.do_handshake()
        except ssl.SSLCertVerificationError as error:
            return error
        except ssl.SSLError:  # it waits for the other end, or fails for another reason
            continue
    return None


def _no_password() -> str:
    raise InputError("The key of the certificate is encrypted: give one without a password (mode 600).")


def _read(path: str, what: str) -> bytes:
    try:
        with open(path, "rb") as handle:
            return handle.read(_LARGEST)
    except OSError as error:
        raise InputError(f"The {what} '{path}' cannot be read: {error.strerror}.") from error
