"""The tables, the SQL that differs by server, and what a live schema lacks; all on SQLite."""

import sqlite3
from collections.abc import AsyncIterator
from datetime import date, datetime
from typing import Any

import pymysql
import pytest
import pytest_asyncio
from sqlalchemy import MetaData, insert, literal, select, text, update
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.schema import CreateTable

from iredapi.backends.policies import tables as policies
from iredapi.backends.sql import tables
from iredapi.database.column_types import ByteText
from iredapi.database.dialect import domain_of, insert_ignore
from iredapi.database.errors import is_retryable, is_unavailable, is_unique_violation
from iredapi.database.live_schema import Schema, create_all

pytestmark = pytest.mark.asyncio

_modules: Any = {"mysql": mysql, "postgresql": postgresql}
DIALECTS = {name: module.dialect() for name, module in _modules.items()}


@pytest_asyncio.fixture
async def connection() -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


def _create_table(name: str, dialect: str, metadata: MetaData = tables.metadata) -> list[str]:
    ddl = str(CreateTable(metadata.tables[name]).compile(dialect=DIALECTS[dialect]))
    return [line.strip().rstrip(",").strip() for line in ddl.splitlines()]


@pytest.mark.parametrize(
    "metadata",
    [
        tables.metadata,
        policies.amavisd_metadata,
        policies.iredapd_metadata,
        policies.iredadmin_metadata,
    ],
)
async def test_create_all(connection: AsyncConnection, metadata: MetaData) -> None:
    assert set(await create_all(connection, metadata)) == set(metadata.tables)
    assert await create_all(connection, metadata) == []
    schema = await Schema.detect(connection, metadata)
    assert schema.missing() == schema.lacking_required() == []


async def test_defaults(connection: AsyncConnection) -> None:
    await create_all(connection, tables.metadata)
    await connection.execute(insert(tables.mailbox).values(username="u@example.com"))
    row = (await connection.execute(select(tables.mailbox))).mappings().one()
    for name, value in {
        "rank": "normal",
        "birthday": date(1, 1, 1),
        "mailboxformat": "maildir",
        "mailboxfolder": "Maildir",
        "quota": 0,
        "isglobaladmin": 0,
        "active": 1,
        "settings": "",
        "allow_nets": None,
        "expired": datetime(9999, 12, 31),
    }.items():
        assert row[name] == value, name
    assert {row[name] for name in tables.ENABLE_COLUMNS} == {1}
    assert {row[name] for name in tables.SOGO_COLUMNS} == {"y"}


async def test_dates_are_plain_text_without_a_fraction(connection: AsyncConnection) -> None:
    await create_all(connection, tables.metadata)
    await connection.execute(insert(tables.admin).values(username="a@example.com"))
    moment = datetime(2026, 1, 2, 3, 4, 5, 678)
    await connection.execute(update(tables.admin).values(modified=moment))
    created, modified = (
        await connection.execute(text("SELECT created, modified FROM admin"))
    ).one()
    assert modified == "2026-01-02 03:04:05"
    assert len(str(created)) == len("2026-01-02 03:04:05")
    stored = await connection.scalar(select(tables.admin.c.modified))
    assert stored == moment.replace(microsecond=0)


async def test_row_numbers_count_up(connection: AsyncConnection) -> None:
    await create_all(connection, tables.metadata)
    for expected in (1, 2):
        result = await connection.execute(
            insert(tables.forwardings).values(address=f"{expected}@example.com")
        )
        assert result.inserted_primary_key == (expected,)


async def test_used_quota_gets_its_domain(connection: AsyncConnection) -> None:
    await create_all(connection, tables.metadata)
    await connection.execute(insert(tables.used_quota).values(username="u@example.com"))
    assert await connection.scalar(select(tables.used_quota.c.domain)) == "example.com"


async def test_ddl_of_the_servers() -> None:
    assert "description TEXT" in _create_table("domain", "mysql")
    assert "description TEXT DEFAULT '' NOT NULL" in _create_table("domain", "postgresql")
    assert "created DATETIME NOT NULL DEFAULT '1970-01-01 01:01:01'" in _create_table(
        "domain", "mysql"
    )
    assert "aliases INTEGER NOT NULL DEFAULT 0" in _create_table("domain", "mysql")
    assert "aliases BIGINT DEFAULT 0 NOT NULL" in _create_table("domain", "postgresql")
    assert "active TINYINT(1) NOT NULL DEFAULT 1" in _create_table("mailbox", "mysql")
    assert "active SMALLINT DEFAULT 1 NOT NULL" in _create_table("mailbox", "postgresql")
    assert "username VARCHAR(255) NOT NULL" in _create_table("mailbox", "postgresql")
    assert "KEY (id)" in _create_table("deleted_mailboxes", "mysql")
    assert "PRIMARY KEY (username)" in _create_table("last_login", "mysql")
    assert "PRIMARY KEY (username, domain)" in _create_table("last_login", "postgresql")
    assert "from_user VARCHAR(255) CHARACTER SET ascii NOT NULL DEFAULT ''" in _create_table(
        "share_folder", "mysql"
    )


async def test_ddl_of_the_policies() -> None:
    amavisd, iredapd = policies.amavisd_metadata, policies.iredapd_metadata
    assert "email VARBINARY(255) NOT NULL" in _create_table("users", "mysql", amavisd)
    assert "email BYTEA NOT NULL" in _create_table("users", "postgresql", amavisd)
    assert "UNIQUE (account, kind)" in _create_table("throttle", "mysql", iredapd)
    assert "UNIQUE (account, kind)" not in _create_table("throttle", "postgresql", iredapd)
    assert "sender VARCHAR(100) NOT NULL DEFAULT ''" in _create_table(
        "greylisting", "mysql", iredapd
    )


async def test_byte_text(connection: AsyncConnection) -> None:
    await create_all(connection, policies.amavisd_metadata)
    users = policies.users
    await connection.execute(
        insert(users), [{"email": email} for email in ("ü@example.com", "b@example.com")]
    )
    column = users.c.email
    assert await connection.scalar(select(column).where(column == "ü@example.com"))
    assert (
        await connection.scalars(select(column).where(column.in_(["Ü", "b@example.com"])))
    ).all()
    assert ByteText().process_bind_param("ü", DIALECTS["postgresql"]) == "ü".encode()
    assert ByteText().process_bind_param("ü", DIALECTS["mysql"]) == "ü"
    for raw in ("ü", "ü".encode(), memoryview("ü".encode())):
        assert ByteText().process_result_value(raw, DIALECTS["postgresql"]) == "ü"


async def test_seed(connection: AsyncConnection) -> None:
    created = await create_all(connection, policies.amavisd_metadata)
    created += await create_all(connection, policies.iredapd_metadata)
    for metadata in (policies.amavisd_metadata, policies.iredapd_metadata):
        for _ in range(2):
            await policies.seed(connection, metadata, created)
    user = (await connection.execute(select(policies.users))).mappings().one()
    assert (user["email"], user["priority"], user["policy_id"]) == ("@.", 0, 1)
    policy = (await connection.execute(select(policies.policy))).mappings().one()
    assert (policy["id"], policy["policy_name"], policy["spam_lover"]) == (1, "@.", "Y")
    assert policy["spam_tag2_level"] is None
    assert await connection.scalar(select(policies.greylisting.c.active)) == 1


async def test_seed_leaves_a_database_in_use_alone(connection: AsyncConnection) -> None:
    await create_all(connection, policies.iredapd_metadata)
    created = await create_all(connection, policies.iredapd_metadata)
    await policies.seed(connection, policies.iredapd_metadata, created)
    assert (await connection.execute(select(policies.greylisting))).all() == []


@pytest.mark.parametrize(
    "value,expected",
    [
        ("u@example.com", "example.com"),
        ('"a@b"@example.com', "example.com"),
        ("example.com", "example.com"),
        ("@example.com", "example.com"),
        ("u@", ""),
        ("@@", ""),
        ("", ""),
    ],
)
async def test_domain_of(connection: AsyncConnection, value: str, expected: str) -> None:
    assert await connection.scalar(select(domain_of(literal(value)))) == expected


async def test_domain_of_a_column(connection: AsyncConnection) -> None:
    await create_all(connection, tables.metadata)
    await connection.execute(insert(tables.mailbox).values(username="u@example.com"))
    username = tables.mailbox.c.username
    query = select(username).where(domain_of(username).in_(["example.com"]))
    assert await connection.scalar(query) == "u@example.com"


async def test_insert_ignore(connection: AsyncConnection) -> None:
    await create_all(connection, tables.metadata)
    for _ in range(2):
        await connection.execute(
            insert_ignore(tables.forwardings, connection.dialect.name).values(
                address="a@example.com", forwarding="b@example.com"
            )
        )
    assert len((await connection.execute(select(tables.forwardings))).all()) == 1
    with pytest.raises(ValueError, match="oracle"):
        insert_ignore(tables.forwardings, "oracle")


async def test_errors_of_sqlite(connection: AsyncConnection) -> None:
    await create_all(connection, tables.metadata)
    statement = insert(tables.domain)
    await connection.execute(statement.values(domain="example.com"))
    with pytest.raises(IntegrityError) as duplicate:
        await connection.execute(statement.values(domain="example.com"))
    assert is_unique_violation(duplicate.value)
    assert not is_retryable(duplicate.value)
    assert not is_unavailable(duplicate.value)
    with pytest.raises(IntegrityError) as null:
        await connection.execute(statement.values(domain="x", settings=None))
    assert not is_unique_violation(null.value)


def _error(*args: object, **attributes: object) -> Exception:
    error = sqlite3.OperationalError(*args)
    vars(error).update(attributes)
    return error


def _mysql_error(code: int) -> Exception:
    error: Exception = pymysql.err.OperationalError(code, "text")
    return error


@pytest.mark.parametrize(
    "error,retryable,unavailable",
    [
        (_error(sqlite_errorcode=5), True, False),
        (_error(sqlite_errorcode=517), True, False),  # busy, of a snapshot
        (_error(sqlite_errorcode=14), False, True),
        (_error(sqlstate="40P01"), True, False),
        (_error(sqlstate="40001"), True, False),
        (_error(sqlstate="08006"), False, True),
        (_error(sqlstate="57P03"), False, True),
        (_error(sqlstate="42P01"), False, False),
        (_mysql_error(1213), True, False),
        (_mysql_error(1205), True, False),
        (_mysql_error(2003), False, True),
        (_mysql_error(1146), False, False),
    ],
)
async def test_meaning_of_errors(error: Exception, retryable: bool, unavailable: bool) -> None:
    wrapped: DBAPIError = OperationalError("SELECT 1", {}, error)
    assert is_retryable(wrapped) is retryable
    assert is_unavailable(wrapped) is unavailable


async def test_no_connection() -> None:
    assert is_unavailable(ConnectionRefusedError(111, "refused"))
    assert is_unavailable(PoolTimeout())
    assert not is_unavailable(ValueError())
    lost = OperationalError("SELECT 1", {}, _error(), connection_invalidated=True)
    assert is_unavailable(lost)
    assert is_retryable(lost)


async def test_schema_of_an_older_server(connection: AsyncConnection) -> None:
    await create_all(connection, tables.metadata)
    await connection.execute(text("ALTER TABLE mailbox DROP COLUMN birthday"))
    await connection.execute(text("DROP TABLE maillist_owners"))
    schema = await Schema.detect(connection, tables.metadata)
    assert schema.missing() == ["mailbox.birthday", "maillist_owners"]
    assert schema.lacking_required() == []
    assert schema.has("mailbox", "mobile")
    assert not schema.has(tables.mailbox, "birthday")
    assert not schema.has(tables.maillist_owners)
    names = [column.name for column in schema.columns(tables.mailbox)]
    assert "birthday" not in names
    assert len(names) == len(tables.mailbox.columns) - 1
    values = {"name": "x", "birthday": date(2000, 1, 1)}
    assert schema.values(tables.mailbox, values) == {"name": "x"}
    with pytest.raises(KeyError):
        schema.values("mailbox", {"no_such_column": 1})


async def test_schema_that_is_too_old(connection: AsyncConnection) -> None:
    await create_all(connection, tables.metadata)
    await connection.execute(text("ALTER TABLE alias DROP COLUMN name"))
    await connection.execute(text("DROP TABLE forwardings"))
    schema = await Schema.detect(connection, tables.metadata)
    assert schema.lacking_required() == ["alias.name", "forwardings"]
    assert schema.values("alias", {"name": "x"}) == {"name": "x"}
