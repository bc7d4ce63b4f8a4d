"""Long listings while accounts are deleted: no existing account may be missing; one profile."""

from __future__ import annotations

from typing import Any

import pytest

from iredapi.backends.ldap import ordered_names, usage
from iredapi.backends.ldap.dn_layout import DOMAIN, OTHERS, USER
from iredapi.backends.ldap.list_cache import Listings
from iredapi.backends.ldap.session import Session
from iredapi.domain.actors import SYSTEM
from iredapi.observability.query_counter import METER, Meter
from iredapi.operations import users
from iredapi.routers import usage as usage_of_domains
from iredapi.web import responses
from tests.clients import PASSWORD, Client, Service, serving
from tests.ldap.test_undo import HASH, mailbox_path
from tests.servers.openldap import account_dn, domain_dn
from tests.servers.store import Store

pytestmark = pytest.mark.stores("openldap")


@pytest.mark.parametrize("place", [0, 4, 6], ids=["first page", "second page", "last page"])
@pytest.mark.parametrize("view", ["native", "canonical"])
@pytest.mark.parametrize("path", ["users/ex.com", "aliases/ex.com", "mls/ex.com", "domains"])
async def test_accounts_deleted_during_a_listing(
    store: Store, monkeypatch: pytest.MonkeyPatch, path: str, view: str, place: int
) -> None:
    monkeypatch.setattr(responses, "PAGE", 3)
    # The service has a spool for mailing lists of its own.
    async with serving(store, mlmmj_spool="/nonexistent") as service:
        root = await service.root()
        await root.ok("POST", "domain/ex.com")
        names = [f"n{number}" for number in range(7)]
        if path == "domains":
            wanted = [f"{name}.com" for name in names]
            for name in wanted:
                await root.ok("POST", f"domain/{name}")
            wanted, gone_dn = ["ex.com", *wanted], domain_dn(wanted[place])
            key, gone = "domainName", f"n{place}.com"
        else:
            noun = {"users/ex.com": "Users", "aliases/ex.com": "Aliases", "mls/ex.com": "Groups"}
            wanted = [f"{name}@ex.com" for name in names]
            for mail in wanted:
                match noun[path]:
                    case "Users":
                        await root.ok("POST", f"user/{mail}", password_hash=HASH)
                    case "Aliases":
                        await root.ok("POST", f"alias/{mail}")
                    case _:
                        entry = {"objectClass": "mailList", "mail": mail, "enabledService": "mlmmj"}
                        store.directory.add(account_dn(mail, "Groups"), entry)
            key, gone = "mail", wanted[place]
            gone_dn = account_dn(gone, noun[path])
        directory: Any = mailbox_path(service).directory
        search = directory.search

        async def late(base: str, scope: Any, filter_text: str, *more: Any) -> Any:
            if f"({key}={gone})" in filter_text and store.directory.entry(gone_dn):
                store.directory.delete(gone_dn)
            return await search(base, scope, filter_text, *more)

        directory.search = late
        found = await root.ok("GET", path, view=view)
        assert store.directory.entry(gone_dn) is None
        shown = [item.get("mail") or item.get("domain") or item["domainName"] for item in found]
        mails = [item[0] if isinstance(item, list) else item for item in shown]
        assert mails == [name for name in wanted if name != gone]


async def test_a_page_does_not_read_all_names(
    service: Service, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of addresses the next ones are searched for; the total counts all."""
    monkeypatch.setattr(ordered_names, "SIZE", 4)
    monkeypatch.setattr(ordered_names, "SECONDS", 60.0)
    await root.ok("POST", "domain/ex.com")
    locals_ = ("ann", "an-na", "a.n", "a_n", "bob", "bo", "boba", "cid", "c0", "0x", "zed", "o'n")
    wanted = sorted(f"{local}@ex.com" for local in locals_)
    for mail in wanted:
        classes = ["inetOrgPerson", "mailUser"]
        entry: dict[str, Any] = {"objectClass": classes, "cn": "x", "sn": "x", "uid": "x"}
        service.store.directory.add(account_dn(mail), {**entry, "mail": mail})

    async def pages(**form: str) -> list[str]:
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            more = {"cursor": cursor} if cursor else {}
            sent = form | more | {"limit": "5", "email_only": "yes"}
            status, answer = await root.call("GET", "users/ex.com", params=sent)
            assert (status, answer.get("_total", 12)) == (200, 12)
            found, cursor = found + answer["_data"], answer["_next"]
        return found

    assert await pages(total="yes") == wanted
    read = Session.pages
    monkeypatch.setattr(Session, "pages", None)
    assert await pages() == wanted
    assert await pages(sort="-address") == wanted[::-1]
    monkeypatch.setattr(Session, "pages", read)
    monkeypatch.setattr(ordered_names, "SECONDS", -1.0)  # as without an index
    assert await pages() == wanted
    service.store.directory.delete(account_dn("bob@ex.com"))
    _, answer = await root.call("GET", "users/ex.com", params={"limit": "1", "total": "yes"})
    assert answer["_total"] == 11


async def test_the_first_domains_of_usage_are_counted_by_themselves(
    service: Service, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are sent while all accounts are read for the others."""
    monkeypatch.setattr(usage_of_domains, "_FIRST_DOMAINS", 2)
    monkeypatch.setattr(usage, "_FEW", 2)
    for number in range(4):
        await root.ok("POST", f"domain/d{number}.com")
        await root.ok("POST", f"user/u@d{number}.com", password_hash=HASH, quota="5")
        await root.ok("POST", f"alias/a@d{number}.com")
        row = {"username": f"u@d{number}.com", "bytes": 7, "messages": 1, "domain": ""}
        await service.store.insert("used_quota", row, database="iredadmin")
    filters: list[str] = []
    read = Session.pages

    def pages(self: Session, base: str, scope: Any, wanted: str, *more: Any) -> Any:
        filters.append(wanted)
        return read(self, base, scope, wanted, *more)

    monkeypatch.setattr(Session, "pages", pages)
    rows = await root.ok("GET", "usage")
    counts = ("num_existing_users", "num_existing_aliases", "allocated_quota", "stored_bytes")
    assert [row["domain"] for row in rows] == [f"d{number}.com" for number in range(4)]
    assert {tuple(row[name] for name in counts) for row in rows} == {(1, 1, 5, 7)}
    of_accounts = [wanted for wanted in filters if wanted != DOMAIN]
    assert ["d0.com" in wanted for wanted in of_accounts] == [True, True, False, False]
    assert not any("d2.com" in wanted for wanted in of_accounts)
    assert of_accounts[2:] == [USER, OTHERS]


async def test_a_profile_takes_two_round_trips(service: Service, root: Client) -> None:
    """All searches in one turn of a thread, and one statement for quota and last logins."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    await root.ok("POST", "alias/list@ex.com", accessPolicy="public")
    await root.ok("PUT", "alias/list@ex.com", addMember="u@ex.com")
    await service.store.insert(
        "used_quota",
        {"username": "u@ex.com", "bytes": 5, "messages": 2, "domain": "ex.com"},
        database="iredadmin",
    )
    await service.store.insert(
        "last_login",
        {"username": "u@ex.com", "domain": "ex.com", "imap": 9, "lda": 7},
        database="iredadmin",
    )
    for _ in range(2):  # the first time the schema of iredadmin is read
        meter = Meter()
        METER.set(meter)
        found = await service.context.read(SYSTEM, users.profile, "u@ex.com")
    assert meter.round_trips == 2
    assert (found["stored_bytes"], found["stored_messages"]) == (5, 2)
    assert found["last_login_by_service"]["imap"].startswith("1970-01-01")
    assert found["mailing_aliases"] == ["list@ex.com"]


async def test_searches_without_results_do_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cache forgets its oldest lists, also when all of them are empty."""
    monkeypatch.setattr(Listings, "MOST", 1000)
    cache, reads = Listings(), list[int]()

    async def look(number: int) -> None:
        async def read() -> list[str]:
            reads.append(number)
            return []

        await cache.whole(("search", number), read, fresh=False)

    for number in (*range(50), 49, 0):
        await look(number)
    assert reads == [*range(50), 0]
