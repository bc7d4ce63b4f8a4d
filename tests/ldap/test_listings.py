"""Long listings while accounts are deleted: no existing account may be missing; one profile."""

from __future__ import annotations

from typing import Any

import pytest

from iredapi.backends.ldap.session import Listings
from iredapi.domain.actors import SYSTEM
from iredapi.observability.query_counter import METER, Meter
from iredapi.operations import users
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
