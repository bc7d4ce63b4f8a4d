"""Filling the databases: the servers make the rows themselves, so a million takes minutes.

User ``n`` of ``users`` is ``u<n>@d<n modulo domains>.bench.test``. Everybody has the self row that
Postfix needs, a second forwarding each third, an alias address each tenth, a quota each.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.domain.passwords import Scheme, hash_password
from tests.servers.store import Database, Store

ADMIN = "bench@admins.invalid"
SLOW_ADMIN = "slow@admins.invalid"
"""A global admin whose password is stored with BCRYPT."""
PASSWORD = "Bench-Horse-1"
BIG = "big.test"
"""The domain of the long lists."""
LISTED = 50
"""Domains that have a whitelist."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is in a database."""

    domains: int
    users: int
    """In all domains but the big ones."""
    big: int
    """Users of one big domain."""

    def mail(self, number: int) -> str:
        """The address of a user."""
        return f"u{number}@d{number % self.domains}.bench.test"


class _Dialect:
    """The few words that differ."""

    def __init__(self, name: str) -> None:
        self.name = name

    def numbers(self, count: int) -> str:
        """A table ``t`` with a column ``n`` from 0."""
        if self.name == "postgresql":
            return f"(SELECT generate_series(0, {count - 1}) AS n) AS t"
        if self.name == "mariadb":
            return f"(SELECT seq AS n FROM seq_0_to_{count - 1}) AS t"
        return (
            "(WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s"
            f" WHERE n < {count - 1}) SELECT n FROM s) AS t"
        )

    def join(self, *parts: str) -> str:
        """Concatenated text."""
        if self.name == "mariadb":
            return f"CONCAT({', '.join(parts)})"
        return " || ".join(f"CAST({part} AS TEXT)" for part in parts)

    def as_bytes(self, value: str) -> str:
        """Text for Amavisd's columns."""
        return f"convert_to({value}, 'UTF8')" if self.name == "postgresql" else value


async def _run(store: Store, database: Database, *statements: str) -> None:
    async with store.connect(database) as connection:
        if store.name == "mariadb":
            await connection.exec_driver_sql("SET unique_checks = 0, foreign_key_checks = 0")
        for statement in statements:
            await connection.execute(text(statement.replace(":", "\\:")))


async def fill(store: Store, size: Size) -> None:
    """Put in two global admins, the domains and users, and some whitelists."""
    await admins(store)
    say = _Dialect(store.name)
    name = say.join("'d'", "n", "'.bench.test'")
    await _run(
        store,
        "vmail",
        f"INSERT INTO domain (domain, transport) SELECT {name}, 'dovecot'"
        f" FROM {say.numbers(size.domains)}",
    )
    await users(store, size.users, say.join("'d'", f"n % {size.domains}", "'.bench.test'"))
    await big(store, BIG, size.big)
    listed = min(size.domains, LISTED)
    account = say.as_bytes(say.join("'@d'", "n", "'.bench.test'"))
    sender = say.as_bytes(say.join("'s'", "n", "'@remote.test'"))
    await _run(
        store,
        "amavisd",
        f"INSERT INTO users (email, priority, policy_id) SELECT {account}, 5, 1"
        f" FROM {say.numbers(listed)}",
        f"INSERT INTO mailaddr (email, priority) SELECT {sender}, 7 FROM {say.numbers(20)}",
        "INSERT INTO wblist (rid, sid, wb) SELECT users.id, mailaddr.id, 'W'"
        " FROM users CROSS JOIN mailaddr WHERE users.priority = 5",
    )
    await analyse(store)


async def admins(store: Store) -> None:
    """Put in the two global admins."""
    for mail, scheme in ((ADMIN, Scheme.SSHA512), (SLOW_ADMIN, Scheme.BCRYPT)):
        await store.insert(
            "admin",
            {"username": mail, "password": hash_password(PASSWORD, scheme), "active": 1},
        )
        await store.insert("domain_admins", {"username": mail, "domain": "ALL", "active": 1})


async def big(store: Store, domain: str, count: int) -> None:
    """Put in a domain with many users."""
    await store.insert("domain", {"domain": domain, "transport": "dovecot"})
    await users(store, count, f"'{domain}'")


async def users(store: Store, count: int, domain: str) -> None:
    """Put in users; ``domain`` is SQL for the domain of user ``n``."""
    say = _Dialect(store.name)
    mail = say.join("'u'", "n", "'@'", domain)
    other = say.join("'u'", f"(n + 7) % {count}", "'@remote.test'")
    alias = say.join("'also'", "n", "'@'", domain)
    maildir = say.join(domain, "'/u/'", "n", "'-2026.01.01.00.00.00/'")
    title = say.join("'User '", "n")
    route = "INSERT INTO forwardings (address, forwarding, domain, dest_domain,"
    stored = hash_password(PASSWORD)
    for first in range(0, count, 100_000):  # a transaction of its own for each
        some = f"{say.numbers(count)} WHERE n >= {first} AND n < {first + 100_000}"
        await _run(
            store,
            "vmail",
            "INSERT INTO mailbox (username, password, name, maildir, quota, domain)"
            f" SELECT {mail}, '{stored}', {title}, {maildir}, 1024, {domain}"
            f" FROM {some}",
            f"{route} is_forwarding) SELECT {mail}, {mail}, {domain}, {domain}, 1 FROM {some}",
            f"{route} is_forwarding) SELECT {mail}, {other}, {domain}, 'remote.test', 1"
            f" FROM {some} AND n % 3 = 0",
            f"{route} is_alias) SELECT {alias}, {mail}, {domain}, {domain}, 1"
            f" FROM {some} AND n % 10 = 0",
            f"INSERT INTO used_quota (username, bytes, messages, domain) SELECT {mail}, n * 1000,"
            f" n % 50, {domain} FROM {some}",
        )


async def analyse(store: Store) -> None:
    """Update the statistics of the planner, as autovacuum does on a server in use."""
    tables = "mailbox forwardings used_quota domain domain_admins admin".split()
    if store.name == "sqlite":
        await _run(store, "vmail", "ANALYZE")
        return
    if store.name == "mariadb":
        async with store.connect("vmail") as connection:
            for table in tables:
                await connection.exec_driver_sql(f"ANALYZE TABLE {table}")
        return
    for database in ("vmail", "amavisd"):
        engine = store.admin_engine(database).execution_options(isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await _vacuum(connection)


async def _vacuum(connection: AsyncConnection) -> None:
    await connection.exec_driver_sql("VACUUM ANALYZE")
