"""Lookups of Postfix and Dovecot after every operation: destinations of mail, and logins.

The API changes accounts, the real Postfix tables and the real Dovecot are asked. The questions have
one meaning on SQL and on LDAP (``tests.servers.lookups``), so the same tests hold on SQLite, by
plain SQL; what only LDAP has (unsubscribable lists) and its own details are for OpenLDAP alone.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import PASSWORD, Client, serving
from tests.conftest import need
from tests.servers import lookups
from tests.servers.dovecot import Dovecot, Secured
from tests.servers.lookups import MailServer, RealMailServer, SqlMailServer
from tests.servers.openldap import account_dn
from tests.servers.postfix import PostfixMaps
from tests.servers.store import Store

U, B, FAR = "u@ex.com", "b@ex.com", "x@gmail.com"
LOGINS: tuple[tuple[str, Secured], ...] = (
    ("imap", ""), ("imap", "secured"), ("imap", "tls"), ("pop3", ""), ("pop3", "tls"),
    ("sieve", ""), ("sieve", "secured"), ("sieve", "tls"), ("smtp", ""), ("smtp", "secured"),
    ("lda", ""), ("lmtp", ""), ("doveadm", ""),
)  # fmt: skip


@dataclass
class World:
    """The API and the mail server of one store."""

    store: Store
    root: Client
    server: MailServer

    async def put(self, path: str, **form: str) -> None:
        await self.root.ok("PUT", path, **form)

    async def post(self, path: str, **form: str) -> None:
        await self.root.ok("POST", path, **form)

    async def delete(self, path: str) -> None:
        await self.root.ok("DELETE", path)

    async def user(self, mail: str, **form: str) -> None:
        await self.post(f"user/{mail}", password=PASSWORD, **form)

    async def to(self, address: str) -> set[str]:
        """Return the destinations of mail to an address; empty if it is refused."""
        found = await lookups.delivery(self.server, address)
        assert bool(found) <= await lookups.accepts(self.server, address), address
        return found

    async def logins(self, user: str, password: str = PASSWORD) -> set[str]:
        """Return the services that a user can log in to."""
        return {
            service + secured
            for service, secured in LOGINS
            if await self.server.login(user, password, service, secured)
        }


ALL_LOGINS = {service + secured for service, secured in LOGINS}


@pytest_asyncio.fixture(loop_scope="session")
async def world(
    store: Store,
    tmp_path: Path,
    _postfix_maps: dict[str, PostfixMaps],
    _dovecots: dict[str, Dovecot],
) -> AsyncIterator[World]:
    """Domain ex.com with alias domain al.com, users u and b, domain other.com."""
    if store.name == "sqlite":
        server: MailServer = SqlMailServer(store)
    else:
        need("postmap")
        need("doveadm")
        if store.name not in _postfix_maps:
            _postfix_maps[store.name] = PostfixMaps(store)
        if store.name not in _dovecots:
            _dovecots[store.name] = Dovecot(store)
        server = RealMailServer(_postfix_maps[store.name], _dovecots[store.name])
    async with serving(store, mlmmj_spool=str(tmp_path)) as service:
        found = World(store, await service.root(), server)
        await found.post("domain/ex.com")
        await found.put("domain/ex.com", addAliasDomain="al.com")
        await found.post("domain/other.com")
        await found.user(U)
        await found.user(B)
        yield found


# On PostgreSQL and MariaDB tests/integration/test_mail_lookups.py asks the tables one by one.
pytestmark = pytest.mark.stores("sqlite", "openldap")
ldap = pytest.mark.stores("openldap")

# Domains ---------------------------------------------------------------------------------------


async def test_new_domain_and_users(world: World) -> None:
    for domain in ("ex.com", "al.com", "other.com"):
        assert await lookups.is_hosted(world.server, domain)
        assert not await lookups.is_relayed(world.server, domain)
    assert not await lookups.is_hosted(world.server, "no.com")
    assert await lookups.transport(world.server, U) == "dovecot"
    for domain in ("ex.com", "al.com"):
        assert await world.to(f"u@{domain}") == {U}
        assert await world.to(f"u+tag@{domain}") == {U}
        assert await world.to(f"nobody@{domain}") == set()
    assert await world.to("u@other.com") == set()
    assert await world.logins(U) == ALL_LOGINS
    assert await world.logins(U, "wrong") == set()
    assert await lookups.sends_as(world.server, U) == {U}


async def test_domain_that_is_disabled(world: World) -> None:
    await world.post("alias/list@ex.com", members=f"{U},{FAR}")
    await world.put("domain/ex.com", catchall=B)
    await world.put("domain/ex.com", accountStatus="disabled")
    for domain in ("ex.com", "al.com"):
        assert not await lookups.is_hosted(world.server, domain)
        for local in ("u", "list", "nobody"):
            assert not await lookups.accepts(world.server, f"{local}@{domain}")
    assert await world.logins(U) == set()
    assert await world.server.user(U) is None
    assert await lookups.sends_as(world.server, U) == set()
    # An account created while the domain is disabled is disabled too.
    await world.user("new@ex.com")
    assert await world.logins("new@ex.com") == set()
    # Mail of other domains that comes here by an alias.
    await world.post("alias/way@other.com", members=f"{U},{FAR}")
    assert "new@ex.com" not in await world.to("way@other.com")
    await world.put("domain/ex.com", accountStatus="active")
    assert await world.to(U) == {U}
    assert await world.to("new@ex.com") == {"new@ex.com"}
    assert await world.to("list@al.com") == {U, FAR}
    assert await world.to("nobody@al.com") == {B}
    assert await world.logins("new@ex.com") == ALL_LOGINS


async def test_disabled_users_stay_disabled_when_their_domain_is_enabled(world: World) -> None:
    await world.put(f"user/{B}", accountStatus="disabled")
    for status in ("disabled", "active"):
        await world.put("domain/ex.com", accountStatus=status)
    assert await world.to(B) == set()
    assert await world.to(U) == {U}


async def test_domain_that_is_deleted(world: World) -> None:
    await world.post("alias/way@other.com", members=f"{U},{FAR}")
    await world.delete("domain/ex.com")
    for domain in ("ex.com", "al.com"):
        assert not await lookups.is_hosted(world.server, domain)
    assert not await lookups.accepts(world.server, U)
    assert await world.logins(U) == set()


async def test_backup_mx(world: World) -> None:
    await world.post("domain/backup.com")
    await world.put("domain/backup.com", is_backupmx="yes", primarymx="10.0.0.1")
    assert await lookups.is_relayed(world.server, "backup.com")
    assert not await lookups.is_hosted(world.server, "backup.com")
    assert await lookups.accepts(world.server, "any@backup.com")
    assert await lookups.transport(world.server, "any@backup.com") == "relay:[10.0.0.1]"
    await world.put("domain/backup.com", is_backupmx="no")
    assert await lookups.is_hosted(world.server, "backup.com")
    assert await lookups.transport(world.server, "any@backup.com") == "dovecot"


@pytest.mark.parametrize("side", ["sender", "recipient"])
async def test_copies(world: World, side: str) -> None:
    await world.put("domain/ex.com", **{f"{side}Bcc": "d@x.com"})
    assert await lookups.copies(world.server, side, U) == {"d@x.com"}
    await world.put(f"user/{U}", **{f"{side}Bcc": "b@x.com"})
    assert await lookups.copies(world.server, side, U) == {"b@x.com"}
    assert await lookups.copies(world.server, side, B) == {"d@x.com"}
    await world.put(f"user/{U}", **{f"{side}Bcc": ""})
    assert await lookups.copies(world.server, side, U) == {"d@x.com"}
    await world.put("domain/ex.com", **{f"{side}Bcc": ""})
    assert await lookups.copies(world.server, side, U) == set()


async def test_transports_and_relayhost(world: World) -> None:
    await world.put("domain/ex.com", transport="smtp:[10.0.0.9]", outboundRelay="[10.0.0.2]:25")
    assert await lookups.transport(world.server, U) == "smtp:[10.0.0.9]"
    assert await lookups.relayhost(world.server, U) == "[10.0.0.2]:25"
    await world.put(f"user/{U}", transport="lmtp:unix:private/dovecot-lmtp")
    assert await lookups.transport(world.server, U) == "lmtp:unix:private/dovecot-lmtp"
    assert await lookups.transport(world.server, B) == "smtp:[10.0.0.9]"
    await world.put(f"user/{U}", transport="")
    await world.put("domain/ex.com", transport="", outboundRelay="")
    assert await lookups.transport(world.server, U) == "dovecot"
    assert await lookups.relayhost(world.server, U) is None


# Alias domains and the catch-all ---------------------------------------------------------------


async def test_alias_domains_added_and_removed(world: World) -> None:
    await world.post("alias/list@ex.com", members=f"{U},{FAR}")
    await world.put(f"user/{U}", addAlias="bob@ex.com")
    await world.put("domain/ex.com", catchall=FAR, addAliasDomain="new.com")
    assert await lookups.is_hosted(world.server, "new.com")
    for domain in ("ex.com", "al.com", "new.com"):
        assert await world.to(f"u@{domain}") == {U}
        assert await world.to(f"list@{domain}") == {U, FAR}
        assert await world.to(f"nobody@{domain}") == {FAR}
    assert await world.to("bob@ex.com") == {U}
    await world.user("late@ex.com")
    await world.post("alias/later@ex.com", members=B)
    assert await world.to("late@new.com") == {"late@ex.com"}
    assert await world.to("later@new.com") == {B}
    await world.put("domain/ex.com", removeAliasDomain="new.com")
    assert not await lookups.is_hosted(world.server, "new.com")
    for local in ("u", "list", "late", "nobody"):
        assert not await lookups.accepts(world.server, f"{local}@new.com")
        assert await lookups.accepts(world.server, f"{local}@al.com")
    # The name can be used by another domain, without the old addresses.
    await world.post("domain/new.com")
    assert await world.to("u@new.com") == set()


async def test_catch_all(world: World) -> None:
    await world.put("domain/ex.com", catchall=f"{B},{FAR}")
    for domain in ("ex.com", "al.com"):
        assert await world.to(f"nobody@{domain}") == {B, FAR}
        assert await world.to(f"u@{domain}") == {U}
    await world.put(f"user/{U}", accountStatus="disabled")
    assert await world.to(U) == {B, FAR}
    await world.put("domain/ex.com", catchall="")
    for domain in ("ex.com", "al.com"):
        assert await world.to(f"nobody@{domain}") == set()


# Users -----------------------------------------------------------------------------------------


async def test_forwarding(world: World) -> None:
    for domain in ("ex.com", "al.com"):
        await world.put(f"user/{U}", forwarding=f"{FAR},{B}")
        assert await world.to(f"u@{domain}") == {FAR, B}
        await world.put(f"user/{U}", addForwarding=U, removeForwarding=B)
        assert await world.to(f"u@{domain}") == {FAR, U}
        await world.put(f"user/{U}", forwarding="")
        assert await world.to(f"u@{domain}") == {U}


async def test_per_user_aliases(world: World) -> None:
    await world.put(f"user/{U}", aliases="bob@ex.com,rob@al.com")
    assert await world.to("bob@ex.com") == {U}
    assert await world.to("rob@al.com") == {U}
    await world.put(f"user/{U}", removeAlias="bob@ex.com")
    assert await world.to("bob@ex.com") == set()
    await world.put(f"user/{U}", aliases="")
    assert await world.to("rob@al.com") == set()
    # Addresses in the alias domain are kept.
    assert await world.to("u@al.com") == {U}


async def test_aliases_of_a_user_that_forwards(world: World) -> None:
    await world.put(f"user/{U}", addAlias="bob@ex.com", forwarding=FAR)
    assert await world.to("bob@ex.com") == {FAR}


async def test_user_that_is_disabled(world: World) -> None:
    await world.post("alias/list@ex.com", members=f"{U},{FAR}")
    await world.put(f"user/{U}", addAlias="bob@ex.com")
    await world.put(f"user/{U}", accountStatus="disabled")
    for address in (U, "u@al.com", "bob@ex.com"):
        assert await world.to(address) == set()
    assert await world.to("list@ex.com") == {FAR}
    assert await world.logins(U) == set()
    assert await lookups.sends_as(world.server, U) == set()
    await world.put(f"user/{U}", accountStatus="active")
    assert await world.to("bob@ex.com") == {U}
    assert await world.to("list@ex.com") == {U, FAR}
    assert await world.logins(U) == ALL_LOGINS


@pytest.mark.parametrize("scheme", ["SSHA", "SSHA512", "BCRYPT"])
async def test_password(world: World, scheme: str) -> None:
    async with serving(world.store, password_scheme=scheme) as service:
        root = await service.root()
        await root.ok("PUT", f"user/{U}", password="0ther-Secret")
    assert await world.logins(U) == set()
    assert await world.logins(U, "0ther-Secret") == ALL_LOGINS


async def test_services(world: World) -> None:
    await world.put(f"user/{U}", removeService="imap,pop3tls")
    assert await world.logins(U) == ALL_LOGINS - {"imap", "pop3tls"}
    await world.put(f"user/{U}", addService="imap,pop3tls", removeService="smtp")
    assert await world.logins(U) == ALL_LOGINS - {"smtp"}
    assert await lookups.sends_as(world.server, U) == set()
    await world.put(f"user/{U}", addService="smtp")
    assert await world.logins(U) == ALL_LOGINS


async def test_service_managesieve_is_what_dovecot_calls_sieve(world: World) -> None:
    await world.put(f"user/{U}", removeService="managesieve,managesievesecured,managesievetls")
    assert await world.logins(U) == ALL_LOGINS - {"sieve", "sievesecured", "sievetls"}
    await world.put(f"user/{U}", addService="managesieve,managesievesecured,managesievetls")
    assert await world.logins(U) == ALL_LOGINS


async def test_service_deliver(world: World) -> None:
    await world.put(f"user/{U}", removeService="deliver")
    assert await world.logins(U) & {"lda", "lmtp"} == set()
    assert await world.server.user(U, "lmtp") is None
    assert await world.to(U) == set()
    await world.put(f"user/{U}", addService="deliver")
    assert await world.to(U) == {U}
    assert await world.logins(U) == ALL_LOGINS


async def test_quota_and_mailbox(world: World) -> None:
    await world.put(f"user/{U}", quota="1000", mailboxFolder="Mail2")
    fields = await world.server.user(U)
    assert fields is not None
    assert fields["quota_rule"] == f"*:bytes={1000 * 1024 * 1024}"
    assert fields["mail"] == "maildir:~/Mail2"
    await world.put(f"user/{U}", quota="0", maildir="/var/vmail/vmail1/ex.com/Moved/")
    fields = await world.server.user(U)
    assert fields is not None
    assert fields["quota_rule"] == "*:bytes=0"
    assert fields["home"].rstrip("/") == "/var/vmail/vmail1/ex.com/moved"


async def test_rename_of_a_user(world: World) -> None:
    await world.post("alias/list@ex.com", members=f"{U},{FAR}")
    await world.put(f"user/{U}", addAlias="bob@ex.com", senderBcc="b@x.com", addForwarding=FAR)
    await world.put("domain/ex.com", catchall=U)
    home = (await world.server.user(U) or {})["home"]
    await world.post(f"user/{U}/change_email/n@ex.com")
    for address in ("n@ex.com", "n@al.com", "bob@ex.com"):
        assert await world.to(address) == {"n@ex.com", FAR}
    assert await world.to("list@ex.com") == {"n@ex.com", FAR}
    # The old address does not exist: the catch-all gets the mail, which is the same user.
    for address in (U, "u@al.com", "nobody@ex.com"):
        assert await world.to(address) == {"n@ex.com", FAR}
    await world.put("domain/ex.com", catchall="")
    assert await world.to(U) == set()
    assert await world.to("u@al.com") == set()
    assert await lookups.copies(world.server, "sender", "n@ex.com") == {"b@x.com"}
    assert (await world.server.user("n@ex.com") or {})["home"] == home
    assert await world.logins("n@ex.com") == ALL_LOGINS
    assert await world.logins(U) == set()


async def test_user_that_is_deleted(world: World) -> None:
    await world.post("alias/list@ex.com", members=f"{U},{FAR}")
    await world.put(f"user/{B}", forwarding=f"{B},{U}")
    await world.put(f"user/{U}", addAlias="bob@ex.com", recipientBcc="b@x.com")
    await world.delete(f"user/{U}")
    for address in (U, "u@al.com", "bob@ex.com"):
        assert await world.to(address) == set()
    assert await world.to("list@ex.com") == {FAR}
    assert await world.to(B) == {B}
    assert await world.logins(U) == set()
    assert await lookups.copies(world.server, "recipient", U) == set()
    # Nothing of the old one comes back with a new one.
    await world.user(U)
    assert await world.to("list@ex.com") == {FAR}
    assert await world.to("bob@ex.com") == set()


# Aliases ---------------------------------------------------------------------------------------


async def test_aliases(world: World) -> None:
    await world.post("alias/list@ex.com", members=f"{U},{B},{FAR}")
    await world.post("alias/all@ex.com", members="list@ex.com,y@gmail.com")
    for domain in ("ex.com", "al.com"):
        assert await world.to(f"list@{domain}") == {U, B, FAR}
        assert await world.to(f"all@{domain}") == {U, B, FAR, "y@gmail.com"}
    await world.put("alias/list@ex.com", addMember="z@gmail.com", removeMember=f"{B},{FAR}")
    assert await world.to("all@ex.com") == {U, "z@gmail.com", "y@gmail.com"}
    await world.put("alias/list@ex.com", accountStatus="disabled")
    assert await world.to("list@ex.com") == set()
    assert await world.to("all@ex.com") == {"y@gmail.com"}
    await world.put("alias/list@ex.com", accountStatus="active")
    await world.post("alias/list@ex.com/change_email/new@ex.com")
    assert await world.to("list@ex.com") == set()
    for address in ("new@ex.com", "new@al.com"):
        assert await world.to(address) == {U, "z@gmail.com"}
    assert await world.to("all@ex.com") == {U, "z@gmail.com", "y@gmail.com"}
    await world.delete("alias/new@ex.com")
    for address in ("new@ex.com", "new@al.com"):
        assert await world.to(address) == set()
    assert await world.to("all@ex.com") == {"y@gmail.com"}


# Lists -----------------------------------------------------------------------------------------


async def test_subscribable_list(world: World) -> None:
    await world.post("ml/ml@ex.com")
    for domain in ("ex.com", "al.com"):
        assert await world.to(f"ml@{domain}") == {"ml@ex.com"}
    assert await lookups.transport(world.server, "ml@ex.com") == "mlmmj:ex.com/ml"
    assert await world.logins("ml@ex.com") == set()
    await world.put("ml/ml@ex.com", accountStatus="disabled")
    for domain in ("ex.com", "al.com"):
        assert await world.to(f"ml@{domain}") == set()
    await world.put("ml/ml@ex.com", accountStatus="active")
    await world.put("domain/ex.com", addAliasDomain="new.com")
    assert await world.to("ml@new.com") == {"ml@ex.com"}
    await world.put("domain/ex.com", removeAliasDomain="new.com")
    await world.put("domain/ex.com", accountStatus="disabled")
    assert not await lookups.accepts(world.server, "ml@ex.com")
    await world.put("domain/ex.com", accountStatus="active")
    assert await world.to("ml@al.com") == {"ml@ex.com"}
    await world.delete("ml/ml@ex.com")
    for domain in ("ex.com", "al.com"):
        assert await world.to(f"ml@{domain}") == set()


@ldap
async def test_unsubscribable_list(world: World) -> None:
    await world.post("alias/a@ex.com", members="a@gmail.com")
    await world.post("ml/ml@ex.com")
    await world.user("x@other.com")
    members = f"{U},{B},a@ex.com,ml@ex.com,{FAR},x@other.com"
    await world.post("maillist/l@ex.com", members=members)
    everybody = {U, B, "a@gmail.com", "ml@ex.com", FAR, "x@other.com"}
    for domain in ("ex.com", "al.com"):
        assert await world.to(f"l@{domain}") == everybody, domain
    await world.put("maillist/l@ex.com", addMember="y@gmail.com", removeMember=f"{B},{FAR}")
    now = everybody - {B, FAR} | {"y@gmail.com"}
    for domain in ("ex.com", "al.com"):
        assert await world.to(f"l@{domain}") == now, domain
    await world.put("domain/ex.com", addAliasDomain="new.com")
    assert await world.to("l@new.com") == now
    await world.put("domain/ex.com", removeAliasDomain="new.com")
    assert not await lookups.accepts(world.server, "l@new.com")
    await world.put(f"user/{U}", accountStatus="disabled")
    assert await world.to("l@ex.com") == now - {U}
    await world.put(f"user/{U}", accountStatus="active")
    await world.post(f"user/{U}/change_email/n@ex.com")
    for domain in ("ex.com", "al.com"):
        assert await world.to(f"l@{domain}") == now - {U} | {"n@ex.com"}, domain
    await world.delete("user/n@ex.com")
    assert await world.to("l@ex.com") == now - {U}
    await world.delete("maillist/l@ex.com")
    for domain in ("ex.com", "al.com"):
        assert await world.to(f"l@{domain}") == set(), domain
    tree = world.store.directory.dump()
    mentions = re.compile(r"\bl@(ex|al)\.com")
    assert not [dn for dn, entry in tree.items() if mentions.search(str((dn, entry)))]


@ldap
async def test_list_within_a_list(world: World) -> None:
    await world.post("maillist/in@ex.com", members=f"{B},{FAR}")
    await world.post("maillist/out@ex.com", members=f"{U},in@ex.com")
    for domain in ("ex.com", "al.com"):
        assert await world.to(f"out@{domain}") == {U, B, FAR}, domain
    await world.delete("maillist/in@ex.com")
    assert await world.to("out@ex.com") == {U}


@ldap
async def test_list_of_a_disabled_domain(world: World) -> None:
    await world.post("maillist/l@ex.com", members=f"{U},{FAR}")
    await world.post("alias/way@other.com", members="l@ex.com,y@gmail.com")
    await world.put("domain/ex.com", accountStatus="disabled")
    assert not await lookups.accepts(world.server, "l@ex.com")
    assert FAR not in await world.to("way@other.com")
    await world.put("domain/ex.com", accountStatus="active")
    assert await world.to("way@other.com") == {U, FAR, "y@gmail.com"}


@ldap
async def test_members_of_lists_by_default(world: World) -> None:
    await world.post("maillist/all@ex.com", members=FAR)
    dn = "domainName=ex.com,o=domains,dc=test,dc=invalid"
    world.store.directory.modify(dn, add={"accountSetting": "defaultList:all@ex.com"})
    await world.user("new@ex.com")
    for domain in ("ex.com", "al.com"):
        assert await world.to(f"all@{domain}") == {FAR, "new@ex.com"}, domain


@ldap
async def test_login_by_an_alias_address(world: World) -> None:
    await world.put(f"user/{U}", addAlias="bob@ex.com")
    for address in ("u@al.com", "bob@ex.com"):
        assert await world.logins(address) == ALL_LOGINS
    await world.put(f"user/{U}", removeAlias="bob@ex.com")
    assert await world.logins("bob@ex.com") == set()


@ldap
async def test_catch_all_is_not_a_user(world: World, dovecot: Dovecot) -> None:
    await world.put("domain/ex.com", catchall=U)
    assert dovecot.users() == {U, B}
    entry: Any = world.store.directory.entry(account_dn("@ex.com"))
    assert "enabledService" not in entry
