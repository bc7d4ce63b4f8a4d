"""Profiles in responses: LDAP's attribute names, values as lists of text (``view=native``)."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from iredapi.backends.ldap import settings_values
from iredapi.backends.ldap.client import Entry
from iredapi.backends.ldap.session import address_in, words
from iredapi.backends.protocols.values import Profile


def entry_to_response(entry: Entry) -> Profile:
    """Return all attributes of an entry as sorted lists; values that are not UTF-8 are base64."""
    found: dict[str, Any] = {
        name: sorted(_text(value) for value in values)
        for name, values in sorted(entry.attributes.items())
        if name.lower() != settings_values.ATTRIBUTE.lower()
    }
    found[settings_values.ATTRIBUTE] = settings_values.to_response(
        entry.values(settings_values.ATTRIBUTE)
    )
    return found


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def catchall_targets(account: Entry) -> frozenset[str]:
    """Return the destinations of a catch-all account: its forwardings, else its own addresses.

    Source: order of iRedMail's LDAP maps in Postfix' ``virtual_alias_maps``.
    """
    forwarded = words(account, "mailForwardingAddress")
    if forwarded:
        return forwarded
    return frozenset(mail for mail in words(account, "mail") if not mail.startswith("@"))


def domain_profile(entry: Entry, catchall: Entry | None, others: Sequence[Entry] = ()) -> Profile:
    """Return a domain's profile, with the destinations of all accounts that catch its mail."""
    accounts = [*others, *([] if catchall is None else [catchall])]
    targets = frozenset[str]().union(*map(catchall_targets, accounts))
    return entry_to_response(entry) | {"catchall": sorted(targets)}


def domain_names(entries: Collection[Entry]) -> frozenset[str]:
    """Return the names of domains' entries, lower case."""
    return frozenset(entry.value("domainName").lower() for entry in entries)


def real_users_in(page: Iterable[Entry], domain: str) -> Iterator[str]:
    """Return the addresses of users of a domain, without its catch-all account."""
    ending = f"@{domain}"
    for entry in page:
        mails = entry.values("mail")
        only = mails[0].strip().lower() if len(mails) == 1 else ""
        if only.endswith(ending):
            if only != ending:
                yield only
        elif ending not in words(entry, "mail"):
            yield address_in(entry, domain)
