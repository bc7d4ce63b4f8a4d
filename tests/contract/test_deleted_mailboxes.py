"""Mailboxes that wait to be removed: listed, kept longer, and given back, on every storage."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import make_url

from tests.clients import PASSWORD, Client, Service, serving
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)
U, PATH = "u@ex.com", "/var/vmail/vmail1/ex.com/u/_/_/u-2026.01.02.03.04.05"
LATER = datetime(2037, 1, 2, 3, 4, 5)
"""After the creation of every domain of the tests."""


def day(days: int) -> date:
    return (datetime.now(UTC) + timedelta(days=days)).date()


async def queue(store: Store, number: int, mail: str, path: str = "", **more: Any) -> None:
    """A row of ``deleted_mailboxes``, as iRedAdmin writes it."""
    row = {"id": number, "username": mail, "domain": mail.rpartition("@")[2], "timestamp": LATER}
    row |= {"maildir": path or f"/var/vmail/vmail1/m{number}", "admin": "x@admins.test"} | more
    await store.insert("deleted_mailboxes", row, database=store.accounts)


async def ids(client: Client, path: str = "deleted_mailboxes", **filters: str) -> list[int]:
    return [item["id"] for item in await client.ok("GET", path, **filters)]


async def home(service: Service, mail: str = U) -> str:
    """The directory in which Dovecot looks for a user's mail."""
    shown = await (await service.root()).ok("GET", f"user/{mail}")
    if "homeDirectory" in shown:
        return str(shown["homeDirectory"][0]).rstrip("/")
    parts = (shown[name] for name in ("storagebasedirectory", "storagenode", "maildir"))
    return "/".join(parts).replace("//", "/").rstrip("/")


@pytest.fixture(name="root")
async def _root(service: Service) -> Client:
    root = await service.root()
    for name in ("ex.com", "other.com"):
        await root.ok("POST", f"domain/{name}")
    return root


async def test_a_deleted_user_is_listed_and_kept_longer(service: Service, root: Client) -> None:
    """What is listed is the row of iRedMail's job; a new date is a new ``delete_date`` in it."""
    await root.ok("POST", f"user/{U}", password=PASSWORD)
    path = await home(service)
    await service.store.insert(
        "used_quota", {"username": U, "bytes": 7, "messages": 2}, database=service.store.accounts
    )
    await root.ok("DELETE", f"user/{U}/keep_mailbox_days/30")
    (item,) = await root.ok("GET", "deleted_mailboxes")
    number, moment = item.pop("id"), item.pop("deleted_at")
    assert f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M:%S}" == moment
    assert item.pop("maildir").replace("//", "/").rstrip("/") == path
    assert item == {
        "mail": U,
        "domain": "ex.com",
        "stored_bytes": 7,
        "stored_messages": 2,
        "deleted_by": "root@admins.test",
        "delete_date": day(30).isoformat(),
        "keep_forever": "no",
    }
    url = f"deleted_mailbox/{number}"
    for form, changed, date_of_it in (
        ({"keep_mailbox_days": "90"}, ["keep_mailbox_days"], day(90)),
        ({"keep_mailbox_days": "90"}, [], day(90)),
        ({}, [], day(90)),
        ({"keep_forever": "yes"}, ["keep_forever"], None),
        ({"keep_mailbox_days": "1"}, ["keep_mailbox_days"], day(1)),
        ({"keep_mailbox_days": "0"}, ["keep_mailbox_days"], None),
    ):
        assert (await root.ok("PUT", url, **form))["_changed"] == changed, form
        (row,) = await service.store.rows(
            "SELECT delete_date FROM deleted_mailboxes", service.store.accounts
        )
        assert row["delete_date"] in (date_of_it, date_of_it and date_of_it.isoformat()), form
    log = await service.store.rows(
        "SELECT event, domain, username, msg FROM log ORDER BY id DESC LIMIT 1", "iredadmin"
    )
    assert log == [
        {
            "event": "update",
            "domain": "ex.com",
            "username": U,
            "msg": "[API] Update deleted mailbox (kept for ever): u@ex.com.",
        }
    ]


async def test_filters(service: Service, root: Client) -> None:
    await queue(service.store, 1, U)
    await queue(service.store, 2, "V@Ex.com", delete_date=day(10))
    await queue(service.store, 3, "u_@ex.com", delete_date=day(20), admin="Y@admins.test")
    await queue(service.store, 4, "w@other.com", delete_date=day(5))
    await queue(service.store, 5, "gone@gone.com")
    assert await ids(root) == [1, 2, 3, 4, 5]
    assert await ids(root, "deleted_mailboxes/EX.com") == [1, 2, 3]
    assert await ids(root, "deleted_mailboxes/gone.com") == [5]  # the domain was deleted
    assert await ids(root, "deleted_mailboxes/other.com", deleted_by="y@admins.test") == []
    assert await ids(root, mail=U) == [1]
    assert await ids(root, mail="v@ex.com") == [2]
    assert await ids(root, deleted_by="y@admins.test") == [3]
    assert await ids(root, due_before=day(10).isoformat()) == [4]
    assert await ids(root, due_before=day(11).isoformat()) == [2, 4]
    assert await ids(root, keep_forever="yes") == [1, 5]
    assert await ids(root, keep_forever="no", due_before=day(99).isoformat()) == [2, 3, 4]
    assert await root.refused("GET", "deleted_mailboxes/never.com") == (404, "NO_SUCH_DOMAIN", [])
    for name, value in (
        ("due_before", "31.12.2026"),
        ("due_before", "2026-02-30"),
        ("mail", "nobody"),
        ("keep_forever", "perhaps"),
    ):
        status, _, params = await root.refused("GET", "deleted_mailboxes", **{name: value})
        assert (status, params) == (400, [name])
    for form, params in (
        ({"keep_mailbox_days": "-1"}, ["keep_mailbox_days"]),
        ({"keep_mailbox_days": "soon"}, ["keep_mailbox_days"]),
        ({"keep_forever": "no"}, ["keep_forever"]),
        ({"keep_forever": "yes", "keep_mailbox_days": "3"}, ["keep_forever", "keep_mailbox_days"]),
    ):
        status, _, found = await root.refused("PUT", "deleted_mailbox/2", **form)
        assert (status, found) == (400, params)
    for number in ("99", "0", "-1", "x", "9" * 18, "9" * 40):
        wrong = await root.refused("PUT", f"deleted_mailbox/{number}", keep_forever="yes")
        assert wrong == (404, "NO_SUCH_MAILBOX", [])


async def test_a_long_list(service: Service, root: Client) -> None:
    rows = [
        {"id": n, "username": f"u{n}@ex.com", "domain": "ex.com", "maildir": f"/m/{n}"}
        for n in range(1, 1101)
    ]
    await service.store.insert("deleted_mailboxes", *rows, database=service.store.accounts)
    path = "deleted_mailboxes/ex.com"
    assert await ids(root, path) == list(range(1, 1101))
    status, answer = await root.call("GET", path, params={"limit": "1000", "total": "yes"})
    assert (status, answer["_total"], len(answer["_data"])) == (200, 1100, 1000)
    await service.store.execute(
        "DELETE FROM deleted_mailboxes WHERE id IN (1000, 1001)", service.store.accounts
    )
    form = {"cursor": answer["_next"], "limit": "1000", "fields": "id,mail"}
    _, answer = await root.call("GET", path, params=form)
    assert answer["_data"] == [{"id": n, "mail": f"u{n}@ex.com"} for n in range(1002, 1101)]
    assert answer["_next"] is None
    for wrong in ({**form, "mail": U}, {**form, "cursor": "x"}, {"fields": "password"}):
        status, _, params = await root.refused("GET", path, **wrong)
        assert (status, params) == (400, ["fields" if "cursor" not in wrong else "cursor"])


async def test_rights(service: Service, root: Client) -> None:
    """A normal admin has no mailboxes of others, nor those that are older than the domain."""
    store = service.store
    await queue(store, 1, U, delete_date=day(3))
    await queue(store, 2, "v@ex.com", admin="ex-admin@admins.test")
    await queue(store, 3, "w@other.com")
    await queue(store, 4, "old@ex.com", timestamp=datetime(1999, 1, 1))
    admin = await service.admin_of("ex.com", mail="ex-admin@admins.test")
    assert await ids(root) == [1, 2, 3, 4]
    shown = await admin.ok("GET", "deleted_mailboxes")
    assert [(item["id"], item["deleted_by"]) for item in shown] == [
        (1, ""),
        (2, "ex-admin@admins.test"),
    ]
    assert await ids(admin, "deleted_mailboxes/ex.com") == [1, 2]
    assert await ids(admin, deleted_by="ex-admin@admins.test") == [2]
    assert await ids(admin, deleted_by="x@admins.test") == []  # nobody is asked about others
    for name in ("other.com", "never.com"):
        wrong = await admin.refused("GET", f"deleted_mailboxes/{name}")
        assert wrong == (403, "PERMISSION_DENIED", [])
    for number in (3, 4, 99):
        wrong = await admin.refused("PUT", f"deleted_mailbox/{number}", keep_mailbox_days="1")
        assert wrong == (404, "NO_SUCH_MAILBOX", [])
    for number in (3, 4):
        wrong = await admin.refused(
            "POST", f"user/{'old' if number == 4 else 'n'}@ex.com", password=PASSWORD,
            restore=str(number),
        )  # fmt: skip
        assert wrong == (400, "NO_SUCH_MAILBOX", ["restore"])
    status, answer = await admin.call("PUT", "deleted_mailbox/1", data={"keep_mailbox_days": "999"})
    assert (status, answer["_changed"]) == (200, ["keep_mailbox_days"])
    assert answer["_adjusted"][0]["stored"] == 365
    assert (await admin.ok("GET", "deleted_mailboxes"))[0]["delete_date"] == day(365).isoformat()
    nobody = await service.admin_of(mail="nobody@admins.test")
    assert await ids(nobody) == []


@pytest.mark.stores("postgresql", "mariadb", "openldap")
async def test_the_panel_stores_local_times(service: Service, root: Client) -> None:
    """iRedAdmin leaves the time to the database, whose time zone may be ahead of UTC."""
    store = service.store
    await service.admin_of("ex.com", mail="ex-admin@admins.test")
    role = make_url(store.urls().get(store.accounts, "")).username
    zone, back = (
        (f"ALTER ROLE {role} SET timezone = 'Asia/Tokyo'", f"ALTER ROLE {role} RESET timezone")
        if store.name == "postgresql"
        else ("SET GLOBAL time_zone = '+09:00'", "SET GLOBAL time_zone = 'SYSTEM'")
    )
    hour, now = timedelta(hours=1), datetime.now(UTC)
    for number, moment in ((1, now - hour), (2, now + hour)):
        await queue(store, number, f"u{number}@ex.com")
        # On PostgreSQL the column has no zone, on MariaDB it is a moment.
        local = (moment + 9 * hour).replace(tzinfo=None)
        value = ":t" if store.name == "postgresql" else "FROM_UNIXTIME(:t)"
        await store.execute(
            f"UPDATE deleted_mailboxes SET timestamp = {value} WHERE id = {number}",
            store.accounts,
            t=local if store.name == "postgresql" else int(moment.timestamp()),
        )
    await store.execute(zone, store.accounts)
    try:
        async with serving(store) as other:
            admin = await other.client().login("ex-admin@admins.test")
            assert await ids(await other.client().login()) == [1, 2]
            assert await ids(admin) == await ids(admin, "deleted_mailboxes/ex.com") == [2]
            wrong = await admin.refused("POST", "user/u1@ex.com", password=PASSWORD, restore="yes")
            assert wrong == (400, "NO_SUCH_MAILBOX", ["restore"])
    finally:
        await store.execute(back, store.accounts)


async def test_a_restored_user_has_the_mail_again(service: Service, root: Client) -> None:
    """The account gets the old directory, and the job that removes mailboxes forgets it."""
    await root.ok("POST", f"user/{U}", password=PASSWORD)
    path = await home(service)
    await root.ok("DELETE", f"user/{U}/keep_mailbox_days/1")
    await root.ok("POST", f"user/{U}", password=PASSWORD, restore="yes", name="Again")
    assert await home(service) == path
    assert await root.ok("GET", "deleted_mailboxes") == []
    shown = await root.ok("GET", f"user/{U}", view="canonical")
    assert shown["name"] == "Again"


async def test_which_mailbox_is_restored(service: Service, root: Client) -> None:
    """The one that was deleted last, or the one with the id; from another user's: none."""
    store = service.store
    await queue(store, 101, U, f"{PATH}1/")
    await queue(store, 102, U, f"{PATH}2/")
    await queue(store, 103, "v@ex.com", f"{PATH}3/")
    await queue(store, 104, "w@ex.com", "/var/vmail/vmail1/../etc")
    await queue(store, 105, "x@ex.com", "/old/place/x-2020.01.02.03.04.05")
    for value in ("103", "99", str(10**17)):
        wrong = await root.refused("POST", f"user/{U}", password=PASSWORD, restore=value)
        assert wrong == (400, "NO_SUCH_MAILBOX", ["restore"])
    wrong = await root.refused("POST", "user/n@ex.com", password=PASSWORD, restore="yes")
    assert wrong == (400, "NO_SUCH_MAILBOX", ["restore"])
    wrong = await root.refused("POST", "user/w@ex.com", password=PASSWORD, restore="yes")
    assert wrong == (400, "INVALID_MAILDIR", ["restore"])
    for value in ("perhaps", "-1", "", "9" * 19):
        status, _, params = await root.refused(
            "POST", f"user/{U}", password=PASSWORD, restore=value
        )
        assert (status, params) == (400, ["restore"])
    _, answer = await root.call(
        "POST", f"user/{U}", data={"password": PASSWORD, "restore": "perhaps"}
    )
    expected = "yes, no, or the id of a deleted mailbox is expected."
    assert answer["_errors"][0]["detail"] == expected
    status, _, params = await root.refused(
        "POST", f"user/{U}", password=PASSWORD, restore="yes", maildir="/var/vmail/vmail1/x"
    )
    assert (status, params) == (400, ["maildir", "restore"])
    assert await ids(root) == [101, 102, 103, 104, 105]
    await root.ok("POST", f"user/{U}", password=PASSWORD, restore="yes")
    assert await home(service) == f"{PATH}2"
    await root.ok("DELETE", f"user/{U}")
    await root.ok("POST", f"user/{U}", password=PASSWORD, restore="101")
    assert await home(service) == f"{PATH}1"
    await root.ok("POST", "user/x@ex.com", password=PASSWORD, restore="yes")
    assert await home(service, "x@ex.com") == "/old/place/x-2020.01.02.03.04.05"
    await root.ok("POST", "user/v@ex.com", password=PASSWORD, restore="no")
    assert await home(service, "v@ex.com") != f"{PATH}3"
    left = {item["maildir"].rstrip("/") for item in await root.ok("GET", "deleted_mailboxes")}
    assert left == {f"{PATH}2", f"{PATH}3", "/var/vmail/vmail1/../etc"}


async def test_a_living_mailbox_gets_no_date(service: Service, root: Client) -> None:
    """Nor can it be restored to somebody else: then two users would read each other's mail."""
    await root.ok("POST", f"user/{U}", password=PASSWORD)
    path = await home(service)
    await queue(service.store, 7, "v@ex.com", f"{path}/")
    wrong = await root.refused("PUT", "deleted_mailbox/7", keep_mailbox_days="1")
    assert wrong == (409, "MAILBOX_IN_USE", [])
    wrong = await root.refused("POST", "user/v@ex.com", password=PASSWORD, restore="yes")
    assert wrong == (400, "MAILBOX_IN_USE", ["restore"])
    ((number, kept),) = [
        (item["id"], item["keep_forever"]) for item in await root.ok("GET", "deleted_mailboxes")
    ]
    assert (number, kept) == (7, "yes")


async def test_every_row_of_a_directory_gets_the_date(service: Service, root: Client) -> None:
    """The job removes a directory for any of its rows."""
    await queue(service.store, 1, U, f"{PATH}//", delete_date=day(1))
    await queue(service.store, 2, U, PATH, delete_date=day(1))
    await queue(service.store, 3, U, f"{PATH}x", delete_date=day(1))
    await root.ok("PUT", "deleted_mailbox/2", keep_forever="yes")
    assert await ids(root, keep_forever="yes") == [1, 2]


async def test_the_mailbox_of_a_global_admin(service: Service, root: Client) -> None:
    """Who restores it reads the mail: an admin of the domain may not."""
    admin = await service.admin_of("ex.com")
    code = "PERMISSION_DENIED_UPDATE_GLOBAL_ADMIN_PROFILE"
    for mail in (U, "v@ex.com"):
        await root.ok("POST", f"user/{mail}", password=PASSWORD, isGlobalAdmin="yes")
    path = await home(service)
    await root.ok("PUT", "user/v@ex.com", isGlobalAdmin="no")  # its password is the domain's now
    for mail in (U, "v@ex.com"):
        await root.ok("DELETE", f"user/{mail}/keep_mailbox_days/30")
    later = "UPDATE deleted_mailboxes SET timestamp = :later"
    await service.store.execute(later, service.store.accounts, later=LATER)
    boxes = {box["mail"]: box["id"] for box in await admin.ok("GET", "deleted_mailboxes")}
    for which in ("yes", str(boxes[U])):
        form = {"password": PASSWORD, "restore": which}
        assert await admin.refused("POST", f"user/{U}", **form) == (403, code, [])
    wrong = await admin.refused("PUT", f"deleted_mailbox/{boxes[U]}", keep_mailbox_days="1")
    assert wrong == (403, code, [])
    await admin.ok("POST", "user/v@ex.com", password=PASSWORD, restore="yes")
    await root.ok("POST", f"user/{U}", password=PASSWORD, restore="yes")
    assert await home(service) == path


async def test_a_directory_is_given_to_one_user(service: Service, root: Client) -> None:
    """Also when users of two domains ask for it at the same time."""
    for number in range(3):
        mails = [f"u{number}@ex.com", f"u{number}@other.com"]
        for at, mail in enumerate(mails):
            await queue(service.store, 10 * number + at + 1, mail, f"{PATH}{number}/")
        calls = (
            root.call("POST", f"user/{mail}", data={"password": PASSWORD, "restore": "yes"})
            for mail in mails
        )
        answers = await asyncio.gather(*calls)
        statuses = sorted(status for status, _ in answers)
        assert statuses == [200, 400], answers
        (refused,) = [answer for status, answer in answers if status == 400]
        assert refused["_msg"] in ("MAILBOX_IN_USE", "NO_SUCH_MAILBOX")
