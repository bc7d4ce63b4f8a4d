"""Checks of one directory entry, given the facts about the rest of the tree.

Pure: a repair is a change of the entry. The runner checks again under a lock before it applies it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from iredapi.backends.ldap import settings_values
from iredapi.backends.ldap.alias_domain_addresses import alias_addresses
from iredapi.backends.ldap.client import Entry
from iredapi.backends.ldap.dn_layout import CONTAINERS
from iredapi.backends.ldap.entry_diff import Edit
from iredapi.backends.ldap.escaping import key_of
from iredapi.backends.ldap.session import flag, words
from iredapi.config.settings import Settings
from iredapi.doctor.ldap_facts import Facts, Hosted, mail_in
from iredapi.doctor.password_checks import WrongPassword, judge_admin, judge_values
from iredapi.doctor.repair_values import (
    bracketed,
    refused_name,
    without_prefix,
)
from iredapi.domain import services, transports
from iredapi.domain.addresses import domain_of, local_part_of

Change = Callable[[Edit], None]
_DESTINATIONS: Final[Mapping[str, str]] = {
    "mailForwardingAddress": "",
    "userSenderBccAddress": "BCC ",
    "userRecipientBccAddress": "BCC ",
    "domainSenderBccAddress": "BCC ",
    "domainRecipientBccAddress": "BCC ",
}
_LIST_ROLES: Final = ("listOwner", "listModerator", "listAllowedUser")


@dataclass(frozen=True, slots=True)
class Add:
    """A repair that adds a missing entry."""

    dn: str
    attributes: Mapping[str, Sequence[str]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wrong:
    """One thing that is wrong with an entry, and the change that repairs it."""

    code: str
    subject: str
    detail: str = ""
    repair: Change | Add | None = None


def _discard(name: str, *values: str) -> Change:
    return lambda edit: edit.discard(name, values)


def _add(name: str, *values: str) -> Change:
    return lambda edit: edit.add(name, values)


def _put(name: str, value: str) -> Change:
    return lambda edit: edit.put(name, value)


def judge(entry: Entry, facts: Facts, settings: Settings) -> Iterator[Wrong]:
    """Return what is wrong with an entry."""
    kinds = words(entry, "objectClass")
    if "maildomain" in kinds:
        yield from _domain(entry, facts, settings)
    elif "mailadmin" in kinds:
        yield from _admin(entry, facts)
    elif "mailexternaluser" in kinds:
        yield from _external(entry, facts)
    elif kinds & {"mailuser", "maillist", "mailalias"}:
        yield from _account(entry, kinds, facts, settings)


# -- domains ---------------------------------------------------------------------------------------


def _domain(entry: Entry, facts: Facts, settings: Settings) -> Iterator[Wrong]:
    name = entry.value("domainName").lower()
    domain = facts.domains.get(name)
    if domain is None:
        return
    for alias in sorted(domain.aliases | domain.pending):
        if alias in facts.domains:
            yield Wrong("ALIAS_DOMAIN_IS_DOMAIN", alias, name)
    for alias in sorted(domain.aliases):
        if facts.targets[alias][0] != name:
            yield Wrong("ALIAS_DOMAIN_TWICE", alias, f"{facts.targets[alias][0]} and {name}")
    enabled = words(entry, "enabledService")
    if domain.aliases and "domainalias" not in enabled:
        yield Wrong("ALIAS_DOMAINS_OFF", name, "", _add("enabledService", "domainalias"))
    for kind in CONTAINERS:
        if kind.lower() not in domain.containers:
            container = facts.tree.container(kind, name)
            new = {"objectClass": ["organizationalUnit"], "ou": [kind]}
            yield Wrong("CONTAINER_MISSING", name, f"ou={kind}", Add(container, new))
    for attribute, right in facts.counted(name):
        stored = entry.value(attribute)
        if stored and stored != str(right):
            detail = f"{attribute} {stored}, not {right}"
            yield Wrong("COUNTER_WRONG", name, detail, _put(attribute, str(right)))
    transport = entry.value("mtaTransport")
    if domain.backupmx and transport.lower() in {"", *transports.LOCAL}:
        yield Wrong("BACKUP_MX_DELIVERS_HERE", name, transport)
    yield from _routing(entry, name, settings)
    yield from _managers(domain, facts)
    yield from _settings(entry, name)
    yield from _destinations(entry, name, facts)


def _managers(domain: Hosted, facts: Facts) -> Iterator[Wrong]:
    for mail in sorted(domain.admins):
        detail = f"manages {domain.name}"
        if not facts.is_admin(mail):
            yield Wrong("ADMIN_WITHOUT_ACCOUNT", mail, detail, _discard("domainAdmin", mail))
        elif mail not in facts.admins and not facts.users[mail]:
            yield Wrong("DOMAIN_WITHOUT_ADMIN_MARK", mail, detail)


def _routing(entry: Entry, subject: str, settings: Settings) -> Iterator[Wrong]:
    """Check the transport and the relay host that Postfix reads."""
    transport = entry.value("mtaTransport")
    if transport.lower().startswith(("relay:", "smtp:", "lmtp:")):
        right = bracketed(transport)
        if "[" in right and "[" not in transport:
            yield Wrong("TRANSPORT_BARE_ADDRESS", subject, transport, _put("mtaTransport", right))
    relay = entry.value("senderRelayHost")
    host = None if settings.relay_keep_prefix else without_prefix(relay)
    if host is not None:
        yield Wrong("RELAY_WITH_PREFIX", subject, relay, _put("senderRelayHost", host))


def _settings(entry: Entry, subject: str) -> Iterator[Wrong]:
    for value in entry.values(settings_values.ATTRIBUTE):
        if not value.partition(":")[1] or not value.partition(":")[0].strip():
            yield Wrong("SETTINGS_UNREADABLE", subject, value[:40])


def _destinations(entry: Entry, subject: str, facts: Facts) -> Iterator[Wrong]:
    for attribute, kind in _DESTINATIONS.items():
        for address in sorted(words(entry, attribute)):
            if address != subject and facts.is_gone(address, source=subject):
                yield Wrong("DEAD_DESTINATION", subject, f"{kind}to {address}")


# -- accounts --------------------------------------------------------------------------------------


def _account(
    entry: Entry, kinds: frozenset[str], facts: Facts, settings: Settings
) -> Iterator[Wrong]:
    mail = entry.value("mail").lower()
    right_dn = facts.tree.alias(mail)
    if "mailuser" in kinds:
        right_dn = facts.tree.user(mail)
    elif "maillist" in kinds:
        right_dn = facts.tree.mail_list(mail)
    domain = facts.domains.get(domain_of(mail))
    if domain is None or key_of(right_dn) != key_of(entry.dn) or len(entry.raw("mail")) != 1:
        yield Wrong("ENTRY_MISPLACED", mail, entry.dn)
    if domain is None:
        return
    yield from _status(entry, mail, domain)
    yield from _addresses(entry, mail, domain, facts)
    yield from _destinations(entry, mail, facts)
    if "mailuser" in kinds and not mail.startswith("@"):
        yield from _user(entry, mail, facts, settings)
    elif "maillist" in kinds:
        yield from _list(entry, mail, facts)
    elif "mailalias" in kinds and mail in words(entry, "mailForwardingAddress"):
        repair = _discard("mailForwardingAddress", mail)
        yield Wrong("ALIAS_OF_ITSELF", mail, f"to {mail}", repair)


def _status(entry: Entry, subject: str, domain: Hosted) -> Iterator[Wrong]:
    """Check ``domainStatus``: Postfix and Dovecot read it at each account, not at the domain."""
    off = flag(entry, "domainStatus", "disabled")
    if domain.active and entry.values("domainStatus"):
        yield Wrong("DOMAIN_STATUS_LEFT", subject, domain.name, _put("domainStatus", ""))
    elif not domain.active and not off:
        yield Wrong("DOMAIN_STATUS_MISSING", subject, domain.name, _put("domainStatus", "disabled"))


def _addresses(entry: Entry, mail: str, domain: Hosted, facts: Facts) -> Iterator[Wrong]:
    others, groups = words(entry, "shadowAddress"), words(entry, "memberOfGroup")
    wanted = alias_addresses({mail} | others, domain.name, domain.aliases) - others
    for alias_address in sorted(wanted):
        # An address that another account has stays there.
        if facts.owner(alias_address) in {"", mail}:
            yield Wrong("TWIN_MISSING", mail, alias_address, _add("shadowAddress", alias_address))
    for address in sorted(others):
        name = domain_of(address)
        if not facts.is_hosted(name) and name not in domain.pending:
            repair = _discard("shadowAddress", address)
            yield Wrong("ALIAS_ADDRESS_WITHOUT_DOMAIN", mail, address, repair)
    yield from _membership(mail, groups, facts)


def _membership(mail: str, groups: frozenset[str], facts: Facts) -> Iterator[Wrong]:
    for group in sorted(groups):
        name = domain_of(group)
        primaries = facts.primaries(group)
        if not facts.is_hosted(name):
            repair = _discard("memberOfGroup", group)
            yield Wrong("ALIAS_ADDRESS_WITHOUT_DOMAIN", mail, f"list {group}", repair)
        elif group not in facts.groups and not facts.groups & set(primaries):
            yield Wrong("MEMBER_OF_NO_LIST", mail, group)
        elif name in facts.domains:
            for alias_address in sorted(
                alias_addresses([group], name, facts.domains[name].aliases) - groups
            ):
                yield Wrong(
                    "TWIN_MISSING",
                    mail,
                    f"list {alias_address}",
                    _add("memberOfGroup", alias_address),
                )


def _user(entry: Entry, mail: str, facts: Facts, settings: Settings) -> Iterator[Wrong]:
    enabled = words(entry, "enabledService")
    active = flag(entry, "accountStatus", "active")
    if strange := refused_name(mail, settings):
        yield Wrong("USER_NAME_REFUSED", mail, strange)
    if mail in facts.sharing:
        yield Wrong("MAILBOX_SHARED", mail, facts.sharing[mail])
    lacking = services.INTERNAL - enabled
    if active and lacking:
        yield Wrong("INTERNAL_SERVICE_OFF", mail, ", ".join(sorted(lacking)))
    is_global = flag(entry, "domainGlobalAdmin", "yes")
    if "domainadmin" in enabled and not is_global and not facts.manages(mail):
        repair = _discard("enabledService", "domainadmin")
        yield Wrong("ADMIN_MARK_WITHOUT_DOMAIN", mail, "", repair)
    yield from _routing(entry, mail, settings)
    yield from _settings(entry, mail)
    passwords = entry.values("userPassword")
    for stored, wrong in judge_values(passwords, settings.password_reader):
        yield _password(mail, stored, wrong)
    domain = facts.domains[domain_of(mail)]
    if active and domain.active and domain.backupmx:
        yield Wrong("BACKUP_MX_USER", mail)


def _password(mail: str, stored: str, wrong: WrongPassword) -> Wrong:
    repair = None if wrong.right is None else _swap(stored, wrong.right)
    return Wrong(wrong.code, mail, wrong.detail, repair)


def _swap(old: str, new: str) -> Change:
    return lambda edit: edit.swap("userPassword", old, new)


def _list(entry: Entry, mail: str, facts: Facts) -> Iterator[Wrong]:
    enabled = words(entry, "enabledService")
    if "mlmmj" in enabled:
        if not entry.value("mailingListID"):
            yield Wrong("LIST_WITHOUT_ID", mail)
        if lacking := {"mail", "deliver"} - enabled:
            detail = f"without {', '.join(sorted(lacking))}"
            yield Wrong("LIST_UNDELIVERABLE", mail, detail, _add("enabledService", *lacking))
        if not entry.value("mtaTransport"):
            right = f"mlmmj:{domain_of(mail)}/{local_part_of(mail)}"
            yield Wrong("LIST_UNDELIVERABLE", mail, "no transport", _put("mtaTransport", right))
    else:
        has = "yes" if facts.members[mail] else "no"
        if entry.value("hasMember") and not flag(entry, "hasMember", has):
            yield Wrong("LIST_MARK_WRONG", mail, f"not {has}", _put("hasMember", has))
        yield from _dns(entry, mail, facts)
    for attribute in _LIST_ROLES:
        for who in sorted(words(entry, attribute)):
            # mlmmjadmin makes postmaster@ the first owner, whether that account exists or not.
            if "*" not in who and local_part_of(who) != "postmaster" and facts.is_gone(who):
                yield Wrong("MODERATOR_GONE", mail, f"{attribute} {who}", _discard(attribute, who))
    yield from _settings(entry, mail)


def _dns(entry: Entry, mail: str, facts: Facts) -> Iterator[Wrong]:
    """Check the DNs of members, which SOGo uses when it expands a list."""
    for dn in sorted(entry.values("member")):
        member = mail_in(dn)
        if key_of(dn) not in facts.misplaced_users and (
            member not in facts.users or key_of(facts.tree.user(member)) != key_of(dn)
        ):
            yield Wrong("MEMBER_NAME_DEAD", mail, dn, _discard("member", dn))


def _external(entry: Entry, facts: Facts) -> Iterator[Wrong]:
    groups = words(entry, "memberOfGroup")
    named = [name for name in sorted(groups) if _is_named(entry, name)]
    group = next(iter(named or sorted(groups)), "")
    domain = facts.domains.get(domain_of(group))
    if domain is None or key_of(facts.tree.external(group)) != key_of(entry.dn):
        yield Wrong("ENTRY_MISPLACED", group, entry.dn)
    if domain is None:
        return
    if group not in facts.groups:
        yield Wrong("MEMBER_OF_NO_LIST", group, "external members")
        return
    yield from _status(entry, group, domain)
    others = words(entry, "shadowAddress")
    for alias_address in sorted(alias_addresses([group], domain.name, domain.aliases) - others):
        yield Wrong(
            "TWIN_MISSING",
            group,
            f"external {alias_address}",
            _add("shadowAddress", alias_address),
        )
    for address in sorted(others):
        if not facts.is_hosted(domain_of(address)) and domain_of(address) not in domain.pending:
            repair = _discard("shadowAddress", address)
            yield Wrong("ALIAS_ADDRESS_WITHOUT_DOMAIN", group, f"external {address}", repair)
    for address in sorted(words(entry, "mail")):
        if facts.is_gone(address):
            yield Wrong("DEAD_DESTINATION", group, f"to {address}")


def _is_named(entry: Entry, group: str) -> bool:
    return key_of(entry.dn).startswith(f"memberofgroup={group},")


# -- standalone admins -----------------------------------------------------------------------------


def _admin(entry: Entry, facts: Facts) -> Iterator[Wrong]:
    mail = entry.value("mail").lower()
    if facts.is_hosted(domain_of(mail)):
        yield Wrong("ADMIN_IN_HOSTED_DOMAIN", mail)
    settings = settings_values.parse(entry.values(settings_values.ATTRIBUTE))
    may_create = "create_new_domains" in settings
    if not (flag(entry, "domainGlobalAdmin", "yes") or may_create or facts.manages(mail)):
        yield Wrong("ADMIN_WITHOUT_RIGHTS", mail)
    yield from _settings(entry, mail)
    for stored in entry.values("userPassword"):
        for wrong in judge_admin(stored, slapd=True):
            yield _password(mail, stored, wrong)
