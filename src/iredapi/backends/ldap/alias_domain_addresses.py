"""Addresses in alias domains: LDAP rewrites no domains, so some entry must carry each address.

An account ``x@D`` is ``x@A`` too for each alias domain ``A`` of ``D``, by ``shadowAddress``.
Postfix never looks at a list's own entry: members carry ``memberOfGroup`` for each address of the
list, and the entry of external members has a ``shadowAddress`` for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from iredapi.backends.ldap.dn_layout import ALL_ACCOUNTS, both, either, ends
from iredapi.backends.ldap.entry_diff import Edit
from iredapi.backends.ldap.session import Session
from iredapi.domain.addresses import domain_of, local_part_of


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
    """Return addresses and their twins."""
    found = frozenset(addresses)
    return found | alias_addresses(found, domain, aliases)


def add(session: Session, domain: str, aliases: Collection[str]) -> None:
    """Plan twins for everything that a domain holds, before the alias domains are made known."""

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
    """Plan the end of all addresses in alias domains."""

    def change(edit: Edit) -> None:
        for name in ("shadowAddress", "memberOfGroup"):
            edit.discard(name, [value for value in edit.now(name) if _host(value) in aliases])

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


def _host(address: str) -> str:
    return domain_of(address.strip().lower())
