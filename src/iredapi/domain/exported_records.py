"""The records of an export (``account_records``), made of canonical views and of policies."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from typing import Any, Final

from iredapi.domain import canonical, suspension
from iredapi.domain.account_records import RIGHTS, Record, RecordType, ordered
from iredapi.domain.addresses import fold
from iredapi.domain.aliases import Alias
from iredapi.domain.canonical import CanonicalView
from iredapi.domain.domains import Domain
from iredapi.domain.features import Feature
from iredapi.domain.services import LDAP_DEFAULT
from iredapi.domain.users import User

_FOLDED: Final = (
    "catchall", "aliasDomains", "forwarding", "aliases", "members", "moderators", "owner",
    "subscription_moderators", "extra_addresses", RIGHTS,
)  # fmt: skip
"""Keys of addresses and domains: those in capitals are the same ones for Postfix."""


def _folded(view: Mapping[str, Any]) -> dict[str, Any]:
    lists = {key: sorted({*map(fold, view[key])}) for key in _FOLDED if key in view}
    return {**view, **lists}


def domain(record: Domain) -> Record:
    """Return a mail domain, without its admins: rights are told with those who have them."""
    view = canonical.domain(record, ())
    return ordered(RecordType.DOMAIN, {**_folded(view), "domain": fold(record.name)})


def account(kind: RecordType, view: Mapping[str, Any], password_hash: str = "") -> Record:
    """Return an account; ``password_hash`` is left out when it is empty."""
    named = {**_folded(view), "mail": fold(view["mail"]), "password_hash": password_hash or None}
    return ordered(kind, named)


def membership(address: str, mail: str, subscription: str) -> Record:
    """Return that somebody is subscribed to a list."""
    values = {"list": fold(address), "mail": mail, "subscription": subscription}
    return ordered(RecordType.MEMBERSHIP, values)


def user_view(user: User, names: Collection[str], features: Set[Feature]) -> CanonicalView:
    """Return the canonical view of a user, with all services that the storage has.

    ``names`` are those of the domain.
    """
    view = canonical.user(user, names)
    if Feature.ANY_SERVICE in features:
        words = suspension.released(user)[1] - LDAP_DEFAULT
        view["services"] = sorted({*view["services"], *words})
    return view


def alias_view(alias: Alias, features: Set[Feature]) -> CanonicalView:
    """Return the canonical view of an alias account, with its access policy where there are any."""
    policies = Feature.ALIAS_POLICIES in features
    return canonical.alias(alias) | ({"accessPolicy": alias.access_policy} if policies else {})


def account_of(stored: str) -> str:
    """Return the account of a policy as requests name it: ``global``, a domain or an address."""
    if stored == "@.":
        return "global"
    return fold(stored.removeprefix("@").removeprefix(".")) if stored[:1] == "@" else fold(stored)


def policy(kind: RecordType, account: str, values: Mapping[str, Any]) -> Record:
    """Return a policy of an account."""
    return ordered(kind, {**values, "account": account})


def wblist(account: str, direction: str, kind: str, addresses: Sequence[str]) -> Record:
    """Return addresses of a white- or blacklist."""
    values = {"direction": direction, "kind": kind, "addresses": list(addresses)}
    return policy(RecordType.WBLIST, account, values)
