"""The state database: sessions, login attempts, locks, migrations, on every kind of server."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.domain.log import Details
from iredapi.observability import query_counter
from iredapi.state import (
    Attempt,
    LockLost,
    LockTimeout,
    Role,
    State,
    StateUnavailable,
    WrongDatabase,
    migrate,
)
from iredapi.state.connections import Connections
from iredapi.state.log_details import LogDetails
from iredapi.state.sessions import hash_id
from iredapi.state.tables import as_key, login_attempts, metadata
from tests.servers.store import Store

TABLES = (*metadata.tables, "alembic_version")
ADMIN: tuple[str, Role, str, str] = ("postmaster@example.com", "global", "f" * 64, "192.0.2.1")


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.25

    def __call__(self) -> float:
        return self.now


Open = Callable[..., Awaitable[State]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def opened(store: Store, clock: Clock) -> AsyncIterator[Open]:
    """Opens a State with the test's clock; closes it, and checks that nothing is in use."""
    states: list[State] = []

    async def open_state(**options: Any) -> State:
        state = await State.open(store.state, **{"clock": clock, **options})
        states.append(state)
        return state

    yield open_state
    for state in states:
        await state.locks.close()
        for engine in (state.connections._engine, state.connections._writer):
            assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        await state.close()


@pytest_asyncio.fixture
async def state(opened: Open) -> State:
    return await opened()


async def drop_tables(store: Store) -> None:
    async with store.connect("state") as connection:
        for table in TABLES:
            await connection.execute(text(f"DROP TABLE IF EXISTS {table}"))


async def count(store: Store, table: str) -> int:
    rows = await store.rows(f"SELECT count(*) AS n FROM {table}", "state")
    return int(rows[0]["n"])


@asynccontextmanager
async def statements(state: State) -> AsyncIterator[list[str]]:
    """The statements that are sent."""
    sent: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        sent.append(statement)

    engine = state.connections._engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


# Migrations


async def test_tables_are_what_the_migrations_make(store: Store, opened: Open) -> None:
    await drop_tables(store)
    state = await opened()

    def differences(connection: Any) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    async with state.connections.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_details_of_log_entries_are_moved(store: Store, opened: Open) -> None:
    """Once each entry had a row of its own."""
    state = await opened()
    now = int(state.locks.clock())
    changes = '[{"param": "name"}]'
    columns = "log_id bigint, digest varchar(32), request_id varchar(64), about varchar(16)"
    for sql in (
        "DROP TABLE log_detail_blocks",
        f"CREATE TABLE log_details ({columns}, changes text, created float)",
        f"INSERT INTO log_details VALUES (7, 'd', 'r7', 'user', NULL, {now})",
        f"INSERT INTO log_details VALUES ({2**40}, 'e', 'r2', 'domain', '{changes}', {now})",
        "UPDATE alembic_version SET version_num = '0010'",
    ):
        await state.connections.write(text(sql.replace(":", r"\:")))
    await migrate.migrate(state.connections)
    details = LogDetails(state.connections, days=1, clock=state.locks.clock)
    assert await details.of([7, 8, 2**40]) == {
        7: Details("d", "r7", "user", []),
        2**40: Details("e", "r2", "domain", [{"param": "name"}]),
    }
    assert "log_details" not in await _tables(state)


async def _tables(state: State) -> list[str]:
    async with state.connections.connect() as connection:
        return await connection.run_sync(lambda own: inspect(own).get_table_names())


def test_names_of_files_are_the_revisions() -> None:
    """At the start only the names are looked at, without Alembic."""
    config = Config()
    config.set_main_option("script_location", str(migrate._SCRIPTS))
    scripts = ScriptDirectory.from_config(config)
    assert migrate.revisions() == sorted(one.revision for one in scripts.walk_revisions())
    assert migrate.revisions()[-1] == scripts.get_current_head()


async def test_parallel_migrations(store: Store) -> None:
    await drop_tables(store)
    states = await asyncio.gather(*(State.open(store.state) for _ in range(8)))
    for state in states:
        await state.ping()
        await state.close()
    assert await count(store, "alembic_version") == 1


async def test_parallel_migrations_by_processes(store: Store) -> None:
    await drop_tables(store)
    program = (
        "import asyncio, sys; from iredapi.state import State\n"
        "async def main():\n"
        "    state = await State.open(sys.argv[1]); await state.ping(); await state.close()\n"
        "asyncio.run(main())\n"
    )
    replicas = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, store.state, stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    for replica in replicas:
        _, errors = await replica.communicate()
        assert (replica.returncode, errors) == (0, b"")
    assert await count(store, "alembic_version") == 1


async def test_up_to_date_takes_no_lock(opened: Open) -> None:
    state = await opened()
    async with statements(state) as sent:
        await migrate.migrate(state.connections)
    assert not [one for one in sent if "lock" in one.lower() or "IMMEDIATE" in one]


async def test_broken_migration_is_continued(store: Store, opened: Open) -> None:
    await opened()
    await store.execute("DROP TABLE locks", "state")
    await store.execute("DELETE FROM alembic_version", "state")
    state = await opened()
    async with state.locks.hold("a"):
        pass
    assert await count(store, "alembic_version") == 1


async def test_foreign_tables_are_left_alone(store: Store, opened: Open) -> None:
    """iRedAdmin has a table of sessions, too."""
    await drop_tables(store)
    await store.execute("CREATE TABLE sessions (session_id CHAR(128) PRIMARY KEY)", "state")
    try:
        with pytest.raises(WrongDatabase, match="sessions"):
            await opened()
    finally:
        await drop_tables(store)


async def test_newer_database_is_refused(store: Store, opened: Open) -> None:
    await opened()
    await store.execute("UPDATE alembic_version SET version_num = '9999'", "state")
    try:
        with pytest.raises(WrongDatabase, match="9999"):
            await opened()
    finally:
        await drop_tables(store)


# Connections


@pytest.mark.stores("postgresql", "mariadb")
async def test_server_down(store: Store) -> None:
    url = store.state.rpartition("@")[0] + "@127.0.0.1:1/iredapi"
    with pytest.raises(StateUnavailable):
        await State.open(url)


@pytest.mark.stores("postgresql", "mariadb")
async def test_wrong_password(store: Store) -> None:
    head, _, tail = store.state.rpartition("@")
    with pytest.raises(StateUnavailable):
        await State.open(f"{head}wrong@{tail}")


@pytest.mark.stores("postgresql", "mariadb")
async def test_lost_connections_are_replaced(store: Store, state: State) -> None:
    session_id = await state.sessions.create(*ADMIN)
    kill = {
        "postgresql": "SELECT pg_terminate_backend(pg_backend_pid())",
        "mariadb": "KILL CONNECTION_ID()",
    }
    with pytest.raises(Exception):  # noqa: B017, PT011
        async with state.connections.connect() as connection:
            await connection.execute(text(kill[store.dialect]))
    assert await state.sessions.load(session_id)


@pytest.mark.stores("sqlite")
async def test_sqlite_file(store: Store, state: State, tmp_path: Any) -> None:
    async with state.connections.connect() as connection:
        mode = await connection.scalar(text("PRAGMA journal_mode"))
        patience = await connection.scalar(text("PRAGMA busy_timeout"))
    assert (mode, patience) == ("wal", 30000)
    path = tmp_path / "new.db"
    other = await State.open(f"sqlite:///{path}")
    await other.close()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ValueError, match="path of a file"):
        await State.open("sqlite://")


async def test_transaction_rolls_back(store: Store, state: State) -> None:
    async def work(connection: Any) -> None:
        await connection.execute(text("INSERT INTO locks VALUES ('a', 'b', 1)"))
        raise KeyError

    with pytest.raises(KeyError):
        await state.connections.transact(work)
    assert await count(store, "locks") == 0


async def test_cancelled_writers_leave_nothing_behind(state: State) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pause in (0.0, 0.001, 0.004):
            begin = state.attempts.begin
            tasks = [asyncio.create_task(begin([f"k{n % 5}"])) for n in range(40)]
            for task in tasks[1::2]:
                await asyncio.sleep(pause)
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert [answer for answer in answers[::2] if not isinstance(answer, Attempt)] == []
        gc.collect()
    assert (await asyncio.wait_for(state.attempts.begin(["afterwards"]), 10)).wait == 0


@pytest.mark.stores("sqlite")
async def test_a_connection_left_in_a_select_gives_up_its_lock(state: State) -> None:
    """Its cursor may live on in an exception; the write lock must not."""
    session_id = await state.sessions.create(*ADMIN)
    kept = []

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(text("DELETE FROM sessions"))
        raw = await connection.get_raw_connection()
        assert raw.driver_connection is not None
        kept.append(await raw.driver_connection.execute("SELECT 1 UNION SELECT 2"))
        await connection.invalidate()
        raise KeyError

    with pytest.raises(KeyError):
        await state.connections.transact(work)
    assert (await asyncio.wait_for(state.attempts.begin(["afterwards"]), 5)).wait == 0
    assert await state.sessions.load(session_id) is not None
    assert len(kept) == 1


# Sessions


async def test_session(store: Store, state: State, clock: Clock) -> None:
    session_id = await state.sessions.create(*ADMIN)
    assert len(session_id) == 43
    session = await state.sessions.load(session_id)
    assert session is not None
    assert (session.username, session.role, session.credential, session.client) == ADMIN
    assert (session.created, session.seen) == (clock.now, clock.now)
    assert session.expires == clock.now + 43200
    assert session.id_hash == hash_id(session_id)
    rows = await store.rows("SELECT * FROM sessions", "state")
    assert session_id not in str(rows)


async def test_load_is_one_select(state: State) -> None:
    session_id = await state.sessions.create(*ADMIN)
    async with statements(state) as sent:
        await state.sessions.load(session_id)
    assert len(sent) == 1


async def test_session_idle(state: State, clock: Clock) -> None:
    session_id = await state.sessions.create(*ADMIN)
    clock.now += 1799
    assert await state.sessions.load(session_id)
    clock.now += 1799
    assert await state.sessions.load(session_id)
    clock.now += 1800
    assert await state.sessions.load(session_id) is None


async def test_session_absolute(state: State, clock: Clock) -> None:
    session_id = await state.sessions.create(*ADMIN)
    for _ in range(42):
        clock.now += 1000
        assert await state.sessions.load(session_id)
    clock.now += 1200
    assert await state.sessions.load(session_id) is None


async def test_session_slides_once_a_minute(state: State, clock: Clock) -> None:
    start = clock.now
    session_id = await state.sessions.create(*ADMIN)
    clock.now += 59
    session = await state.sessions.load(session_id)
    assert session is not None
    assert session.seen == start
    clock.now += 1
    async with statements(state) as sent:
        loaded = await asyncio.gather(*(state.sessions.load(session_id) for _ in range(10)))
    assert all(session and session.seen == clock.now for session in loaded)
    again = await state.sessions.load(session_id)
    assert again is not None
    assert again.seen == clock.now
    assert sum("UPDATE" in one for one in sent) >= 1
    async with statements(state) as sent:
        await state.sessions.load(session_id)
    assert not [one for one in sent if "UPDATE" in one]


async def test_ended_elsewhere_at_once(opened: Open, clock: Clock) -> None:
    here, there = await opened(), await opened()
    session_id = await here.sessions.create(*ADMIN)
    assert await there.sessions.load(session_id)
    assert await there.sessions.end(session_id) is True
    assert await here.sessions.load(session_id) is None
    assert await here.sessions.end(session_id) is False


async def test_sliding_does_not_resurrect(
    store: Store, opened: Open, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = await opened(), await opened()
    session_id = await here.sessions.create(*ADMIN)
    clock.now += 100
    select = here.sessions._select

    async def select_then_end(id_hash: str) -> Any:
        session = await select(id_hash)
        await there.sessions.end(session_id)
        return session

    monkeypatch.setattr(here.sessions, "_select", select_then_end)
    assert await here.sessions.load(session_id) is None
    assert await count(store, "sessions") == 0


async def test_end_all(opened: Open) -> None:
    here, there = await opened(), await opened()
    mine = [await here.sessions.create(*ADMIN) for _ in range(3)]
    other = await here.sessions.create("other@example.com", "normal", "e" * 64, "::1")
    assert await there.sessions.end_all("postmaster@example.com") == 3
    assert [await here.sessions.load(session_id) for session_id in mine] == [None] * 3
    assert await here.sessions.load(other)
    assert await here.sessions.end_all("OTHER@example.com") == 0


@pytest.mark.parametrize(
    "hostile",
    [
        *("", "a", "a" * 43, "a" * 44, "a" * 43 + "\n", "x" * 1_000_000),
        *("ä" * 43, "\0" * 43, "\ud800" * 43, "' OR 1=1 --" + "a" * 32),
    ],
    ids=lambda hostile: ascii(hostile)[:12],
)
async def test_hostile_ids(state: State, hostile: str) -> None:
    assert await state.sessions.load(hostile) is None
    assert await state.sessions.end(hostile) is False


async def test_purge(store: Store, state: State, clock: Clock) -> None:
    await state.sessions.create(*ADMIN)
    clock.now += 1000
    living = await state.sessions.create(*ADMIN)
    clock.now += 1000
    assert await count(store, "sessions") == 2
    assert await state.sessions.purge() == 1
    assert await state.sessions.load(living)
    clock.now += 1800
    await state.sessions.create(*ADMIN)
    assert await count(store, "sessions") == 1


# Login attempts


async def test_parallel_attempts_are_exactly_the_limit(opened: Open) -> None:
    states = [await opened(), await opened()]
    keys = ["user:a@example.com", "addr:192.0.2.1"]
    attempts = await asyncio.gather(*(states[n % 2].attempts.begin(keys) for n in range(50)))
    answers = [attempt.wait for attempt in attempts]
    assert answers.count(0) == 10
    assert {answer for answer in answers if answer} == {900}


async def test_parallel_attempts_from_many_addresses(opened: Open) -> None:
    """Keys in every order, shared and not: no deadlock, and none passes the limit."""
    states = [await opened(throttle_limit=7), await opened(throttle_limit=7)]

    def keys(n: int) -> list[str]:
        account, address = "user:b@example.com", f"addr:{n % 25}"
        return [account, address] if n % 3 else [address, account]

    attempts = await asyncio.gather(*(states[n % 2].attempts.begin(keys(n)) for n in range(50)))
    assert [attempt.wait for attempt in attempts].count(0) == 7


async def test_one_key_at_its_limit_counts_nothing(store: Store, opened: Open) -> None:
    state = await opened(throttle_limit=2)
    for account in ("a", "b"):
        assert (await state.attempts.begin([account, "address"])).wait == 0
    assert (await state.attempts.begin(["c", "address"])).wait == 900
    rows = await store.rows("SELECT * FROM login_attempts WHERE count = 2", "state")
    assert len(rows) == 1
    assert await count(store, "login_attempts") == 3
    assert (await state.attempts.begin(["a", "elsewhere"])).wait == 0


async def test_window(opened: Open, clock: Clock) -> None:
    state = await opened(throttle_limit=2, throttle_window=100)
    assert (await state.attempts.begin(["a"])).wait == 0
    clock.now += 30
    assert (await state.attempts.begin(["a"])).wait == 0
    for wait in (70, 60, 50):
        assert (await state.attempts.begin(["a"])).wait == wait
        clock.now += 10
    clock.now += 39.5
    assert (await state.attempts.begin(["a"])).wait == 1
    clock.now += 0.5
    assert (await state.attempts.begin(["a"])).wait == 0
    assert (await state.attempts.begin(["a"])).wait == 0
    assert (await state.attempts.begin(["a"])).wait == 100


async def test_window_of_a_replica_that_is_ahead(opened: Open, clock: Clock) -> None:
    state = await opened(throttle_limit=1)
    assert (await state.attempts.begin(["a"])).wait == 0
    clock.now -= 5
    assert (await state.attempts.begin(["a"])).wait == 900


async def test_a_clock_that_was_ahead(store: Store, opened: Open, clock: Clock) -> None:
    """Its counters end at once when it has been corrected, also those of long windows."""
    state = await opened(throttle_limit=1, throttle_window=100)
    for ahead in (86400 * 365, 3600, 60):
        clock.now += ahead
        assert (await state.attempts.begin(["a"])).wait == 0
        assert (await state.attempts.begin(["a"])).wait == 100
        clock.now -= ahead
        assert (await state.attempts.begin(["a"])).wait == 0
        assert (await state.attempts.begin(["a"])).wait == 100
        clock.now += 100
    clock.now += 86400
    await state.attempts.begin(["b"])
    clock.now -= 86400
    await state.attempts.purge()
    assert await count(store, "login_attempts") == 0


async def test_a_guess_counts_once(store: Store, opened: Open) -> None:
    here, there = await opened(throttle_limit=3), await opened(throttle_limit=3)
    for state in (here, there) * 5:
        assert (await state.attempts.begin(["account", "address"], "aaaa")).wait == 0
    found = await asyncio.gather(*(here.attempts.begin(["account"], "bbbb") for _ in range(9)))
    assert [attempt.wait for attempt in found] == [0] * 9
    assert sum(bool(attempt.counted) for attempt in found) == 1
    # One that was withdrawn is tried anew; one that was known takes nothing back with it.
    attempt = await there.attempts.begin(["other"], "cccc")
    await there.attempts.withdraw(attempt)
    assert (await there.attempts.begin(["other"], "cccc")).counted
    await there.attempts.withdraw(await there.attempts.begin(["account"], "aaaa"))
    assert (await here.attempts.begin(["account"], "dddd")).wait == 0
    for guess in ("eeee", "aaaa", ""):
        assert (await there.attempts.begin(["account"], guess)).wait == 900
    assert (await there.attempts.begin(["other", "address"], "eeee")).wait == 0
    (row,) = await store.rows("SELECT * FROM login_attempts WHERE count = 3", "state")
    assert row["guesses"] == "aaaa,bbbb,dddd,"
    await here.attempts.succeeded(Attempt(("account",), "dddd"))
    assert (await there.attempts.begin(["account"], "aaaa")).counted


async def test_a_guess_of_an_earlier_window_counts_again(opened: Open, clock: Clock) -> None:
    state = await opened(throttle_limit=1)
    for _ in range(3):
        assert (await state.attempts.begin(["a"], "aaaa")).counted
        clock.now += 901


async def test_known_networks(store: Store, opened: Open, clock: Clock) -> None:
    here, there = await opened(), await opened()
    both = ["192.0.2.1/32", "192.0.2.0/24"]
    assert await here.networks.of("a@x.com", both) == {}
    assert await here.networks.of("a@x.com", []) == {}
    await here.networks.remember("a@x.com", both)
    assert await there.networks.of("a@x.com", both) == dict.fromkeys(both, True)
    assert await there.networks.of("b@x.com", both) == {}
    assert await there.networks.of("a@x.com", ["192.0.2.2/32", both[1]]) == {both[1]: True}
    clock.now += 86400 * 29
    assert await there.networks.of("a@x.com", both) == dict.fromkeys(both, False)
    await there.networks.remember("a@x.com", both[1:])
    clock.now += 86400
    assert await there.networks.of("a@x.com", both) == {both[1]: False}
    await there.networks.remember("b@x.com", ["::/64"])
    assert await count(store, "known_networks") == 2
    await there.networks.forget("a@x.com")
    assert await there.networks.of("a@x.com", both) == {}
    long = "x" * 300 + "@x.com"
    await there.networks.remember(long, both)
    assert await there.networks.of(long, both) == dict.fromkeys(both, True)


async def test_state_of_an_earlier_version(store: Store, opened: Open) -> None:
    """Counters that are there are kept, and go on."""
    await opened()
    for statement in (
        "DROP TABLE known_networks",
        "ALTER TABLE login_attempts DROP COLUMN guesses",
        "ALTER TABLE tokens DROP COLUMN credential",
        "UPDATE alembic_version SET version_num = '0004'",
        "INSERT INTO login_attempts VALUES ('a', 9, 1700000000)",
    ):
        await store.execute(statement, "state")
    state = await opened()
    assert (await state.attempts.begin(["a"], "aaaa")).wait == 0
    assert (await state.attempts.begin(["a"], "bbbb")).wait == 900
    await state.networks.remember("a@x.com", ["::/64"])


async def test_success_clears_the_account_only(opened: Open) -> None:
    state = await opened(throttle_limit=3)
    keys = ["account", "address"]
    assert (await state.attempts.begin(keys)).wait == 0
    assert (await state.attempts.begin(keys)).wait == 0
    for _ in range(5):
        attempt = await state.attempts.begin(keys)
        assert attempt.wait == 0
        await state.attempts.succeeded(attempt)
    # Two failures are left for the address, none for the account.
    assert (await state.attempts.begin(["other", "address"])).wait == 0
    assert (await state.attempts.begin(["other", "address"])).wait > 0
    for _ in range(3):
        assert (await state.attempts.begin(["account"])).wait == 0
    assert (await state.attempts.begin(["account"])).wait > 0


@pytest.mark.stores("postgresql", "mariadb")
async def test_ends_of_logins_lock_counters_in_order(store: Store, state: State) -> None:
    """As attempts do: otherwise logins from the same networks end in deadlocks of a second each."""
    first, last = [await state.attempts.begin([key], "aaaa") for key in ("first", "last")]
    key = login_attempts.c.key
    async with store.connect("state") as other:
        await other.execute(select(key).where(key == "first").with_for_update())
        ends = asyncio.gather(state.attempts.succeeded(last), state.attempts.withdraw(first))
        assert (await asyncio.wait({ends}, timeout=0.3))[1] == {ends}
        await other.execute(select(key).where(key == "last").with_for_update(nowait=True))
        await other.rollback()
        await ends
    assert (await state.attempts.begin(["first"], "aaaa")).counted
    assert (await state.attempts.begin(["last"], "aaaa")).counted


async def test_withdrawn_attempts_do_not_count(opened: Open) -> None:
    state = await opened(throttle_limit=1)
    for _ in range(3):
        attempt = await state.attempts.begin(["account", "address"])
        assert attempt.wait == 0
        await state.attempts.withdraw(attempt)
    await state.attempts.withdraw(attempt)
    assert (await state.attempts.begin(["account"])).wait == 0
    assert (await state.attempts.begin(["account"])).wait > 0


async def test_logins_at_the_same_moment_share_transactions(opened: Open) -> None:
    """Each is counted before it is answered, and has its session."""
    state = await opened(throttle_limit=5)
    with query_counter.listening() as statements:
        guesses = [f"{n:04}" for n in range(9)]
        attempts = await asyncio.gather(
            *(state.attempts.begin(["account", "address"], guess) for guess in guesses),
            *(state.attempts.begin([f"known:{n}"], "aaaa") for n in range(8)),
        )
        waits = [attempt.wait for attempt in attempts]
        # The ninth guess is in another batch, which may be the first.
        assert sorted(waits[:9]) == [0] * 5 + [900] * 4
        assert waits[9:] == [0] * 8
        begun = [await state.sessions.new(*ADMIN) for _ in range(8)]
        ends = zip(attempts[9:], begun, strict=True)
        await asyncio.gather(
            *(state.attempts.succeeded(attempt, row) for attempt, (_, row) in ends)
        )
    assert all([await state.sessions.load(session_id) for session_id, _ in begun])
    assert (await state.attempts.begin(["account"], "new")).wait == 900
    assert len([sql for sql in statements if sql.startswith("INSERT INTO sessions")]) <= 3
    assert len([sql for sql in statements if sql.startswith("INSERT INTO login_att")]) <= 8


async def test_parallel_logins(opened: Open) -> None:
    """Right passwords, all at once from one address, with room for all of them."""
    states = [await opened(throttle_limit=40), await opened(throttle_limit=40)]

    async def login(number: int) -> int:
        attempts = states[number % 2].attempts
        keys = [f"user{number % 4}", "address"]
        attempt = await attempts.begin(keys)
        if not attempt.wait:
            await attempts.succeeded(attempt)
        return attempt.wait

    assert await asyncio.gather(*(login(n) for n in range(40))) == [0] * 40
    row = (await states[0].connections.read(text("SELECT count FROM login_attempts")))[0]
    assert row[0] == 0


@pytest.mark.parametrize("key", ["k" * 400, "\0", "\ud800", "ä", "a ", "", "%s :x ' \\"], ids=ascii)
async def test_hostile_keys(opened: Open, key: str) -> None:
    state = await opened(throttle_limit=1)
    assert (await state.attempts.begin(["a", "A"])).wait == 0
    attempt = await state.attempts.begin([key, key])
    assert attempt.wait == 0
    assert (await state.attempts.begin([key])).wait > 0
    await state.attempts.succeeded(attempt)
    assert (await state.attempts.begin([key])).wait == 0


async def test_no_keys(state: State) -> None:
    attempt = await state.attempts.begin([])
    assert attempt.wait == 0
    await state.attempts.succeeded(attempt)


async def test_old_windows_are_removed(store: Store, state: State, clock: Clock) -> None:
    await state.attempts.begin(["a", "b"])
    clock.now += 1000
    await state.attempts.begin(["c"])
    assert await count(store, "login_attempts") == 1


def test_stored_keys() -> None:
    assert as_key("user:a@example.com", 320) == "user:a@example.com"
    assert len(as_key("x" * 321, 320)) == 71
    assert as_key("a", 320) != as_key("a ", 320)


# Locks


async def test_lock_excludes(opened: Open) -> None:
    states = [await opened(), await opened()]
    inside = most = 0

    async def work(number: int) -> None:
        nonlocal inside, most
        async with states[number % 2].locks.hold("a", wait=30):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.002)
            inside -= 1

    await asyncio.gather(*(work(n) for n in range(50)))
    assert most == 1


async def test_lock_timeout(store: Store, opened: Open) -> None:
    here, there = await opened(), await opened()
    async with here.locks.hold("a") as lease:
        lease.check()
        for locks in (here.locks, there.locks):
            with pytest.raises(LockTimeout):
                async with locks.hold("a", wait=0.05):
                    pass
        async with there.locks.hold("b", wait=0):
            pass
        lease.check()
    async with there.locks.hold("a", wait=0):
        pass
    assert await count(store, "locks") == 0


async def test_expired_lease_is_taken_over(store: Store, opened: Open, clock: Clock) -> None:
    crashed, living = await opened(), await opened()
    async with crashed.locks.hold("a", lease=30) as old:
        clock.now += 30
        async with living.locks.hold("a", wait=0) as new:
            with pytest.raises(LockLost):
                old.check()
            await crashed.locks._renew(old, 30)
            assert old.lost
            new.check()
            await crashed.locks._release(old)
            assert await count(store, "locks") == 1
    assert await count(store, "locks") == 0


async def test_lease_is_renewed(store: Store, opened: Open, clock: Clock) -> None:
    here, there = await opened(), await opened()
    async with here.locks.hold("a", lease=0.3) as lease:
        first = lease.expires
        clock.now += 0.2
        await asyncio.sleep(0.5)
        assert lease.expires > first
        clock.now += 0.2
        lease.check()
        with pytest.raises(LockTimeout):
            async with there.locks.hold("a", wait=0):
                pass


async def test_released_when_the_work_fails_or_is_cancelled(store: Store, state: State) -> None:
    with pytest.raises(KeyError):
        async with state.locks.hold("a"):
            raise KeyError
    started = asyncio.Event()

    async def work() -> None:
        async with state.locks.hold("a"):
            started.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with state.locks.hold("a", wait=5):
        pass
    assert await count(store, "locks") == 0


async def test_lock_with_a_long_name(state: State) -> None:
    async with state.locks.hold("ä" * 1000), state.locks.hold("ä" * 1001, wait=0):
        pass


async def test_ping_and_close(store: Store) -> None:
    state = await State.open(store.state)
    await state.ping()
    await state.close()
    await state.close()


async def test_limits_must_be_positive(store: Store) -> None:
    with pytest.raises(ValueError, match="positive"):
        await State.open(store.state, throttle_limit=0)


async def test_connections_normalise_urls(store: Store) -> None:
    short = store.state
    for driver in ("+aiosqlite", "+asyncpg", "+aiomysql"):
        short = short.replace(driver, "", 1)
    connections = await Connections.open(short.replace("?charset=utf8mb4", ""))
    assert await connections.read(text("SELECT 1"))
    await connections.close()


async def test_a_signing_key_is_shared_and_survives_a_restart(opened: Open) -> None:
    first, second = await opened(), await opened()
    found = await asyncio.gather(*(one.signing_keys.get("lists") for one in (first, second) * 3))
    assert len(set(found)) == 1
    assert len(found[0]) == 32
    assert await (await opened()).signing_keys.get("lists") == found[0]
    assert await first.signing_keys.get("others") != found[0]
