"""Mail alias accounts: the record and its rules."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import Any, Final

from iredapi.domain.addresses import fold, local_part_of
from iredapi.domain.domains import Domain
from iredapi.domain.features import Feature
from iredapi.domain.set_parameters import resettable
from iredapi.errors import NotSupported, Problem, problem

POLICIES: Final = (
    "public",
    "domain",
    "subdomain",
    "membersonly",
    "moderatorsonly",
    "membersandmoderatorsonly",
)
"""Who may send to an alias, in the words that iRedAPD reads (lower case)."""
LEGACY_POLICIES: Final[Mapping[str, str]] = {"allowedonly": "moderatorsonly"}


@dataclass(frozen=True, slots=True)
class Alias:
    """A mail alias account. Postfix sees only its members."""

    address: str
    name: str = ""
    access_policy: str = "public"
    active: bool = True
    members: frozenset[str] = frozenset()
    moderators: frozenset[str] = frozenset()
    """Who may send to it under ``moderatorsonly``; ``*@domain`` is everybody there."""


def is_wildcard(moderator: str) -> bool:
    """Tell whether a moderator stands for everybody in a domain."""
    return local_part_of(moderator) == "*"


def check(changes: Mapping[str, Any], features: Set[Feature]) -> None:
    """Refuse what the storage cannot hold. Raises NotSupported that names the parameter."""
    wanted = changes.get("access_policy", "public")
    if Feature.ALIAS_POLICIES in features:
        if not wanted:
            raise problem("access_policy", "EMPTY_NOT_ALLOWED")
        return
    # Of the rest nothing is there: these hold anyway.
    refused = ["access_policy"] if wanted not in ("", "public") else []
    refused += [name for name in ("moderators", "add_moderator") if changes.get(name)]
    if refused:
        code, detail = "NOT_SUPPORTED_BY_BACKEND", "Nobody looks at it for aliases in LDAP."
        raise NotSupported(errors=[Problem(name, code, detail) for name in refused])


def revise(
    before: Alias,
    changes: Mapping[str, Any],
    domain: Domain,
    features: Set[Feature] = frozenset(),
) -> Alias:
    """Return the alias as it is to be.

    It is never its own member, not by the way of an alias domain or an extension either: Postfix
    would go round in circles.
    """
    members = resettable(before.members, changes, "members", "add_member", "remove_member")
    own = {member for member in members if domain.canonical(member) == fold(before.address)}
    name = changes.get("name", before.name)
    if Feature.NAME_REQUIRED in features:
        name = name or local_part_of(before.address)
    return replace(
        before,
        name=name,
        access_policy=changes.get("access_policy", before.access_policy) or "public",
        active=changes.get("account_status", before.active),
        members=members - own,
        moderators=resettable(
            before.moderators, changes, "moderators", "add_moderator", "remove_moderator"
        ),
    )


def draft(
    address: str,
    changes: Mapping[str, Any],
    domain: Domain,
    features: Set[Feature] = frozenset(),
) -> Alias:
    """Return a new alias from what was sent."""
    return revise(Alias(address), changes, domain, features)
