"""The panel's log and what is kept beside it: who sees what, which values; on every storage."""

from __future__ import annotations

import csv
import json
import re
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import make_url

from iredapi.observability import query_counter
from iredapi.state.log_details import BUCKET, LogDetails, NewDetails
from tests.clients import PASSWORD, ROOT, Client, Service, serving
from tests.contract.histories import HASH
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)
U, ADMIN = "u@ex.com", "ex-admin@admins.test"
LATER = datetime(2037, 1, 2, 3, 4, 5)
"""After the creation of every domain of the tests."""
KEYS = [
    "id", "timestamp", "admin", "ip", "domain", "account", "event", "level", "message",
    "request_id", "changes",
]  # fmt: skip


async def entry(store: Store, number: int, **more: Any) -> None:
    """A row of the log, as iRedAdmin writes it."""
    row = {"id": number, "timestamp": LATER, "admin": ROOT, "ip": "192.0.2.1", "domain": "ex.com"}
    row |= {"username": "", "event": "update", "msg": f"Message {number}."} | more
    await store.insert("log", row, database="iredadmin")


async def ids(client: Client, **filters: str) -> list[int]:
    return [item["id"] for item in await client.ok("GET", "log", **filters)]


@pytest.fixture(name="root")
async def _root(service: Service) -> Client:
    root = await service.root()
    for name in ("ex.com", "other.com"):
        await root.ok("POST", f"domain/{name}")
    return root


async def only(service: Service) -> None:
    """Remove the entries that were written before."""
    await service.store.execute("DELETE FROM log", "iredadmin")


async def last(client: Client, **filters: str) -> dict[str, Any]:
    """The newest entry."""
    found: dict[str, Any] = (await client.ok("GET", "log", limit="1", **filters))[0]
    return found


def change(param: str, old: Any, new: Any) -> dict[str, Any]:
    return {"param": param, "old": old, "new": new}


async def test_an_entry_has_what_was_changed(service: Service, root: Client) -> None:
    """The same requests give the same details on every storage."""
    form = {"password_hash": HASH, "name": "Old", "language": "en_US", "quota": "100"}
    await root.ok("POST", f"user/{U}", **form)
    await root.ok("POST", "alias/a@ex.com", members=U)
    normal = await service.admin_of("ex.com", mail=ADMIN, language="en_US")
    for client, method, path, sent, expected in (
        (root, "PUT", f"user/{U}", {"name": "New", "language": "de_DE"},
            [change("language", "en_US", "de_DE"), change("name", "Old", "New")]),
        (root, "PUT", f"user/{U}", {"quota": "200", "forwarding": "b@far.org", "name": "New"},
            [change("forwarding", [U], ["b@far.org"]), change("quota", 100, 200)]),
        (normal, "PUT", f"user/{U}", {"name": "Newer"}, [change("name", "New", "Newer")]),
        (root, "PUT", f"user/{U}", {"accountStatus": "disabled"},
            [change("accountStatus", "active", "disabled")]),
        (root, "PUT", f"user/{U}", {"suspend": "yes"}, [change("suspend", "no", "yes")]),
        (root, "PUT", "domain/ex.com", {"name": "Ex", "maxUserQuota": "500"},
            [change("maxUserQuota", 0, 500), change("name", "", "Ex")]),
        (root, "PUT", "domain/ex.com", {"accountStatus": "disabled"},
            [change("accountStatus", "active", "disabled")]),
        (root, "PUT", "alias/a@ex.com", {"addMember": "b@far.org"},
            [change("members", [U], ["b@far.org", U])]),
        (root, "PUT", f"admin/{ADMIN}", {"language": "fr_FR"},
            [change("language", "en_US", "fr_FR")]),
        (root, "PUT", "domain/admins/ex.com", {"removeAdmin": ADMIN},
            [change("admins", [ADMIN], [])]),
        (root, "PUT", "users/ex.com", {"language": "it_IT"},
            [change("language", "de_DE", "it_IT")]),
        (root, "PUT", "spampolicy/domain/ex.com", {"spam_score": "4"},
            [change("spam_score", None, 4.0)]),
        (root, "PUT", "spampolicy/domain/ex.com", {"spam_score": "5"},
            [change("spam_score", 4.0, 5.0)]),
        (root, "POST", "greylisting/ex.com", {"status": "enable"},
            [change("status", None, "enable")]),
        (root, "POST", "wblist/inbound/blacklist/ex.com", {"addresses": "bad@far.org"},
            [{"param": "addresses"}]),
        (root, "POST", f"user/{U}/change_email/v@ex.com", {}, [change("mail", U, "v@ex.com")]),
        (root, "DELETE", "user/v@ex.com", {}, []),
    ):  # fmt: skip
        response = await client.http.request(method, path, data=sent)
        assert response.status_code == 200, (path, response.text)
        found = await last(root)
        assert found["changes"] == expected, (path, sent)
        assert found["request_id"] == response.headers["x-request-id"]
        assert found["message"].startswith("[API] ")
        assert found["admin"] == (ROOT if client is root else ADMIN)


async def test_a_single_field_without_a_read(service: Service, root: Client) -> None:
    """A global admin's change is one statement; on SQLite it does not tell what was there."""
    await root.ok("POST", f"user/{U}", password_hash=HASH, name="Old")
    await root.ok("PUT", f"user/{U}", name="New")
    old = {} if service.store.name == "sqlite" else {"old": "Old"}
    assert (await last(root))["changes"] == [{"param": "name", **old, "new": "New"}]
    for name in ("One", "Two"):  # two entries that are alike, in one second
        await root.ok("PUT", f"user/{U}", name=name)
    shown = await root.ok("GET", "log", limit="2")
    assert [item["changes"][0]["new"] for item in shown] == ["Two", "One"]


async def test_long_values(service: Service, root: Client) -> None:
    """Of a long list the difference is kept."""
    members = [f"m{number:03}@far.org" for number in range(150)]
    await root.ok("POST", "alias/a@ex.com", members=",".join(members))
    await root.ok("PUT", "alias/a@ex.com", removeMember=members[7], addMember="new@far.org")
    assert (await last(root))["changes"] == [
        {"param": "members", "old": [members[7]], "new": ["new@far.org"], "partial": True}
    ]


async def test_no_secret_is_kept(service: Service, root: Client) -> None:
    """Not of passwords, hashes and tokens, also where they were sent as something else."""
    await root.ok("POST", f"user/{U}", password=PASSWORD)
    await root.ok("POST", f"admin/{ADMIN}", password=PASSWORD)
    other = "0ther-Horse-Battery"
    await root.ok("PUT", f"user/{U}", password=other)
    expected = [change("password", "***", "***")]
    assert (await last(root))["changes"] == expected
    await root.ok("PUT", f"user/{U}", password_hash=HASH, quota="5")
    assert (await last(root))["changes"][0] == expected[0]
    await root.ok("PUT", f"user/{U}", password=other, name="N", language="de_DE")
    assert [c["param"] for c in (await last(root))["changes"]] == ["language", "name", "password"]
    await root.ok("PUT", f"admin/{ADMIN}", password=other)
    assert (await last(root))["changes"] == expected
    await root.ok("PUT", "users/ex.com", password=f"{other}2")
    assert (await last(root))["changes"] == [{"param": "password", "old": "***", "new": "***"}]
    await root.ok("PUT", f"user/{U}", name=HASH, language="en_US")  # pasted into the wrong field
    token = (await root.ok("POST", "tokens", label="t"))["token"]
    await service.context.write_details()
    kept = str(await service.store.rows("SELECT * FROM log_detail_blocks", "state"))
    assert "password" in kept
    assert "language" in kept
    stored = {row["password"] for row in await _hashes(service.store)}
    for secret in (PASSWORD, other, HASH, HASH.partition("}")[2][:12], token, *stored):
        assert secret not in kept, secret


async def _hashes(store: Store) -> list[dict[str, Any]]:
    if store.name == "openldap":
        return []
    return [
        row
        for table in ("mailbox", "admin")
        for row in await store.rows(f"SELECT password FROM {table}", "vmail")
    ]


async def test_filters(service: Service, root: Client) -> None:
    store = service.store
    await only(service)
    await entry(store, 101, event="login", domain="", msg="Admin login success", admin="A@x.test")
    await entry(store, 102, username=U, event="create", msg="Create user: 100%_sure.")
    await entry(store, 103, username="U@Ex.com ", event="delete", ip="::ffff:192.0.2.9")
    await entry(store, 104, domain="Other.com", username="w@other.com", ip="2001:db8::1")
    await entry(store, 105, domain="gone.com", timestamp=datetime(2026, 1, 31, 12), msg="Übung")
    await entry(store, 106, timestamp=datetime(2026, 2, 1))
    for filters, expected in (
        ({}, [106, 105, 104, 103, 102, 101]),
        ({"admin": "a@X.test"}, [101]),
        ({"admin": "a@x.tes"}, []),
        ({"domain": "EX.com"}, [106, 103, 102]),
        ({"domain": "other.com"}, [104]),
        ({"domain": "gone.com"}, [105]),
        ({"domain": "never.com"}, []),
        ({"account": U}, [103, 102]),
        ({"account": "_@ex.com"}, []),
        ({"event": "create"}, [102]),
        ({"event": "Create, delete"}, [103, 102]),
        ({"event": "unban"}, []),
        ({"since": "2026-02-01", "until": "2027-01-01"}, [106]),
        ({"since": "2026-01-31T12:00:00Z", "until": "2026-02-01"}, [105]),
        ({"until": "2026-01-31 12:00:00"}, []),
        ({"since": "2038-01-01"}, []),
        ({"ip": "192.0.2.9"}, [103]),
        ({"ip": "2001:DB8:0::1"}, [104]),
        ({"ip": "192.0.2.2"}, []),
        ({"search": "LOGIN success"}, [101]),
        ({"search": "0%_"}, [102]),
        ({"search": "%%"}, []),
        ({"search": "1__"}, []),
        ({"search": "übung"}, [105]),
        ({"search": "Message", "domain": "ex.com", "event": "update"}, [106]),
    ):
        assert await ids(root, **filters) == expected, filters
        _, answer = await root.call("GET", "log", params={**filters, "total": "yes", "limit": "1"})
        assert (answer["_total"], len(answer["_data"])) == (len(expected), min(len(expected), 1))
    for name, value in (
        ("admin", ""), ("admin", "x" * 256), ("domain", ""), ("domain", "ex .com"),
        ("account", "nobody"), ("account", ""), ("event", "creat"), ("event", ","),
        ("since", "soon"), ("until", ""), ("ip", "1.2.3"), ("ip", "192.0.2.0/24"), ("ip", ""),
        ("ip", "fe80::1%a\0"),
        ("search", "a"), ("search", "a\0b"), ("search", ""), ("limit", "0"), ("limit", "1001"),
        ("cursor", "x"), ("total", "perhaps"), ("fields", "password"), ("fields", ""),
    ):  # fmt: skip
        status, _, params = await root.refused("GET", "log", **{name: value})
        assert (status, params) == (400, [name]), (name, value)
    wrong = await root.refused("GET", "log", since="2026-02-01", until="2026-02-01")
    assert wrong == (400, "INVALID_VALUE", ["until"])


async def test_pages_and_csv(service: Service, root: Client) -> None:
    store = service.store
    await only(service)
    every = [(n, "=1+1" if n == 2101 else "Message.") for n in range(1001, 2102)]
    written = ", ".join(f"({n}, '{LATER}', '{ROOT}', 'ex.com', 'update', '{m}')" for n, m in every)
    columns = "id, timestamp, admin, domain, event, msg"
    await store.execute(f"INSERT INTO log ({columns}) VALUES {written}", "iredadmin")
    with query_counter.listening() as heard:
        assert await ids(root, limit="5") == [2101, 2100, 2099, 2098, 2097]
    few = [sql for sql in heard if re.search(r"FROM log\b", sql)]
    with query_counter.listening() as heard:
        status, answer = await root.call("GET", "log", params={"limit": "600", "total": "yes"})
    many = [sql for sql in heard if re.search(r"FROM log\b", sql)]
    assert (len(few), len(many)) == (1, 2)  # the entries, and their number
    beside = [sql for sql in heard if "FROM log_detail_blocks" in sql]
    assert len(beside) == 1
    assert (status, answer["_total"], len(answer["_data"])) == (200, 1101, 600)
    assert list(answer["_data"][0]) == KEYS
    await entry(store, 3000)
    await store.execute("DELETE FROM log WHERE id IN (1502, 1501)", "iredadmin")
    form = {"cursor": answer["_next"], "limit": "1000", "fields": "id,timestamp"}
    _, answer = await root.call("GET", "log", params=form)
    assert [item["id"] for item in answer["_data"]] == list(range(1500, 1000, -1))
    assert list(answer["_data"][0]) == ["id", "timestamp"]
    assert answer["_next"] is None
    assert await ids(root) == [3000, *range(2101, 1502, -1), *range(1500, 1000, -1)]
    for more in ({"event": "update"}, {"domain": "ex.com"}):
        wrong = await root.refused("GET", "log", **form, **more)
        assert wrong == (400, "INVALID_CURSOR", ["cursor"])
    await root.ok("PUT", "domain/ex.com", name="Ex")
    csv_form: dict[str, Any] = {"params": {}, "headers": {"Accept": "text/csv"}}
    response = await root.http.get("log", **csv_form)
    header, *rows = list(csv.reader(response.text.splitlines()))
    assert (header, len(rows), response.headers["vary"]) == (KEYS, 1101, "Accept")
    assert {row[0]: row for row in rows}["2101"][KEYS.index("message")] == "'=1+1"
    csv_form["params"] = {"search": "domain profile"}
    _, row = csv.reader((await root.http.get("log", **csv_form)).text.splitlines())
    assert json.loads(row[-1]) == [change("name", "", "Ex")]
    assert row[-2] == (await last(root, search="domain profile"))["request_id"]
    csv_form["params"] = {"fields": "message,id", "event": "create"}
    assert (await root.http.get("log", **csv_form)).text == "id,message\r\n"
    csv_form["params"] = {"limit": "5"}
    answer = (await root.http.get("log", **csv_form)).json()
    assert [item["param"] for item in answer["_errors"]] == ["limit"]


async def test_a_normal_admin_sees_its_domains_only(service: Service, root: Client) -> None:
    """Not by any filter, number, cursor or detail; nor what was before its domain was made."""
    store = service.store
    form = {"password_hash": HASH, "isGlobalAdmin": "yes"}
    await root.ok("POST", "user/boss@ex.com", **form)
    admin = await service.admin_of("ex.com", mail=ADMIN)
    nobody = await service.admin_of(mail="nobody@admins.test")
    await only(service)
    await entry(store, 101, username=U)
    await entry(store, 102, domain="other.com", username="w@other.com", msg="Of other.com")
    await entry(store, 103, domain="", event="login", msg="Admin login success")
    await entry(store, 104, admin=ADMIN, ip="192.0.2.2")
    await entry(store, 105, admin="boss@ex.com", ip="192.0.2.3")
    await entry(store, 106, timestamp=datetime(1999, 1, 1))
    await entry(store, 107, admin="ex.com", ip="192.0.2.4")
    shown = await admin.ok("GET", "log")
    assert [(item["id"], item["admin"], item["ip"]) for item in shown] == [
        (107, "", ""),
        (105, "boss@ex.com", "192.0.2.3"),
        (104, ADMIN, "192.0.2.2"),
        (101, "", ""),
    ]
    for filters, expected in (
        ({"domain": "ex.com"}, [107, 105, 104, 101]),
        ({"domain": "other.com"}, []),
        ({"domain": "never.com"}, []),
        ({"account": "w@other.com"}, []),
        ({"account": U}, [101]),
        ({"admin": ADMIN}, [104]),
        ({"admin": ROOT}, []),
        ({"admin": "ex.com"}, []),
        ({"ip": "192.0.2.1"}, []),
        ({"ip": "192.0.2.2"}, [104]),
        ({"ip": "192.0.2.3"}, [105]),
        ({"ip": "192.0.2.4"}, []),
        ({"event": "login"}, []),
        ({"search": "other"}, []),
        ({"until": "2000-01-01"}, []),
    ):
        _, answer = await admin.call("GET", "log", params={**filters, "limit": "9", "total": "yes"})
        found = [item["id"] for item in answer["_data"]]
        assert (found, answer["_total"]) == (expected, len(expected)), filters
    # A cursor of somebody else's is none.
    _, answer = await root.call("GET", "log", params={"limit": "3"})
    wrong = await admin.refused("GET", "log", cursor=answer["_next"])
    assert wrong == (400, "INVALID_CURSOR", ["cursor"])
    assert await nobody.ok("GET", "log") == []
    assert (await service.client().call("GET", "log"))[0] == 401
    for limits, expected in (
        ({"read_only": "yes"}, [107, 106, 105, 104, 103, 102, 101]),
        ({"domains": "other.com"}, [102]),
    ):
        made = await root.ok("POST", "tokens", label="t", **limits)
        token = service.client()
        token.http.headers["Authorization"] = f"Bearer {made['token']}"
        assert [i for i in await ids(token) if 101 <= i <= 107] == expected, limits


async def test_details_are_shown_to_those_who_may_read_the_profile(
    service: Service, root: Client
) -> None:
    """A domain's admin may be forbidden to see policies; hidden fields of profiles stay hidden."""
    await root.ok("POST", f"user/{U}", password_hash=HASH)
    admin = await service.admin_of("ex.com", mail=ADMIN)
    await only(service)
    await root.ok("PUT", f"user/{U}", name="New", quota="7")
    await root.ok("PUT", "spampolicy/domain/ex.com", spam_score="4")
    await service.store.execute("UPDATE log SET timestamp = :t", "iredadmin", t=LATER)
    shown = [[c["param"] for c in item["changes"]] for item in await root.ok("GET", "log")]
    assert shown == [["spam_score"], ["name", "quota"]]
    shown = [[c["param"] for c in item["changes"]] for item in await admin.ok("GET", "log")]
    assert shown == [[], ["name", "quota"]]
    async with serving(service.store, hidden_user_fields="quota") as other:
        again = await (await other.root()).ok("GET", "log", account=U)
        assert [c["param"] for c in again[0]["changes"]] == ["name"]


async def test_an_id_that_was_given_out_before(service: Service, root: Client) -> None:
    """The panel's table was emptied: a new entry does not get what belongs to an old one."""
    await root.ok("PUT", "domain/ex.com", name="Ex")
    number = (await last(root))["id"]
    row = (await service.store.rows(f"SELECT * FROM log WHERE id = {number}", "iredadmin"))[0]
    await only(service)
    await entry(service.store, number, msg=row["msg"])
    shown = await last(root)
    assert (shown["id"], shown["request_id"], shown["changes"]) == (number, None, [])
    details = service.context.log_details
    await details.write([NewDetails(number, "x" * 32, "request-2", "", ())])
    kept = (await details.of([number]))[number]
    assert (kept.digest, kept.request_id) == ("x" * 32, "request-2")


async def test_details_of_a_moment_share_rows(service: Service) -> None:
    """Those of 64 ids are in one row, unless it would be long; none is in another one's answer."""
    details, count = service.context.log_details, "SELECT count(*) AS n FROM log_detail_blocks"
    before = (await service.store.rows(count, "state"))[0]["n"]
    start = 10**9 // BUCKET * BUCKET
    some = range(start + 60, start + 140)
    await details.write([NewDetails(n, "d", f"r{n}", "user", [{"param": "a"}]) for n in some])
    assert (await service.store.rows(count, "state"))[0]["n"] == before + 3
    found = await details.of([start + 59, start + 63, start + 64, start + 139, start + 140])
    assert {n: kept.request_id for n, kept in found.items()} == {
        n: f"r{n}" for n in (start + 63, start + 64, start + 139)
    }
    assert found[start + 63].changes == [{"param": "a"}]
    long = [{"param": "a", "new": "x" * 500_000}]
    await details.write([NewDetails(start + n, "d", "r", "user", long) for n in range(4)])
    assert (await service.store.rows(count, "state"))[0]["n"] == before + 5
    assert len(await details.of(range(start, start + 4))) == 4


async def test_details_are_kept_for_some_days(service: Service, root: Client) -> None:
    await root.ok("PUT", "domain/ex.com", name="Ex")
    number = (await last(root))["id"]
    state = service.context.state
    now = state.locks.clock()
    for days, left in ((3, 1), (2, 0)):
        later = LogDetails(state.connections, days=days, clock=lambda: now + 2.5 * 86400)
        assert len(await later.of([number])) == left
        await later.purge()
        kept = f"SELECT id FROM log_detail_blocks WHERE bucket = {number // BUCKET}"
        # Those of the creation may be in a row of their own.
        assert bool(await service.store.rows(kept, "state")) == bool(left)


async def test_none_are_kept_with_0_days(store: Store) -> None:
    """Those that are there are removed at the start."""
    async with serving(store) as service:
        root = await service.root()
        await root.ok("POST", "domain/ex.com")
    assert await store.rows("SELECT id FROM log_detail_blocks", "state")
    async with serving(store, audit_days=0) as service:
        root = await service.root()
        await root.ok("PUT", "domain/ex.com", name="Ex")
        shown = await last(root)
        assert (shown["request_id"], shown["changes"]) == (None, [])
        assert shown["message"] == "[API] Update domain profile: ex.com (name)."
    assert await store.rows("SELECT id FROM log_detail_blocks", "state") == []


@pytest.mark.stores("postgresql")
async def test_a_login_that_may_only_insert(service: Service, root: Client) -> None:
    """Entries are written, without ids; reading is a clear error, and changes go on."""
    login = make_url(service.store.iredadmin).username
    await service.store.execute(f'REVOKE SELECT ON log FROM "{login}"', "iredadmin")
    try:
        await root.ok("PUT", "domain/ex.com", name="Ex")
        refused = await root.refused("GET", "log")
    finally:
        await service.store.execute(f'GRANT SELECT ON log TO "{login}"', "iredadmin")
    assert refused == (501, "NOT_SUPPORTED_BY_BACKEND", [])
    shown = await last(root)
    assert (shown["message"], shown["changes"]) == (
        "[API] Update domain profile: ex.com (name).",
        [],
    )


async def test_without_the_panels_database(store: Store) -> None:
    async with serving(store, iredadmin_url="") as service:
        root = await service.root()
        await root.ok("POST", "domain/ex.com")
        assert await root.refused("GET", "log") == (501, "NOT_SUPPORTED_BY_BACKEND", [])
        await service.context.write_details()
    assert await store.rows("SELECT id FROM log_detail_blocks", "state") == []
