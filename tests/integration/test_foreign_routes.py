"""Rows that daemons obey, written by other programs in forms of their own: shown and cleared."""

from __future__ import annotations

import pytest

from tests.api.amavisd import add_address, add_user, text
from tests.clients import PASSWORD, Client
from tests.servers import lookups
from tests.servers.dovecot import Dovecot
from tests.servers.lookups import MailServer, RealMailServer, SqlMailServer
from tests.servers.store import Store

FLAGS = [
    {},
    {"is_list": 1},
    {"is_alias": 1},
    {"is_forwarding": 1},
    {"is_forwarding": 1, "is_list": 1, "is_alias": 1},
]
"""What other programs write; rows of servers before 0.9.7 are among them."""


@pytest.fixture
def mail_server(store: Store, request: pytest.FixtureRequest) -> MailServer:
    """The real postmap; on SQLite the same lookups."""
    if store.name == "sqlite":
        return SqlMailServer(store)
    dovecot: Dovecot = request.getfixturevalue("dovecot")
    return RealMailServer(request.getfixturevalue("postfix"), dovecot)


async def _route(store: Store, address: str, forwarding: str, **flags: int) -> None:
    row = {
        "address": address,
        "forwarding": forwarding,
        "domain": "ex.com",
        "dest_domain": forwarding.partition("@")[2],
    }
    await store.insert("forwardings", {**row, **flags, "active": 1})


async def _people(root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    await root.ok("PUT", "domain/ex.com", addAliasDomain="al.com")
    for mail in ("u@ex.com", "v@ex.com"):
        await root.ok("POST", f"user/{mail}", password=PASSWORD)
    await root.ok("POST", "alias/team@ex.com", members="u@ex.com")


@pytest.mark.sql_only("an entry of OpenLDAP has no flags: each attribute has one meaning")
@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: "+".join(flags) or "none")
async def test_flags(
    store: Store, root: Client, mail_server: MailServer, flags: dict[str, int]
) -> None:
    """Whatever the flags: what a user, or an alias, redirects is shown, and ends when told to."""
    await _people(root)
    await _route(store, "u@ex.com", "spy@far.org", **flags)
    await _route(store, "team@ex.com", "spy@far.org", **flags)
    await _route(store, "old-name@ex.com", "u@ex.com", **flags)
    everywhere = {"u@ex.com", "spy@far.org"}
    for address in ("u@ex.com", "team@ex.com", "old-name@ex.com"):
        assert await lookups.delivery(mail_server, address) == everywhere

    user = await root.ok("GET", "user/u@ex.com")
    assert set(user["forwardings"]) == everywhere
    assert user["aliases"] == ["old-name@ex.com"]
    canonical = await root.ok("GET", "user/u@ex.com", view="canonical")
    assert "spy@far.org" in str(canonical)
    assert set((await root.ok("GET", "alias/team@ex.com"))["members"]) == everywhere

    await root.ok("PUT", "alias/team@ex.com", accountStatus="disabled")
    assert await lookups.delivery(mail_server, "team@ex.com") == set()
    await root.ok("PUT", "alias/team@ex.com", accountStatus="active")
    assert await lookups.delivery(mail_server, "team@ex.com") == everywhere
    await root.ok("PUT", "user/u@ex.com", accountStatus="disabled")
    assert await lookups.delivery(mail_server, "u@ex.com") == set()
    await root.ok("PUT", "user/u@ex.com", accountStatus="active")
    assert await lookups.delivery(mail_server, "old-name@ex.com") == everywhere

    answer = await root.ok("PUT", "user/u@ex.com", removeForwarding="spy@far.org")
    assert "_skipped" not in answer
    assert await lookups.delivery(mail_server, "u@ex.com") == {"u@ex.com"}
    await root.ok("PUT", "alias/team@ex.com", members="v@ex.com")
    assert await lookups.delivery(mail_server, "team@ex.com") == {"v@ex.com"}
    answer = await root.ok("PUT", "user/u@ex.com", removeAlias="old-name@ex.com")
    assert "_skipped" not in answer
    assert await lookups.delivery(mail_server, "old-name@ex.com") == set()

    await _route(store, "u@ex.com", "spy@far.org", **flags)
    await root.ok("PUT", "user/u@ex.com", forwarding="")
    assert await lookups.delivery(mail_server, "u@ex.com") == {"u@ex.com"}
    await root.ok("POST", "user/u@ex.com/change_email/w@ex.com")
    assert await lookups.delivery(mail_server, "u@ex.com") == set()


@pytest.mark.sql_only("Postfix asks OpenLDAP for one catch-all entry, which is the API's")
async def test_catchalls(store: Store, root: Client, mail_server: MailServer) -> None:
    """Postfix takes ``@domain`` for a catch-all, too, and that of an alias domain."""
    await _people(root)

    async def caught() -> list[set[str]]:
        return [
            await lookups.delivery(mail_server, f"nobody@{domain}")
            for domain in ("ex.com", "al.com")
        ]

    for address, flags in (("@ex.com", {}), ("@ex.com", {"is_alias": 1}), ("@al.com", {})):
        await _route(store, address, "spy@far.org", **flags)
        assert {"spy@far.org"} in await caught()
        for found in (
            await root.ok("GET", "domain/ex.com"),
            (await root.ok("GET", "domains"))[0],
            await root.ok("GET", "domain/ex.com", view="canonical"),
        ):
            assert found["catchall"] == ["spy@far.org"], found
        await root.ok("PUT", "domain/ex.com", catchall="")
        assert await caught() == [set(), set()]
        assert (await root.ok("GET", "domain/ex.com"))["catchall"] == []
    await _route(store, "@ex.com", "spy@far.org")
    await _route(store, "@al.com", "spy@far.org")
    await root.ok("PUT", "domain/ex.com", catchall="v@ex.com")
    assert await caught() == [{"v@ex.com"}, {"v@ex.com"}]
    # What caught for the alias domain only catches for both when it is named.
    await root.ok("PUT", "domain/ex.com", catchall="")
    await _route(store, "@al.com", "spy@far.org")
    await root.ok("PUT", "domain/ex.com", catchall="spy@far.org")
    assert await caught() == [{"spy@far.org"}, {"spy@far.org"}]
    await root.ok("PUT", "domain/ex.com", catchall="v@ex.com")
    # One that the new list keeps is kept.
    await _route(store, "@ex.com", "spy@far.org")
    await root.ok("PUT", "domain/ex.com", catchall="spy@far.org")
    assert (await caught())[0] == {"spy@far.org"}
    await _route(store, "@al.com", "spy@far.org")
    await root.ok("PUT", "domain/ex.com", removeAliasDomain="al.com")
    await root.ok("PUT", "domain/ex.com", addAliasDomain="al.com", catchall="")
    assert await caught() == [set(), set()]
    await _route(store, "@ex.com", "spy@far.org")
    await root.ok("DELETE", "domain/ex.com")
    assert await store.rows("SELECT * FROM forwardings") == []


@pytest.mark.sql_only("an entry of OpenLDAP has no alias domain's relay")
async def test_relay_of_an_alias_domain(
    store: Store, root: Client, mail_server: MailServer
) -> None:
    await _people(root)
    relay = {"account": "@al.com", "relayhost": "[192.0.2.9]:25"}
    await store.insert("sender_relayhost", relay)
    await root.ok("PUT", "domain/ex.com", outboundRelay=relay["relayhost"])
    assert await lookups.relayhost(mail_server, "u@ex.com") == relay["relayhost"]
    await root.ok("PUT", "domain/ex.com", outboundRelay="")
    for change in ({"outboundRelay": ""}, {"removeAliasDomain": "al.com"}):
        await store.insert("sender_relayhost", relay)
        assert await lookups.relayhost(mail_server, "u@al.com") == "[192.0.2.9]:25"
        assert (await root.ok("GET", "domain/ex.com"))["outbound_relay"] == "[192.0.2.9]:25"
        await root.ok("PUT", "domain/ex.com", **change)
        assert await lookups.relayhost(mail_server, "u@al.com") is None
        assert (await root.ok("GET", "domain/ex.com"))["outbound_relay"] == ""


MARKS = {
    "whitelist": ("W", "w", "Y", "y ", "T", "-3.5", "W ", "ok", " ", ""),
    "blacklist": ("B", "b", "N", "f", "B ", "4", " 12.5", "+2"),
}


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
async def test_marks_of_lists(store: Store, root: Client, direction: str) -> None:
    """Each is on the list that Amavisd takes it for, and can be removed from it."""
    await root.ok("POST", "domain/ex.com")
    user = await add_user(store, "@ex.com", policy_id=0, priority=5)
    table = "wblist" if direction == "inbound" else "outbound_wblist"
    wanted: dict[str, list[str]] = {"whitelist": [], "blacklist": []}
    for kind, marks in MARKS.items():
        for number, mark in enumerate(marks):
            address = f"{kind}{number}@far.org"
            remote = await add_address(store, address, 10)
            rid, sid = (user, remote) if direction == "inbound" else (remote, user)
            row = {"rid": rid, "sid": sid, "wb": mark}
            await store.insert(table, row, database="amavisd")
            wanted[kind].append(address)
    for kind, addresses in wanted.items():
        path = f"wblist/{direction}/{kind}/ex.com"
        assert await root.ok("GET", path) == sorted(addresses)
        # iRedAPD obeys the letters W and B only, so these are what POST writes.
        await root.ok("POST", path, addresses=addresses[2])
        (row,) = await store.rows(
            f"SELECT wb FROM {table} WHERE wb IN ('W', 'B') AND"
            f" {'sid' if direction == 'inbound' else 'rid'} ="
            " (SELECT id FROM mailaddr WHERE email = :email)",
            "amavisd",
            email=text(store, addresses[2]),
        )
        assert row["wb"] == kind[0].upper()
        await root.ok("PUT", path, addresses=addresses[1])
        assert addresses[1] not in await root.ok("GET", path)
        await root.ok("DELETE", path)
        assert await root.ok("GET", path) == []
    assert await store.rows(f"SELECT * FROM {table}", "amavisd") == []
