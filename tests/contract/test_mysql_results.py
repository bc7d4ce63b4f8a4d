"""MariaDB: our reading of its answers gives the same values as the driver's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import Any, Final

import pytest
from pymysql.err import OperationalError, ProgrammingError
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncEngine

from iredapi.database.database import Database
from iredapi.database.mysql_driver import Aiomysql
from tests.servers.store import Store

pytestmark = pytest.mark.stores("mariadb")

_ODD = """
CREATE TEMPORARY TABLE odd (
  id INT PRIMARY KEY, yes TINYINT(1), small SMALLINT, big BIGINT, huge BIGINT UNSIGNED,
  price DECIMAL(30,10), rate DOUBLE, bits BIT(9), name VARCHAR(255), exact VARBINARY(255),
  letters CHAR(5) CHARACTER SET latin1, words MEDIUMTEXT, blobs MEDIUMBLOB, choice ENUM('a','ä'),
  at DATETIME, fraction DATETIME(6), stamp TIMESTAMP NULL, day DATE, hour TIME, annum YEAR,
  data JSON
);
INSERT INTO odd (id) VALUES (1);
INSERT INTO odd VALUES (
  2, 1, -32768, -9223372036854775808, 18446744073709551615,
  -12345678901234567890.0123456789, 1e300, b'100000001', '', '',
  '', '', '', 'a',
  '0000-00-00 00:00:00', '2026-01-02 03:04:05.000006', '2026-01-02 03:04:05', '0000-00-00',
  '-838:59:59', 0, '{"a": [1, "ä"]}'
);
INSERT INTO odd VALUES (
  3, 127, 0, 9007199254740993, 9007199254740993,
  0, -0.5, b'0', 'ärger 日本 🐎 \\\\ '' "', X'ff00fe',
  'ä', REPEAT('日', 21845), REPEAT(X'ff', 65536), 'ä',
  '2020-02-31 00:00:00', '9999-12-31 23:59:59.999999', NULL, '2020-00-00', '01:02:03', 2155, '[]'
);
INSERT INTO odd (id, name, words, blobs, at) VALUES (
  4, REPEAT('x', 251), REPEAT('y', 250), REPEAT('z', 70000), '1970-01-01 01:01:01'
)"""


@asynccontextmanager
async def _opened(store: Store) -> AsyncIterator[tuple[Any, Any]]:
    """Our driver, and the one that it uses; the login may create temporary tables."""
    url = store.admin_engine().url.render_as_string(hide_password=False)
    database = Database("vmail", url, MetaData())
    try:
        async with database.engine.connect() as connection:
            raw: Any = (await connection.get_raw_connection()).driver_connection
            yield Aiomysql(raw), raw
    finally:
        await database.close()


async def _by_driver(raw: Any, sql: str) -> Sequence[Any]:
    await raw.query(sql)
    found: Sequence[Any] = raw._result.rows
    return found


def _typed(rows: Sequence[Any]) -> list[Any]:
    return [[(type(value), value) for value in row] for row in rows]


async def test_every_type_with_odd_values(store: Store) -> None:
    async with _opened(store) as (ours, raw):
        await raw.query("SET SESSION sql_mode = 'ALLOW_INVALID_DATES'")
        await ours.say(_ODD)
        for _ in range(2):  # the second time the descriptions are known
            for columns in ("*", "name", "at, words, blobs", "COUNT(*), MAX(id), NULL, 1.5, 'ä'"):
                sql = f"SELECT {columns} FROM odd"
                found = await ours.fetch(sql, ())
                assert _typed(found) == _typed(await _by_driver(raw, sql))


async def test_every_table(store: Store) -> None:
    async with _opened(store) as (ours, raw):
        tables = [row[0] for row in await ours.fetch("SHOW TABLES", ())]
        assert len(tables) > 10
        for table in (*tables, "information_schema.columns"):
            sql = f"SELECT * FROM {table}"
            if "." in table:
                sql += " WHERE table_schema = 'mysql' ORDER BY table_name, column_name"
            found = await ours.fetch(sql, ())
            assert _typed(found) == _typed(await _by_driver(raw, sql))


async def test_several_statements_in_one_message(store: Store) -> None:
    async with _opened(store) as (ours, raw):
        read = "SELECT n, REPEAT('x', n) FROM (SELECT 1 AS n UNION SELECT 300) AS t WHERE n > %s"
        for _ in range(2):
            rows = await ours.fetch_each(read, [[0], [1], [300]])
            assert rows == [[(1, "x"), (300, "x" * 300)], [(300, "x" * 300)], []]
        await ours.say("CREATE TEMPORARY TABLE odd (id INT PRIMARY KEY)")
        write = "INSERT INTO odd VALUES (%s), (%s)"
        found, count = await ours.fetch_and_count((read, [1]), (write, [1, 2]))
        assert (found, count) == ([(300, "x" * 300)], 2)
        # The connection is in order for the driver, too.
        assert await _by_driver(raw, "SELECT COUNT(*) FROM odd") == ((2,),)


async def test_an_error_ends_the_message(store: Store) -> None:
    async with _opened(store) as (ours, _):
        with pytest.raises(ProgrammingError) as caught:
            await ours.say("DO 1; SELECT nothing FROM nowhere; DO 2")
        assert caught.value.args[0] == 1146
        assert await ours.fetch("SELECT 5", ()) == [(5,)]
        # In the middle of the rows.
        with pytest.raises(OperationalError) as late:
            await ours.fetch(
                "SELECT n, (SELECT 1 UNION SELECT n) FROM (SELECT 1 AS n UNION ALL SELECT 2) AS t",
                (),
            )
        assert late.value.args[0] == 1242
        assert await ours.fetch("SELECT 5", ()) == [(5,)]


async def test_a_cursor_gives_rows_in_parts(store: Store) -> None:
    async with _opened(store) as (ours, _):
        numbers = "SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < 1000"
        many = f"WITH RECURSIVE numbers AS ({numbers}) SELECT n, REPEAT('ä', 500) FROM numbers"
        cursor = await ours.cursor(many, ())
        parts = [await cursor.fetchmany(300) for _ in range(5)]
        assert list(map(len, parts)) == [300, 300, 300, 100, 0]
        assert [row[0] for part in parts for row in part] == list(range(1, 1001))
        assert await ours.fetch("SELECT 5", ()) == [(5,)]


async def test_rows_of_more_than_one_packet(store: Store) -> None:
    """Packets have at most 16 MiB - 1; a row may have a GiB."""
    server_limit = "SET GLOBAL max_allowed_packet = %d"
    admin: AsyncEngine = store.admin_engine()
    async with admin.connect() as connection:
        await connection.exec_driver_sql(server_limit % (1 << 26))
    try:
        async with _opened(store) as (ours, _):
            for size in (0xFFFFFF - 6, 0xFFFFFF - 5, 0x1FFFFFE - 6, 0x1FFFFFE - 7, 20_000_000):
                rows = await ours.fetch("SELECT REPEAT('x', %s), 7 UNION ALL SELECT 'y', 8", [size])
                assert [(len(text), number) for text, number in rows] == [(size, 7), (1, 8)]
    finally:
        async with admin.connect() as connection:
            await connection.exec_driver_sql(server_limit % (1 << 24))


async def test_a_killed_connection_is_lost(store: Store) -> None:
    async with _opened(store) as (ours, raw):
        async with store.connect() as connection:
            await connection.exec_driver_sql(f"KILL {raw.thread_id()}")
        with pytest.raises(OperationalError) as caught:
            await ours.fetch("SELECT 5", ())
        assert caught.value.args[0] in {1927, 2006, 2013}
        assert raw.closed


_VALUES: Final = (
    "o'neil", 'back\\slash"', "100 %s", "?", "ä 日本 🐎", "", " blanks ", "line\nend", "\\' OR 1=1",
    None, 0, -7, 2**63, 1.5, datetime(2026, 1, 2, 3, 4, 5), date(2026, 1, 2), True,
)  # fmt: skip


@pytest.mark.parametrize("mode", ["", "NO_BACKSLASH_ESCAPES"])
async def test_prepared_statements_read_the_same(store: Store, mode: str) -> None:
    async with _opened(store) as (ours, raw):
        await raw.query(f"SET SESSION sql_mode = '{mode}'")
        await ours.fetch("SELECT 1", ())  # the mode is known from the answer
        sql = "SELECT %s, CONCAT('%%', %s), '?'"
        every = [(value, value) for value in _VALUES]
        as_text = await ours.fetch_each(sql, every)
        ours.prepares = True
        for _ in range(2):  # the second time it is prepared
            assert await ours.fetch_each(sql, every) == as_text
        assert [rows[0][0] for rows in as_text[:9]] == [*_VALUES[:9]]
        assert ours.prepares
        assert await ours.fetch_each("SELECT 'no value %%'", [()]) == [[("no value %",)]]


async def test_prepared_statements_outlive_new_columns(store: Store) -> None:
    async with _opened(store) as (ours, _):
        ours.prepares = True
        await ours.say("CREATE TEMPORARY TABLE growing (id INT)")
        await ours.say("INSERT INTO growing VALUES (1), (2)")
        sql = "SELECT * FROM growing WHERE id = %s"
        assert await ours.fetch_each(sql, [(1,), (3,)]) == [[(1,)], []]
        await ours.say("ALTER TABLE growing ADD more INT DEFAULT 5")
        assert await ours.fetch_each(sql, [(2,)]) == [[(2, 5)]]
        assert ours.prepares


async def test_a_statement_that_was_forgotten_is_sent_as_text(store: Store) -> None:
    async with _opened(store) as (ours, _):
        ours.prepares = True
        assert await ours.fetch_each("SELECT %s", [(1,)]) == [[(1,)]]
        await ours.say("DEALLOCATE PREPARE iredapi_1")  # as a proxy does between two sessions
        with pytest.raises(OperationalError):
            await ours.fetch_each("SELECT %s", [(2,)])
        assert not ours.prepares
        assert await ours.fetch_each("SELECT %s", [(3,), (4,)]) == [[(3,)], [(4,)]]


async def test_few_statements_are_prepared(store: Store) -> None:
    async with _opened(store) as (ours, raw):
        ours.prepares = True
        for _ in range(2):
            for number in range(40):
                assert await ours.fetch_each(f"SELECT %s + {number}", [(1,)]) == [[(1 + number,)]]
        await raw.query("SHOW SESSION STATUS LIKE 'Com_prepare_sql'")
        assert int(raw._result.rows[0][1]) == 32
