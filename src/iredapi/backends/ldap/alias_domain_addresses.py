"""Addresses in alias domains: iRedMail's LDAP maps rewrite no domains, so entries store them.

An account ``x@D`` has a ``shadowAddress`` ``x@A`` for each alias domain ``A`` of ``D``. Postfix
does not read the entry of a list: its members have a ``memberOfGroup`` for each address of the
list, and the entry of its external members has a ``shadowAddress`` for each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from iredapi.backends.ldap.client import Scope
from iredapi.backends.ldap.dn_layout import ALL_ACCOUNTS, DOMAIN, both, either, ends
from iredapi.backends.ldap.entry_diff import Edit
from iredapi.backends.ldap.session import Session, words
from iredapi.domain.addresses import domain_of, local_part_of
from iredapi.domain.inventory import AliasDomain


def alias_addresses(
    addresses: Iterable[str], domain: str, aliases: Collection[str]
) -> frozenset[str]:
    """Return the addresses in alias domains that stand for those in the primary domain."""
    return frozenset(
        f"{local_part_of(address)}@{alias}"
        for address in addresses
        if domain_of(address) == domain
        for alias in aliases
    )


def with_alias_addresses(
    addresses: Iterable[str], domain: str, aliases: Collection[str]
) -> frozenset[str]:
    """Return addresses, and those in alias domains that stand for them."""
    found = frozenset(addresses)
    return found | alias_addresses(found, domain, aliases)


def add(session: Session, domain: str, aliases: Collection[str]) -> None:
    """Plan addresses in new alias domains for all accounts of a domain (a bulk step)."""

    def change(edit: Edit) -> None:
        groups = _words(edit, "memberOfGroup")
        if "mailexternaluser" in _words(edit, "objectClass"):
            edit.add("shadowAddress", sorted(alias_addresses(groups, domain, aliases)))
        else:
            own = _words(edit, "mail") | _words(edit, "shadowAddress")
            edit.add("shadowAddress", sorted(alias_addresses(own, domain, aliases)))
            edit.add("memberOfGroup", sorted(alias_addresses(groups, domain, aliases)))

    names = ("mail", "shadowAddress", "memberOfGroup")
    terms = [ends(name, f"@{domain}") for name in names]
    session.edit_found(
        session.tree.base, both(ALL_ACCOUNTS, either(terms)), change, ("uid", *names)
    )


def _words(edit: Edit, name: str) -> frozenset[str]:
    return frozenset(value.strip().lower() for value in edit.now(name))


def remove(session: Session, aliases: Collection[str]) -> None:
    """Plan to remove all addresses in these alias domains (a bulk step)."""

    def change(edit: Edit) -> None:
        for name in ("shadowAddress", "memberOfGroup"):
            edit.discard(
                name, [value for value in edit.now(name) if _domain_part(value) in aliases]
            )

    terms = [
        ends(name, f"@{alias}")
        for alias in sorted(aliases)
        for name in ("shadowAddress", "memberOfGroup")
    ]
    session.edit_found(
        session.tree.base,
        both(ALL_ACCOUNTS, either(terms)),
        change,
        ("mail", "shadowAddress", "memberOfGroup"),
    )


async def hosted(session: Session, names: Collection[str], but: str) -> frozenset[str]:
    """Return which of a domain's alias domains are domains, or other domains' alias domains."""
    found = frozenset[str]()
    for name in ("domainName", "domainAliasName") if names else ():
        attributes = ("domainName", "domainAliasName")
        for entry in await session.holders(
            session.tree.base, Scope.ONE, DOMAIN, name, sorted(names), attributes
        ):
            if name == "domainName" or but not in words(entry, "domainName"):
                found |= words(entry, name)
    return found & frozenset(names)


def _domain_part(address: str) -> str:
    return domain_of(address.strip().lower())


async def alias_domains(session: Session, only: Collection[str] | None) -> list[AliasDomain]:
    """Return the alias domains of these domains; None: of all. Pending ones are not active."""
    names = ("domainName", "domainAliasName", "domainPendingAliasName")
    kind = both(DOMAIN, "(|(domainAliasName=*)(domainPendingAliasName=*))")
    found: list[AliasDomain] = []
    async for page in session.pages(session.tree.base, Scope.ONE, kind, names):
        for entry in page:
            target = entry.value("domainName").lower()
            if only is None or target in only:
                live = words(entry, "domainAliasName")
                every = live | words(entry, "domainPendingAliasName")
                found += [AliasDomain(name, target, active=name in live) for name in every]
    return found
