"""Whether a service can have an address, found out before anything slow starts."""

from __future__ import annotations

import errno
import socket

from agesearch.errors import ConflictError, InputError

#: Where a service listens, and a client asks, unless told otherwise.
DEFAULT_URL = "http://127.0.0.1:8000"


def require_free(host: str, port: int) -> None:
    """Refuse an address that cannot be served on; a ``ConflictError`` where something listens already."""
    bound(host, port).close()


def bound(host: str, port: int) -> socket.socket:
    """A socket with that address (port 0: any that is free); the errors are those of ``require_free``."""
    try:
        return _bind(host, port)
    except socket.gaierror as error:
        raise InputError(
            f"The host '{host}' is no name or address of this machine: {error.strerror}."
        ) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConflictError(
                f"Port {port} of {host} is in use: stop what listens there, or choose another with --port."
            ) from error
        if error.errno == errno.EACCES:
            raise InputError(f"Port {port} needs privileges: choose one above 1023 with --port.") from error
        raise InputError(f"Host '{host}' cannot be served on: {error.strerror}.") from error


def url_of(host: str, port: int, *, tls: bool = False) -> str:
    """The address a client on this machine uses; a wildcard host is reached by loopback."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    scheme = "https" if tls else "http"
    return f"{scheme}://[{reachable}]:{port}" if ":" in reachable else f"{scheme}://{reachable}:{port}"


def _bind(host: str, port: int) -> socket.socket:
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind)
    try:
        # As servers do: a connection of an earlier server that still lingers does not count, a listener does.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
