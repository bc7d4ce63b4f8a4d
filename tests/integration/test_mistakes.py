"""What an operator may do wrong: each mistake ends with its status and a sentence.

The sentences are those of ``docs/mistakes.md``, where ``PATH``, ``PORT``, ``USER`` … stand for
what differs. ``WRITE_MISTAKES=file`` in the environment writes the rows of that page there.
"""

from __future__ import annotations

import os
import pwd
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy.engine import URL, make_url

from iredapi.cli.commands import app
from iredapi.config.loading import load
from tests.clients import PASSWORD
from tests.integration.test_command_line import in_process, iredapi
from tests.servers import mariadb, mysql
from tests.servers.api import COMMAND, environment, urls_of
from tests.servers.mariadb import MariadbServer
from tests.servers.openldap import OpenldapServer
from tests.servers.process import free_port, is_root
from tests.servers.store import Store

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "mistakes.md"
SECRET = "s3cret-Passw0rd"
"""In every URL and setting that holds a password: it must never be shown."""


@dataclass(frozen=True)
class Mistake:
    """One mistake. ``says`` are the sentences that the command ends with, made comparable."""

    what: str
    given: Mapping[str, str] = field(default_factory=dict)
    file: str | bytes | None = None
    """The env file, named with --env-file."""
    prepare: Callable[[Path], Any] | None = None
    """Spoils something in the directory where the command runs."""
    command: tuple[str, ...] = ("serve",)
    status: int = 2

    def __str__(self) -> str:
        """Name the case."""
        return self.what


def env(what: str, **given: str) -> Mistake:
    """A mistake in the environment; names without their prefix."""
    return Mistake(what, {f"IREDAPI_{name}": value for name, value in given.items()})


def file(what: str, text: str | bytes, **more: Any) -> Mistake:
    """A mistake in the env file."""
    return Mistake(what, file=text, **more)


def spoil(what: str, how: Callable[[Path], Any], **given: str) -> Mistake:
    """A mistake in the data directory."""
    return Mistake(what, {f"IREDAPI_{name}": value for name, value in given.items()}, prepare=how)


def _made(place: Path) -> Path:
    """The data directory of an embedded default that has run."""
    done = in_process("admin", "create", "x@corp.test", "--password", PASSWORD)
    assert done.exit_code == 0, done.stderr
    return place / "data"


def _damage(path: Path) -> None:
    """Overwrite everything but the file's head, as a broken disk would."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xa5" * (len(content) - 100))


def _replace(path: Path, content: bytes) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(content)


def _directory(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)


SQL = f"postgresql://vmailadmin:{SECRET}@192.0.2.1/vmail"
MARIA = f"mysql://vmailadmin:{SECRET}@192.0.2.1/vmail"
LDAP = {
    "BACKEND": "ldap", "LDAP_URI": "ldap://192.0.2.1", "LDAP_BASE_DN": "o=domains,dc=x",
    "LDAP_BIND_DN": "cn=vmailadmin,dc=x", "LDAP_BIND_PASSWORD": SECRET,
}  # fmt: skip

# fmt: off
MISTAKES = [
    # Names and lines.
    env("A letter is wrong in a name", VMAIL_URI=SQL),
    env("A letter is missing in a name", ALLOWED_NETWORK="10.0.0.0/8"),
    env("A name that resembles none", FROBNICATE="yes"),
    Mistake("The prefix is misspelt", {"IREADPI_ALLOWED_NETWORKS": "10.0.0.0/8"}),
    file("The same in the env file", "IREDAPI_PORT=0\nIREDAPI_ALLOWED_NETWORK=10.0.0.0/8\n"),
    file("The prefix is missing in the env file", "\nALLOWED_NETWORKS=10.0.0.0/8\n"),
    file("A line with a blank in place of =", "# port\n\nIREDAPI_PORT 8000\n"),
    file("A name without a value", "IREDAPI_ALLOWED_NETWORKS\n"),
    file("A colon in place of =", "IREDAPI_ALLOWED_NETWORKS: 10.0.0.0/8\n"),
    file("A quotation mark is not closed", f'IREDAPI_ADMIN_PASSWORD="{SECRET}\n'),
    file("A quotation mark is closed later",
         f'IREDAPI_ADMIN_PASSWORD="{SECRET}\nIREDAPI_ALLOWED_NETWORKS=10.0.0.0/8\nIREDAPI_ADMIN=x"\n'),
    file("The env file is in another encoding", b"IREDAPI_PORT=0\nIREDAPI_ADMIN=\xe4@b.c\n"),
    Mistake("The env file does not exist", command=("serve", "--env-file", "none.env")),
    Mistake("A directory where the env file should be",
            prepare=lambda place: (place / "d.env").mkdir(),
            command=("serve", "--env-file", "d.env")),
    # Values.
    env("A port that is no number", PORT="many"),
    env("A port out of range", PORT="70000"),
    env("A switch that is neither true nor false", ALWAYS_200="perhaps"),
    env("A size below its minimum", BODY_LIMIT="-1"),
    env("A network with too long a prefix", ALLOWED_NETWORKS="10.0.0.0/33"),
    env("A network with bits of a host", ALLOWED_NETWORKS="10.0.0.1/24"),
    env("A name where addresses are expected", TRUSTED_PROXIES="proxy"),
    env("An unknown log level", LOG_LEVEL="LOUD"),
    env("An unknown password scheme", PASSWORD_SCHEME="ROT13"),
    env("A prefix without its slash", PREFIXES="api"),
    env("An unknown storage", BACKEND="nis"),
    env("A resolver that is a name", DNS_RESOLVER="dns.example.com"),
    env("A version of Dovecot that is none", DOVECOT_VERSION="new"),
    env("A version of Dovecot that is too old", DOVECOT_VERSION="2.2.36"),
    env("A relative path for mailboxes", STORAGE_BASE_DIRECTORY="vmail"),
    env("A host name that does not exist", HOST="no.such.host.invalid"),
    env("An address of another machine", HOST="192.0.2.1"),
    env("The first admin is no address", ADMIN="nobody"),
    env("The first admin's password is too short", ADMIN_PASSWORD="s3cret-"),
    # URLs.
    env("A database that is not supported", VMAIL_URL=f"oracle://u:{SECRET}@h/x"),
    env("A URL that is none", VMAIL_URL=f"{SECRET} nonsense"),
    env("An @ in a password", VMAIL_URL=f"postgresql://u:p@{SECRET}@h/vmail"),
    env("A URL's port is no number", VMAIL_URL=f"postgresql://u:{SECRET}@h:port/vmail"),
    env("A URL without the database's name", VMAIL_URL=f"mysql://u:{SECRET}@h"),
    env("SQLite with two slashes", VMAIL_URL="sqlite://vmail.db"),
    env("SQLite in memory", STATE_URL="sqlite:///:memory:"),
    env("An option of TLS that PostgreSQL does not know", VMAIL_URL=f"{SQL}?sslmodus=require"),
    env("An option of TLS that MariaDB does not know", VMAIL_URL=f"{MARIA}?ssl_cafile=/ca.pem"),
    env("An unknown mode of TLS to PostgreSQL", VMAIL_URL=f"{SQL}?sslmode=full"),
    env("An unknown mode of TLS to MariaDB", VMAIL_URL=f"{MARIA}?ssl-mode=on"),
    env("A switch for TLS that is neither true nor false", VMAIL_URL=f"{MARIA}?ssl=perhaps"),
    env("A CA file that does not exist", VMAIL_URL=f"{MARIA}?ssl_ca=/nowhere/ca.pem"),
    spoil("A CA file without a certificate", lambda place: (place / "ca.pem").write_text("x"),
          VMAIL_URL=f"{SQL}?sslmode=verify-full&sslrootcert=ca.pem"),
    env("A verified certificate without a CA", VMAIL_URL=f"{MARIA}?ssl-mode=VERIFY_CA"),
    env("The host name verified, but not the certificate",
        VMAIL_URL=f"{MARIA}?ssl_verify_identity=true&ssl_verify_cert=false"),
    env("A CA, but no TLS", VMAIL_URL=f"{MARIA}?ssl=false&ssl_ca=/ca.pem"),
    env("A CA, and TLS only if the server offers it",
        VMAIL_URL=f"{SQL}?sslmode=prefer&sslrootcert=/ca.pem"),
    env("The key of a client without its certificate", VMAIL_URL=f"{SQL}?sslkey=/key.pem"),
    env("Two options that say the same", VMAIL_URL=f"{SQL}?ssl=require&sslmode=disable"),
    # What does not go together.
    env("Amavisd's database without one of accounts", AMAVISD_URL=SQL),
    env("The panel's database without one of accounts", IREDADMIN_URL=SQL, STATE_URL=SQL),
    env("Several workers on SQLite", WORKERS="2"),
    env("Our own database is that of accounts", VMAIL_URL=SQL, STATE_URL=SQL),
    env("LDAP settings without the storage", LDAP_URI="ldap://192.0.2.1"),
    env("The storage ldap without a server", BACKEND="ldap"),
    env("The storage ldap with a database vmail", **LDAP, VMAIL_URL=SQL),
    env("StartTLS with ldaps", **LDAP | {"LDAP_URI": "ldaps://192.0.2.1"}, LDAP_STARTTLS="yes"),
    env("A scheme that OpenLDAP cannot check", **LDAP, PASSWORD_SCHEME="ARGON2ID",
        DOVECOT_VERSION="2.3"),
    env("A list server without its token", MLMMJADMIN_URL="http://127.0.0.1:7790/api"),
    env("A list server's token without its URL", MLMMJADMIN_TOKEN=SECRET),
    env("Two keepers of lists", MLMMJADMIN_URL="http://127.0.0.1:7790/api",
        MLMMJADMIN_TOKEN=SECRET, MLMMJ_SPOOL="/var/vmail/mlmmj"),
    env("Another quota table in the embedded default", USED_QUOTA_TABLE="quota"),
    # Files.
    spoil("The data directory is a file", lambda place: (place / "data").write_text("")),
    env("The data directory cannot be made", DATA_DIR="/proc/nothing"),
    spoil("A data directory elsewhere is a file", lambda place: (place / "f").touch(),
          DATA_DIR="f/d"),
    env("An SQLite file that does not exist", VMAIL_URL="sqlite:////nowhere/vmail.db"),
    spoil("Our own database is damaged", lambda place: _damage(_made(place) / "state.db")),
    spoil("Our own database is no database",
          lambda place: _replace(_made(place) / "state.db", b"x" * 9000)),
    spoil("Our own database is a directory",
          lambda place: _directory(place / "data" / "state.db")),
    spoil("The accounts' database is damaged", lambda place: _damage(_made(place) / "vmail.db")),
    spoil("The accounts' database is no database",
          lambda place: _replace(_made(place) / "vmail.db", b"x" * 9000)),
    # Commands.
    Mistake("A check that does not exist", command=("doctor", "--only", "NOTHING")),
    Mistake("No password for a new admin", command=("admin", "create", "x@corp.test")),
    Mistake("init with nothing to write", command=("init", "--output", "new.env")),
    Mistake("init over a file",
            prepare=lambda place: (place / "old.env").write_text("IREDAPI_PORT=1\n"),
            command=("init", "--vmail-url", SQL, "--output", "old.env")),
    Mistake("iRedAdmin's settings do not exist",
            command=("init", "--from-iredadmin", "none.py", "--output", "new.env")),
]
# fmt: on


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("IREDAPI"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    # A mistake that nobody sees must not leave a server running in this process.
    monkeypatch.setattr("uvicorn.Server.run", _started)


def _started(*_args: Any, **_kwargs: Any) -> None:
    raise AssertionError("the service started")


class _Page:
    """The rows of ``docs/mistakes.md``."""

    def __init__(self) -> None:
        text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        cells = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
        self.rows = {
            row[0].removeprefix("| "): (row[1], row[2].removesuffix(" |")) for row in cells
        }


def check(
    what: str, status: int, output: str, secrets: list[str], shown: Mapping[str, str]
) -> None:
    """Compare what was said with the page, and look for what must not be said."""
    assert "Traceback" not in output
    for secret in [SECRET, *secrets]:
        assert secret not in output
    for text, name in sorted(shown.items(), key=lambda item: -len(item[0])):
        output = output.replace(text, name)
    said = re.sub(r"\s*\n\s*", "; ", output.strip()).replace("iredapi: ", "").replace("|", "/")
    row = (str(status), f"{said}")
    if place := os.environ.get("WRITE_MISTAKES"):
        with Path(place).open("a", encoding="utf-8") as rows:
            rows.write(f"| {what} | {row[0]} | {row[1]} |\n")
        return
    assert _Page().rows.get(what) == row
    assert re.search(r"IREDAPI_[A-Z]|, line \d|--[a-z]|\w+\.(env|py)\b|password", said)


@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
def test_mistakes(mistake: Mistake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IREDAPI_START_TIMEOUT", "0")
    monkeypatch.setenv("IREDAPI_PORT", "0")
    command = mistake.command
    if mistake.file is not None:
        text = mistake.file if isinstance(mistake.file, bytes) else mistake.file.encode()
        (tmp_path / "my.env").write_bytes(text)
        command = (*command, "--env-file", "my.env")
    if mistake.prepare is not None:
        mistake.prepare(tmp_path)
    for name, value in mistake.given.items():
        monkeypatch.setenv(name, value)
    done = in_process(*command)
    assert done.exit_code == mistake.status, done
    assert "listens on" not in done.stdout
    check(mistake.what, done.exit_code, done.stderr, [], {str(tmp_path): "/PATH"})


# Every command --------------------------------------------------------------------------------


def _commands() -> Iterator[tuple[str, ...]]:
    given = {
        ("docs",): ("errors",), ("ldap-schema",): ("amavis",), ("dns",): ("ex.com",),
        ("apply",): ("desired.yaml",), ("import",): ("accounts.ndjson",),
        ("admin", "create"): ("x@corp.test", "--password", PASSWORD),
        ("admin", "password"): ("x@corp.test", "--password", PASSWORD),
        ("token", "create"): ("x@corp.test", "--label", "x"), ("token", "rotate"): ("x",),
        ("token", "revoke"): ("x",), ("init",): ("--vmail-url", SQL, "--output", "new.env"),
    }  # fmt: skip

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                yield from walk(inner, (*words, name))
        else:
            yield words + given.get(words, ())

    yield from walk(typer.main.get_command(app), ())


@pytest.mark.parametrize("words", list(_commands()), ids=lambda words: " ".join(words[:2]))
@pytest.mark.parametrize("where", ["environment", "file"])
def test_every_command_refuses_unknown_names(
    words: tuple[str, ...], where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "environment":
        monkeypatch.setenv("IREDAPI_ALLOWED_NETWORK", "10.0.0.0/8")
    else:
        (tmp_path / "etc.env").write_text("\nIREDAPI_ALLOWED_NETWORK=10.0.0.0/8\n")
        monkeypatch.setattr("iredapi.config.loading.ENV_FILE", tmp_path / "etc.env")
    done = in_process(*words)
    assert done.exit_code == (1 if words[0] == "apply" else 2)  # there 2 means changes
    place = "environment" if where == "environment" else f"{tmp_path / 'etc.env'}, line 2"
    assert done.stderr == (
        f"iredapi: {place}: there is no setting IREDAPI_ALLOWED_NETWORK: did you mean "
        "IREDAPI_ALLOWED_NETWORKS?\n"
    )
    assert done.stdout == ""
    assert {path.name for path in tmp_path.iterdir()} <= {"etc.env"}


# Servers --------------------------------------------------------------------------------------


def _url(store: Store, database: str = "vmail") -> URL:
    return make_url(urls_of(store)[f"IREDAPI_{database.upper()}_URL"])


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


@contextmanager
def _silent() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def _shown(store: Store, *ports: int) -> dict[str, str]:
    shown = {str(port): "PORT" for port in ports}
    for name in ("vmail", "amavisd", "iredapd", "iredadmin", "state"):
        if f"IREDAPI_{name.upper()}_URL" in urls_of(store):
            url = _url(store, name)
            shown[str(url.username)] = "USER"
            shown[str(url.database)] = f"{name.upper()}_NAME"
            shown[str(url.port)] = "PORT"
    return shown


SERVER_MISTAKES: dict[str, tuple[str, Callable[[URL, dict[str, Any]], URL]]] = {
    "wrong password": ("vmail", lambda url, _: url.set(password="wrong")),
    "wrong user": ("vmail", lambda url, _: url.set(username="stranger")),
    "wrong database": ("vmail", lambda url, _: url.set(database="nothing")),
    "database of another program": ("state", lambda _, other: other["iredadmin"]),
    "wrong port": ("vmail", lambda url, _: url.set(port=free_port())),
    "port of something silent": ("vmail", lambda url, other: url.set(port=other["silent"])),
    "wrong host": ("vmail", lambda url, _: url.set(host="no.such.host.invalid")),
    "port of the other kind of server": ("vmail", lambda url, other: url.set(port=other["port"])),
    "unknown option": ("vmail", lambda url, _: url.update_query_dict({"colour": "red"})),
    "TLS without TLS": ("vmail", lambda url, _: url.update_query_dict({"sslmode": "require"})),
    "wrong password of Amavisd": ("amavisd", lambda url, _: url.set(password="wrong")),
    "wrong password of our own database": ("state", lambda url, _: url.set(password="wrong")),
}  # fmt: skip
TITLES = {"postgresql": "PostgreSQL", "mariadb": "MariaDB"}
AWAY = {"wrong port", "port of something silent", "wrong host"}


@pytest.mark.stores("postgresql", "mariadb")
@pytest.mark.parametrize("name", SERVER_MISTAKES)
def test_servers(
    name: str, selected_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    store = selected_store
    database, change = SERVER_MISTAKES[name]
    other: dict[str, Any] = {"iredadmin": _url(store, "iredadmin").set(host="localhost")}
    if name == "port of the other kind of server":
        kind = "mariadb" if store.name == "postgresql" else "postgresql"
        other["port"] = _url(request.getfixturevalue(f"{kind}_store")).port
    for variable, value in urls_of(store).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("IREDAPI_START_TIMEOUT", "0")
    monkeypatch.setenv("IREDAPI_CONNECT_TIMEOUT", "1")
    with _silent() as silent:
        url = change(_url(store, database), other | {"silent": silent})
        monkeypatch.setenv(f"IREDAPI_{database.upper()}_URL", _text(url))
        done = in_process("serve", "--port", "0")
    status = 3 if name in AWAY else 2
    assert done.exit_code == status, done
    shown = _shown(store, url.port or 0, *(port for port in [other.get("port")] if port))
    passwords = [str(_url(store, each).password) for each in ("vmail", "amavisd", "state")]
    check(f"{TITLES[store.name]}: {name}", status, done.stderr, passwords, shown)


@pytest.mark.needs("mariadb")
@pytest.mark.skipif(mysql.in_place_of_mariadb(), reason="MySQL cannot pretend to be an older one")
@pytest.mark.parametrize("name", ["vmail", "state"])
def test_a_server_that_is_too_old(
    name: str, old_server: MariadbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IREDAPI_START_TIMEOUT", "0")
    monkeypatch.setenv(f"IREDAPI_{name.upper()}_URL", _text(old_server.admin))
    done = in_process("serve", "--port", "0")
    assert done.exit_code == 2, done
    secrets = [str(old_server.admin.password)]
    check(f"MariaDB: too old a server, {name}", 2, done.stderr, secrets, {})


@pytest.fixture(scope="module")
def old_server() -> Iterator[MariadbServer]:
    """A server that says that it is an older one."""
    server = MariadbServer([*mariadb.SETTINGS, "--version=10.1.48-MariaDB"])
    yield server
    server.stop()


LDAP_MISTAKES: dict[str, tuple[int, Callable[[Any], dict[str, str]]]] = {
    "wrong password": (2, lambda _: {"LDAP_BIND_PASSWORD": "wrong"}),
    "wrong bind DN": (2, lambda _: {"LDAP_BIND_DN": "cn=stranger,dc=test,dc=invalid"}),
    "a bind DN that is none": (2, lambda _: {"LDAP_BIND_DN": "vmailadmin"}),
    "a base that does not exist": (2, lambda _: {"LDAP_BASE_DN": "o=nothing,dc=test,dc=invalid"}),
    "a base that is no DN": (2, lambda _: {"LDAP_BASE_DN": "domains"}),
    "wrong port": (3, lambda at: {"LDAP_URI": f"ldap://127.0.0.1:{at['free']}"}),
    "wrong host": (3, lambda _: {"LDAP_URI": "ldap://no.such.host.invalid"}),
    "port of something silent": (3, lambda at: {"LDAP_URI": f"ldap://127.0.0.1:{at['silent']}"}),
    "port of a database": (2, lambda at: {"LDAP_URI": f"ldap://127.0.0.1:{at['sql']}"}),
    "ldaps to a port without TLS": (2, lambda at: {"LDAP_URI": f"ldaps://127.0.0.1:{at['ldap']}"}),
    "StartTLS to a server without TLS": (2, lambda _: {"LDAP_STARTTLS": "true"}),
    "a CA file that does not exist": (
        2, lambda at: {"LDAP_URI": at["tls"].tls_uri, "LDAP_CA_FILE": "/nowhere/ca.pem"}
    ),
    "ldap to the port of ldaps": (2, lambda at: {"LDAP_URI": f"ldap://127.0.0.1:{at['tls'].tls_port}"}),
    "a certificate of an unknown authority": (2, lambda at: {"LDAP_URI": at["tls"].tls_uri}),
}  # fmt: skip


@pytest.fixture(scope="module")
def tls_server() -> Iterator[OpenldapServer]:
    """A directory server that also speaks TLS."""
    server = OpenldapServer(tls=True)
    yield server
    server.stop()


@pytest.mark.stores("openldap")
@pytest.mark.parametrize("name", LDAP_MISTAKES)
def test_directories(
    name: str, selected_store: Store, tls_server: OpenldapServer, tmp_path: Path
) -> None:
    store = selected_store
    status, change = LDAP_MISTAKES[name]
    given = urls_of(store) | {"IREDAPI_START_TIMEOUT": "0", "IREDAPI_CONNECT_TIMEOUT": "1"}
    with _silent() as silent:
        at = {
            "free": free_port(), "silent": silent, "sql": _url(store, "iredadmin").port,
            "ldap": store.directory.port, "tls": tls_server,
        }  # fmt: skip
        given |= {f"IREDAPI_{key}": value for key, value in change(at).items()}
        # A process each: libldap has one TLS configuration for a whole process.
        done = iredapi("serve", "--port", "0", given=given, cwd=tmp_path)
    assert done.returncode == status, done
    ports = (at["free"], silent, at["sql"], at["ldap"], tls_server.port, tls_server.tls_port)
    shown = {str(port): "PORT" for port in ports}
    check(f"OpenLDAP: {name}", status, done.stderr, [store.directory.password], shown)


# Rights ---------------------------------------------------------------------------------------


def _weak(*words: str, cwd: Path) -> tuple[int, str]:
    """Run a command as somebody who is bound to the rights of files, also when we are root."""
    prefix: tuple[str, ...] = ()
    if is_root():
        caps = "--bounding-set=-dac_override,-dac_read_search"
        prefix = ("setpriv", caps, "--inh-caps=-dac_override,-dac_read_search")
    done = subprocess.run(
        [*prefix, *COMMAND, *words], cwd=cwd, env=environment(IREDAPI_PORT="0"),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


RIGHTS: dict[str, tuple[str, int]] = {
    "Our own database may not be read": ("data/state.db", 0o000),
    "Our own database may not be written": ("data/state.db", 0o400),
    "The data directory may not be written": ("data", 0o500),
    "The accounts' database may not be read": ("data/vmail.db", 0o000),
    "The env file may not be read": ("my.env", 0o000),
}


@pytest.mark.parametrize("what", RIGHTS)
def test_rights(what: str, tmp_path: Path) -> None:
    _made(tmp_path)
    (tmp_path / "my.env").write_text("")
    name, mode = RIGHTS[what]
    before = (tmp_path / name).stat().st_mode
    (tmp_path / name).chmod(mode)
    try:
        status, said = _weak("serve", "--env-file", "my.env", cwd=tmp_path)
    finally:
        (tmp_path / name).chmod(before)
    assert status == 2, said
    me = pwd.getpwuid(os.geteuid()).pw_name
    check(
        what,
        status,
        said,
        [],
        {
            str(tmp_path): "/PATH",
            f"owner {me}": "owner USER",
            f"process is {me}": "process is USER",
        },
    )


SECOND = "A second service on the same SQLite files"


def test_a_second_service(tmp_path: Path) -> None:
    """It changes nothing; and a lock whose process is gone, however it went, holds nobody up."""
    from iredapi.runtime.data_lock import alone

    killed = (
        "import os, signal\n"
        "from iredapi.config import loading\n"
        "from iredapi.runtime import data_lock\n"
        "with data_lock.alone(loading.load()): os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", killed], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    with alone(load()):
        done = in_process("serve", "--port", "0")
        assert done.exit_code == 2
        shown = {str(tmp_path): "/PATH", f"process {os.getpid()}": "process NUMBER"}
        check(SECOND, 2, done.stderr, [], shown)
        assert [path.name for path in (tmp_path / "data").iterdir()] == ["iredapi.lock"]


def test_the_page_has_these_and_no_others() -> None:
    titles = {mistake.what for mistake in MISTAKES} | set(RIGHTS) | {SECOND}
    titles |= {f"{title}: {name}" for title in TITLES.values() for name in SERVER_MISTAKES}
    titles |= {f"OpenLDAP: {name}" for name in LDAP_MISTAKES}
    titles |= {f"MariaDB: too old a server, {name}" for name in ("vmail", "state")}
    assert len(titles) >= 40
    assert titles | {"mistake"} >= _Page().rows.keys() >= titles
