"""Fields of accounts that a setting hides: nobody reads, sorts or finds accounts by them.

A field has several names: those of the API, of the columns in SQL, and of the attributes in LDAP.
Hiding one of them hides the field.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from iredapi.domain.listing import ListQuery
from iredapi.errors import InvalidParameters, Problem

STORED: Final[Mapping[str, tuple[str, ...]]] = {
    "name": ("cn",),
    "gn": ("first_name", "givenname"),
    "sn": ("last_name",),
    "accountStatus": ("active",),
    "quota": ("mailquota",),
    "language": ("preferredlanguage",),
    "employeeid": ("employeenumber",),
    "telephoneNumber": ("telephone",),
    "isGlobalAdmin": ("domainglobaladmin",),
    "managedDomains": ("managed_domains",),
    "transport": ("mtatransport",),
    "forwarding": ("forwardings", "mailforwardingaddress"),
    "aliases": ("shadowaddress",),
    "senderBcc": ("sender_bcc", "usersenderbccaddress"),
    "recipientBcc": ("recipient_bcc", "userrecipientbccaddress"),
    "services": ("enabled_services", "enabledservice"),
    "maildir": ("homedirectory",),
    "created": ("createtimestamp",),
    "modified": ("modifytimestamp",),
}
"""Names of a field in the profiles of the storages, lower case, where they differ."""
_SORTED_BY: Final[Mapping[str, str]] = {
    "name": "name",
    "created": "created",
    "modified": "modified",
    "quota": "quota",
    "used": "stored_bytes",
}
"""What a list is sorted by, and the field that its order shows."""


def with_other_names(hidden: Collection[str]) -> frozenset[str]:
    """Return hidden names with all other names of the same fields, which are lower case."""
    words = {name.lower() for name in hidden}
    found = set(hidden) | words
    for name, others in STORED.items():
        every = {name.lower(), *others}
        if not every.isdisjoint(words):
            found |= every
    if "last_login" in words:
        # It is the latest of these.
        found.add("last_login_by_service")
    return frozenset(found)


def permitted(query: ListQuery, hidden: Collection[str]) -> ListQuery:
    """Return a query that does not search hidden fields; ``hidden`` has all of their names.

    Raises InvalidParameters when hidden fields would choose or sort the items.
    """
    wrong = []
    if _SORTED_BY.get(query.sort, "") in hidden:
        wrong.append("sort")
    if query.by_status and "accountstatus" in hidden:
        wrong.append("status")
    if query.modified_since is not None and not {"created", "modified"}.isdisjoint(hidden):
        wrong.append("modified_since")
    if wrong:
        raise InvalidParameters(
            *(Problem(name, "INVALID_VALUE", "A hidden field would show.") for name in wrong)
        )
    return replace(query, hidden=frozenset(hidden)) if query.search else query
