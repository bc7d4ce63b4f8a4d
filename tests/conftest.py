"""Fixtures that every test may use: databases, and Postfix's and Dovecot's view of them.

``store`` runs a test once on each kind of database (SQLite, PostgreSQL, MariaDB), emptied before
the test; ``@pytest.mark.stores("postgresql")`` picks some, of all kinds that there are.
``postfix`` and ``dovecot`` answer for the same ``store`` and exist for servers only, not for
SQLite. What is not installed is skipped, unless ``--require`` names it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from iredapi.auth import login_throttle
from iredapi.observability.logging import configure
from tests import ansible_core, node_packages
from tests.clients import Client, Service, serving
from tests.servers import (
    amavis,
    chromium,
    deployed_galera,
    galera,
    mariadb,
    mlmmjadmin,
    nginx,
    openldap,
    patroni,
    php,
    postgresql,
    prometheus,
)
from tests.servers import dovecot as dovecot_server
from tests.servers import postfix as postfix_maps
from tests.servers.dovecot import Dovecot
from tests.servers.mariadb import MariadbServer
from tests.servers.openldap import OpenldapServer
from tests.servers.postfix import PostfixMaps
from tests.servers.postgresql import PostgresqlServer
from tests.servers.process import remove_directory, temporary_directory
from tests.servers.store import ALL_STORES, STORES, Store, create_sqlite
from tests.servers.submission import Submission

# Why something is not available here, or None.
MISSING: dict[str, Callable[[], str | None]] = {
    "postgresql": postgresql.missing,
    "mariadb": mariadb.missing,
    "postmap": postfix_maps.missing,
    "doveadm": dovecot_server.missing,
    "chromium": chromium.missing,
    "node": node_packages.missing,
    "ansible": ansible_core.missing,
    "php": php.missing,
    "nginx": nginx.missing,
    "prometheus": prometheus.missing,
    "openldap": openldap.missing,
    "mlmmj": mlmmjadmin.missing,
    "amavisd": amavis.missing,
    "patroni": patroni.missing,
    "galera": galera.missing,
    "haproxy": deployed_galera.missing,
}


def need(name: str) -> None:
    """Skip the test when a program of ``--require``'s list is not here."""
    reason = MISSING[name]()
    if reason is not None:
        pytest.skip(reason)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require",
        default="",
        metavar="LIST",
        help=f"fail at once, instead of skipping, without: {','.join(MISSING)}",
    )
    parser.addoption(
        "--stores",
        default="",
        metavar="LIST",
        help=f"run tests of storages on these only: {','.join(ALL_STORES)}",
    )


def pytest_configure(config: pytest.Config) -> None:
    configure("ERROR")
    config.addinivalue_line("markers", "stores(*names): run on these kinds of database only")
    config.addinivalue_line("markers", "sql_only(reason): not on OpenLDAP, and why")
    config.addinivalue_line("markers", "needs(*names): skip without these programs (see --require)")
    required = [name for name in config.getoption("--require").split(",") if name]
    unknown = sorted(set(required) - set(MISSING))
    if unknown:
        raise pytest.UsageError(f"--require: {', '.join(unknown)}: not one of {', '.join(MISSING)}")
    reasons = [f"{name}: {reason}" for name in required if (reason := MISSING[name]())]
    if reasons:
        raise pytest.UsageError(
            "required for the tests but missing (scripts/install-test-servers installs it):\n  "
            + "\n  ".join(reasons)
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "selected_store" not in metafunc.fixturenames:
        return
    markers = list(metafunc.definition.iter_markers("stores"))
    only_sql = metafunc.definition.get_closest_marker("sql_only") is not None
    names: tuple[str, ...] = ALL_STORES if markers else STORES
    if chosen := metafunc.config.getoption("--stores"):
        names = tuple(name for name in ALL_STORES if name in chosen.split(","))
    if only_sql:
        names = tuple(name for name in names if name != "openldap")
    if {"postfix", "dovecot", "dovecot_logins", "submission"} & set(metafunc.fixturenames):
        names = tuple(name for name in names if name != "sqlite")
    for marker in markers:
        unknown = set(marker.args) - set(ALL_STORES)
        if unknown:
            raise pytest.UsageError(f"{metafunc.definition.nodeid}: no such stores: {unknown}")
        names = tuple(name for name in names if name in marker.args)
    metafunc.parametrize("selected_store", names, ids=names, indirect=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for name in marker.args:
            need(name)


@pytest.fixture(scope="session", autouse=True)
def long_tags_of_passwords() -> Iterator[None]:
    """The login throttle stores two bytes of a tried password, and equal ones count once.

    Two of ten passwords have the same ones in one of 1,500 runs of a test that counts guesses.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(login_throttle, "_TAG_BYTES", 8)
        yield


@pytest.fixture(scope="session")
def store_suffix(worker_id: str) -> str:
    """What makes the names of this worker's databases and logins unique."""
    return f"{worker_id}_{os.getpid()}"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """A PostgreSQL server for this test worker."""
    need("postgresql")
    server = PostgresqlServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariadbServer]:
    """A MariaDB server for this test worker."""
    need("mariadb")
    server = MariadbServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def openldap_server() -> Iterator[OpenldapServer]:
    """An OpenLDAP server for this test worker."""
    need("openldap")
    server = OpenldapServer()
    yield server
    server.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sqlite_store() -> AsyncIterator[Store]:
    """The SQLite files of this test worker; not emptied by this fixture."""
    directory = temporary_directory("sqlite")
    store = await create_sqlite(directory)
    yield store
    await store.close()
    remove_directory(directory)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgresql_store(
    postgresql_server: PostgresqlServer, store_suffix: str
) -> AsyncIterator[Store]:
    """The PostgreSQL databases of this test worker; not emptied by this fixture."""
    store = await postgresql_server.create_store(store_suffix)
    yield store
    await store.close()
    await postgresql_server.drop_stores()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mariadb_store(mariadb_server: MariadbServer, store_suffix: str) -> AsyncIterator[Store]:
    """The MariaDB databases of this test worker; not emptied by this fixture."""
    store = await mariadb_server.create_store(store_suffix)
    yield store
    await store.close()
    await mariadb_server.drop_stores()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def openldap_store(
    mariadb_server: MariadbServer, openldap_server: OpenldapServer, store_suffix: str
) -> AsyncIterator[Store]:
    """This test worker's directory and the databases beside it; not emptied by this fixture."""
    store = await mariadb_server.create_store(f"{store_suffix}_ldap", openldap_server)
    yield store
    await store.close()
    # Those of ``mariadb_store`` too: this is the end of all tests.
    await mariadb_server.drop_stores()


@pytest.fixture
def selected_store(request: pytest.FixtureRequest) -> Store:
    """The store of this run of the test, as the test before has left it."""
    name: str = request.param
    if name != "sqlite":
        need(name)
    store: Store = request.getfixturevalue(f"{name}_store")
    return store


@pytest_asyncio.fixture(loop_scope="session")
async def store(selected_store: Store) -> Store:
    """Each kind of database in turn, with nothing in it but what a fresh server has."""
    await selected_store.reset()
    return selected_store


@pytest.fixture(scope="session")
def _postfix_maps() -> Iterator[dict[str, PostfixMaps]]:
    maps: dict[str, PostfixMaps] = {}
    yield maps
    for item in maps.values():
        item.close()


@pytest.fixture
def postfix(store: Store, _postfix_maps: dict[str, PostfixMaps]) -> PostfixMaps:
    """Postfix's lookups in ``store``."""
    need("postmap")
    if store.name not in _postfix_maps:
        _postfix_maps[store.name] = PostfixMaps(store)
    return _postfix_maps[store.name]


@pytest.fixture(scope="session")
def _dovecots() -> Iterator[dict[str, Dovecot]]:
    dovecots: dict[str, Dovecot] = {}
    yield dovecots
    for item in dovecots.values():
        item.close()


@pytest.fixture
def dovecot(store: Store, _dovecots: dict[str, Dovecot]) -> Dovecot:
    """A running Dovecot that finds its users in ``store``."""
    need("doveadm")
    if store.name not in _dovecots:
        _dovecots[store.name] = Dovecot(store)
    return _dovecots[store.name]


@pytest.fixture(scope="session")
def _dovecots_for_logins() -> Iterator[dict[str, Dovecot]]:
    dovecots: dict[str, Dovecot] = {}
    yield dovecots
    for item in dovecots.values():
        item.close()


@pytest.fixture
def dovecot_logins(store: Store, _dovecots_for_logins: dict[str, Dovecot]) -> Dovecot:
    """A running Dovecot with IMAP on loopback (``imap_login``); homes are temporary."""
    need("doveadm")
    if store.name not in _dovecots_for_logins:
        _dovecots_for_logins[store.name] = Dovecot(store, logins=True)
    return _dovecots_for_logins[store.name]


@pytest.fixture(scope="session")
def _submissions() -> Iterator[dict[str, Submission]]:
    submissions: dict[str, Submission] = {}
    yield submissions
    for item in submissions.values():
        item.close()


@pytest.fixture
def submission(
    store: Store, dovecot_logins: Dovecot, _submissions: dict[str, Submission]
) -> Submission:
    """A running Postfix that asks ``dovecot_logins`` who may send."""
    need("postmap")
    if store.name not in _submissions:
        _submissions[store.name] = Submission(dovecot_logins)
    return _submissions[store.name]


class _Services:
    """One application per kind of store, opened when first asked for."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._open: dict[str, Service] = {}

    async def on(self, store: Store) -> Service:
        if store.name not in self._open:
            spool = temporary_directory("spool")
            self._stack.callback(remove_directory, spool)
            # Nobody listens on port 1: mail stays in the queue.
            given = {"mlmmj_spool": f"{spool}/mlmmj", "mlmmj_smtp_port": 1}
            (spool / "mlmmj").mkdir(mode=0o700)
            self._open[store.name] = await self._stack.enter_async_context(serving(store, **given))
        return self._open[store.name]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _services() -> AsyncIterator[_Services]:
    async with AsyncExitStack() as stack:
        yield _Services(stack)


@pytest_asyncio.fixture(loop_scope="session")
async def service(store: Store, _services: _Services) -> Service:
    """The application on ``store``, with the default settings."""
    found = await _services.on(store)
    found.context.invalidate_caches()
    return found


@pytest_asyncio.fixture(loop_scope="session")
async def root(service: Service) -> Client:
    """A client of ``service`` that is logged in as a global admin."""
    return await service.root()
