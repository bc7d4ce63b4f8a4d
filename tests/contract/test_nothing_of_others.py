"""Whatever others have, the answers to a normal admin have the same bytes.

All is asked twice: before there is anything of others, and when other domains, accounts, admins,
deleted mailboxes and entries of the log are there. What is asked for names them in both cases.
Nor does the time that it takes tell how much others have: no large table is read as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from tests.clients import PASSWORD, Client, Service
from tests.contract.test_statement_counts import counted
from tests.servers.store import ALL_STORES, DATABASES, Database, Store

pytestmark = pytest.mark.stores(*ALL_STORES)
OWN = "own.com"
OTHERS = ("own.com.org", "notown.com")
"""They contain the own name, or end with it."""
STRANGER = "stranger@admins.test"
Question = tuple[str, str, dict[str, str]]

# Texts that are in accounts of others only, in all accounts, and in none.
_TEXTS = ("stranger", "Person", OTHERS[0], OTHERS[1], "nowhere")
_WALKS = {
    "domains": ("domain", "-name", "created", "modified", "-quota"),
    "users": ("address", "-name", "created", "-modified", "quota", "-used"),
    f"users/{OWN}": ("-address",),
    "aliases": ("address", "-name"),
    "mls": ("address", "-name"),
    "alias_domains": ("domain", "-target"),
    "usage": (), f"usage/{OWN}": (), "deleted_mailboxes": (), "log": (),
}  # fmt: skip
"""Every list, and orders in which it is read."""
_LOG: dict[str, tuple[str, ...]] = {
    "admin": ("root@admins.test", STRANGER, "never@admins.test", f"ann@{OTHERS[1]}"),
    "domain": OTHERS, "account": (f"ann@{OTHERS[0]}", f"ann@{OTHERS[1]}"),
    "event": ("create", "delete", "login"), "ip": ("127.0.0.1", "192.0.2.9"),
    "search": _TEXTS, "since": ("2020-01-01",), "until": ("2020-01-01",),
}  # fmt: skip


def questions() -> Iterator[Question]:
    """Method, path and parameters of every request."""
    for path, orders in _WALKS.items():
        for sort in orders or ("",):
            yield "GET", path, {"limit": "2", "total": "yes"} | ({"sort": sort} if sort else {})
        yield "GET", path, {"total": "yes"}
        for text in _TEXTS[::2] if orders else ():
            yield "GET", path, {"search": text, "total": "yes"}
        for more in ({"status": "disabled"}, {"modified_since": "2020-01-01"}, {"with": "usage"}):
            yield "GET", path, more
    for text in (*_TEXTS, f"ann@{OTHERS[0]}"):
        yield "GET", "search", {"q": text}
    for name, values in _LOG.items():
        for value in values:
            yield "GET", "log", {name: value, "total": "yes"}
    for name in OTHERS:
        for path in ("domain", "users", "aliases", "mls", "usage", "deleted_mailboxes", "export"):
            yield "GET", f"{path}/{name}", {"total": "yes"}
        for path in ("exists", "user", "alias", "ml"):
            yield "GET", f"{path}/ann@{name}", {}
        yield "PUT", f"user/ann@{name}", {"suspend": "yes"}
        yield "PUT", f"domain/{name}", {"suspend": "yes"}
        yield "GET", "deleted_mailboxes", {"mail": f"bob@{name}", "total": "yes"}
    for who in ("root@admins.test", STRANGER):
        yield "GET", "deleted_mailboxes", {"deleted_by": who, "total": "yes"}
    for number in range(1, 8):
        yield "PUT", f"deleted_mailbox/{number}", {}
    yield "GET", "admins", {"search": "stranger"}
    yield "GET", f"domain/{OWN}", {"view": "canonical", "with": "usage"}
    yield "GET", f"exists/new@{OWN}", {}
    yield "GET", f"export/{OWN}", {}
    yield "GET", "export", {}
    yield "GET", f"exists/{STRANGER}", {}


async def _answer(client: Client, question: Question) -> tuple[int, str]:
    method, path, form = question
    sent: Any = {"params" if method == "GET" else "data": form}
    answer = await client.http.request(method, path, **sent)
    found = answer.text
    if answer.headers["content-type"] == "application/x-ndjson":
        return answer.status_code, found
    while answer.status_code == 200 and (cursor := answer.json().get("_next")):
        answer = await client.http.get(path, params=form | {"cursor": cursor})
        found += answer.text
    return answer.status_code, re.sub(r'"_request_id":"[^"]+"', "", found)


async def _fill(service: Service, root: Client, name: str) -> None:
    """Make a domain with accounts of every kind, and a deleted mailbox."""
    await root.ok("POST", f"domain/{name}", name="Firm of strangers")
    await root.ok("PUT", f"domain/{name}", aliasDomains=f"alias-{name}")
    for local in ("ann", "bob", "cid"):
        await root.ok("POST", f"user/{local}@{name}", password=PASSWORD, name="Person stranger")
    await root.ok("PUT", f"user/cid@{name}", accountStatus="disabled")
    await root.ok("POST", f"alias/sales@{name}", members=f"ann@{name}", name="stranger")
    await root.ok("POST", f"ml/news@{name}", name="stranger")
    await root.ok("DELETE", f"user/bob@{name}", keep_mailbox_days="7")


async def test_answers_do_not_depend_on_others(service: Service) -> None:
    store = service.store
    root = await service.root()
    await _fill(service, root, OWN)
    clients = {"admin": await service.admin_of(OWN), "of nothing": await service.admin_of()}
    await root.ok("PUT", f"domain/admins/{OWN}", addAdmin=f"ann@{OWN}")
    clients["mail user"] = await service.client().login(f"ann@{OWN}")
    made = await root.ok("POST", "tokens", label="t", domains=OWN)
    clients["token"] = service.client()
    clients["token"].http.headers["Authorization"] = f"Bearer {made['token']}"

    async def later() -> None:
        # Entries and deletions of the second in which a domain was made are not shown.
        await store.execute("UPDATE log SET timestamp = '2031-01-01'", "iredadmin")
        await store.execute("UPDATE deleted_mailboxes SET timestamp = '2031-01-01'", store.accounts)

    await later()
    every = list(questions())
    asked = [("admin", question) for question in every]
    # The other three together ask all of it once more.
    others = [who for who in clients if who != "admin"]
    asked += [(others[number % 3], question) for number, question in enumerate(every)]
    before = [await _answer(clients[who], question) for who, question in asked]
    for name in OTHERS:
        await _fill(service, root, name)
        await service.admin_of(name, mail=STRANGER if name == OTHERS[0] else f"x@admins.{name}")
    await root.ok("PUT", f"domain/admins/{OTHERS[1]}", addAdmin=f"ann@{OTHERS[1]}")
    await (await service.client(address="192.0.2.9").login(STRANGER)).ok(
        "PUT", f"user/ann@{OTHERS[0]}", name="Person stranger 2", suspend="yes"
    )
    await later()
    for (who, question), known in zip(asked, before, strict=True):
        assert await _answer(clients[who], question) == known, (who, question)
    shown = [text for (who, _), (_, text) in zip(asked, before, strict=True) if who == "admin"]
    assert sum('"ann@own.com"' in text for text in shown) > 20  # there was something to see
    assert len(await root.ok("GET", "users")) == 6


_READ = (
    *_WALKS, "domains?with=usage", "users?with=usage",
    "users?search=stranger", "users?sort=used", "search?q=stranger",
    f"log?domain={OWN}", f"log?account=ann@{OWN}", "log?search=stranger",
    f"deleted_mailboxes/{OWN}", f"deleted_mailboxes?mail=bob@{OWN}",
)  # fmt: skip
_LARGE = "mailbox|alias|maillists|forwardings|used_quota|last_login|log|deleted_mailboxes"


def _pages() -> Iterator[str]:
    for path in _READ:
        yield f"{path}{'&' if '?' in path else '?'}limit=5&total=yes"
    yield from ("usage", f"usage/{OWN}")


@pytest.mark.stores("sqlite")
async def test_no_large_table_is_read_as_a_whole(service: Service) -> None:
    """SQLite tells how it would carry out each statement."""
    await _fill(service, await service.root(), OWN)
    admin = await service.admin_of(OWN)
    wrong = []
    for path in _pages():
        for sql in await counted(service, admin.http.get(path)):
            plan = await _plan(service.store, sql)
            whole = [line for line in plan if re.match(rf"SCAN ({_LARGE})\b", line)]
            wrong += [(path, line, sql) for line in whole]
    assert not wrong, wrong


async def _plan(store: Store, sql: str) -> list[str]:
    for database in DATABASES:
        async with store.connect(database) as connection:
            try:
                asked = f"EXPLAIN QUERY PLAN {sql.replace('?', '1')}"
                return [str(row.detail) for row in await connection.exec_driver_sql(asked)]
            except OperationalError as error:
                if "no such table" not in str(error):
                    raise
    raise AssertionError(sql)


@pytest.mark.stores("postgresql")
async def test_plans_of_usage_do_not_depend_on_others(service: Service) -> None:
    """PostgreSQL finds the users of a domain by their domain, beside a much larger domain."""
    store = service.store
    await _fill(service, await service.root(), OWN)
    admin = await service.admin_of(OWN)
    await store.execute(
        "INSERT INTO mailbox (username, domain, password)"
        f" SELECT 'u' || n || '@{OTHERS[0]}', '{OTHERS[0]}', 'x' FROM generate_series(1, 5000) AS n"
    )
    await store.execute("ANALYZE mailbox")
    found, wrong = 0, []
    for path in ("usage", "usage?limit=5&total=yes", f"usage/{OWN}", "domains?with=usage"):
        for sql in await counted(service, admin.http.get(path)):
            if "FROM mailbox" not in sql:
                continue
            found += 1
            scans = [one for one in await _scans(store, sql) if one["Relation Name"] == "mailbox"]
            assert scans, sql
            wrong += [
                (path, scan["Node Type"], scan.get("Index Cond"), sql)
                for scan in scans
                if not re.search(r"domain|username\)*(::text)? = ", scan.get("Index Cond", ""))
            ]
    assert found >= 4
    assert not wrong, wrong


async def _scans(store: Store, sql: str) -> list[dict[str, Any]]:
    """Return the nodes of the plan that PostgreSQL makes for any values."""
    count = max(map(int, re.findall(r"\$(\d+)", sql)), default=0)
    nulls = f"({', '.join(['NULL'] * count)})" if count else ""
    async with store.connect("vmail") as connection:
        await connection.exec_driver_sql("SET plan_cache_mode = force_generic_plan")
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        await raw.execute(f"PREPARE asked AS {sql}")
        plan = await raw.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE asked{nulls}")
        await raw.execute("DEALLOCATE asked")
    todo, scans = [plan[0]["Plan"]], []
    while todo:
        node = todo.pop()
        todo += node.get("Plans", ())
        if "Relation Name" in node:
            scans.append(node)
    return scans


@pytest.mark.stores("mariadb", "openldap")
async def test_how_much_is_read_does_not_tell_how_much_others_have(service: Service) -> None:
    """MariaDB counts the rows that it reads; with OpenLDAP it has the log and the mailboxes."""
    store = service.store
    await _fill(service, await service.root(), OWN)
    admin = await service.admin_of(OWN)

    async def reads(path: str) -> int:
        found = []
        for _ in range(2):  # at times the tables are looked at again
            before = await _handlers(store)
            assert (await admin.http.get(path)).status_code == 200
            found.append(await _handlers(store) - before)
        return min(found)

    before = {path: await reads(path) for path in _pages()}
    user = f"CONCAT('u', seq, '@{OTHERS[0]}'), '{OTHERS[0]}'"
    rows: dict[str, tuple[str, Database]] = {
        "log (username, domain, msg)": (f"{user}, 'stranger'", "iredadmin"),
        "deleted_mailboxes (username, domain, maildir)": (f"{user}, 'x'", store.accounts),
        "used_quota (username, domain)": (user, store.accounts),
        "last_login (username, domain)": (user, store.accounts),
    }
    if store.name != "openldap":
        rows["mailbox (username, domain, password)"] = (f"{user}, 'x'", "vmail")
        rows["alias (address, domain)"] = (user, "vmail")
    for table, (values, database) in rows.items():
        await store.execute(f"INSERT INTO {table} SELECT {values} FROM seq_1_to_2000", database)
    after = {path: await reads(path) for path in _pages()}
    assert {path: (before[path], n) for path, n in after.items() if n > before[path] + 500} == {}


async def _handlers(store: Store) -> int:
    rows = await store.rows("SHOW GLOBAL STATUS LIKE 'Handler_read%'", "state")
    return sum(int(row["Value"]) for row in rows)
