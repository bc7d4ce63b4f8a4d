"""TLS options of database URLs, by the names that the databases' own clients use.

PostgreSQL: ``sslmode`` (also ``ssl``), ``sslrootcert``, ``sslcert``, ``sslkey``, as in libpq.
MariaDB and MySQL: ``ssl``, ``ssl-mode`` (also ``sslmode``), ``ssl_ca``, ``ssl_cert``, ``ssl_key``,
``ssl_verify_cert``, ``ssl_verify_identity`` (also ``ssl_check_hostname``), with ``-`` or ``_``.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from sqlalchemy.engine import URL


class Mode(IntEnum):
    """How much is asked of the server. The names are libpq's."""

    DISABLE = 0
    ALLOW = 1
    PREFER = 2
    REQUIRE = 3
    VERIFY_CA = 4
    VERIFY_FULL = 5


SYSTEM: Final = "system"
"""In place of a CA file: the certificates that the system trusts."""
_POSTGRESQL: Final = ("ssl", "sslmode", "sslrootcert", "sslcert", "sslkey")
_MYSQL: Final = (
    "ssl", "ssl_mode", "sslmode", "ssl_ca", "ssl_cert", "ssl_key", "ssl_verify_cert",
    "ssl_verify_identity", "ssl_check_hostname",
)  # fmt: skip
_POSTGRESQL_MODES: Final = {mode.name.lower().replace("_", "-"): mode for mode in Mode}
_MYSQL_MODES: Final = {
    "disabled": Mode.DISABLE,
    "preferred": Mode.PREFER,
    "required": Mode.REQUIRE,
    "verify_ca": Mode.VERIFY_CA,
    "verify_identity": Mode.VERIFY_FULL,
}
_LIBPQ_ON_MYSQL: Final = {
    name.replace("-", "_"): mode
    for name, mode in _POSTGRESQL_MODES.items()
    if mode is not Mode.ALLOW
}
_SWITCHES: Final = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """What a URL says of TLS. Files are paths of PEM files; empty: not given."""

    mode: Mode
    ca: str = ""
    certificate: str = ""
    key: str = ""
    names: tuple[str, str] = ("ssl_ca", "ssl_cert")
    """The options of the CA and of the certificate, for messages."""

    @property
    def has_files(self) -> bool:
        """Whether any file is named, or the system's CAs are asked for."""
        return bool(self.ca or self.certificate)

    def context(self) -> ssl.SSLContext:
        """Return the context of Python's ``ssl``. Raises ValueError for a file that is no good."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = self.mode is Mode.VERIFY_FULL
        context.verify_mode = ssl.CERT_REQUIRED if self.mode > Mode.REQUIRE else ssl.CERT_NONE
        if self.ca == SYSTEM:
            context.load_default_certs()
        elif self.ca:
            _readable(self.names[0], self.ca)
            try:
                context.load_verify_locations(cafile=self.ca)
            except ssl.SSLError:
                raise ValueError(f"{self.names[0]}: {self.ca} has no PEM certificate") from None
        if self.certificate:
            _readable(self.names[1], self.certificate)
            _readable(self.names[1].replace("cert", "key"), self.key or self.certificate)
            try:
                # Without a function OpenSSL would ask for a password on the terminal.
                context.load_cert_chain(self.certificate, self.key or None, lambda: b"")
            except ssl.SSLError:
                raise ValueError(
                    f"{self.names[1]}: {self.certificate} and its key are not a PEM certificate "
                    "and its private key without a password"
                ) from None
        return context


def _readable(option: str, path: str) -> None:
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise ValueError(f"{option}: {path}: {error.strerror}") from None


def is_tls(name: str) -> bool:
    """Tell whether an option of a URL is about TLS."""
    return name.lower().startswith(("ssl", "tls"))


def without_tls(url: URL) -> URL:
    """Return a URL without its TLS options."""
    return url.difference_update_query([name for name in url.query if is_tls(name)])


def of_url(url: URL) -> TlsOptions | None:
    """Return what a URL says of TLS; None: nothing. Raises ValueError for a mistake."""
    given = {name: value for name, value in url.query.items() if is_tls(name)}
    if not given:
        return None
    postgresql = url.get_backend_name() == "postgresql"
    known = _POSTGRESQL if postgresql else _MYSQL
    values: dict[str, str] = {}
    for name, value in given.items():
        plain = name.lower() if postgresql else name.lower().replace("-", "_")
        if plain not in known:
            raise ValueError(f"{name}: no such option after the ?; for TLS {_words(known)}")
        if plain in values or not isinstance(value, str):
            raise ValueError(f"{name}: it stands after the ? twice")
        if not value:
            raise ValueError(f"{name}: it has no value")
        values[plain] = value
    return _of_postgresql(values) if postgresql else _of_mysql(values)


def _words(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}"


def _choose(name: str, value: str, allowed: Mapping[str, Mode], shown: Iterable[str]) -> Mode:
    mode = allowed.get(value.lower())
    if mode is None:
        raise ValueError(f"{name}: {_words(shown)}")
    return mode


def _only_one(values: Mapping[str, str], names: Iterable[str]) -> str:
    found = [name for name in names if name in values]
    if len(found) > 1:
        raise ValueError(f"{found[0]}, {found[1]}: give one of them")
    return found[0] if found else ""


def _of_postgresql(values: Mapping[str, str]) -> TlsOptions:
    name = _only_one(values, ("ssl", "sslmode"))
    ca = values.get("sslrootcert", "")
    mode = Mode.VERIFY_FULL if ca else Mode.REQUIRE
    if name:
        mode = _choose(name, values[name], _POSTGRESQL_MODES, _POSTGRESQL_MODES)
    if ca and mode is Mode.REQUIRE:
        mode = Mode.VERIFY_CA  # as libpq does
    return _checked(values, mode, ("sslrootcert", "sslcert", "sslkey"), name or "sslmode")


def _of_mysql(values: Mapping[str, str]) -> TlsOptions:
    ca = values.get("ssl_ca", "")
    name = _only_one(values, ("ssl_mode", "sslmode"))
    switches = {
        key: _switch(key, values[key])
        for key in ("ssl", "ssl_verify_cert", "ssl_verify_identity", "ssl_check_hostname")
        if key in values
    }
    host = _only_one(values, ("ssl_verify_identity", "ssl_check_hostname"))
    if name and switches:
        raise ValueError(f"{name}, {next(iter(switches))}: give one of them")
    if name:
        value = values[name].replace("-", "_")
        mode = _choose(name, value, _MYSQL_MODES | _LIBPQ_ON_MYSQL, _MYSQL_MODES)
        if ca and mode is Mode.REQUIRE:
            mode = Mode.VERIFY_CA
        return _checked(values, mode, ("ssl_ca", "ssl_cert", "ssl_key"), name)
    verify = switches.get("ssl_verify_cert", bool(ca) or switches.get(host, False))
    if not switches.get("ssl", True):
        mode = Mode.DISABLE
        if len(values) > 1:
            other = next(key for key in values if key != "ssl")
            raise ValueError(f"ssl, {other}: ssl says that there is no TLS")
    elif verify:
        mode = Mode.VERIFY_FULL if switches.get(host, True) else Mode.VERIFY_CA
    elif switches.get(host):
        raise ValueError(f"{host}, ssl_verify_cert: only a verified certificate has a name")
    else:
        mode = Mode.REQUIRE
    if mode is Mode.VERIFY_FULL and not ca:
        values = {**values, "ssl_ca": SYSTEM}
    return _checked(values, mode, ("ssl_ca", "ssl_cert", "ssl_key"), "ssl_verify_cert")


def _switch(name: str, value: str) -> bool:
    found = _SWITCHES.get(value.lower())
    if found is None:
        raise ValueError(f"{name}: true or false")
    return found


def _checked(
    values: Mapping[str, str], mode: Mode, files: tuple[str, str, str], setting: str
) -> TlsOptions:
    ca, certificate, key = (values.get(name, "") for name in files)
    if key and not certificate:
        raise ValueError(f"{files[2]}: it needs {files[1]}")
    if mode < Mode.REQUIRE and (used := [name for name in files if name in values]):
        raise ValueError(f"{used[0]}: with this {setting} the connection may have no TLS")
    if mode > Mode.REQUIRE and not ca and files[0] == "ssl_ca":
        raise ValueError(
            f"{setting}: it needs {files[0]}: a PEM file of the server's CA, or "
            f"{SYSTEM} for those that the system trusts"
        )
    if ca == SYSTEM and mode is Mode.VERIFY_CA:
        raise ValueError(
            f"{files[0]}: with {SYSTEM} the host name is verified, too: anybody can get a "
            "certificate from one of these"
        )
    return TlsOptions(mode, ca, certificate, key, files[:2])
