"""Deleting and renaming: no row points to the old name, and no other row changes.

The expectation is computed from the rows themselves. Deleting takes away exactly the rows that
mention the address or domain, renaming writes the new address wherever the old one stood. What
stays by decision is listed in ``_stays``.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import PASSWORD, ROOT, Client
from tests.servers import rich
from tests.servers.interrupted_commits import broken_off
from tests.servers.snapshot import (
    TABLES,
    Arranged,
    Arrangement,
    Difference,
    Dump,
    Opened,
    Row,
    Where,
    day,
    dump,
    moment,
    names_of,
)
from tests.servers.store import Store

pytestmark = pytest.mark.sql_only("compares all rows of vmail before and after")

NAMES_OF_DOMAIN = ("ex.com", "al.com", "al2.com")


async def _fill(store: Store, root: Client) -> None:
    await rich.fill(store)
    # Whoever loses the only forwarding, and the only domain, with u@ex.com and ex.com.
    await rich.add_user(store, "y@other.com", isadmin=1)
    await rich.add_user(store, "z@other.com", active=0)
    await store.execute("DELETE FROM forwardings WHERE address IN ('y@other.com', 'z@other.com')")
    await rich.add_route(store, "y@other.com", "u@ex.com", is_forwarding=1)
    await rich.add_route(store, "z@other.com", "u@ex.com", is_forwarding=1, active=0)
    await store.insert("domain_admins", {"username": "y@other.com", "domain": "ex.com"})
    await store.insert("domain_admins", {"username": "u@ex.com", "domain": "ex.com"})
    await store.execute("UPDATE mailbox SET isadmin = 1 WHERE username = 'u@ex.com'")
    # What other people keep about them as remote senders.
    for number, sender in enumerate(("u@ex.com", "list@ex.com", "@ex.com"), 200):
        await store.insert(
            "mailaddr", {"id": number, "email": rich.as_bytes(store, sender)}, database="amavisd"
        )
        await store.insert("wblist", {"rid": 105, "sid": number, "wb": "W"}, database="amavisd")
        for table in ("greylisting", "greylisting_whitelists"):
            row = {"account": "@other.com", "sender": sender}
            await store.insert(table, row, database="iredapd")
    await store.insert(
        "greylisting_tracking",
        {"sender": "u@ex.com", "recipient": "x@other.com", "client_address": "10.0.0.9",
         "sender_domain": "ex.com", "rcpt_domain": "other.com"},
        database="iredapd",
    )  # fmt: skip


_ARRANGEMENT = Arrangement(_fill)


@pytest_asyncio.fixture(loop_scope="session")
async def arranged(selected_store: Store, _services: Opened) -> AsyncIterator[Arranged]:
    async with _ARRANGEMENT.on(selected_store, _services) as found:
        yield found


# -- what the rows say -----------------------------------------------------------------------------


def _pattern(name: str) -> re.Pattern[str]:
    before = r"(?<![\w.+-])" if "@" in name else r"(?<![\w-])"
    return re.compile(before + re.escape(name) + r"(?![\w.-])")


def _text(value: Any) -> str | None:
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).decode()
    return value if isinstance(value, str) else None


def _stays(place: Where, column: str, row: Row) -> bool:
    """Tell whether a mention may stay when what it mentions goes."""
    table = place[1]
    if table == "deleted_mailboxes" or table == "mailaddr":
        return True
    if table == "domain_ownership":
        return bool(row["verified"])
    return table.startswith("greylisting") and column.startswith("sender")


def _mentions(found: Dump, *names: str) -> set[str]:
    """Return the rows that mention one of these, and those that belong to such rows."""
    patterns = [_pattern(name) for name in names]
    hits: set[str] = set()
    for place, rows in found.items():
        for row in rows:
            texts = {
                column: text
                for column, value in row.items()
                if (text := _text(value)) is not None and not _stays(place, column, row)
            }
            if any(pattern.search(text) for pattern in patterns for text in texts.values()):
                hits.add(names_of(place, [row])[0])
    # A throttle's tracking rows and a policy user's lists are found by number.
    numbers = {int(hit.rpartition(" ")[2]) for hit in hits if hit.startswith("users ")}
    hits |= {
        names_of(("amavisd", table), [row])[0]
        for table, column in (("wblist", "rid"), ("outbound_wblist", "sid"))
        for row in found["amavisd", table]
        if row[column] in numbers
    }
    return hits


def _sorted_out(found: Difference) -> tuple[set[str], Difference, Difference]:
    """Return removed rows, changed rows and new rows."""
    verified = {name for name in found if "domain_ownership" in name}
    return (
        {name[1:] for name in found if name[0] == "-"} - {name[1:] for name in verified},
        {name[1:]: columns for name, columns in found.items() if name[0] == "~"},
        {name[1:]: columns for name, columns in found.items() if name[0] == "+"},
    )


def _ownership(names: Iterable[str]) -> set[str]:
    return {name for name in names if name.startswith("domain_ownership ")}


SELF_ROWS: Difference = {
    "forwardings y@other.com y@other.com": {
        "domain": "other.com", "dest_domain": "other.com", "is_forwarding": 1, "active": 1,
    },
    "forwardings z@other.com z@other.com": {
        "domain": "other.com", "dest_domain": "other.com", "is_forwarding": 1,
    },
}  # fmt: skip


# -- deleting --------------------------------------------------------------------------------------


async def test_delete_user(arranged: Arranged) -> None:
    wanted = _mentions(arranged.before, "u@ex.com")
    assert len(wanted) > 40
    await arranged.root.ok("DELETE", "user/u@ex.com")
    assert _mentions(await dump(arranged.store), "u@ex.com") == set()
    removed, changed, new = _sorted_out(await arranged.changes())
    assert removed == wanted
    assert changed == {}
    queued = [name for name in new if name.startswith("deleted_mailboxes")]
    assert len(queued) == 1
    assert new == SELF_ROWS | {name: new[name] for name in queued}


async def test_delete_alias(arranged: Arranged) -> None:
    wanted = _mentions(arranged.before, "list@ex.com")
    await arranged.root.ok("DELETE", "alias/list@ex.com")
    assert _mentions(await dump(arranged.store), "list@ex.com") == set()
    removed, changed, new = _sorted_out(await arranged.changes())
    assert removed == wanted
    assert (changed, new) == ({}, {})


async def test_delete_domain(arranged: Arranged) -> None:
    wanted = _mentions(arranged.before, *NAMES_OF_DOMAIN)
    wanted -= _ownership(wanted)
    await arranged.root.ok("DELETE", "domain/ex.com")
    left = _mentions(await dump(arranged.store), *NAMES_OF_DOMAIN)
    assert left - _ownership(left) == set()
    removed, changed, new = _sorted_out(await arranged.changes())
    assert removed == wanted
    assert changed == {"mailbox y@other.com": {"isadmin": 0}}
    queued = [name for name in new if name.startswith("deleted_mailboxes")]
    assert len(queued) == 4
    assert new == SELF_ROWS | {name: new[name] for name in queued}


async def test_delete_admin(arranged: Arranged) -> None:
    wanted = _mentions(arranged.before, "norm@admins.test")
    wanted -= _ownership(wanted)
    await arranged.root.ok("DELETE", "admin/norm@admins.test")
    assert _mentions(await dump(arranged.store), "norm@admins.test") == set()
    removed, changed, new = _sorted_out(await arranged.changes())
    assert removed == wanted
    assert (changed, new) == ({}, {})


async def test_verified_ownership_stays_with_the_domain_gone(arranged: Arranged) -> None:
    await arranged.root.ok("DELETE", "domain/ex.com")
    rows = await arranged.store.rows(
        "SELECT admin, verified FROM domain_ownership WHERE domain = 'ex.com' ORDER BY admin",
        "iredadmin",
    )
    # Nobody waits any more for a proof of what is gone.
    assert rows == [
        {"admin": "boss@ex.com", "verified": 1},
        {"admin": "norm@admins.test", "verified": 1},
    ]


async def test_unverified_ownership_goes_with_the_user(arranged: Arranged) -> None:
    for alias, verified in (("", 1), ("al.com", 0)):
        await arranged.store.insert(
            "domain_ownership",
            {"admin": "u@ex.com", "domain": "ex.com", "alias_domain": alias, "verify_code": "c",
             "verified": verified, "message": ""},
            database="iredadmin",
        )  # fmt: skip
    await arranged.root.ok("DELETE", "user/u@ex.com")
    rows = await arranged.store.rows(
        "SELECT verified FROM domain_ownership WHERE admin = 'u@ex.com'", "iredadmin"
    )
    assert rows == [{"verified": 1}]


async def test_policies_of_alias_domains_go_with_the_domain(arranged: Arranged) -> None:
    store = arranged.store
    for number, account in ((300, "@al.com"), (301, "u@al.com")):
        await store.insert(
            "users", {"id": number, "policy_id": 0, "email": rich.as_bytes(store, account)},
            database="amavisd",
        )  # fmt: skip
        await store.insert("wblist", {"rid": number, "sid": 100, "wb": "W"}, database="amavisd")
        row = {"id": number, "account": account, "kind": "outbound", "priority": 9, "period": 60}
        await store.insert("throttle", row, database="iredapd")
        row = {"account": account, "sender": "@far.org"}
        await store.insert("greylisting", row, database="iredapd")
    await arranged.root.ok("DELETE", "domain/ex.com")
    left = await dump(store)
    assert [row["account"] for row in left["iredapd", "throttle"]] == ["x@other.com", "@other.com"]
    assert _mentions(left, "al.com") - _ownership(_mentions(left, "al.com")) == set()
    assert {row["rid"] for row in left["amavisd", "wblist"]} == {105, 106}


async def test_policies_go_with_an_alias_domain(arranged: Arranged) -> None:
    row = {"account": "@al.com", "kind": "outbound", "priority": 9, "period": 60}
    await arranged.store.insert("throttle", row, database="iredapd")
    await arranged.root.ok("PUT", "domain/ex.com", removeAliasDomain="al.com")
    left = await dump(arranged.store)
    assert _mentions(left, "al.com") == set()
    assert _mentions(left, "ex.com") == _mentions(arranged.before, "ex.com") - {
        "alias_domain al.com", "forwardings bob@al.com u@ex.com", "forwardings val@al.com v@ex.com",
    }  # fmt: skip


async def test_underscore_in_a_domain(arranged: Arranged) -> None:
    store = arranged.store
    for name in ("a_b.com", "axb.com"):
        await rich.add_domain(store, name)
        await rich.add_user(store, f"u@{name}")
        await rich.add_route(store, "x@other.com", f"u@{name}", is_forwarding=1)
        row = {"account": f"@{name}", "relayhost": "[10.0.0.1]"}
        await store.insert("sender_relayhost", row)
        row = {"account": f"u@{name}", "kind": "outbound"}
        await store.insert("throttle", {**row, "priority": 9, "period": 60}, database="iredapd")
    wanted = _mentions(await dump(store), "axb.com")
    await arranged.root.ok("DELETE", "domain/a_b.com")
    left = await dump(store)
    assert _mentions(left, "a_b.com") == set()
    assert _mentions(left, "axb.com") == wanted


async def test_not_removed(arranged: Arranged) -> None:
    for path, status, code in (
        ("admin/u@ex.com", 404, "NO_SUCH_ACCOUNT"),
        ("admin/nobody@admins.test", 404, "NO_SUCH_ACCOUNT"),
        (f"admin/{ROOT}", 409, "CANNOT_REMOVE_YOURSELF"),
        ("alias/u@ex.com", 404, "NO_SUCH_ACCOUNT"),
        ("alias/bob@ex.com", 404, "NO_SUCH_ACCOUNT"),
        ("alias/ml@ex.com", 404, "NO_SUCH_ACCOUNT"),
        ("user/list@ex.com", 404, "NO_SUCH_ACCOUNT"),
        ("user/bob@ex.com", 404, "NO_SUCH_ACCOUNT"),
        ("user/u@al.com", 404, "NO_SUCH_ACCOUNT"),
        ("domain/al.com", 404, "NO_SUCH_DOMAIN"),
        ("domain/nowhere.com", 404, "NO_SUCH_DOMAIN"),
    ):
        assert (await arranged.root.refused("DELETE", path))[:2] == (status, code), path
    assert await arranged.changes() == {}


@pytest.mark.parametrize("how", ["delete", "rename"])
async def test_relay_and_copies_of_an_alias_address(arranged: Arranged, how: str) -> None:
    """Postfix looks at the sender's address, whatever kind of account it is."""
    store = arranged.store
    await store.insert("sender_relayhost", {"account": "list@ex.com", "relayhost": "[10.0.0.3]"})
    if how == "delete":
        await arranged.root.ok("DELETE", "alias/list@ex.com")
        wanted = []
    else:
        await arranged.root.ok("POST", "alias/list@ex.com/change_email/new@ex.com")
        wanted = ["new@ex.com"]
    rows = await store.rows("SELECT account FROM sender_relayhost WHERE relayhost = '[10.0.0.3]'")
    assert [row["account"] for row in rows] == wanted


@pytest.mark.parametrize("how", ["delete", "rename"])
async def test_default_groups_name_an_alias(arranged: Arranged, how: str) -> None:
    groups = "default_groups:list@ex.com,off@ex.com;"
    where = "WHERE domain = 'ex.com'"
    await arranged.store.execute(f"UPDATE domain SET settings = :s {where}", s=groups)
    if how == "delete":
        await arranged.root.ok("DELETE", "alias/list@ex.com")
        wanted = "default_groups:off@ex.com;"
    else:
        await arranged.root.ok("POST", "alias/list@ex.com/change_email/new@ex.com")
        wanted = "default_groups:new@ex.com,off@ex.com;"
    (row,) = await arranged.store.rows(f"SELECT settings FROM domain {where}")
    assert row["settings"] == wanted


async def test_standalone_admins_in_a_domain_that_goes(arranged: Arranged) -> None:
    """They were there before the domain was, and stay what they are."""
    await arranged.root.ok("POST", "admin/chief@later.com", password=PASSWORD, isGlobalAdmin="yes")
    await arranged.root.ok("POST", "domain/later.com")
    before = await arranged.changes()
    status, answer = await arranged.root.call(
        "POST", "user/chief@later.com", data={"password": PASSWORD}
    )
    assert status in {200, 409}, answer
    if status == 200:
        chief = await arranged.service.client().login("chief@later.com")
        await chief.ok("GET", "domain/ex.com")
        await arranged.root.ok("DELETE", "user/chief@later.com")
    chief = await arranged.service.client().login("chief@later.com")
    await chief.ok("GET", "domain/ex.com")
    await arranged.root.ok("DELETE", "domain/later.com")
    await chief.ok("GET", "domain/ex.com")
    after = await arranged.changes()
    assert {name for name in before if "domain_admins" in name} == {
        name for name in after if "domain_admins" in name
    }


# -- again -----------------------------------------------------------------------------------------


async def test_made_again_at_once(arranged: Arranged) -> None:
    root, store = arranged.root, arranged.store
    await root.ok("POST", "user/fresh@ex.com", password=PASSWORD)
    old = await root.ok("GET", "user/fresh@ex.com")
    await root.ok("PUT", "user/fresh@ex.com", addAlias="more@al.com", addForwarding="a@far.org")
    await root.ok("PUT", "user/fresh@ex.com", senderBcc="b@far.org", services="", quota="5")
    await root.ok("PUT", "user/fresh@ex.com", isGlobalAdmin="yes", mailboxFolder="Other")
    await root.ok("DELETE", "user/fresh@ex.com")
    await root.ok("POST", "user/fresh@ex.com", password=PASSWORD)
    new = await root.ok("GET", "user/fresh@ex.com")
    # The old mail does not come back.
    assert new["maildir"] != old["maildir"]
    times = {"maildir", "created", "modified", "passwordlastchange"}
    assert {k: v for k, v in new.items() if k not in times} == {
        k: v for k, v in old.items() if k not in times
    }
    await root.ok("POST", "alias/more@ex.com", members="fresh@ex.com")
    await root.ok("DELETE", "alias/more@ex.com")
    await root.ok("POST", "alias/more@ex.com")
    assert (await root.ok("GET", "alias/more@ex.com"))["members"] == []
    await root.ok("DELETE", "domain/ex.com")
    await root.ok("POST", "domain/ex.com")
    await root.ok("PUT", "domain/ex.com", aliasDomains="al.com,al2.com")
    domain = await root.ok("GET", "domain/ex.com")
    assert (domain["catchall"], domain["admins"], domain["sender_bcc"]) == ([], [], "")
    assert (domain["num_existing_users"], domain["used_quota"]["bytes"]) == (0, 0)
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    await root.ok("POST", "alias/list@ex.com", members="u@ex.com")
    user = await root.ok("GET", "user/u@ex.com")
    assert (user["forwardings"], user["aliases"], user["stored_bytes"]) == (["u@ex.com"], [], 0)
    assert (user["isadmin"], user["managed_domains"], user["last_login"]) == (0, [], None)
    rows = await store.rows("SELECT account FROM throttle WHERE account = 'u@ex.com'", "iredapd")
    assert rows == []


async def test_the_last_forwarding_was_an_alias(arranged: Arranged) -> None:
    store = arranged.store
    await store.execute("DELETE FROM forwardings WHERE address = 'y@other.com'")
    await rich.add_route(store, "y@other.com", "list@ex.com", is_forwarding=1)
    await arranged.root.ok("DELETE", "alias/list@ex.com")
    assert (await arranged.root.ok("GET", "user/y@other.com"))["forwardings"] == ["y@other.com"]


# -- the queue of deleted mailboxes ----------------------------------------------------------------


async def _queued(arranged: Arranged, domain: str = "ex.com") -> dict[str, Row]:
    rows = await arranged.store.rows(
        "SELECT * FROM deleted_mailboxes WHERE domain = :d AND timestamp > :t",
        d=domain,
        t=rich.at(arranged.store, datetime(2021, 1, 1)),
    )
    return {row["username"]: row for row in rows}


def _in(days: int) -> set[Any]:
    today = datetime.now(UTC)
    return {
        (today + timedelta(days=days)).date(),
        (today + timedelta(days=days, minutes=-2)).date(),
    }


async def test_queue_of_a_user(arranged: Arranged) -> None:
    await arranged.root.ok("DELETE", "user/u@ex.com")
    row = (await _queued(arranged))["u@ex.com"]
    path = row["maildir"]
    assert re.sub("/+", "/", path) == f"/var/vmail/vmail1/{rich.MAILDIRS['u@ex.com']}"
    assert (row["bytes"], row["messages"]) == (1_048_577, 3)
    assert (row["domain"], row["admin"], row["delete_date"]) == ("ex.com", ROOT, None)
    now = datetime.now(UTC).replace(tzinfo=None)
    assert now - timedelta(minutes=1) < moment(row["timestamp"]) < now + timedelta(seconds=2)


async def test_queue_with_a_date(arranged: Arranged) -> None:
    for path, form, days in (
        ("user/u@ex.com/keep_mailbox_days/1", {}, 1),
        ("user/v@ex.com/keep_mailbox_days/36500", {}, 36500),
        ("user/w@ex.com", {"keep_mailbox_days": "7"}, 7),
        ("domain/ex.com/keep_mailbox_days/30", {}, 30),
        ("domain/other.com", {"keep_mailbox_days": "31"}, 31),
    ):
        await arranged.root.ok("DELETE", path, **form)
        mail = {"domain/ex.com": "boss@ex.com", "domain/other.com": "x@other.com"}.get(
            "/".join(path.split("/")[:2]), path.split("/")[1]
        )
        queued = await _queued(arranged, mail.partition("@")[2])
        assert day(queued[mail]["delete_date"]) in _in(days), path


async def test_queue_of_a_domain(arranged: Arranged) -> None:
    await arranged.root.ok("DELETE", "domain/ex.com")
    queued = await _queued(arranged)
    assert set(queued) == {"u@ex.com", "v@ex.com", "w@ex.com", "boss@ex.com"}
    assert (queued["w@ex.com"]["bytes"], queued["u@ex.com"]["bytes"]) == (0, 1_048_577)
    assert {row["delete_date"] for row in queued.values()} == {None}
    assert await _queued(arranged, "other.com") == {}


async def test_queue_of_a_normal_admin(arranged: Arranged) -> None:
    await arranged.root.ok("PUT", "admin/norm@admins.test", password=PASSWORD)
    norm = await arranged.service.client().login("norm@admins.test")
    for path, mail, days in (
        ("user/u@ex.com/keep_mailbox_days/10", "u@ex.com", 10),
        ("user/v@ex.com/keep_mailbox_days/9999", "v@ex.com", 365),
        ("user/w@ex.com/keep_mailbox_days/0", "w@ex.com", None),
        ("domain/ex.com/keep_mailbox_days/9999", "boss@ex.com", 365),
    ):
        await norm.ok("DELETE", path)
        row = (await _queued(arranged))[mail]
        assert row["admin"] == "norm@admins.test"
        kept = day(row["delete_date"])
        assert kept is None if days is None else kept in _in(days), path


# -- renaming --------------------------------------------------------------------------------------


def _renamed(found: Dump, old: str, new: str) -> Dump:
    """Write the new address wherever the old one stands, except where it stays."""
    pattern = _pattern(old)

    def written(place: Where, column: str, row: Row) -> Any:
        value = row[column]
        text = _text(value)
        if text is None or (_stays(place, column, row) and place[1] != "domain_ownership"):
            return value
        text = pattern.sub(new, text)
        return text.encode() if isinstance(value, (bytes, memoryview)) else text

    return {
        place: [{column: written(place, column, row) for column in row} for row in rows]
        for place, rows in found.items()
    }


def _comparable(found: Dump) -> dict[Where, list[str]]:
    """Make rows comparable; when they were changed does not matter here."""
    return {
        place: sorted(
            str(sorted((k, _text(v) or v) for k, v in row.items() if k != "modified"))
            for row in rows
        )
        for place, rows in found.items()
    }


RENAMES = [("user", "u@ex.com", "n@ex.com"), ("alias", "list@ex.com", "all@ex.com")]


@pytest.mark.parametrize("kind,old,new", RENAMES)
@pytest.mark.parametrize("cut", [None, 0, 1, 2, 3])
async def test_rename(
    arranged: Arranged,
    kind: str,
    old: str,
    new: str,
    cut: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At once, or at the second try, after the first broke off between two databases."""
    if cut is not None:
        await broken_off(arranged.root, f"{kind}/{old}/change_email/{new}", cut, monkeypatch)
    await arranged.root.ok("POST", f"{kind}/{old}/change_email/{new}")
    after = await dump(arranged.store)
    assert _mentions(after, old) == set()
    assert _comparable(after) == _comparable(_renamed(arranged.before, old, new))
    table, column = ("mailbox", "username") if kind == "user" else ("alias", "address")
    (row,) = [row for row in after["vmail", table] if row[column] == new]
    assert moment(row["modified"]) > datetime(2021, 1, 1)
    assert moment(row["created"]) == rich.LONG_AGO
    # The old address is free, at once.
    sent = {"password": PASSWORD} if kind == "user" else {}
    await arranged.root.ok("POST", f"{kind}/{old}", **sent)
    profile = await arranged.root.ok("GET", f"{kind}/{old}")
    if kind == "user":
        assert (profile["forwardings"], profile["aliases"]) == ([old], [])
        other = await arranged.root.ok("GET", f"{kind}/{new}")
        assert profile["maildir"] != other["maildir"]
    else:
        assert profile["members"] == []


@pytest.mark.parametrize("kind,old,new", RENAMES)
async def test_rename_meets_dangling_rows(
    arranged: Arranged, kind: str, old: str, new: str
) -> None:
    """Rows of an account that is long gone stand where the renamed ones want to be."""
    store = arranged.store
    dangling = _renamed(arranged.before, old, new)
    numbers = 1000
    for place, rows in arranged.before.items():
        database, table = place
        assert database != "openldap"
        for row, alias_address in zip(rows, dangling[place], strict=True):
            if row == alias_address or table in {"mailbox", "alias", "deleted_mailboxes"}:
                continue
            if "id" not in row and names_of(place, [row]) == names_of(place, [alias_address]):
                continue  # the row has a key, and it is somebody else's
            if table == "forwardings" and _text(row["address"]) == old:
                continue  # rows from the new address would mean that it is in use
            if "id" in alias_address:
                numbers += 1
                alias_address["id"] = numbers
            await store.insert(table, alias_address, database=database)
    await arranged.root.ok("POST", f"{kind}/{old}/change_email/{new}")
    after = await dump(store)
    assert _mentions(after, old) == set()
    keyless = {"id", "modified", "tid"}

    def plain(row: Row) -> str:
        return str(sorted((k, _text(v) or v) for k, v in row.items() if k not in keyless))

    for place, rows in _renamed(arranged.before, old, new).items():
        present = [plain(row) for row in after[place]]
        # Each once: everything of the old one, nothing of the dangling one besides.
        for before, row in zip(arranged.before[place], rows, strict=True):
            if before != row:
                assert present.count(plain(row)) == 1, (place, row)


@pytest.mark.parametrize("kind,old,new", RENAMES)
async def test_rename_is_refused(arranged: Arranged, kind: str, old: str, new: str) -> None:
    for taken in ("v@ex.com", "off@ex.com", "ml@ex.com", "bob@ex.com", old):
        answer = await arranged.root.refused("POST", f"{kind}/{old}/change_email/{taken}")
        assert answer[:2] == (409, "ALREADY_EXISTS"), taken
    for target, code in (
        ("n@other.com", "CROSS_DOMAIN_NOT_ALLOWED"),
        ("n+x@ex.com", "INVALID_MAIL"),
    ):
        answer = await arranged.root.refused("POST", f"{kind}/{old}/change_email/{target}")
        assert answer[:2] == (400, code)
    answer = await arranged.root.refused("POST", f"{kind}/nobody@ex.com/change_email/{new}")
    assert answer[:2] == (404, "NO_SUCH_ACCOUNT")
    assert await arranged.changes() == {}


def test_all_tables_are_looked_at() -> None:
    assert {("vmail", "mailbox"), ("amavisd", "wblist"), ("iredapd", "throttle_tracking"),
            ("iredadmin", "domain_ownership")} <= set(TABLES)  # fmt: skip
