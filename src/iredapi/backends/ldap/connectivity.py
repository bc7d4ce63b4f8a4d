"""Connectivity check of a server with Python's sockets, before libldap connects.

libldap holds the GIL during DNS look-ups, connects and TLS handshakes. Python's sockets release it
and have time limits. If the server fails between this check and libldap's connect, the network
time-out of libldap ends the wait.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

os.environ.setdefault("LDAPNETWORK_TIMEOUT", "2")  # seconds; libldap reads it once

STARTTLS: Final = b"0\x1d\x02\x01\x01w\x18\x80\x161.3.6.1.4.1.1466.20037"
"""An extended request with message id 1 (RFC 4511 section 4.14.1)."""
_PORTS: Final = {"ldap": 389, "ldaps": 636}


def default_ca_file() -> str:
    """Return the file with the system's certificate authorities."""
    debian = "/etc/ssl/certs/ca-certificates.crt"
    usual: str | None = ssl.get_default_verify_paths().cafile
    return debian if Path(debian).is_file() else usual or ""


@dataclass(frozen=True, slots=True)
class Target:
    """One server."""

    uri: str
    host: str
    port: int
    tls: bool

    @classmethod
    def parse(cls, uri: str) -> Target:
        """Read ``ldap://host[:port]`` or ``ldaps://…``. Raises ValueError."""
        parts = urlsplit(uri)
        if parts.scheme not in _PORTS or not parts.hostname or parts.path not in {"", "/"}:
            raise ValueError(f"not an LDAP URI: {uri}")
        port = parts.port or _PORTS[parts.scheme]
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(f"{parts.scheme}://{host}:{port}", parts.hostname, port, parts.scheme == "ldaps")

    def __str__(self) -> str:
        return self.uri

    def reach(self, deadline: float, *, starttls: bool) -> str:
        """Connect once; return the URI with the IP address that worked. Raises OSError."""
        failure: OSError = TimeoutError()
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM
        ):
            with socket.socket(family, kind, protocol) as connection:
                try:
                    _limit(connection, deadline)
                    connection.connect(address)
                    if self.tls or starttls:
                        _try_tls(connection, deadline, ask=not self.tls)
                except OSError as error:
                    failure = error
                    continue
            host = f"[{address[0]}]" if family == socket.AF_INET6 else address[0]
            return f"ldap://{host}:{self.port}"
        raise failure


def _limit(connection: socket.socket, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)


def _try_tls(connection: socket.socket, deadline: float, *, ask: bool) -> None:
    """Try a TLS handshake, after StartTLS if ``ask``. libldap verifies the certificate later."""
    _limit(connection, deadline)
    if ask:
        connection.sendall(STARTTLS)
        if not connection.recv(4096):
            raise ConnectionResetError("the server closed the connection")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _limit(connection, deadline)
    with suppress(ssl.SSLError), context.wrap_socket(connection):
        pass
