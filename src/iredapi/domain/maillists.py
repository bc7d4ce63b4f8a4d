"""Unsubscribable mailing lists, whose members are set by an admin; in LDAP only.

A member in the list's own domain is *internal*: the list is stored at the member's entry. Any other
address is *external*, also in another domain of this server: iRedAPD looks up members in the list's
domain only.
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
    """A mailing list. Members are primary addresses; without members its mail is not delivered."""

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
    """Return the changed list. It is never its own member."""
    members = resettable(before.members, changes, "members", "add_member", "remove_member")
    own = {member for member in members if domain.canonical(member) == fold(before.address)}
    return replace(
        before,
        name=changes.get("name", before.name) or local_part_of(before.address),
        access_policy=changes.get("access_policy", before.access_policy) or "public",
        members=members - own,
    )


def draft(address: str, changes: Mapping[str, Any], domain: Domain) -> MailList:
    """Return a new list."""
    return revise(MailList(address), changes, domain)


def policy(stored: str) -> str:
    """Return a stored access policy as iRedAPD reads it: an unknown one is ``public``."""
    word = stored.strip().lower()
    word = LEGACY_POLICIES.get(word, word)
    return word if word in POLICIES else "public"
