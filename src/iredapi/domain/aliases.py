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
"""Access policies of an alias (who may send to it), as iRedAPD reads them (lower case)."""
LEGACY_POLICIES: Final[Mapping[str, str]] = {"allowedonly": "moderatorsonly"}


@dataclass(frozen=True, slots=True)
class Alias:
    """A mail alias account. Postfix reads only its members."""

    address: str
    name: str = ""
    access_policy: str = "public"
    active: bool = True
    members: frozenset[str] = frozenset()
    moderators: frozenset[str] = frozenset()
    """Who may send to it with ``moderatorsonly``; ``*@domain``: every address of the domain."""


def is_wildcard(moderator: str) -> bool:
    """Tell whether a moderator is ``*@domain``: every address of a domain."""
    return local_part_of(moderator) == "*"


def check(changes: Mapping[str, Any], features: Set[Feature]) -> None:
    """Refuse parameters that the storage cannot store.

    Raises NotSupported with the names of the parameters; InvalidParameters for an empty policy.
    """
    wanted = changes.get("access_policy", "public")
    if Feature.ALIAS_POLICIES in features:
        if not wanted:
            raise problem("access_policy", "EMPTY_NOT_ALLOWED")
        return
    # Nothing is stored there, so an empty value and the default change nothing.
    refused = ["access_policy"] if wanted not in ("", "public") else []
    refused += [name for name in ("moderators", "add_moderator") if changes.get(name)]
    if refused:
        code, detail = "NOT_SUPPORTED_BY_BACKEND", "No program reads it for aliases in LDAP."
        raise NotSupported(errors=[Problem(name, code, detail) for name in refused])


def revise(
    before: Alias,
    changes: Mapping[str, Any],
    domain: Domain,
    features: Set[Feature] = frozenset(),
) -> Alias:
    """Return the changed alias.

    An alias never becomes its own member, also not through an alias domain or an extension: Postfix
    would have a mail loop.
    """
    members = resettable(before.members, changes, "members", "add_member", "remove_member")
    new = members - before.members  # another program may have stored the alias itself
    own = {member for member in new if domain.canonical(member) == fold(before.address)}
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
    """Return a new alias."""
    return revise(Alias(address), changes, domain, features)
