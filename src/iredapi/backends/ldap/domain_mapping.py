"""Mapping between the record of a mail domain and its LDAP entry, in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iredapi.backends.ldap import settings_values
from iredapi.backends.ldap.client import Entry
from iredapi.backends.ldap.entry_diff import Edit
from iredapi.backends.ldap.profiles import catchall_targets
from iredapi.backends.ldap.session import flag, number, words
from iredapi.domain import account_settings
from iredapi.domain.domains import Domain

MEGABYTE = 1048576
_SINGLE = {
    "description": "cn",
    "transport": "mtaTransport",
    "outbound_relay": "senderRelayHost",
    "sender_bcc": "domainSenderBccAddress",
    "recipient_bcc": "domainRecipientBccAddress",
}
_LIMITS = {"users": "numberOfUsers", "aliases": "numberOfAliases", "lists": "numberOfLists"}
_SERVICES = "enabled_services"
COUNTERS = {
    "users": "domainCurrentUserNumber",
    "aliases": "domainCurrentAliasNumber",
    "lists": "domainCurrentListNumber",
    "quota": "domainCurrentQuotaSize",
}


def count(edit: Edit, what: str, by: int) -> None:
    """Add to one of a domain's counters, if the entry has it; iRedAdmin-Pro displays them."""
    name = COUNTERS[what]
    if by and (present := edit.now(name)):
        edit.put(name, str(max(number(present[0]) + by, 0)))


def record(entry: Entry, catchall: Entry | None, others: Sequence[Entry] = ()) -> Domain:
    """Return the record of a domain.

    ``catchall`` is its own catch-all account, ``others`` are further accounts that catch its mail.
    """
    settings = entry.values(settings_values.ATTRIBUTE)
    words_ = dict(settings_values.parse(settings))
    if services := words(entry, "enabledService"):
        words_[_SERVICES] = ",".join(sorted(services))
    if not words_.get("default_language") and entry.value("preferredLanguage"):
        words_["default_language"] = entry.value("preferredLanguage")
    targets, alive = frozenset[str](), frozenset[str]()
    for account in (*others, *([] if catchall is None else [catchall])):
        caught = catchall_targets(account)
        targets |= caught
        alive |= caught if flag(account, "accountStatus", "active") else frozenset()
    pending = words(entry, "domainPendingAliasName")
    fields: dict[str, Any] = {name: entry.value(at) for name, at in _SINGLE.items()}
    fields |= {name: settings_values.number(settings, key) for name, key in _LIMITS.items()}
    return Domain(
        name=entry.value("domainName").lower(),
        **fields,
        active=flag(entry, "accountStatus", "active"),
        quota=settings_values.megabytes(settings),
        backupmx=flag(entry, "domainBackupMX", "yes"),
        settings=words_,
        catchall=targets,
        dead_catchall=targets - alive,
        alias_domains=words(entry, "domainAliasName") | pending,
        inactive_alias_domains=pending,
    )


def put_changes(edit: Edit, before: Domain, after: Domain) -> None:
    """Put the difference of two records of a domain into the edit of its entry."""
    for name, attribute in _SINGLE.items():
        if getattr(before, name) != getattr(after, name):
            edit.put(attribute, getattr(after, name))
    # Postfix looks for the service as well as for the address.
    for name, service in (("sender_bcc", "senderbcc"), ("recipient_bcc", "recipientbcc")):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            (edit.add if new else edit.discard)("enabledService", [service])
    if before.backupmx != after.backupmx:
        edit.put("domainBackupMX", "yes" if after.backupmx else "")
    if before.quota != after.quota:
        quota = f"{after.quota}:MB" if after.quota else ""
        settings_values.put(edit, "domainQuota", quota)
    for name, key in _LIMITS.items():
        if getattr(before, name) != getattr(after, name):
            settings_values.put_number(edit, key, getattr(after, name))
    old_words, new_words = dict(before.settings), dict(after.settings)
    old_services = account_settings.words(old_words, _SERVICES)
    new_services = account_settings.words(new_words, _SERVICES)
    edit.discard("enabledService", sorted(old_services - new_services))
    edit.add("enabledService", sorted(new_services - old_services))
    old_words.pop(_SERVICES, None)
    new_words.pop(_SERVICES, None)
    settings_values.write(edit, old_words, new_words)
    if old_words.get("default_language") != new_words.get("default_language"):
        edit.put("preferredLanguage", new_words.get("default_language") or "")
