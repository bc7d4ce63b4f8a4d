"""Addresses in alias domains: LDAP rewrites no domains, so some entry must carry each address.

An account ``x@D`` is ``x@A`` too for each alias domain ``A`` of ``D``, by ``shadowAddress``.
Postfix never looks at a list's own entry: members carry ``memberOfGroup`` for each address of the
list, and the entry of external members has a ``shadowAddress`` for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from iredapi.backends.ldap.client import Change, Entry
from iredapi.backends.ldap.edits import Edit
from iredapi.backends.ldap.session import Session, words
from iredapi.backends.ldap.tree import ALL_ACCOUNTS, both, either, ends
from iredapi.domain.addresses import domain_of, local_part_of


def twins(addresses: Iterable[str], domain: str, aliases: Collection[str]) -> frozenset[str]:
    """Return the addresses in alias domains that stand for those in the primary domain."""
    return frozenset(
        f"{local_part_of(address)}@{alias}"
        for address in addresses
        if domain_of(address) == domain
        for alias in aliases
    )


def with_twins(addresses: Iterable[str], domain: str, aliases: Collection[str]) -> frozenset[str]:
    """Return addresses and their twins."""
    found = frozenset(addresses)
    return found | twins(found, domain, aliases)


def add(session: Session, domain: str, aliases: Collection[str]) -> None:
    """Plan twins for everything that a domain holds, before the alias domains are made known."""

    def change(entry: Entry) -> Sequence[Change]:
        edit = Edit(entry)
        groups = words(entry, "memberOfGroup")
        if "mailexternaluser" in words(entry, "objectClass"):
            edit.add("shadowAddress", sorted(twins(groups, domain, aliases)))
        else:
            own = words(entry, "mail") | words(entry, "shadowAddress")
            edit.add("shadowAddress", sorted(twins(own, domain, aliases)))
            edit.add("memberOfGroup", sorted(twins(groups, domain, aliases)))
        return edit.changes()

    session.sweep(
        session.tree.domain(domain),
        ALL_ACCOUNTS,
        change,
        ("objectClass", "mail", "shadowAddress", "memberOfGroup"),
    )


def remove(session: Session, domain: str, aliases: Collection[str]) -> None:
    """Plan the end of all addresses in alias domains."""

    def change(entry: Entry) -> Sequence[Change]:
        edit = Edit(entry)
        for name in ("shadowAddress", "memberOfGroup"):
            gone = [value for value in words(entry, name) if domain_of(value) in aliases]
            edit.discard(name, gone)
        return edit.changes()

    terms = [
        ends(name, f"@{alias}")
        for alias in sorted(aliases)
        for name in ("shadowAddress", "memberOfGroup")
    ]
    session.sweep(
        session.tree.domain(domain),
        both(ALL_ACCOUNTS, either(terms)),
        change,
        ("shadowAddress", "memberOfGroup"),
    )
