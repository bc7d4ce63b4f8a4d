"""Explain to operators at start why a database cannot be used.

Answers of the API only say that a server cannot be reached. No explanation has a password, or the
text of a driver, which may repeat one.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy.engine import URL

from iredapi.config import url_hosts
from iredapi.config.parsing import SPECIAL
from iredapi.database.database import POOLER
from iredapi.database.errors import NoWritableServer, codes_in, error_in
from iredapi.database.tls import NO_TLS

_TIMEOUT: Final = 1.5
"""Maximum seconds for a server to identify itself."""
_SSL_REQUEST: Final = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""SSLRequest of PostgreSQL's protocol; the server answers S or N."""
_NAMES: Final = {"postgresql": "PostgreSQL", "mysql": "MariaDB or MySQL"}
_PORTS: Final = {"postgresql": 5432, "mysql": 3306}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a database cannot be used. ``unreachable``: the same settings may work later."""

    sentence: str
    unreachable: bool = False


async def reason(error: BaseException, url: URL) -> Reason:
    """Return why a connection could not be opened, or a database could not be used."""
    if url.get_backend_name() == "sqlite":
        return _of_sqlite(error, Path(url.database or ""))
    kind = "postgresql" if url.get_backend_name() == "postgresql" else "mysql"
    hosts = url_hosts.of_url(url)
    if hosts is not None and not _socket_of(url):
        url = url.set(host=hosts.places[0][0], port=hosts.places[0][1])
    host = url.host or "localhost"
    port = url.port or _PORTS[kind]
    place = _socket_of(url) or f"{host}, port {port}"
    if hosts is not None and len(hosts.places) > 1:
        place = str(hosts)
    if error_in(error, NoWritableServer):
        return Reason(f"no server takes writes at {place}: these are standbys, or read-only", True)
    return _of_server(error, url, place) or await _of_network(error, url, kind, place)


def _of_server(error: BaseException, url: URL, place: str) -> Reason | None:
    """Explain an error that the server has sent; None: it has sent none."""
    states, numbers, _ = codes_in(error)
    user, name = url.username or "(none)", url.database or ""
    if states & {"28P01"} or numbers & {1045, 1698}:
        # MariaDB says the same of a login that lacks TLS.
        or_tls = ", or it must use TLS (?ssl_ca=FILE)" if numbers else ""
        return Reason(
            f"the server at {place} refuses the login {user}: the user or the password is wrong"
            f"{or_tls}. "
            f"Special characters of a password are written as %XX in a URL: {SPECIAL}"
        )
    if states & {"28000"}:
        return Reason(
            f"the server at {place} does not accept {user} from this machine: see pg_hba.conf, and "
            "whether the user exists; a line `hostssl` there wants ?sslmode=require"
        )
    if numbers & {1130}:
        return Reason(f"the server at {place} accepts no logins from this machine")
    if numbers & {1129}:
        return Reason(f"the server at {place} has blocked this machine: FLUSH HOSTS there", True)
    if numbers & {NO_TLS}:
        return Reason(
            f"the server at {place} does not offer TLS: remove the options of TLS from the URL, or "
            "give the server a certificate (ssl_cert, ssl_key)"
        )
    if numbers & {3159}:
        return Reason(
            f"the server at {place} accepts no logins without TLS (require_secure_transport): add "
            "?ssl_ca=FILE to the URL"
        )
    if states & {"3D000"} or numbers & {1049}:
        return Reason(f"there is no database {name} on the server at {place}")
    if states & {"42501"} or numbers & {1044, 1142}:
        return Reason(
            f"the login {user} may not use the database {name} on the server at {place}, or there "
            "is none of this name"
        )
    if states & {"53300"} or numbers & {1040, 1203, 1226}:
        return Reason(f"the server at {place} has no connection left (max_connections)", True)
    if states & {"26000", "42P05"}:
        return Reason(f"at {place}: {POOLER}")
    if numbers & {1047}:
        return Reason(f"the node of Galera at {place} is without quorum, or joins just now", True)
    if states & {"57P01", "57P02", "57P03"} or numbers & {1053}:
        return Reason(f"the server at {place} is starting or stopping", True)
    return None


async def _of_network(error: BaseException, url: URL, kind: str, place: str) -> Reason:
    """Explain an error of the network or of TLS."""
    path = _socket_of(url)
    if error_in(error, socket.gaierror):
        return Reason(f"there is no host {url.host}: is the name right, does DNS work?", True)
    if error_in(error, FileNotFoundError) and path:
        return Reason(f"there is no socket {place}: is the server running?", True)
    if error_in(error, PermissionError):
        return Reason(f"this process may not use the socket {place}")
    if error_in(error, ConnectionRefusedError):
        return Reason(
            f"nothing listens at {place}: is the server running, are host and port right?", True
        )
    if found_ssl := error_in(error, ssl.SSLError):
        why = getattr(found_ssl, "verify_message", "") or found_ssl.reason
        return Reason(f"TLS with {place} fails: {why or type(found_ssl).__name__}")
    if "root certificate file" in str(error):  # asyncpg
        return Reason("sslmode: it needs sslrootcert: a PEM file of the server's CA, or system")
    there = "" if path else await identify(url.host or "localhost", url.port or _PORTS[kind])
    if there and there != kind:
        return Reason(
            f"at {place} is {_NAMES[there]}, not {_NAMES[kind]}: a wrong port, or the URL begins "
            f"with {there}://"
        )
    if there == kind == "postgresql" and "SSL upgrade" in str(error):
        return Reason(
            f"the server at {place} does not offer TLS: remove the options of TLS from the URL, or "
            "switch `ssl` on in postgresql.conf"
        )
    if error_in(error, TimeoutError) and not there:
        return Reason(
            f"{place} does not answer as {_NAMES[kind]} would: is it the right port, is a firewall "
            "between?",
            True,
        )
    if found_os := error_in(error, OSError):
        what = os.strerror(found_os.errno) if found_os.errno else "no usable answer"
        return Reason(f"{place} cannot be reached as {_NAMES[kind]}: {what}", True)
    return Reason(f"the server at {place} cannot be used ({type(error).__name__})", True)


def _socket_of(url: URL) -> str:
    """Return the path of the Unix socket that a URL names, if it names one."""
    for name in ("unix_socket", "host"):
        value = url.query.get(name, "")
        if isinstance(value, str) and value.startswith("/"):
            return value
    return ""


async def identify(host: str, port: int) -> str:
    """Return which server listens: ``postgresql``, ``mysql`` or ""; in 3 s at most; never raises.

    MariaDB and MySQL send a greeting; PostgreSQL answers an SSLRequest.
    """
    try:
        async with asyncio.timeout(2 * _TIMEOUT):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                greeting = b""
                with suppress(TimeoutError):
                    async with asyncio.timeout(_TIMEOUT / 3):
                        greeting = await reader.read(64)
                if len(greeting) > 4 and greeting[3] == 0 and greeting[4] in {0x0A, 0xFF}:
                    return "mysql"
                if not greeting:
                    writer.write(_SSL_REQUEST)
                    return "postgresql" if await reader.read(1) in {b"S", b"N"} else ""
            finally:
                writer.close()
    except (OSError, TimeoutError):
        pass
    return ""


# SQLite --------------------------------------------------------------------------------------


def _of_sqlite(error: BaseException, path: Path) -> Reason:
    _, _, codes = codes_in(error)
    if codes & {26}:
        return Reason(f"{path} is not an SQLite database: is the path right?")
    if codes & {11}:
        return Reason(
            f"{path} is damaged: stop the service and restore it from a backup, or try `sqlite3 "
            f'{path} ".recover"`'
        )
    if codes & {13} or ((os_error := error_in(error, OSError)) and os_error.errno == 28):
        return Reason(f"{path} cannot be written: the disk is full", True)
    if codes & {5, 6}:
        return Reason(f"{path} is locked by another process", True)
    return Reason(file_trouble(path) or f"{path} cannot be opened ({describe(path)})")


def file_trouble(path: Path) -> str:
    """Return why this process cannot read and write an SQLite file; "" when it can."""
    directory = path.parent
    try:
        if path.is_dir():
            return f"{path} is a directory, but an SQLite file is expected"
        if not directory.is_dir():
            return f"{path} cannot be created: there is no directory {directory}"
        if path.exists() and not _may(path, os.R_OK):
            return f"{path} may not be read by this process ({describe(path)}): {_ADVICE}"
        if path.exists() and not _may(path, os.W_OK):
            return f"{path} may not be written by this process ({describe(path)}): {_ADVICE}"
        if not _may(directory, os.W_OK | os.X_OK):
            return (
                f"{directory} may not be written by this process ({describe(directory)}), and "
                f"SQLite creates files next to {path.name}: {_ADVICE}"
            )
    except OSError as error:
        return f"{path}: {error.strerror}: {_ADVICE}"
    return ""


_ADVICE: Final = "change its owner to the account of the service (chown), or run this as its owner"


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=True)


def describe(path: Path) -> str:
    """Return the owner and mode of a file, and the user of this process."""
    try:
        found = path.stat()
    except OSError as error:
        return f"{error.strerror}; this process is {_name(os.geteuid())}"
    return (
        f"owner {_name(found.st_uid)}, mode {found.st_mode & 0o7777:04o}; this process is "
        f"{_name(os.geteuid())}"
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
