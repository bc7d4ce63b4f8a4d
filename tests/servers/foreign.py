"""Rows and entries as other programs write them: in any spelling that the mail server obeys."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import bonsai
from sqlalchemy.exc import IntegrityError

from tests.servers.lookups import SqlMailServer
from tests.servers.openldap import account_dn, domain_dn
from tests.servers.postfix import PostfixMaps
from tests.servers.store import Store

BLANKS: Final = " \t"


def folded(values: set[str]) -> set[str]:
    """What Postfix makes of the answers of a map."""
    return {value.strip(BLANKS).lower() for value in values}


def maps_of(store: Store, kept: dict[str, PostfixMaps]) -> Any:
    """Postfix's maps of a store: the real ones, but for SQLite; ``kept`` are reused."""
    if store.name == "sqlite":
        return _PlainMaps(store)
    if store.name not in kept:
        kept[store.name] = PostfixMaps(store)
    return _Maps(kept[store.name])


class _PlainMaps(SqlMailServer):
    async def query_many(self, map_name: str, keys: Sequence[str]) -> set[str]:
        return set[str]().union(*[await self.query(map_name, key) for key in keys])


class _Maps:
    def __init__(self, maps: PostfixMaps) -> None:
        self.parameters = maps.parameters
        self._maps = maps

    async def query(self, map_name: str, key: str) -> set[str]:
        return self._maps.query(map_name, key)

    async def query_many(self, map_name: str, keys: Sequence[str]) -> set[str]:
        return await asyncio.to_thread(self._maps.query_many, map_name, keys)


class Foreign:
    """Another program, which writes what it likes. What is there already it leaves alone."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.ldap = store.name == "openldap"

    async def _row(self, table: str, **values: Any) -> None:
        with suppress(IntegrityError):
            await self.store.insert(table, values)

    def _value(self, dn: str, name: str, value: str) -> None:
        with suppress(bonsai.TypeOrValueExists):
            self.store.directory.modify(dn, add={name: value})

    async def _route(self, address: str, forwarding: str, domain: str, **flags: int) -> None:
        row = {"address": address, "forwarding": forwarding, "domain": domain}
        await self._row(
            "forwardings", **row, dest_domain=forwarding.rpartition("@")[2][:255], **flags
        )

    async def forwarding(self, user: str, target: str) -> None:
        """Forward a user's mail."""
        if self.ldap:
            self._value(account_dn(user), "mailForwardingAddress", target)
            self._value(account_dn(user), "enabledService", "forward")
            return
        await self._route(user, target, user.rpartition("@")[2], is_forwarding=1)

    async def member(self, alias: str, target: str) -> None:
        """Make somebody a member of an alias account."""
        if self.ldap:
            self._value(account_dn(alias, "Aliases"), "mailForwardingAddress", target)
            return
        await self._route(alias, target, alias.rpartition("@")[2], is_list=1)

    async def alias(self, address: str, user: str, spelled: str) -> None:
        """Give a user, in some spelling, another address."""
        if self.ldap:
            self._value(account_dn(user), "shadowAddress", address)
            self._value(account_dn(user), "enabledService", "shadowaddress")
            return
        await self._route(address, spelled, user.rpartition("@")[2], is_alias=1)

    async def catch_all(self, domain: str, target: str) -> None:
        """Send what nobody gets in a domain to somebody; on SQL only."""
        await self._route(domain, target, domain)

    async def alias_domain(self, name: str, domain: str) -> None:
        """Give a domain another name."""
        if self.ldap:
            self._value(domain_dn(domain), "domainAliasName", name)
            self._value(domain_dn(domain), "enabledService", "domainalias")
            return
        await self._row("alias_domain", alias_domain=name, target_domain=domain)

    async def admin(self, mail: str, domain: str) -> None:
        """Let somebody manage a domain."""
        if self.ldap:
            self._value(domain_dn(domain.lower()), "domainAdmin", mail)
            return
        await self._row("domain_admins", username=mail, domain=domain)

    async def admins(self, domain: str) -> set[str]:
        """Who may manage a domain, in whatever spelling."""
        if self.ldap:
            entry = self.store.directory.entry(domain_dn(domain)) or {}
            return folded(set(entry.get("domainAdmin", [])))
        rows = await self.store.rows("SELECT username, domain FROM domain_admins")
        return folded({row["username"] for row in rows if folded({row["domain"]}) == {domain}})

    async def bcc(self, side: str, user: str, target: str) -> None:
        """Copy a user's mail."""
        if self.ldap:
            at = f"user{side.capitalize()}BccAddress"
            self.store.directory.modify(account_dn(user), replace={at: target})
            self._value(account_dn(user), "enabledService", f"{side}bcc")
            return
        key = {"username": user, "domain": user.rpartition("@")[2]}
        await self._row(f"{side}_bcc_user", **key, bcc_address=target)

    async def user(self, mail: str, domain: str = "") -> None:
        """A mailbox, without any route; on SQL only."""
        await self._row(
            "mailbox", username=mail, domain=domain or mail.rpartition("@")[2], password="x",
            maildir=f"{mail}/", settings="", disclaimer="",
        )  # fmt: skip

    async def alias_account(self, address: str, domain: str = "") -> None:
        """An alias account; on SQL only."""
        await self._row("alias", address=address, domain=domain or address.rpartition("@")[2])

    async def domain(self, name: str) -> None:
        """A mail domain; on SQL only."""
        await self._row("domain", domain=name, description="", disclaimer="", settings="")
