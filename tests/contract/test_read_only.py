"""A transaction that was opened for reading refuses to write, on every storage and database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import pytest
from sqlalchemy import Table, delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from iredapi.backends.policies import tables as policies
from iredapi.backends.protocols.values import Removal
from iredapi.backends.sql import tables
from iredapi.database.compiled_statement import CompiledStatement, Statement
from iredapi.database.read_only import only_reads
from iredapi.database.session import Connections
from iredapi.domain.actors import SYSTEM
from iredapi.domain.scopes import scope
from iredapi.domain.wblists import Direction, Kind
from iredapi.errors import WriteWhileReading
from iredapi.operations import domains, throttles, users
from iredapi.workflows.admins import count_globals
from tests.clients import PASSWORD, Client, Service, serving
from tests.servers.snapshot import dump
from tests.servers.store import Store

USER: Final = "u@a.test"
GONE: Final = Removal("root@a.test", None)
_LIST: Final = (scope("a.test"), Direction.INBOUND, Kind.WHITELIST)


async def _save_user(unit: Any) -> None:
    user = await unit.users.get(USER)
    await unit.users.save(user, replace(user, name="Other"))


async def _save_domain(unit: Any) -> None:
    domain = await unit.domains.get("a.test")
    await unit.domains.save(domain, replace(domain, name="a.test", description="Other"))


async def _save_alias(unit: Any) -> None:
    alias = await unit.aliases.get("alias@a.test")
    await unit.aliases.save(alias, replace(alias, name="Other"))


async def _save_admin(unit: Any) -> None:
    admin = await unit.admins.get("admin@b.test")
    await unit.admins.save(admin, replace(admin, name="Other"))


WRITES: Final[Mapping[str, Callable[[Any], Awaitable[object]]]] = {
    "a domain is changed": _save_domain,
    "a domain is removed": lambda unit: unit.domains.remove("a.test", GONE),
    "admins of a domain are added": lambda unit: unit.domains.add_admins("a.test", [USER]),
    "a user is changed": _save_user,
    "all users are changed": lambda unit: unit.users.save_all(
        "a.test", {"language": "de_DE"}, but=()
    ),
    "a user is renamed": lambda unit: unit.users.rename(USER, "v@a.test"),
    "a user is removed": lambda unit: unit.users.remove(USER, GONE),
    "an alias is changed": _save_alias,
    "an alias is removed": lambda unit: unit.aliases.remove("alias@a.test"),
    "an admin is changed": _save_admin,
    "an admin is removed": lambda unit: unit.admins.remove("admin@b.test"),
    "an account's policies are removed": lambda unit: unit.related_data.remove_account_data(USER),
    "a throttle is made": lambda unit: unit.throttles.claim("@.", "inbound"),
    "greylisting is switched on": lambda unit: unit.greylists.save("@.", 0, active=True),
    "a spam policy is removed": lambda unit: unit.spam_policies.remove(scope("a.test")),
    "a blacklist grows": lambda unit: unit.wblists.add(*_LIST, {"x@b.test": 10}),
}


async def _arranged(root: Client) -> None:
    await root.ok("POST", "domain/a.test")
    await root.ok("POST", f"user/{USER}", password=PASSWORD, name="Own")
    await root.ok("POST", "alias/alias@a.test", name="Own")
    await root.ok("POST", "admin/admin@b.test", password=PASSWORD, name="Own")
    await root.ok("PUT", "spampolicy/domain/a.test", spam_score="5")
    await root.ok("POST", f"throttle/{USER}/inbound", max_msgs="5", period="60")


async def test_a_unit_that_reads_cannot_write(service: Service, root: Client) -> None:
    """Neither by a method of a role, nor by an operation, nor for an instant."""
    await _arranged(root)
    before = await dump(service.store)
    context = service.context
    for what, write in WRITES.items():
        reading = await context.backend.begin_read()
        try:
            unit = await reading.unit(SYSTEM, context.iredadmin_settings.configured_rules)
            with pytest.raises(WriteWhileReading):
                await write(unit)
        except pytest.fail.Exception as missing:
            raise AssertionError(what) from missing
        finally:
            await reading.close()
    read: Any = context.read
    for operation, *given in (
        (users.remove, USER, 0),
        (users.update, USER, {"name": "x"}, ""),
        (domains.remove, "a.test", 0),
        (throttles.remove, scope(USER), "inbound"),
    ):
        with pytest.raises((WriteWhileReading, AttributeError)):
            await read(SYSTEM, operation, *given)
    assert await dump(service.store) == before


_TABLES: Final[Mapping[str, tuple[Table, str]]] = {
    "vmail": (tables.mailbox, "username"),
    "amavisd": (policies.users, "email"),
    "iredapd": (policies.throttle, "account"),
    "iredadmin": (policies.log, "admin"),
}


def _statements(table: Table, name: str) -> list[Statement]:
    column = table.c[name]
    return [
        insert(table).values({name: "x"}),
        update(table).values({name: "x"}),
        delete(table),
        select(column).add_cte(delete(table).returning(column).cte("gone")),
    ]


def _ways(
    connections: Connections, name: str, compiled: CompiledStatement
) -> list[Awaitable[object]]:
    """All ways of sending a statement past SQLAlchemy that every driver has."""
    return [
        connections.run(name, compiled, {}),
        connections.execute_autocommit(name, compiled, {}),
        connections.run_all(name, [compiled], {}),
        connections.fetch_batched(name, compiled, {}),
    ]


async def test_a_connection_for_reading_refuses_what_writes(service: Service, root: Client) -> None:
    """Through SQLAlchemy and past it, before anything is sent; reads go through."""
    await _arranged(root)
    before = await dump(service.store)
    databases = service.context.databases
    for name in databases.by_name:
        table, key = _TABLES[name]
        if not (await databases[name].schema()).has(table):
            continue
        dialect = databases[name].engine.dialect
        connections = await databases.open(writing=False)
        try:
            for statement in _statements(table, key):
                with pytest.raises(WriteWhileReading):
                    await (await connections.get(name)).execute(statement)
                for sent in _ways(connections, name, CompiledStatement.of(statement, dialect)):
                    with pytest.raises(WriteWhileReading):
                        await sent
            found = await (await connections.get(name)).execute(select(table.c[key]))
            found.all()
        finally:
            await connections.close()
        with pytest.raises(WriteWhileReading):
            await databases[name].fetch(CompiledStatement.of(delete(table), dialect), {})
    assert await dump(service.store) == before


@pytest.mark.stores("sqlite", "mariadb")
async def test_the_database_refuses_too_where_a_connection_is_for_reading(store: Store) -> None:
    """Whoever sends it; and a pool that is full gives readers and writers what they need."""
    async with serving(store, pool_size=4) as service:
        database = service.context.databases["vmail"]
        async with database.using() as pooled:
            with pytest.raises(DBAPIError):
                await pooled._answered("", pooled._driver.say("DELETE FROM mailbox"))
        assert await service.context.read(SYSTEM, count_globals) == 0  # it locks what it counts
        for turn in range(2):
            readers = [await database.acquire() for _ in range(4)]
            assert all(pooled.refuses_writes for pooled in readers) is not bool(turn)
            for pooled in readers:
                assert pooled.read_only
                await database.give(pooled)
            writer = await database.acquire(writing=True)
            assert not writer.refuses_writes
            await writer.begin()
            await writer.connection.execute(delete(tables.mailbox))
            await database.give(writer, writing=True)
            assert database._pool.in_use == 0
            assert database._pool.idle <= 4


async def test_the_state_database_refuses_writes_where_it_is_read(service: Service) -> None:
    """Its read path takes SELECTs only."""
    connections = service.context.state.connections
    for sql in ("DELETE FROM locks", "UPDATE sessions SET username = 'x'"):
        with pytest.raises(WriteWhileReading):
            await connections.read(text(sql))
    assert len(await connections.read(text("SELECT 1"))) == 1


@pytest.mark.parametrize(
    "sql, reads",
    [
        ("SELECT a FROM t WHERE b = 'x'", True),
        ("SELECT a FROM t FOR UPDATE", False),
        ("SELECT a FROM t\n LOCK IN SHARE MODE", False),
        ("SELECT a FROM t FOR NO KEY UPDATE OF t SKIP LOCKED", False),
        ("\n  select 1", True),
        ("WITH x AS (SELECT 1) SELECT * FROM x", True),
        ("WITH x AS (DELETE FROM t RETURNING a) SELECT * FROM x", False),
        ("with x as (UPDATE t SET a = 1 RETURNING a) SELECT * FROM x", False),
        ("INSERT INTO t VALUES (1)", False),
        ("REPLACE INTO t VALUES (1)", False),
        ("SET STATEMENT innodb_lock_wait_timeout=0 FOR UPDATE t SET a = 1", False),
        ("CALL purge()", False),
        ("DROP TABLE t", False),
    ],
)
def test_what_is_not_known_to_read_counts_as_a_write(sql: str, reads: bool) -> None:
    assert only_reads(sql) is reads
