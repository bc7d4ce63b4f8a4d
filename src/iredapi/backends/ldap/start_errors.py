"""Startup errors: explains in one sentence why no LDAP server can be used.

It checks with Python's sockets, at startup only, and sends nothing that needs a login.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import Final

from iredapi.backends.ldap.connectivity import STARTTLS, Target, default_ca_file
from iredapi.backends.ldap.model import DirectoryOptions

_PATIENCE: Final = 3.0
STRONGER_AUTH_REQUIRED: Final = 8
_TLS_NEEDED: Final = frozenset({STRONGER_AUTH_REQUIRED, 13})
_SEQUENCE: Final = 0x30
"""The first byte of every LDAP message."""


def explain(options: DirectoryOptions, code: int) -> tuple[str, bool]:
    """Return the explanation, and whether the same settings may work later.

    ``code`` is the LDAP result code of the failure. It takes up to seconds for each server.
    """
    if code in {21, 34, -9}:
        return (
            "IREDAPI_LDAP_BIND_DN: it is not a DN such as cn=vmailadmin,dc=example,dc=com",
            False,
        )
    if code in _TLS_NEEDED:
        return (
            "IREDAPI_LDAP_STARTTLS: the server takes passwords over TLS only: set it to true, or "
            "use ldaps:// in IREDAPI_LDAP_URI"
        ), False
    found = [_explain(Target.parse(uri), options) for uri in options.uris]
    sentence = "; ".join(text for text, _ in found)
    return sentence, any(is_down for _, is_down in found)


def _explain(target: Target, options: DirectoryOptions) -> tuple[str, bool]:
    uri = f"IREDAPI_LDAP_URI: {target}"
    try:
        socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        if not (target.tls or options.starttls):
            if _speaks(target):
                return f"{uri}: the LDAP server does not answer in time", True
            if _has_tls(target):
                return f"{uri}: the server expects TLS from the beginning: write ldaps://", False
            return f"{uri}: the server on this port is not an LDAP server", False
        return _explain_tls(target, options)
    except socket.gaierror:
        return f"{uri}: the host name cannot be resolved: is the name right, does DNS work?", True
    except ConnectionRefusedError:
        return f"{uri}: nothing listens there: is the server running, is the port right?", True
    except TimeoutError:
        return (
            f"{uri}: no answer in time: is it the right port, is a firewall between?",
            True,
        )
    except OSError as error:
        return f"{uri}: {error.strerror or type(error).__name__}", True


def _explain_tls(target: Target, options: DirectoryOptions) -> tuple[str, bool]:
    uri = f"IREDAPI_LDAP_URI: {target}"
    with _connected(target) as connection:
        if options.starttls:
            connection.sendall(STARTTLS)
            answer = connection.recv(4096)
            if answer[:1] != bytes([_SEQUENCE]):
                return (
                    f"{uri}: the server on this port is not an LDAP server, or expects ldaps://",
                    False,
                )
            if b"\x0a\x01\x00" not in answer:  # ENUMERATED 0: success
                return (
                    f"IREDAPI_LDAP_STARTTLS: {target} offers no TLS: remove it, or give the "
                    "server a certificate"
                ), False
        try:
            context = ssl.create_default_context(cafile=options.ca_file or default_ca_file())
        except (OSError, ssl.SSLError):
            return f"IREDAPI_LDAP_CA_FILE: {options.ca_file} is no readable PEM file", False
        if not options.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        try:
            with context.wrap_socket(connection, server_hostname=target.host):
                return f"{uri}: the LDAP server does not answer in time", True
        except ssl.SSLCertVerificationError as error:
            return (
                f"IREDAPI_LDAP_CA_FILE: the certificate of {target} cannot be verified "
                f"({error.verify_message}): name the authority that signed it, and the host in "
                "IREDAPI_LDAP_URI as the certificate does"
            ), False
        except (ssl.SSLError, ConnectionResetError):
            pass
    if target.tls and _speaks(target):
        return f"{uri}: the server does not use TLS on this port: write ldap://", False
    return f"{uri}: the server does not use TLS on this port", False


def _connected(target: Target) -> socket.socket:
    return socket.create_connection((target.host, target.port), timeout=_PATIENCE)


def _speaks(target: Target) -> bool:
    """Tell whether a server answers LDAP without TLS."""
    with _connected(target) as connection:
        connection.sendall(STARTTLS)
        try:
            return connection.recv(1) == bytes([_SEQUENCE])
        except ConnectionResetError:
            return False


def _has_tls(target: Target) -> bool:
    """Tell whether a server expects TLS from the beginning (ldaps)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    deadline = time.monotonic() + _PATIENCE
    with _connected(target) as connection:
        connection.settimeout(max(deadline - time.monotonic(), 0.1))
        try:
            with context.wrap_socket(connection):
                return True
        except (ssl.SSLError, ConnectionResetError):
            return False
