"""The records that import, export and desired states share: one JSON object for each account.

A record has a ``type``, the names that say what it is about (``mail``, ``domain``, ``account`` …),
and the keys of ``view=canonical`` with its values. A password is ``password`` (plain) or
``password_hash``. A key that is missing says nothing about the account.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from iredapi.domain import domains
from iredapi.domain.lists import FLAGS

Record = Mapping[str, Any]
"""A record as it is in a file."""
Sent = dict[str, str | list[str]]
"""Parameters of an operation, as a client sends them."""


class RecordType(StrEnum):
    """Types of records, in the order in which a file has them.

    A file in this order can be read from top to bottom: each record needs only earlier ones.
    """

    DOMAIN = "domain"
    ADMIN = "admin"
    USER = "user"
    ALIAS = "alias"
    ML = "ml"
    MAILLIST = "maillist"
    MEMBERSHIP = "membership"
    THROTTLE = "throttle"
    GREYLISTING = "greylisting"
    WBLIST = "wblist"
    SPAMPOLICY = "spampolicy"


@dataclass(frozen=True, slots=True)
class Format:
    """What records of a type hold, in this order."""

    names: tuple[str, ...]
    """Keys that name what the record is about; each is required."""
    keys: tuple[str, ...]
    """Keys of values; any may be missing."""
    derived: frozenset[str] = frozenset()
    """Keys of the canonical view that follow from other data: an import ignores them."""
    secrets: tuple[str, ...] = ()
    """Keys of passwords: at most one of them."""


_PASSWORDS: Final = ("password_hash", "password")
RIGHTS: Final = "managedDomains"
"""The key of the domains that an admin or user manages; a domain's ``admins`` follow from it."""
FORMATS: Final[Mapping[RecordType, Format]] = MappingProxyType(
    {
        RecordType.DOMAIN: Format(
            ("domain",),
            (
                "name", "accountStatus", "suspended", "quota", "numberOfUsers", "numberOfAliases",
                "numberOfLists", "defaultQuota", "maxUserQuota", "minPasswordLength",
                "maxPasswordLength", "language", "transport", "is_backupmx", "primarymx",
                "outboundRelay", "senderBcc", "recipientBcc", "catchall", "aliasDomains",
                "services", "disabledDomainProfile", "disabledUserProfile",
                "disabledUserPreference",
            ),
            frozenset(
                {"admins", "existingUsers", "existingAliases", "existingLists", "allocatedQuota"}
                | {"usage"}
            ),
        ),
        RecordType.ADMIN: Format(
            ("mail",),
            (
                "name", "accountStatus", "language", "isGlobalAdmin", "maxDomains", "maxQuota",
                "quotaUnit", "maxUsers", "maxAliases", "maxLists", "disableViewingMailLog",
                "disableManagingQuarantinedMails", RIGHTS,
            ),
            secrets=_PASSWORDS,
        ),
        RecordType.USER: Format(
            ("mail",),
            (
                "name", "gn", "sn", "accountStatus", "suspended", "quota", "language", "employeeid",
                "telephoneNumber", "mobile", "isGlobalAdmin", RIGHTS, "transport", "forwarding",
                "aliases", "senderBcc", "recipientBcc", "services", "mailboxFormat",
                "mailboxFolder", "maildir",
            ),
            frozenset({"usage"}),
            _PASSWORDS,
        ),
        RecordType.ALIAS: Format(
            ("mail",), ("name", "accountStatus", "accessPolicy", "members", "moderators")
        ),
        RecordType.ML: Format(
            ("mail",),
            (
                "name", "accountStatus", "accessPolicy", "is_newsletter", "newsletter_description",
                *FLAGS, "moderate_subscription", "subscription_moderators", "extra_addresses",
                "open_extra_addresses", "owner", "moderators", "max_message_size",
                "subject_prefix", "custom_headers", "remove_headers", "footer_text", "footer_html",
            ),
            # Each subscription is a record of its own.
            frozenset({"subscribers"}),
        ),
        RecordType.MAILLIST: Format(
            ("mail",), ("name", "accessPolicy", "members"), frozenset({"accountStatus"})
        ),
        RecordType.MEMBERSHIP: Format(("list", "mail"), ("subscription",)),
        RecordType.THROTTLE: Format(
            ("account", "direction"), ("period", "msg_size", "max_msgs", "max_quota", "max_rcpts")
        ),
        RecordType.GREYLISTING: Format(("account",), ("status", "senders")),
        RecordType.WBLIST: Format(("account", "direction", "kind"), ("addresses",)),
        RecordType.SPAMPOLICY: Format(
            ("account",),
            (
                "bypass_spam_checks", "bypass_virus_checks", "bypass_banned_checks",
                "bypass_header_checks", "quarantine_spam", "quarantine_virus", "quarantine_banned",
                "quarantine_bad_header", "prefix_spam_in_subject", "always_insert_x_spam_headers",
                "spam_score", "banned_rulenames",
            ),
        ),
    }
)  # fmt: skip
"""``account`` of a policy is ``global``, a domain or an address, as in the paths of the API."""


def ordered(record_type: RecordType, values: Record) -> dict[str, Any]:
    """Return a record as a file has it: only known keys, in their order, nothing that is null."""
    form = FORMATS[record_type]
    keys = (*form.names, *form.secrets, *form.keys)
    found = {key: values[key] for key in keys if values.get(key) is not None}
    return {"type": str(record_type), **found}


def names_of(record_type: RecordType, record: Record) -> tuple[str, ...]:
    """Return what a record is about, folded; a name that is missing is empty."""
    return tuple(str(record.get(name) or "").strip().lower() for name in FORMATS[record_type].names)


_SWITCHED: Final[Mapping[str, tuple[str, str, Collection[str]]]] = MappingProxyType(
    {
        "disabledDomainProfile": ("disableDomainProfile", "enableDomainProfile", domains.PROFILES),
        "disabledUserProfile": ("disableUserProfile", "enableUserProfile", domains.USER_PROFILES),
        "disabledUserPreference": (
            "disableUserPreference",
            "enableUserPreference",
            domains.USER_PREFERENCES,
        ),
    }
)
"""Keys of sets, of which parameters name what comes and what goes."""
WRITTEN_AS: Final[Mapping[str, str]] = MappingProxyType(
    {"suspend": "suspended"} | {coming: key for key, (coming, _, _) in _SWITCHED.items()}
)
"""Parameters that have another name than the key of the record, with that key."""


def parameters(record_type: RecordType, values: Record) -> Sent:
    """Return the parameters of the operations that write these values; null is left out.

    Names, passwords and keys that no record has are passed on as they are.
    """
    found: Sent = {}
    for key, value in values.items():
        if value is None:
            continue
        if key == "suspended":
            found["suspend"] = _sent(value)
        elif key in _SWITCHED:
            coming, going, every = _SWITCHED[key]
            words = _words(value)
            found[coming] = words
            found[going] = sorted(frozenset(every) - frozenset(words))
        elif key in _JOINED and isinstance(value, list):
            found[key] = _JOINED[key](map(str, value))
        else:
            found[key] = _sent(value)
    if record_type is RecordType.DOMAIN:
        _choose_transport(found)
    return found


_JOINED: Final[Mapping[str, Callable[[Iterable[str]], str]]] = MappingProxyType(
    {"telephoneNumber": ",".join, "mobile": ",".join, "custom_headers": "\n".join}
)
"""Keys of lists that the parameter takes as one text."""


def _choose_transport(found: Sent) -> None:
    """Of a domain the transport, or the primary MX: parameters that exclude each other."""
    if "transport" not in found:
        if found.get("is_backupmx", "no") == "no":
            found.pop("primarymx", None)
    elif found.get("is_backupmx") == "yes":
        del found["transport"]
        if not found.get("primarymx"):
            found.pop("primarymx", None)
    else:
        found.pop("is_backupmx", None)
        found.pop("primarymx", None)


def _sent(value: Any) -> str | list[str]:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return [str(item) for item in value]
    return str(value)


def _words(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(item) for item in value]
    return [word for word in str(value).replace(",", " ").split() if word]
