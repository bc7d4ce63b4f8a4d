"""After a call of the API, what do Postfix and Dovecot find? On all three databases.

The starting point is made through the API too: domain ``ex.com``, alias domain
``al.com``, user ``u@ex.com``.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from iredapi.domain.passwords import Scheme, hash_password
from tests.clients import PASSWORD, Client, serving
from tests.conftest import need
from tests.servers import rich
from tests.servers.dovecot import Dovecot, version
from tests.servers.lookups import MailServer, RealMailServer, SqlMailServer
from tests.servers.postfix import PostfixMaps
from tests.servers.snapshot import Arranged, Arrangement, Opened, day, moment
from tests.servers.store import Store

pytestmark = pytest.mark.sql_only(
    "maps and rows of SQL; tests/ldap/test_lookups.py asks the same of OpenLDAP"
)

U, FAR = "u@ex.com", "x@gmail.com"
MAILDIR = re.compile(r"vmail1/ex\.com/u/_/_/u-\d{4}(\.\d\d){5}//Maildir/")
# What Dovecot asks for a user with all services: service and security of the connection.
LOGINS: tuple[tuple[str, Any], ...] = (
    *((name, how) for name in ("imap", "pop3", "sieve") for how in ("", "secured", "tls")),
    ("smtp", ""), ("smtp", "secured"), ("lda", ""), ("lmtp", ""), ("doveadm", ""),
)  # fmt: skip


async def _world(_store: Store, root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    await root.ok("PUT", "domain/ex.com", addAliasDomain="al.com")
    await root.ok("POST", f"user/{U}", password=PASSWORD)


_ARRANGEMENT = Arrangement(_world)


@pytest_asyncio.fixture(loop_scope="session")
async def arranged(selected_store: Store, _services: Opened) -> AsyncIterator[Arranged]:
    async with _ARRANGEMENT.on(selected_store, _services) as found:
        yield found


@dataclass
class World:
    """The API, the rows and the mail server of one store."""

    arranged: Arranged
    server: MailServer

    @property
    def store(self) -> Store:
        return self.arranged.store

    async def put(self, path: str, **form: str) -> None:
        await self.arranged.root.ok("PUT", path, **form)

    async def post(self, path: str, **form: str) -> None:
        await self.arranged.root.ok("POST", path, **form)

    async def delete(self, path: str) -> None:
        await self.arranged.root.ok("DELETE", path)

    async def get(self, path: str) -> Any:
        return await self.arranged.root.ok("GET", path)

    async def user(self, mail: str, **form: str) -> None:
        await self.post(f"user/{mail}", password=PASSWORD, **form)

    async def ask(self, map_name: str, key: str) -> set[str]:
        return await self.server.query(map_name, key)

    async def login(self, user: str, service: str = "imap", secured: Any = "tls") -> bool:
        return await self.server.login(user, PASSWORD, service, secured)

    async def row(self, table: str, where: str) -> dict[str, Any]:
        (row,) = await self.store.rows(f"SELECT * FROM {table} WHERE {where}")
        return row


@pytest.fixture
def world(
    arranged: Arranged, _postfix_maps: dict[str, PostfixMaps], _dovecots: dict[str, Dovecot]
) -> World:
    store = arranged.store
    if store.name == "sqlite":
        return World(arranged, SqlMailServer(store))
    need("postmap")
    need("doveadm")
    if store.name not in _postfix_maps:
        _postfix_maps[store.name] = PostfixMaps(store)
    if store.name not in _dovecots:
        _dovecots[store.name] = Dovecot(store)
    return World(arranged, RealMailServer(_postfix_maps[store.name], _dovecots[store.name]))


# -- one call, and what is found -------------------------------------------------------------------


async def test_vector_new_domain_and_user(world: World) -> None:
    assert await world.ask("virtual_mailbox_domains", "ex.com") == {"ex.com"}
    assert await world.ask("transport_domain", "ex.com") == {"dovecot"}
    assert await world.ask("virtual_alias_maps", U) == {U}
    (path,) = await world.ask("virtual_mailbox_maps", U)
    assert MAILDIR.fullmatch(path)
    assert await world.ask("sender_login_maps", U) == {U}
    for service, secured in LOGINS:
        assert await world.login(U, service, secured), (service, secured)


async def test_vector_alias_domain(world: World) -> None:
    assert await world.ask("virtual_mailbox_domains", "al.com") == {"al.com"}
    assert await world.ask("domain_alias_maps", "u@al.com") == {U}
    await world.put("domain/ex.com", removeAliasDomain="al.com")
    assert await world.ask("virtual_mailbox_domains", "al.com") == set()
    assert await world.ask("domain_alias_maps", "u@al.com") == set()


async def test_vector_forwarding(world: World) -> None:
    await world.put(f"user/{U}", forwarding=FAR)
    assert await world.ask("virtual_alias_maps", U) == {FAR}
    await world.put(f"user/{U}", forwarding="")
    assert await world.ask("virtual_alias_maps", U) == {U}
    await world.put(f"user/{U}", addForwarding=FAR)
    assert await world.ask("virtual_alias_maps", U) == {U, FAR}
    await world.put(f"user/{U}", removeForwarding=FAR)
    assert await world.ask("virtual_alias_maps", U) == {U}


async def test_vector_per_user_alias(world: World) -> None:
    await world.put(f"user/{U}", addAlias="bob@ex.com")
    await world.put(f"user/{U}", addAlias="bob@al.com")
    assert await world.ask("virtual_alias_maps", "bob@ex.com") == {U}
    assert await world.ask("virtual_alias_maps", "bob@al.com") == {U}


async def test_vector_disabled_user(world: World) -> None:
    await world.post("alias/list@ex.com", members=f"{U},{FAR}")
    await world.put(f"user/{U}", accountStatus="disabled")
    for map_name in ("virtual_alias_maps", "virtual_mailbox_maps", "sender_login_maps"):
        assert await world.ask(map_name, U) == set(), map_name
    for service, secured in LOGINS:
        assert not await world.login(U, service, secured), (service, secured)
    assert await world.ask("virtual_alias_maps", "list@ex.com") == {FAR}
    await world.put(f"user/{U}", accountStatus="active")
    assert await world.ask("virtual_alias_maps", "list@ex.com") == {U, FAR}
    assert await world.ask("virtual_alias_maps", U) == {U}
    assert await world.login(U)


async def test_vector_remove_service_smtp(world: World) -> None:
    await world.put(f"user/{U}", removeService="smtp")
    assert await world.ask("sender_login_maps", U) == set()
    assert not await world.login(U, "smtp", "")
    assert await world.login(U, "smtp", "secured")


async def test_vector_remove_service_imaptls(world: World) -> None:
    await world.put(f"user/{U}", removeService="imaptls")
    assert not await world.login(U, "imap", "tls")
    assert await world.login(U, "imap", "secured")


async def test_vector_remove_service_deliver(world: World) -> None:
    await world.put(f"user/{U}", removeService="deliver")
    assert await world.ask("virtual_mailbox_maps", U) == set()
    for service in ("lda", "lmtp"):
        assert not await world.login(U, service, "")
        assert await world.server.user(U, service) is None
    await world.put(f"user/{U}", addService="deliver")
    assert await world.server.user(U, "lmtp") is not None


async def test_vector_transport(world: World) -> None:
    await world.put(f"user/{U}", transport="lmtp:unix:private/dovecot-lmtp")
    assert await world.ask("transport_user", U) == {"lmtp:unix:private/dovecot-lmtp"}
    await world.put(f"user/{U}", transport="")
    assert await world.ask("transport_user", U) == set()


@pytest.mark.parametrize("side", ["sender", "recipient"])
async def test_vector_bcc(world: World, side: str) -> None:
    await world.put(f"user/{U}", **{f"{side}Bcc": "b@x.com"})
    await world.put("domain/ex.com", **{f"{side}Bcc": "d@x.com"})
    assert await world.ask(f"{side}_bcc_user", U) == {"b@x.com"}
    assert await world.ask(f"{side}_bcc_domain", "any@ex.com") == {"d@x.com"}
    await world.put(f"user/{U}", **{f"{side}Bcc": ""})
    await world.put("domain/ex.com", **{f"{side}Bcc": ""})
    assert await world.ask(f"{side}_bcc_user", U) == set()
    assert await world.ask(f"{side}_bcc_domain", "any@ex.com") == set()


async def test_vector_catch_all(world: World) -> None:
    await world.put("domain/ex.com", catchall=U)
    assert await world.ask("catchall_maps", "nobody@ex.com") == {U}
    assert await world.ask("catchall_maps", "nobody+t@ex.com") == set()
    assert await world.ask("domain_alias_catchall_maps", "nobody@al.com") == {U}
    await world.put("domain/ex.com", catchall="")
    assert await world.ask("catchall_maps", "nobody@ex.com") == set()
    assert await world.ask("domain_alias_catchall_maps", "nobody@al.com") == set()


async def test_vector_outbound_relay(world: World) -> None:
    await world.put("domain/ex.com", outboundRelay="[10.0.0.2]:25")
    assert await world.ask("sender_relayhost", "@ex.com") == {"[10.0.0.2]:25"}
    await world.put("domain/ex.com", outboundRelay="")
    assert await world.ask("sender_relayhost", "@ex.com") == set()


async def test_vector_backup_mx(world: World) -> None:
    await world.put("domain/ex.com", is_backupmx="yes", primarymx="10.0.0.1")
    assert await world.ask("virtual_mailbox_domains", "ex.com") == set()
    assert await world.ask("relay_domains", "ex.com") == {"ex.com"}
    assert await world.ask("transport_domain", "ex.com") == {"relay:[10.0.0.1]"}
    # Section 6.4: what was measured besides.
    await world.put(f"user/{U}", senderBcc="b@x.com")
    assert await world.ask("sender_bcc_user", U) == set()
    assert await world.ask("virtual_alias_maps", U) == set()
    assert await world.ask("domain_alias_maps", "u@al.com") == set()
    assert await world.ask("relay_domains", "al.com") == set()
    # iRedMail's look-up of passwords for Dovecot 2.4 does not ask for it; that of mailboxes does.
    newer = isinstance(world.server, RealMailServer) and version() >= (2, 4)
    assert await world.login(U) == newer
    assert await world.server.user(U) is None
    await world.put("domain/ex.com", is_backupmx="no")
    assert await world.ask("virtual_mailbox_domains", "ex.com") == {"ex.com"}
    assert await world.ask("relay_domains", "ex.com") == set()
    assert await world.ask("transport_domain", "ex.com") == {"dovecot"}
    assert await world.login(U)


async def test_vector_disabled_domain(world: World) -> None:
    await world.put("domain/ex.com", accountStatus="disabled")
    for domain in ("ex.com", "al.com"):
        assert await world.ask("virtual_mailbox_domains", domain) == set()
    assert await world.ask("transport_domain", "ex.com") == set()
    assert not await world.login(U)
    assert await world.server.user(U) is None


async def test_vector_alias(world: World) -> None:
    await world.user("b@ex.com")
    await world.post("alias/list@ex.com", members=f"{U},b@ex.com")
    assert await world.ask("virtual_alias_maps", "list@ex.com") == {U, "b@ex.com"}
    assert await world.ask("domain_alias_maps", "list@al.com") == {U, "b@ex.com"}
    await world.put("alias/list@ex.com", accountStatus="disabled")
    assert await world.ask("virtual_alias_maps", "list@ex.com") == set()
    await world.put("alias/list@ex.com", accountStatus="active")
    assert await world.ask("virtual_alias_maps", "list@ex.com") == {U, "b@ex.com"}
    await world.delete("alias/list@ex.com")
    assert await world.ask("virtual_alias_maps", "list@ex.com") == set()
    assert await world.ask("domain_alias_maps", "list@al.com") == set()
    assert await world.ask("virtual_alias_maps", U) == {U}


async def test_vector_change_email(world: World) -> None:
    await world.post("alias/list@ex.com", members=U)
    await world.put(f"user/{U}", addAlias="bob@al.com", senderBcc="b@x.com")
    path = await world.ask("virtual_mailbox_maps", U)
    await world.post(f"user/{U}/change_email/n@ex.com")
    assert await world.ask("virtual_alias_maps", U) == set()
    assert await world.ask("virtual_alias_maps", "n@ex.com") == {"n@ex.com"}
    assert await world.ask("virtual_mailbox_maps", "n@ex.com") == path
    assert await world.ask("virtual_alias_maps", "list@ex.com") == {"n@ex.com"}
    assert await world.ask("virtual_alias_maps", "bob@al.com") == {"n@ex.com"}
    assert await world.ask("sender_bcc_user", "n@ex.com") == {"b@x.com"}
    assert await world.login("n@ex.com")
    assert not await world.login(U)


async def test_vector_change_email_of_an_alias(world: World) -> None:
    await world.post("alias/list@ex.com", members=U)
    await world.post("alias/all@ex.com", members="list@ex.com")
    await world.post("alias/list@ex.com/change_email/new@ex.com")
    assert await world.ask("virtual_alias_maps", "list@ex.com") == set()
    assert await world.ask("virtual_alias_maps", "new@ex.com") == {U}
    assert await world.ask("virtual_alias_maps", "all@ex.com") == {"new@ex.com"}


async def test_vector_delete_user(world: World) -> None:
    await world.put(f"user/{U}", addAlias="bob@al.com", senderBcc="b@x.com", recipientBcc="b@x.com")
    await world.put(f"user/{U}", transport="smtp:[10.0.0.9]")
    await world.delete(f"user/{U}")
    for map_name, key in (
        ("virtual_alias_maps", U), ("virtual_alias_maps", "bob@al.com"),
        ("virtual_mailbox_maps", U), ("sender_login_maps", U), ("domain_alias_maps", "u@al.com"),
        ("sender_bcc_user", U), ("recipient_bcc_user", U), ("transport_user", U),
    ):  # fmt: skip
        assert await world.ask(map_name, key) == set(), (map_name, key)
    assert not await world.login(U)
    assert (await world.row("deleted_mailboxes", "username = 'u@ex.com'"))["delete_date"] is None


async def test_vector_delete_user_keeping_the_mailbox(world: World) -> None:
    today = datetime.now(UTC).date()
    await world.delete(f"user/{U}/keep_mailbox_days/30")
    date_of_it = day((await world.row("deleted_mailboxes", "username = 'u@ex.com'"))["delete_date"])
    assert date_of_it in {today + timedelta(days=30), datetime.now(UTC).date() + timedelta(days=30)}


async def test_vector_delete_domain(world: World) -> None:
    await world.put("domain/ex.com", catchall=U, outboundRelay="[10.0.0.2]:25")
    await world.delete("domain/ex.com")
    for domain in ("ex.com", "al.com"):
        assert await world.ask("virtual_mailbox_domains", domain) == set()
        assert await world.ask("transport_domain", domain) == set()
    assert await world.ask("catchall_maps", "nobody@ex.com") == set()
    assert await world.ask("domain_alias_catchall_maps", "nobody@al.com") == set()
    assert await world.ask("sender_relayhost", "@ex.com") == set()
    assert await world.ask("virtual_alias_maps", U) == set()


# -- why the row that forwards to the user itself matters ------------------------------------------


async def test_without_a_self_row(world: World) -> None:
    await world.store.execute("DELETE FROM forwardings WHERE address = 'u@ex.com'")
    assert await world.ask("virtual_alias_maps", U) == set()
    assert len(await world.ask("virtual_mailbox_maps", U)) == 1
    assert await world.ask("domain_alias_maps", "u@al.com") == set()
    # It counts as existing all the same.
    answer = await world.arranged.root.refused("POST", f"alias/{U}")
    assert answer[:2] == (409, "ALREADY_EXISTS")
    # And "no forwarding" is exactly the self row.
    await world.put(f"user/{U}", forwarding="")
    assert await world.ask("virtual_alias_maps", U) == {U}
    assert await world.ask("domain_alias_maps", "u@al.com") == {U}


# -- effects of several rows together --------------------------------------------------------------


async def test_catch_all_gets_mail_of_disabled_users(world: World) -> None:
    await world.user("b@ex.com")
    await world.put("domain/ex.com", catchall=f"b@ex.com,{FAR}")
    assert await world.ask("virtual_alias_maps", U) == {U}
    await world.put(f"user/{U}", accountStatus="disabled")
    assert await world.ask("virtual_alias_maps", U) == set()
    assert await world.ask("catchall_maps", U) == {"b@ex.com", FAR}
    assert await world.ask("domain_alias_catchall_maps", "u@al.com") == {"b@ex.com", FAR}


async def test_disabled_catch_all_target(world: World) -> None:
    await world.put("domain/ex.com", catchall=U)
    await world.put(f"user/{U}", accountStatus="disabled")
    assert await world.ask("catchall_maps", "nobody@ex.com") == set()
    await world.put(f"user/{U}", accountStatus="active")
    assert await world.ask("catchall_maps", "nobody@ex.com") == {U}


async def test_deliver_alone_would_not_stop_delivery(world: World) -> None:
    await world.store.execute("UPDATE mailbox SET enabledeliver = 0")
    assert await world.ask("virtual_alias_maps", U) == {U}
    assert await world.server.user(U, "lmtp") is not None
    # A reset sets all three columns.
    await world.put(f"user/{U}", services="deliver")
    assert len(await world.ask("virtual_mailbox_maps", U)) == 1
    await world.put(f"user/{U}", services="imaptls")
    assert await world.server.user(U, "lmtp") is None
    assert await world.server.user(U, "lda") is None


async def test_routes_of_a_disabled_user(world: World) -> None:
    await world.user("b@ex.com")
    await world.put(f"user/{U}", addAlias="bob@ex.com", addForwarding=FAR)
    await world.put("user/b@ex.com", addForwarding=U)
    await world.put("users/ex.com", accountStatus="disabled")
    for key in (U, "b@ex.com", "bob@ex.com"):
        assert await world.ask("virtual_alias_maps", key) == set(), key
    await world.put(f"user/{U}", accountStatus="active")
    assert await world.ask("virtual_alias_maps", "bob@ex.com") == {U}
    assert await world.ask("virtual_alias_maps", U) == {U, FAR}
    # Its own mailbox is still disabled.
    assert await world.ask("virtual_alias_maps", "b@ex.com") == set()
    await world.put("users/ex.com", accountStatus="active")
    assert await world.ask("virtual_alias_maps", "b@ex.com") == {U, "b@ex.com"}


async def test_disabled_mail_services(world: World) -> None:
    services = "disabled_mail_services:imapsecured,managesieve,sogo,nonsense;"
    await world.store.execute("UPDATE domain SET settings = :s", s=services)
    await world.user("b@ex.com")
    for service, secured, let_in in (
        ("imap", "tls", False), ("imap", "secured", False), ("imap", "", True),
        ("sieve", "", False), ("sieve", "secured", True), ("pop3", "tls", True),
    ):  # fmt: skip
        assert await world.login("b@ex.com", service, secured) == let_in, (service, secured)
    assert (await world.row("mailbox", "username = 'b@ex.com'"))["enablesogo"] == 0
    assert await world.login(U)


async def test_no_self_row_for_an_alias(world: World) -> None:
    await world.post("alias/list@ex.com", members="list@ex.com")
    assert await world.ask("virtual_alias_maps", "list@ex.com") == set()
    await world.put("alias/list@ex.com", addMember=f"{U},list@ex.com,nobody@ex.com,who@al.com")
    assert await world.ask("virtual_alias_maps", "list@ex.com") == {U}


# -- what is easily done wrong ---------------------------------------------------------------------


async def test_self_row_of_a_new_user(world: World) -> None:
    await world.user("b@ex.com")
    await world.put("domain/ex.com", catchall=FAR)
    assert await world.ask("virtual_alias_maps", "b@ex.com") == {"b@ex.com"}
    assert await world.ask("domain_alias_maps", "b@al.com") == {"b@ex.com"}
    row = await world.row("forwardings", "address = 'b@ex.com'")
    row.pop("id")
    assert row == {
        "address": "b@ex.com", "forwarding": "b@ex.com", "domain": "ex.com",
        "dest_domain": "ex.com", "is_maillist": 0, "is_list": 0, "is_forwarding": 1,
        "is_alias": 0, "active": 1,
    }  # fmt: skip


async def test_forwarding_to_nowhere_is_the_self_row(world: World) -> None:
    for value in ("", " , ", "nobody@ex.com,nobody@al.com", U):
        await world.put(f"user/{U}", forwarding=FAR)
        await world.put(f"user/{U}", forwarding=value)
        assert await world.ask("virtual_alias_maps", U) == {U}, value


async def test_removing_the_last_forwarding(world: World) -> None:
    await world.put(f"user/{U}", forwarding=FAR)
    await world.put(f"user/{U}", removeForwarding=FAR)
    assert await world.ask("virtual_alias_maps", U) == {U}
    await world.put(f"user/{U}", removeForwarding=U)
    assert await world.ask("virtual_alias_maps", U) == {U}


async def test_per_user_alias_in_an_alias_domain(world: World) -> None:
    await world.put(f"user/{U}", aliases="bill@al.com,bill@ex.com")
    for address in ("bill@al.com", "bill@ex.com"):
        assert await world.ask("virtual_alias_maps", address) == {U}
        assert (await world.row("forwardings", f"address = '{address}'"))["domain"] == "ex.com"


async def test_per_user_alias_in_another_domain(world: World) -> None:
    await world.post("domain/other.com")
    async with serving(world.store, user_alias_cross_all_domains=True) as service:
        root = await service.root()
        await root.ok("PUT", f"user/{U}", addAlias="bill@other.com,bill@al.com")
    for address, domain in (("bill@other.com", "other.com"), ("bill@al.com", "ex.com")):
        assert await world.ask("virtual_alias_maps", address) == {U}
        assert (await world.row("forwardings", f"address = '{address}'"))["domain"] == domain
    # So the address goes with its own domain.
    await world.put("domain/other.com", accountStatus="disabled")
    assert await world.ask("virtual_alias_maps", "bill@other.com") == set()
    await world.delete("domain/other.com")
    rows = await world.store.rows("SELECT address FROM forwardings WHERE address <> 'u@ex.com'")
    assert [row["address"] for row in rows] == ["bill@al.com"]


async def test_disabled_alias(world: World) -> None:
    await world.post("alias/list@ex.com", members=U, accountStatus="disabled")
    assert await world.ask("virtual_alias_maps", "list@ex.com") == set()
    await world.put("alias/list@ex.com", addMember=FAR)
    assert await world.ask("virtual_alias_maps", "list@ex.com") == set()
    await world.put("alias/list@ex.com", members=f"{FAR},y@gmail.com")
    assert await world.ask("virtual_alias_maps", "list@ex.com") == set()
    await world.post("alias/list@ex.com/change_email/new@ex.com")
    assert await world.ask("virtual_alias_maps", "new@ex.com") == set()
    await world.put("alias/new@ex.com", accountStatus="active")
    assert await world.ask("virtual_alias_maps", "new@ex.com") == {FAR, "y@gmail.com"}


async def test_disabled_user(world: World) -> None:
    await world.put(f"user/{U}", accountStatus="disabled", addForwarding=FAR, addAlias="b@ex.com")
    assert await world.ask("virtual_alias_maps", U) == set()
    assert await world.ask("virtual_alias_maps", "b@ex.com") == set()
    assert await world.ask("domain_alias_maps", "u@al.com") == set()
    await world.user("off@ex.com", accountStatus="disabled")
    assert await world.ask("virtual_alias_maps", "off@ex.com") == set()
    await world.put("user/off@ex.com", accountStatus="active")
    assert await world.ask("virtual_alias_maps", "off@ex.com") == {"off@ex.com"}


async def test_enabling_a_user_and_disabled_aliases(world: World) -> None:
    await world.post("alias/list@ex.com", members=f"{U},{FAR}")
    await world.put("alias/list@ex.com", accountStatus="disabled")
    await world.put(f"user/{U}", accountStatus="disabled")
    await world.put(f"user/{U}", accountStatus="active")
    assert await world.ask("virtual_alias_maps", "list@ex.com") == set()
    await world.put("users/ex.com", accountStatus="active")
    assert await world.ask("virtual_alias_maps", "list@ex.com") == set()


async def test_enabling_an_alias_and_disabled_users(world: World) -> None:
    await world.post("alias/list@ex.com", members=f"{U},{FAR}")
    await world.put("alias/list@ex.com", accountStatus="disabled")
    await world.put(f"user/{U}", accountStatus="disabled")
    await world.put("alias/list@ex.com", accountStatus="active")
    assert await world.ask("virtual_alias_maps", "list@ex.com") == {FAR}


async def test_new_member_of_a_disabled_default_group(world: World) -> None:
    await world.post("alias/all@ex.com", accountStatus="disabled")
    await world.post("alias/on@ex.com")
    await world.store.execute("UPDATE domain SET settings = 'default_groups:all@ex.com,on@ex.com;'")
    await world.user("b@ex.com")
    assert await world.ask("virtual_alias_maps", "on@ex.com") == {"b@ex.com"}
    assert await world.ask("virtual_alias_maps", "all@ex.com") == set()
    await world.put("alias/all@ex.com", accountStatus="active")
    assert await world.ask("virtual_alias_maps", "all@ex.com") == {"b@ex.com"}


async def test_new_disabled_user_in_a_default_group(world: World) -> None:
    await world.post("alias/all@ex.com")
    await world.store.execute("UPDATE domain SET settings = 'default_groups:all@ex.com;'")
    await world.user("off@ex.com", accountStatus="disabled")
    assert await world.ask("virtual_alias_maps", "all@ex.com") == set()
    await world.put("user/off@ex.com", accountStatus="active")
    assert await world.ask("virtual_alias_maps", "all@ex.com") == {"off@ex.com"}


async def test_migrated_catch_all(world: World) -> None:
    await rich.add_route(world.store, "ex.com", FAR, is_forwarding=1)
    await world.put("domain/ex.com", catchall=U)
    assert await world.ask("catchall_maps", "nobody@ex.com") == {U}
    await rich.add_route(world.store, "ex.com", FAR, is_forwarding=1)
    assert (await world.get("domain/ex.com"))["catchall"] == [U, FAR]
    await world.put("domain/ex.com", catchall="")
    assert await world.ask("catchall_maps", "nobody@ex.com") == set()
    await world.put("domain/ex.com", catchall=U)
    row = await world.row("forwardings", "address = 'ex.com'")
    flags = ("is_maillist", "is_list", "is_forwarding", "is_alias")
    assert [row[flag] for flag in flags] == [0, 0, 0, 0]


async def test_switched_off_catch_all(world: World) -> None:
    await rich.add_route(world.store, "ex.com", FAR, active=0)
    await world.put("domain/ex.com", catchall=FAR)
    assert await world.ask("catchall_maps", "nobody@ex.com") == {FAR}


async def test_catch_all_is_no_account(world: World) -> None:
    await world.put("domain/ex.com", catchall=U)
    assert await world.get("aliases/ex.com") == []
    users = await world.arranged.root.ok("GET", "users/ex.com", email_only="yes")
    assert users == [U]
    profile = await world.get(f"user/{U}")
    assert (profile["aliases"], profile["forwardings"]) == ([], [U])
    for path in ("user/ex.com", "alias/ex.com"):
        status, code, _ = await world.arranged.root.refused("GET", path)
        assert (status, code) == (400, "INVALID_MAIL")
    # Nor does it get in the way of anything.
    await world.post(f"user/{U}/change_email/n@ex.com")
    assert await world.ask("catchall_maps", "nobody@ex.com") == {"n@ex.com"}
    await world.delete("user/n@ex.com")
    assert await world.ask("catchall_maps", "nobody@ex.com") == set()
    await world.user(U)


async def test_megabytes_and_bytes(world: World) -> None:
    await world.put("domain/ex.com", quota="1000", defaultQuota="7", maxUserQuota="900")
    await world.put(f"user/{U}", quota="100")
    fields = await world.server.user(U)
    assert fields is not None
    assert fields["quota_rule"] == "*:bytes=104857600"
    await world.user("b@ex.com")
    profile = await world.get("domain/ex.com")
    assert (profile["maxquota"], profile["allocated_quota"]) == (1000, 107)
    await world.store.insert("used_quota", {"username": U, "bytes": 1_048_577, "messages": 3})
    assert (await world.get(f"user/{U}"))["stored_bytes"] == 1_048_577
    assert (await world.get("domain/ex.com"))["used_quota"] == {"bytes": 1_048_577, "messages": 3}
    await world.delete(f"user/{U}")
    row = await world.row("deleted_mailboxes", "username = 'u@ex.com'")
    assert (row["bytes"], row["messages"]) == (1_048_577, 3)


async def test_upper_case(world: World) -> None:
    await world.post("domain/OTHER.Com")
    await world.user("Big@Other.COM")
    await world.put("domain/OTHER.com", addAliasDomain="OAL.com", catchall="BIG@other.com")
    await world.put("user/BIG@OTHER.COM", addAlias="Sale@OTHER.com", addForwarding="X@Gmail.com",
                    senderBcc="B@X.com")  # fmt: skip
    await world.post("alias/List@other.com", members="BIG@other.com,Y@Gmail.com")
    assert await world.ask("virtual_mailbox_domains", "oal.com") == {"oal.com"}
    assert await world.ask("virtual_alias_maps", "big@other.com") == {"big@other.com", FAR}
    assert await world.ask("virtual_alias_maps", "sale@other.com") == {"big@other.com"}
    assert await world.ask("virtual_alias_maps", "list@other.com") == {
        "big@other.com", "y@gmail.com",
    }  # fmt: skip
    assert await world.ask("catchall_maps", "nobody@other.com") == {"big@other.com"}
    assert await world.ask("sender_bcc_user", "big@other.com") == {"b@x.com"}
    assert await world.login("big@other.com")
    assert (await world.arranged.root.refused("POST", "user/bIg@other.com", password=PASSWORD))[
        1
    ] == "ALREADY_EXISTS"


async def test_null_and_empty_text(world: World) -> None:
    mailbox = await world.row("mailbox", "username = 'u@ex.com'")
    assert mailbox["allow_nets"] is None
    assert (mailbox["settings"], mailbox["disclaimer"]) == ("", "")
    domain = await world.row("domain", "domain = 'ex.com'")
    assert (domain["settings"], domain["disclaimer"], domain["description"]) == ("", "", "")
    await world.put(f"user/{U}", name="", transport="", language="", employeeid="")
    await world.put("domain/ex.com", name="", language="")
    assert (await world.row("mailbox", "username = 'u@ex.com'"))["allow_nets"] is None
    assert await world.login(U)


@pytest.mark.stores("mariadb")
async def test_null_text_on_mariadb(world: World) -> None:
    for table in ("domain", "mailbox"):
        await world.store.execute(f"UPDATE {table} SET settings = NULL, disclaimer = NULL")
    await world.store.execute("UPDATE domain SET description = NULL")
    assert (await world.get("domain/ex.com"))["description"] == ""
    assert (await world.get(f"user/{U}"))["settings"] == {}
    await world.put("domain/ex.com", defaultQuota="7")
    await world.put(f"user/{U}", name="U")
    assert (await world.get("domain/ex.com"))["settings"] == {"default_user_quota": 7}


async def test_times_are_written(world: World) -> None:
    await world.post("alias/list@ex.com")
    await world.post("admin/a@b.test", password=PASSWORD)
    now = datetime.now(UTC).replace(tzinfo=None)
    for table, where, columns in (
        ("domain", "domain = 'ex.com'", ("created", "modified")),
        ("mailbox", "username = 'u@ex.com'", ("created", "modified", "passwordlastchange")),
        ("alias", "address = 'list@ex.com'", ("created", "modified")),
        ("admin", "username = 'a@b.test'", ("created", "modified", "passwordlastchange")),
        ("alias_domain", "alias_domain = 'al.com'", ("created",)),
    ):
        row = await world.row(table, where)
        for column in columns:
            written = moment(row[column])
            assert now - timedelta(minutes=10) < written < now + timedelta(seconds=2), column
            assert written.microsecond == 0


async def test_sogo_letters(world: World) -> None:
    names = ("sogowebmail", "sogocalendar", "sogoactivesync")

    async def letters() -> list[str]:
        row = await world.row("mailbox", "username = 'u@ex.com'")
        return [row[f"enable{name}"] for name in names]

    assert await letters() == ["y", "y", "y"]
    await world.put(f"user/{U}", removeService="sogowebmail,sogoactivesync")
    assert await letters() == ["n", "y", "n"]
    await world.put(f"user/{U}", addService="sogowebmail")
    assert await letters() == ["y", "y", "n"]
    await world.put(f"user/{U}", services="sogoactivesync")
    assert await letters() == ["n", "n", "y"]


INTERNAL = ("internal", "doveadm", "lib-storage", "quota-status", "indexer-worker", "dsync")


async def test_reset_of_services_and_internal_ones(world: World) -> None:
    await world.put(f"user/{U}", services="")
    row = await world.row("mailbox", "username = 'u@ex.com'")
    assert {row[f"enable{name}"] for name in INTERNAL} == {1}
    for name in INTERNAL:
        assert await world.server.user(U, name) is not None
    for service, secured in LOGINS:
        assert await world.login(U, service, secured) == (service == "doveadm")


async def test_services_that_dovecot_asks_for(world: World) -> None:
    await world.put(f"user/{U}", removeService="managesieve,managesievesecured")
    assert not await world.login(U, "sieve", "")
    assert not await world.login(U, "sieve", "secured")
    assert await world.login(U, "sieve", "tls")
    await world.put(f"user/{U}", removeService="managesievetls,imap,imapsecured")
    assert not await world.login(U, "sieve", "tls")
    # As documented: TLS clients have a service of their own.
    assert await world.login(U, "imap", "tls")
    await world.put(f"user/{U}", addService="managesievesecured")
    assert await world.login(U, "sieve", "secured")


NO_SERVICES = (
    *INTERNAL, "", "active=0, isglobaladmin", "smtp=1; DROP TABLE mailbox; --", "smtp`", 'x"',
)  # fmt: skip


async def test_names_of_services(world: World) -> None:
    for name in NO_SERVICES:
        for param in ("addService", "removeService"):
            await world.put(f"user/{U}", **{param: name})
    assert await world.arranged.changes() == {}


async def test_password_schemes(world: World) -> None:
    stored = (await world.row("mailbox", "username = 'u@ex.com'"))["password"]
    assert stored.startswith("{SSHA512}")
    bcrypt = hash_password(PASSWORD, Scheme.BCRYPT, bcrypt_cost=4).removeprefix("{CRYPT}")
    for given, kept in (
        (f"{{BCRYPT}}{bcrypt}", "{BLF-CRYPT}"),
        (f"{{CRYPT}}{bcrypt}", "{CRYPT}"),
        (bcrypt, "{CRYPT}"),
        (hash_password(PASSWORD, Scheme.SSHA), "{SSHA}"),
        (f"{{plain}}{PASSWORD}", "{PLAIN}"),
    ):
        await world.put(f"user/{U}", password_hash=given)
        stored = (await world.row("mailbox", "username = 'u@ex.com'"))["password"]
        assert stored.startswith(kept)
        assert await world.login(U), given
    for given in ("abc", "{NOSUCH}abc"):
        answer = await world.arranged.root.refused("PUT", f"user/{U}", password_hash=given)
        assert answer == (400, "INVALID_PASSWORD_SCHEME", ["password_hash"])
    assert await world.login(U)


@pytest.mark.parametrize("side", ["sender", "recipient"])
async def test_bcc(world: World, side: str) -> None:
    await world.put(f"user/{U}", **{f"{side}Bcc": "b@x.com"})
    row = await world.row(f"{side}_bcc_user", "username = 'u@ex.com'")
    assert (row["domain"], row["active"]) == ("ex.com", 1)
    assert moment(row["created"]) > datetime(2020, 1, 1)
    # The domain's row is not switched off, but goes.
    await world.put("domain/ex.com", **{f"{side}Bcc": "d@x.com"})
    await world.put("domain/ex.com", **{f"{side}Bcc": ""})
    assert await world.store.rows(f"SELECT * FROM {side}_bcc_domain") == []


@pytest.mark.parametrize("broken", [{"domain": ""}, {"active": 0}])
@pytest.mark.parametrize("side", ["sender", "recipient"])
async def test_bcc_row_that_never_matched(world: World, side: str, broken: dict[str, Any]) -> None:
    row = {"username": U, "bcc_address": "b@x.com", "domain": "ex.com", **broken}
    await world.store.insert(f"{side}_bcc_user", row)
    assert await world.ask(f"{side}_bcc_user", U) == set()
    await world.put(f"user/{U}", **{f"{side}Bcc": "b@x.com"})
    assert await world.ask(f"{side}_bcc_user", U) == {"b@x.com"}


async def test_relay_host(world: World) -> None:
    for given, stored in (
        ("smtp:[192.168.1.2]:25", "[192.168.1.2]:25"),
        ("relay:mail.gmail.com", "mail.gmail.com"),
        ("LMTP:[mail.gmail.com]:24", "[mail.gmail.com]:24"),
        ("192.168.1.2", "[192.168.1.2]"),
        ("mail.gmail.com:587", "mail.gmail.com:587"),
        ("dunno", "DUNNO"),
    ):
        await world.put("domain/ex.com", outboundRelay=given)
        assert await world.ask("sender_relayhost", "@ex.com") == {stored}
        assert (await world.get("domain/ex.com"))["outbound_relay"] == stored
        await world.put("domain/ex.com", outboundRelay=" ")
        assert await world.store.rows("SELECT * FROM sender_relayhost") == []


async def test_primary_mx(world: World) -> None:
    for given, stored in (
        ("1.2.3.4", "[1.2.3.4]"),
        ("1.2.3.4:25", "[1.2.3.4]:25"),
        ("[1.2.3.4]:25", "[1.2.3.4]:25"),
        ("2001:db8::1", "[2001:db8::1]"),
        ("mx.example.net", "mx.example.net"),
        ("[mx.example.net]", "[mx.example.net]"),
    ):
        await world.put("domain/ex.com", is_backupmx="yes", primarymx=given)
        assert await world.ask("transport_domain", "ex.com") == {f"relay:{stored}"}
        assert (await world.get("domain/ex.com"))["primarymx"] == stored


async def test_one_namespace_of_domains(world: World) -> None:
    root = world.arranged.root
    await world.post("domain/other.com")
    before = await world.arranged.changes()
    assert (await root.refused("POST", "domain/al.com"))[:2] == (409, "ALREADY_EXISTS")
    assert (await root.refused("POST", "domain/ex.com"))[:2] == (409, "ALREADY_EXISTS")
    for taken in ("ex.com", "al.com"):
        for param in ("addAliasDomain", "aliasDomains"):
            answer = await root.refused("PUT", "domain/other.com", **{param: f"new.com,{taken}"})
            assert answer[:2] == (409, "ALREADY_EXISTS")
    assert (await root.refused("PUT", "domain/other.com", addAliasDomain="other.com"))[0] == 400
    for method in ("GET", "PUT", "DELETE"):
        assert (await root.refused(method, "domain/al.com"))[:2] == (404, "NO_SUCH_DOMAIN")
    answer = await root.refused("POST", "user/a@al.com", password=PASSWORD)
    assert answer[:2] == (404, "NO_SUCH_DOMAIN")
    assert await world.arranged.changes() == before
    assert await world.ask("virtual_mailbox_domains", "al.com") == {"al.com"}


async def test_used_quota(world: World) -> None:
    await world.store.insert("used_quota", {"username": U, "bytes": 10, "messages": 1})
    await world.store.insert("used_quota", {"username": "n@ex.com", "bytes": 500, "messages": 5})
    await world.post(f"user/{U}/change_email/n@ex.com")
    (row,) = await world.store.rows("SELECT * FROM used_quota")
    assert row == {"username": "n@ex.com", "bytes": 10, "messages": 1, "domain": "ex.com"}
    await world.delete("user/n@ex.com")
    assert await world.store.rows("SELECT * FROM used_quota") == []
    await world.user("n@ex.com")
    assert (await world.get("user/n@ex.com"))["stored_bytes"] == 0


@pytest.mark.parametrize("path", ["user/u@ex.com", "domain/ex.com"])
async def test_keeping_for_ever(world: World, path: str) -> None:
    for days in ("-1", "x", "36501", "1e2"):
        status, code, _ = await world.arranged.root.refused(
            "DELETE", f"{path}/keep_mailbox_days/{days}"
        )
        assert (status, code) == (400, "INVALID_NUMBER")
    assert await world.arranged.changes() == {}
    await world.delete(f"{path}/keep_mailbox_days/0")
    row = await world.row("deleted_mailboxes", "username = 'u@ex.com'")
    assert row["delete_date"] is None
    assert row["domain"] == "ex.com"


async def test_what_a_domain_admin_may_not_set(world: World) -> None:
    admin = await world.arranged.service.admin_of("ex.com")
    before = await world.arranged.changes()
    place = "/var/vmail/vmail1/ex.com/mine"
    for method, path in (("PUT", f"user/{U}"), ("POST", "user/new@ex.com")):
        sent = {"password": PASSWORD, "maildir": place}
        assert (await admin.refused(method, path, **sent))[:2] == (403, "PERMISSION_DENIED")
    for method, path in (("PUT", f"user/{U}"), ("PUT", "users/ex.com"), ("PUT", "domain/ex.com")):
        for value in ("mlmmj:ex.com/list", "discard:", "lmtp:unix:private/other", "pipe:x"):
            answer = await admin.refused(method, path, transport=value)
            assert answer[:2] == (403, "PERMISSION_DENIED"), (path, value)
    for value in ("../../other.com/x", "a/b", ".", "~root", "%d"):
        answer = await admin.refused("PUT", f"user/{U}", mailboxFolder=value)
        assert answer == (400, "INVALID_VALUE", ["mailboxFolder"])
    assert await world.arranged.changes() == before
    await admin.ok("PUT", f"user/{U}", transport="smtp:[10.0.0.9]", mailboxFolder="Mail2")
    fields = await world.server.user(U)
    assert fields is not None
    assert fields["mail"] == "maildir:~/Mail2"


async def test_mailbox_of_somebody_else(world: World) -> None:
    await world.user("b@ex.com")
    mine = (await world.get("user/b@ex.com"))["maildir"]
    for path in (mine, mine + "Maildir", "ex.com", mine.upper()):
        sent = {"maildir": f"/var/vmail/vmail1/{path}"}
        answer = await world.arranged.root.refused("PUT", f"user/{U}", **sent)
        assert answer == (400, "INVALID_MAILDIR", ["maildir"]), path
    await world.put(f"user/{U}", maildir="/var/vmail/vmail1/ex.com/Moved/")
    fields = await world.server.user(U)
    assert fields is not None
    assert fields["home"] == "/var/vmail/vmail1/ex.com/moved"
    assert await world.ask("virtual_mailbox_maps", U) == {"vmail1/ex.com/moved/Maildir/"}


async def test_order_of_answers(world: World) -> None:
    far = sorted(f"x{number}@gmail.com" for number in range(25))
    await world.post("alias/list@ex.com", members=",".join(reversed(far)))
    assert await world.ask("virtual_alias_maps", "list@ex.com") == set(far)
    assert (await world.get("alias/list@ex.com"))["members"] == far


async def test_extensions(world: World) -> None:
    await world.put("domain/ex.com", catchall=FAR)
    assert await world.ask("virtual_alias_maps", "u+x@ex.com") == set()
    assert await world.ask("catchall_maps", "u+x@ex.com") == set()
    assert await world.ask("domain_alias_maps", "u+x@al.com") == set()
    # Shipped so: in an alias domain the catch-all is first.
    assert await world.ask("domain_alias_catchall_maps", "u+x@al.com") == {FAR}
    await world.put("domain/ex.com", senderBcc="d@x.com")
    await world.put(f"user/{U}", senderBcc="b@x.com")
    assert await world.ask("sender_bcc_user", "u+x@ex.com") == set()
    assert await world.ask("sender_bcc_domain", "u+x@ex.com") == {"d@x.com"}


async def test_a_disabled_domain_does_not_cascade(world: World) -> None:
    await world.user("off@ex.com", accountStatus="disabled")
    await world.post("alias/list@ex.com", members=U)
    await world.put("domain/ex.com", catchall=U, senderBcc="d@x.com")
    before = await world.arranged.changes()
    await world.put("domain/ex.com", accountStatus="disabled")
    disabled = await world.arranged.changes()
    assert disabled.pop("~domain ex.com")["active"] == 0
    before.pop("~domain ex.com", None)
    assert disabled == before
    await world.put("domain/ex.com", accountStatus="active")
    assert await world.ask("virtual_mailbox_domains", "al.com") == {"al.com"}
    assert await world.ask("virtual_alias_maps", "list@ex.com") == {U}
    assert await world.ask("virtual_alias_maps", "off@ex.com") == set()
    assert await world.login(U)


async def test_no_empty_transport(world: World) -> None:
    await world.put("domain/ex.com", transport="smtp:[10.0.0.9]")
    await world.put("domain/ex.com", transport="")
    assert await world.ask("transport_domain", "ex.com") == {"dovecot"}
    await world.post("domain/other.com", transport=" ")
    assert await world.ask("transport_domain", "other.com") == {"dovecot"}
