"""TLS to real SQL servers with an authority of our own, by the options of database URLs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, text
from sqlalchemy.engine import make_url

from iredapi.config.parsing import async_url
from iredapi.database.database import Database, PoolOptions
from iredapi.database.server import Server
from iredapi.runtime.start_errors import reason
from iredapi.state.connections import Connections, StateUnavailable
from tests.conftest import need
from tests.servers import mariadb, postgresql
from tests.servers.certificates import Authority
from tests.servers.mariadb import MariadbServer
from tests.servers.postgresql import PostgresqlServer
from tests.servers.process import is_root, remove_directory, temporary_directory
from tests.servers.store import Store


class Secured:
    """A server that speaks TLS with a certificate for 127.0.0.1, and the files of its clients."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        authority, other = Authority(), Authority("another authority")
        owner = ("postgres" if kind == "postgresql" else "mysql") if is_root() else None
        self._directory = temporary_directory("tls", owner)
        files = {"ca": authority.certificate, "other": other.certificate}
        files["cert"], files["key"] = authority.issue("127.0.0.1")
        files["mine"], files["mykey"] = authority.issue("client.invalid")
        self.files = {name: self._write(name, content) for name, content in files.items()}
        f = self.files
        self.server: PostgresqlServer | MariadbServer
        if kind == "postgresql":
            tls = {"ssl": "on", "ssl_cert_file": f["cert"], "ssl_key_file": f["key"]}
            self.server = PostgresqlServer(postgresql.SETTINGS | tls | {"ssl_ca_file": f["ca"]})
        else:
            plain = [item for item in mariadb.SETTINGS if item != "--skip-ssl"]
            self.server = MariadbServer(
                [*plain, f"--ssl-ca={f['ca']}", f"--ssl-cert={f['cert']}", f"--ssl-key={f['key']}"]
            )

    def _write(self, name: str, content: bytes) -> str:
        path = self._directory / f"{name}.pem"
        path.write_bytes(content)
        path.chmod(0o600)
        if is_root():
            owner = self._directory.stat()
            os.chown(path, owner.st_uid, owner.st_gid)
        return str(path)

    def url(self, options: str, **parts: Any) -> str:
        """The administrator's URL with options, in which names of files stand in braces."""
        url = self.server.admin.set(**parts)
        bare = url.set(query={}).render_as_string(hide_password=False)
        return async_url(f"{bare}?{options.format_map(self.files)}")

    def stop(self) -> None:
        self.server.stop()
        remove_directory(self._directory)


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def secured(request: pytest.FixtureRequest) -> Iterator[Secured]:
    need(request.param)
    server = Secured(request.param)
    yield server
    server.stop()


async def _cipher(url: str) -> str:
    """Connect as the service does; return the cipher of the connection, empty without TLS."""
    database = Database("vmail", url, MetaData(), PoolOptions(connect_timeout=5))
    try:
        await database.ping()
        async with database.using() as pooled:
            connection = pooled.connection
            if database.dialect == "postgresql":
                asked = "SELECT cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            else:
                asked = "SHOW STATUS LIKE 'Ssl_cipher'"
            return str((await connection.execute(text(asked))).all()[0][-1] or "")
    finally:
        await database.close()


async def _why(url: str) -> str:
    """What an operator is told about a database that cannot be used."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of any driver
        await _cipher(url)
    connections = await Connections.open(url)
    try:
        with pytest.raises(StateUnavailable):
            await connections.read(text("SELECT 1"))
    finally:
        await connections.close()
    return (await reason(caught.value, make_url(url))).sentence


def _replace(path: str, content: str) -> str:
    """Write a file; return what was in it."""
    before = Path(path).read_text(encoding="utf-8")
    Path(path).write_text(content, encoding="utf-8")
    return before


ACCEPTED = {
    "postgresql": (
        "sslmode=require", "ssl=require", "sslmode=prefer", "sslrootcert={ca}",
        "sslmode=verify-full&sslrootcert={ca}", "sslmode=require&sslcert={mine}&sslkey={mykey}",
    ),
    "mariadb": (
        "ssl=true", "ssl-mode=REQUIRED", "sslmode=preferred", "ssl_ca={ca}", "sslmode=require",
        "ssl_mode=VERIFY_IDENTITY&ssl-ca={ca}", "ssl_ca={ca}&ssl_cert={mine}&ssl_key={mykey}",
        "ssl=1&ssl_ca={ca}&ssl_verify_cert=true&ssl_verify_identity=true",
    ),
}  # fmt: skip
PLAIN = {"postgresql": "sslmode=disable", "mariadb": "ssl-mode=DISABLED"}
ANOTHER_NAME = {
    "postgresql": ("sslmode=verify-full&sslrootcert={ca}", "sslmode=verify-ca&sslrootcert={ca}"),
    "mariadb": ("ssl_ca={ca}", "ssl_ca={ca}&ssl_verify_identity=false"),
}
ANOTHER_CA = {"postgresql": "sslmode=require&sslrootcert={other}", "mariadb": "ssl_ca={other}"}


async def test_connections_have_tls_when_the_url_says_so(secured: Secured) -> None:
    for options in ACCEPTED[secured.kind]:
        assert await _cipher(secured.url(options)), options
    assert await _cipher(secured.url(PLAIN[secured.kind])) == ""


async def test_a_certificate_of_another_authority_is_refused(secured: Secured) -> None:
    said = await _why(secured.url(ANOTHER_CA[secured.kind]))
    assert said.startswith("TLS with 127.0.0.1")
    assert "certificate" in said


async def test_a_certificate_for_another_name_is_refused(secured: Secured) -> None:
    checked, unchecked = ANOTHER_NAME[secured.kind]
    said = await _why(secured.url(checked, host="localhost"))
    assert said.startswith("TLS with localhost")
    assert "localhost" in said.partition("fails:")[2]
    assert await _cipher(secured.url(unchecked, host="localhost"))


async def test_a_server_that_wants_tls_says_so(secured: Secured) -> None:
    """And one that wants a certificate of its clients gets it."""
    admin = Database("vmail", secured.url(PLAIN[secured.kind]), MetaData())
    tls = ACCEPTED[secured.kind][0]
    try:
        async with admin.using(writing=True) as pooled:
            run = pooled.connection.exec_driver_sql
            if secured.kind == "postgresql":
                hba = (await run("SHOW hba_file")).scalar_one()
                before = _replace(
                    hba, "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n"
                )
                await run("SELECT pg_reload_conf()")
                with_certificate = "sslmode=require&sslcert={mine}&sslkey={mykey}"
                wanted = "?sslmode=require"
            else:
                await run("SET GLOBAL require_secure_transport = ON")
                await run("CREATE USER x@'%%' IDENTIFIED BY 'x' REQUIRE X509")
                await run("GRANT SELECT ON mysql.* TO x@'%%'")
                with_certificate = "ssl_ca={ca}&ssl_cert={mine}&ssl_key={mykey}"
                wanted = "?ssl_ca=FILE"
            try:
                assert wanted in await _why(secured.url(PLAIN[secured.kind]))
                login = {} if secured.kind == "postgresql" else {"username": "x", "password": "x"}
                assert await _cipher(secured.url(with_certificate, **login))
                await _why(secured.url(tls, **login))
            finally:
                if secured.kind == "postgresql":
                    _replace(hba, before)
                    await run("SELECT pg_reload_conf()")
                else:
                    await run("SET GLOBAL require_secure_transport = OFF")
    finally:
        await admin.close()


@pytest.mark.stores("postgresql", "mariadb")
async def test_a_server_without_tls_is_refused_when_it_is_required(selected_store: Store) -> None:
    required = {"postgresql": "sslmode=require", "mariadb": "ssl=true"}[selected_store.name]
    offered = {"postgresql": "sslmode=prefer", "mariadb": "ssl-mode=PREFERRED"}
    url = make_url(selected_store.vmail).set(query={})

    def with_options(options: str) -> str:
        return async_url(f"{url.render_as_string(hide_password=False)}?{options}")

    assert "does not offer TLS" in await _why(with_options(required))
    assert await _cipher(with_options(offered[selected_store.name])) == ""


@pytest.mark.stores("postgresql", "mariadb")
async def test_what_answers_is_known(selected_store: Store) -> None:
    async with selected_store.connect("state") as connection:
        server = await Server.ask(connection)
    said = {"postgresql": ("PostgreSQL",), "mariadb": ("MariaDB", "MySQL", "Percona Server")}
    assert str(server).startswith(said[selected_store.name])
    assert server.version >= (8,)
    assert server.too_old() == ""
