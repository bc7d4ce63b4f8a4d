"""Mailing lists that nobody can subscribe to: the record and its rules. Only LDAP has them.

A member in the list's own domain is *internal*: its entry says that it belongs to the list. Any
other address is *external*, also one of another domain of this server: iRedAPD looks for members
in the list's domain only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from iredapi.domain.addresses import domain_of, fold, local_part_of
from iredapi.domain.aliases import LEGACY_POLICIES, POLICIES
from iredapi.domain.domains import Domain
from iredapi.domain.set_parameters import resettable


@dataclass(frozen=True, slots=True)
class MailList:
    """A mailing list. Members are primary addresses; nobody gets its mail while it has none."""

    address: str
    name: str = ""
    access_policy: str = "public"
    active: bool = True
    members: frozenset[str] = frozenset()

    @property
    def internal(self) -> frozenset[str]:
        """The members in the list's own domain."""
        return frozenset(
            member for member in self.members if domain_of(member) == domain_of(self.address)
        )

    @property
    def external(self) -> frozenset[str]:
        """The other members."""
        return self.members - self.internal


def revise(before: MailList, changes: Mapping[str, Any], domain: Domain) -> MailList:
    """Return the list as it is to be. It is never its own member."""
    members = resettable(before.members, changes, "members", "add_member", "remove_member")
    own = {member for member in members if domain.canonical(member) == fold(before.address)}
    return replace(
        before,
        name=changes.get("name", before.name) or local_part_of(before.address),
        access_policy=changes.get("access_policy", before.access_policy) or "public",
        members=members - own,
    )


def draft(address: str, changes: Mapping[str, Any], domain: Domain) -> MailList:
    """Return a new list from what was sent."""
    return revise(MailList(address), changes, domain)


def policy(stored: str) -> str:
    """Return a stored access policy as iRedAPD reads it: what it does not know restricts nobody."""
    word = stored.strip().lower()
    word = LEGACY_POLICIES.get(word, word)
    return word if word in POLICIES else "public"
