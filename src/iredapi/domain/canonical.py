"""The canonical view of accounts (``?view=canonical``), the same for every storage.

It is made from records, uses the names of the API's parameters, and has only what every storage can
store: the same requests give the same JSON everywhere. So there are no times and no hashes, lists
are sorted, and an empty name is shown as the local part, which LDAP has to store.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from iredapi.domain import account_settings, lists, phones, services, suspension
from iredapi.domain.addresses import domain_of, local_part_of
from iredapi.domain.admins import Admin
from iredapi.domain.aliases import Alias
from iredapi.domain.domains import SERVICES, Domain, primary_mx
from iredapi.domain.hidden_fields import STORED
from iredapi.domain.maillists import MailList
from iredapi.domain.users import User

CanonicalView = dict[str, Any]
"""One account: parameter names and JSON values."""


def without(view: CanonicalView, hidden: Collection[str]) -> CanonicalView:
    """Leave out fields that are hidden under any of their names, in any case."""
    words = {name.lower() for name in hidden}
    return {
        name: value
        for name, value in view.items()
        if words.isdisjoint((name.lower(), *STORED.get(name, ())))
    }


def domain(record: Domain, admins: Collection[str]) -> CanonicalView:
    """Return a mail domain; ``admins`` manage it."""
    number, words = account_settings.number, account_settings.words
    return {
        "domain": record.name,
        "name": record.description,
        "accountStatus": _status(active=record.active),
        "suspended": _yes_no(yes=suspension.is_suspended(record.settings)),
        "quota": record.quota,
        "numberOfUsers": record.users,
        "numberOfAliases": record.aliases,
        "numberOfLists": record.lists,
        "defaultQuota": number(record.settings, "default_user_quota"),
        "maxUserQuota": number(record.settings, "max_user_quota"),
        "minPasswordLength": number(record.settings, "min_passwd_length"),
        "maxPasswordLength": number(record.settings, "max_passwd_length"),
        "language": record.settings.get("default_language") or "",
        "transport": record.transport,
        "is_backupmx": _yes_no(yes=record.backupmx),
        "primarymx": primary_mx(record.transport) if record.backupmx else "",
        "outboundRelay": record.outbound_relay or record.alias_relay,
        "senderBcc": record.sender_bcc,
        "recipientBcc": record.recipient_bcc,
        "catchall": sorted(record.catchall),
        "aliasDomains": sorted(record.alias_domains),
        "services": sorted(words(record.settings, "enabled_services") & SERVICES),
        "disabledDomainProfile": sorted(words(record.settings, "disabled_domain_profiles")),
        "disabledUserProfile": sorted(words(record.settings, "disabled_user_profiles")),
        "disabledUserPreference": sorted(words(record.settings, "disabled_user_preferences")),
        "admins": sorted(admins),
    }


def counters(*, users: int, aliases: int, lists: int, allocated_quota: int) -> CanonicalView:
    """Return the numbers of a domain's accounts, and its allocated quota in MB."""
    return {
        "existingUsers": users,
        "existingAliases": aliases,
        "existingLists": lists,
        "allocatedQuota": allocated_quota,
    }


def admin(record: Admin) -> CanonicalView:
    """Return a standalone admin."""
    number = account_settings.number
    max_quota = number(record.settings, "create_max_quota")
    unit = (record.settings.get("create_quota_unit") or "MB").strip().upper()
    return {
        "mail": record.mail,
        "name": _name(record.name, record.mail),
        "accountStatus": _status(active=record.active),
        "language": record.language,
        "isGlobalAdmin": _yes_no(yes=record.is_global),
        "maxDomains": number(record.settings, "create_max_domains"),
        "maxQuota": max_quota,
        "quotaUnit": unit if max_quota > 0 else "MB",
        "maxUsers": number(record.settings, "create_max_users"),
        "maxAliases": number(record.settings, "create_max_aliases"),
        "maxLists": number(record.settings, "create_max_lists"),
        "disableViewingMailLog": _yes_no(yes=_is_on(record, "disable_viewing_mail_log")),
        "disableManagingQuarantinedMails": _yes_no(
            yes=_is_on(record, "disable_managing_quarantined_mails")
        ),
        "managedDomains": sorted(record.managed_domains),
    }


def user(record: User, names: Collection[str]) -> CanonicalView:
    """Return a mail user; ``names`` are its domain and the alias domains of it.

    An alias address in the primary domain is valid in each alias domain, stored there or not:
    those are left out.
    """
    primary = domain_of(record.mail)
    alias_addresses = {
        address
        for address in record.aliases
        if domain_of(address) in names
        and domain_of(address) != primary
        and f"{local_part_of(address)}@{primary}" in record.aliases
    }
    return {
        "mail": record.mail,
        "name": _name(record.name, record.mail),
        "gn": record.given_name,
        "sn": _name(record.surname, record.mail),
        "accountStatus": _status(active=record.active),
        "quota": record.quota,
        "language": record.language,
        "employeeid": record.employee_id,
        "telephoneNumber": list(phones.numbers(record.telephone)),
        "mobile": list(phones.numbers(record.mobile)),
        "isGlobalAdmin": _yes_no(yes=record.is_global),
        "managedDomains": sorted(record.managed_domains),
        "transport": record.transport,
        "forwarding": sorted(record.destinations),
        "aliases": sorted(record.aliases - alias_addresses),
        "senderBcc": record.sender_bcc,
        "recipientBcc": record.recipient_bcc,
        "suspended": _yes_no(yes=record.held is not None),
        "services": sorted(
            services.service_names(suspension.released(record)[0], services.MANAGED)
        ),
        "mailboxFormat": record.mailbox_format,
        "mailboxFolder": record.mailbox_folder,
        "maildir": record.location.path,
    }


def alias(record: Alias) -> CanonicalView:
    """Return a mail alias account, without its access policy: LDAP cannot store that.

    In LDAP the moderators are empty: no daemon reads them.
    """
    return {
        "mail": record.address,
        "name": _name(record.name, record.address),
        "accountStatus": _status(active=record.active),
        "members": sorted(record.members),
        "moderators": sorted(record.moderators),
    }


def maillist(record: MailList) -> CanonicalView:
    """Return an unsubscribable mailing list (its members are set by an admin)."""
    return {
        "mail": record.address,
        "name": _name(record.name, record.address),
        "accountStatus": _status(active=record.active),
        "accessPolicy": record.access_policy,
        "members": sorted(record.members),
    }


_OF_STORAGE: Final = frozenset({"domain", "mlid", "transport", "created", "modified"})
_UNORDERED: Final = frozenset({"owner", "moderators", "subscription_moderators", "extra_addresses"})


def mailing_list(record: lists.MailingList, control: lists.Control | None = None) -> CanonicalView:
    """Return a subscribable mailing list; without ``control`` only the account storage's part."""
    found = (
        lists.stored_to_response(record) if control is None else lists.to_response(record, control)
    )
    return {
        name: sorted(value) if name in _UNORDERED else value
        for name, value in found.items()
        if name not in _OF_STORAGE
    } | {"name": _name(record.name, record.address)}


def _name(name: str, mail: str) -> str:
    return name or local_part_of(mail)


def _status(*, active: bool) -> str:
    return "active" if active else "disabled"


def _yes_no(*, yes: bool) -> str:
    return "yes" if yes else "no"


def _is_on(record: Admin, key: str) -> bool:
    return record.settings.get(key) == "yes"
