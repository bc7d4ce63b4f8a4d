"""Mapping between the record of a mail user and its LDAP entry, in both directions."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

from iredapi.backends.ldap.alias_domain_addresses import alias_addresses, with_alias_addresses
from iredapi.backends.ldap.client import Entry
from iredapi.backends.ldap.domain_mapping import MEGABYTE
from iredapi.backends.ldap.entry_diff import Edit
from iredapi.backends.ldap.session import flag, number, words
from iredapi.domain import phones, services
from iredapi.domain.addresses import domain_of, local_part_of
from iredapi.domain.mailbox_paths import Location
from iredapi.domain.passwords import HASH_SEPARATOR
from iredapi.domain.users import User

Knows = Callable[[str], bool]
"""Tells whether the server's schema has an attribute (``Session.knows``)."""
_SINGLE = {
    "given_name": "givenName",
    "language": "preferredLanguage",
    "employee_id": "employeeNumber",
    "transport": "mtaTransport",
    "mailbox_format": "mailboxFormat",
    "mailbox_folder": "mailboxFolder",
    "sender_bcc": "userSenderBccAddress",
    "recipient_bcc": "userRecipientBccAddress",
}
NAMES = {"name": "cn", "surname": "sn"}
"""Attributes that an entry must have; a user without a name has its local part there."""
_PHONES = {"mobile": "mobile", "telephone": "telephoneNumber"}
ADMIN_SERVICE = "domainadmin"
_REQUIRED_SERVICES = {"sender_bcc": "senderbcc", "recipient_bcc": "recipientbcc"}
"""Values of ``enabledService`` without which Postfix ignores the attribute of the field."""


def days_since_1970(moment: datetime) -> str:
    """Return a time without a zone as ``shadowLastChange`` has it (RFC 2307)."""
    return str((moment - datetime(1970, 1, 1)).days)  # noqa: DTZ001 (both without a zone)


def today() -> str:
    """Return the present date (UTC) as ``shadowLastChange`` has it."""
    return days_since_1970(datetime.now(UTC).replace(tzinfo=None))


def stored_hash(entry: Entry) -> str:
    """Return all hashes of an entry, joined: slapd accepts a password that matches any of them."""
    return HASH_SEPARATOR.join(sorted(entry.values("userPassword")))


def hashes_in_order(entry: Entry) -> str:
    """Return all hashes of an entry as the directory has them: Dovecot 2.4 reads the first."""
    return HASH_SEPARATOR.join(entry.values("userPassword"))


def mailbox_path(entry: Entry) -> str:
    """Return the path of a user's mailbox; deprecated attributes are read if need be."""
    found = entry.value("homeDirectory")
    if not found and entry.value("storageBaseDirectory"):
        found = f"{entry.value('storageBaseDirectory')}/{entry.value('mailMessageStore')}"
    return found.lower()


def further_addresses(mail: str, entry: Entry, aliases: Collection[str]) -> frozenset[str]:
    """Return a user's further addresses, without those that follow from alias domains."""
    others = words(entry, "shadowAddress") - alias_addresses([mail], domain_of(mail), aliases)
    return others - alias_addresses(others, domain_of(mail), aliases)


def record(mail: str, entry: Entry, aliases: Collection[str], managed: Collection[str]) -> User:
    """Return the record of a user; ``aliases`` are its domain's active alias domains."""
    enabled = words(entry, "enabledService")
    held, held_by_domain = held_services(enabled)
    is_global = flag(entry, "domainGlobalAdmin", "yes")
    texts: dict[str, Any] = {name: entry.value(at) for name, at in (_SINGLE | NAMES).items()}
    texts["mailbox_format"] = texts["mailbox_format"] or "maildir"
    texts["mailbox_folder"] = texts["mailbox_folder"] or "Maildir"
    texts |= {name: ",".join(sorted(entry.values(at))) for name, at in _PHONES.items()}
    return User(
        mail=mail,
        password=stored_hash(entry),
        **texts,
        quota=number(entry.value("mailQuota")) // MEGABYTE,
        active=flag(entry, "accountStatus", "active"),
        location=Location("", "", mailbox_path(entry)),
        is_admin=ADMIN_SERVICE in enabled,
        is_global=is_global,
        services=enabled & services.MANAGED,
        custom_services=services.custom(enabled) - markers_in(enabled),
        held=held,
        held_by_domain=held_by_domain,
        forwardings=_destinations(entry, mail, enabled),
        aliases=further_addresses(mail, entry, aliases),
        managed_domains=frozenset(managed),
        marks_agree=not is_global or ADMIN_SERVICE in enabled,
    )


def _destinations(entry: Entry, mail: str, enabled: Collection[str]) -> frozenset[str]:
    """Return where Postfix delivers a user's mail.

    Without the service ``forward`` the attribute has no effect: the mailbox is a destination.
    """
    found = words(entry, "mailForwardingAddress")
    return found if found and "forward" in enabled else found | {mail}


def put_new(
    edit: Edit, user: User, aliases: Collection[str], knows: Knows, *, changed: datetime | None
) -> None:
    """Put a new user into an empty entry; ``changed`` is the date of its password (UTC)."""
    edit.put_all("objectClass", ["inetOrgPerson", "mailUser", "shadowAccount", "amavisAccount"])
    edit.put("mail", user.mail)
    edit.put("uid", local_part_of(user.mail))
    edit.put("amavisLocal", "TRUE")
    edit.put("shadowLastChange", days_since_1970(changed) if changed else "")
    edit.add("shadowAddress", sorted(alias_addresses([user.mail], domain_of(user.mail), aliases)))
    edit.add("enabledService", sorted(user.services | services.INTERNAL))
    edit.add("enabledService", written_services(user.custom_services))
    # Differs from the new user in every field that is always written.
    empty = User("", location=Location("", "", ""), services=user.services, mailbox_format="",
                 mailbox_folder="", active=not user.active)  # fmt: skip
    put_changes(edit, empty, user, aliases, knows)


def put_changes(
    edit: Edit, before: User, after: User, aliases: Collection[str], knows: Knows
) -> None:
    """Put the difference of two records of a user into the edit of its entry.

    ``aliases`` are the active alias domains of its domain.
    """
    for field, attribute in NAMES.items():
        if _differ(before, after, field) or before.mail != after.mail:
            edit.put(attribute, getattr(after, field) or local_part_of(after.mail))
    for field, attribute in _SINGLE.items():
        if _differ(before, after, field) and knows(attribute):
            edit.put(attribute, getattr(after, field))
    for field, attribute in _PHONES.items():
        if _differ(before, after, field):
            # slapd treats numbers as equal that differ in blanks and hyphens only.
            edit.put_all(attribute, phones.numbers(getattr(after, field)))
    if before.password != after.password:
        edit.put_all("userPassword", after.password.split(HASH_SEPARATOR))
    if before.quota != after.quota:
        edit.put("mailQuota", str(after.quota * MEGABYTE) if after.quota else "")
    if before.active != after.active:
        edit.put("accountStatus", "active" if after.active else "disabled")
    if before.location.path != after.location.path:
        edit.put("homeDirectory", after.location.path + "/")
    _put_services(edit, before, after)
    _put_forwardings(edit, before, after)
    _put_aliases(edit, before, after, aliases)
    for field, service in _REQUIRED_SERVICES.items():
        if _differ(before, after, field) and getattr(after, field):
            edit.add("enabledService", [service])


def _differ(before: User, after: User, field: str) -> bool:
    return bool(getattr(before, field) != getattr(after, field))


def held_services(
    enabled: Collection[str],
) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    """Return the services that wait until the user, and until its domain, is resumed."""

    def of(mark: str) -> frozenset[str] | None:
        if mark not in enabled:
            return None
        return frozenset(
            name.removeprefix(f"{mark}-") for name in enabled if name.startswith(f"{mark}-")
        )

    return of(services.HELD), of(services.HELD_WITH_DOMAIN)


def markers_in(enabled: Collection[str]) -> frozenset[str]:
    """Return the values of ``enabledService`` that say what is suspended."""
    return frozenset(filter(services.is_mark, enabled))


def markers(held: frozenset[str] | None, held_by_domain: frozenset[str] | None) -> frozenset[str]:
    """Return the values of ``enabledService`` for services that wait.

    Users may write their own ``accountSetting``, but not this attribute.
    """
    found = set[str]()
    for mark, names in ((services.HELD, held), (services.HELD_WITH_DOMAIN, held_by_domain)):
        if names is not None:
            found |= {mark, *(f"{mark}-{name}" for name in names)}
    return frozenset(found)


def _put_services(edit: Edit, before: User, after: User) -> None:
    old = before.services | before.custom_services
    old |= markers(before.held, before.held_by_domain)
    new = after.services | after.custom_services | markers(after.held, after.held_by_domain)
    now = edit.now("enabledService")
    edit.discard("enabledService", sorted(old - new - services.INTERNAL))
    edit.add("enabledService", written_services(new - old, now))
    if before.is_global != after.is_global or before.marks_agree != after.marks_agree:
        edit.put("domainGlobalAdmin", "yes" if after.is_global else "")
    elif before.is_admin == after.is_admin:
        return  # other changes give nobody what another program has not given
    if after.is_global or after.is_admin:
        edit.add("enabledService", [ADMIN_SERVICE])
    elif before.is_admin or before.is_global:
        edit.discard("enabledService", [ADMIN_SERVICE])


def written_services(names: Collection[str], now: Collection[str] = ()) -> list[str]:
    """Return services and marks as they are written; slapd ignores the case.

    What is suspended or resumed stays as the values of ``now`` have it, others are as iRedMail
    writes them.
    """
    address_book = "displayedInGlobalAddressBook"
    spelled = {address_book.lower(): address_book}
    spelled |= {(name := services.without_mark(value)[1]).lower(): name for value in now}
    parts = map(services.without_mark, names)
    return sorted(f"{mark}{spelled.get(name, name)}" for mark, name in parts)


def _put_forwardings(edit: Edit, before: User, after: User) -> None:
    if before.forwardings == after.forwardings:
        return
    edit.discard("mailForwardingAddress", sorted(before.forwardings - after.forwardings))
    edit.add("mailForwardingAddress", sorted(after.forwardings - before.forwardings))
    edit.add("mailForwardingAddress", sorted(after.forwardings))
    if after.forwardings == {after.mail}:
        edit.put("mailForwardingAddress", "")
    else:
        edit.add("enabledService", ["forward"])


def _put_aliases(edit: Edit, before: User, after: User, aliases: Collection[str]) -> None:
    if before.aliases == after.aliases:
        return
    name = domain_of(after.mail)
    old = with_alias_addresses(before.aliases, name, aliases)
    new = with_alias_addresses(after.aliases, name, aliases)
    own = alias_addresses([after.mail], name, aliases)
    edit.discard("shadowAddress", sorted(old - new - own))
    edit.add("shadowAddress", sorted(new - old))
    if after.aliases:
        edit.add("enabledService", ["shadowaddress"])
