"""Subscribable mailing lists: the two records of a list, and their responses.

``MailingList`` is the record of the account storage (delivery of mail to the list, what iRedAPD
reads); ``Control`` is the configuration of mlmmj. Owners, moderators, extra addresses, name and
maximum message size are in both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from iredapi.domain import list_footers
from iredapi.domain.addresses import (
    InvalidAddress,
    domain_of,
    existing_mail,
    fold,
    local_part_of,
)

POLICIES: Final = ("public", "domain", "subdomain", "membersonly", "moderatorsonly")
"""Access policies (who may send). iRedAPD enforces domain and subdomain, mlmmj the last two."""
BY_IREDAPD: Final = frozenset({"domain", "subdomain"})
VERSIONS: Final = ("normal", "digest", "nomail")
"""How a subscriber gets posts: each one, as digests, none."""

FLAGS: Final = (
    "close_list",
    "only_moderator_can_post",
    "only_subscriber_can_post",
    "disable_subscription",
    "disable_subscription_confirm",
    "disable_digest_subscription",
    "disable_digest_text",
    "disable_nomail_subscription",
    "moderated",
    "moderate_non_subscriber_post",
    "disable_retrieving_old_posts",
    "only_subscriber_can_get_old_posts",
    "disable_retrieving_subscribers",
    "disable_send_copy_to_sender",
    "notify_owner_when_sub_unsub",
    "notify_sender_when_moderated",
    "disable_archive",
)
"""Switches of mlmmj, by parameter name."""
DEFAULT_FLAGS: Final = frozenset(
    {
        "disable_retrieving_old_posts",
        "only_subscriber_can_get_old_posts",
        "disable_retrieving_subscribers",
        "disable_send_copy_to_sender",
    }
)
"""Flags of a new list, besides those of its access policy."""
ROLE_PARAMETERS: Final = ("owner", "moderators", "subscription_moderators")
"""Parameters with addresses that have rights over a list."""

MAX_SIZE: Final = 2**31 - 1
"""Maximum of ``max_message_size``: mlmmj 1.3 truncates to 32 bits and would refuse every post."""
MAX_INVITATIONS: Final = 1000
"""Maximum number of subscribers that one request asks to confirm: each gets a mail."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class MailingList:
    """The record of the account storage. Size in bytes, 0 is unlimited."""

    address: str
    name: str = ""
    active: bool = True
    access_policy: str = "membersonly"
    newsletter: bool = False
    description: str = ""
    max_message_size: int = 0
    mlid: str = ""
    transport: str = ""
    owners: frozenset[str] = frozenset()
    moderators: frozenset[str] = frozenset()
    extra_addresses: frozenset[str] = frozenset()
    created: str = ""
    modified: str = ""


@dataclass(frozen=True, slots=True)
class Control:
    """The configuration of mlmmj. ``flags`` are those of ``FLAGS`` that are on; sizes as above.

    Addresses that were read are sorted. Subject prefix and headers are encoded as in mail.
    """

    name: str = ""
    flags: frozenset[str] = frozenset()
    owners: tuple[str, ...] = ()
    moderators: tuple[str, ...] = ()
    moderate_subscription: bool = False
    subscription_moderators: tuple[str, ...] = ()
    extra_addresses: tuple[str, ...] = ()
    max_message_size: int = 0
    subject_prefix: str = ""
    custom_headers: tuple[str, ...] = ()
    remove_headers: tuple[str, ...] = ()
    footer_text: str = ""
    footer_html: str = ""
    newsletter: bool = False


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A subscriber of a list; ``version`` is one of ``VERSIONS``."""

    mail: str
    version: str = "normal"


@dataclass(frozen=True, slots=True)
class State:
    """A whole list: both records."""

    stored: MailingList
    control: Control


# Names and addresses -----------------------------------------------------------------------------


def is_safe(address: str) -> bool:
    """Tell whether the directory of a list's address lies directly in the spool."""
    name = local_part_of(address)
    return bool(_NAME.fullmatch(name)) and ".." not in name and "/" not in domain_of(address)


def leads_to(mail: str, addresses: Iterable[str]) -> bool:
    """Tell whether mail to an address reaches one of these, also by an extension (``team+any@``).

    mlmmj uses ``+`` between the name of a list and its commands, as Postfix does on iRedMail.
    """
    name = f"{local_part_of(mail).partition('+')[0]}@{domain_of(mail)}"
    return bool({fold(mail), fold(name)} & set(map(fold, addresses)))


def stored_subscriber(text: str) -> str:
    """Return the text that a subscriber may be stored as; it may not be a valid address."""
    try:
        return existing_mail(text)
    except InvalidAddress:
        return text.strip().lower()


def is_address(text: str) -> bool:
    """Tell whether a subscriber's text is a valid address."""
    try:
        return existing_mail(text) == text
    except InvalidAddress:
        return False


# Responses ----------------------------------------------------------------------------------------


def _yes(value: object) -> str:
    return "yes" if value else "no"


def stored_to_response(item: MailingList) -> dict[str, Any]:
    """Return the response with the account storage's part of a list."""
    return {
        "mail": item.address,
        "domain": domain_of(item.address),
        "name": item.name,
        "accountStatus": "active" if item.active else "disabled",
        "accessPolicy": item.access_policy,
        "is_newsletter": _yes(item.newsletter),
        "newsletter_description": item.description,
        "mlid": item.mlid,
        "transport": item.transport,
        "created": item.created,
        "modified": item.modified,
        "max_message_size": item.max_message_size,
        "owner": sorted(set(map(fold, item.owners))),
        "moderators": sorted(set(map(fold, item.moderators))),
        "extra_addresses": sorted(set(map(fold, item.extra_addresses))),
    }


def to_response(item: MailingList, control: Control) -> dict[str, Any]:
    """Return the response with both parts; where both have a value, mlmmj's is shown."""
    return stored_to_response(item) | {
        "max_message_size": control.max_message_size,
        "owner": list(control.owners),
        "moderators": list(control.moderators),
        "subscription_moderators": list(control.subscription_moderators),
        "moderate_subscription": _yes(control.moderate_subscription),
        "extra_addresses": list(control.extra_addresses),
        "subject_prefix": list_footers.decoded(control.subject_prefix),
        "custom_headers": [
            list_footers.header_to_response(line) for line in control.custom_headers
        ],
        "remove_headers": list(control.remove_headers),
        "footer_text": control.footer_text,
        "footer_html": control.footer_html,
        **{name: _yes(name in control.flags) for name in FLAGS},
    }


def different(
    before: MailingList,
    after: MailingList,
    before_control: Control | None = None,
    after_control: Control | None = None,
) -> set[str]:
    """Return the changed parameters; without ``control`` those of the account storage."""

    def every(item: MailingList, control: Control | None) -> dict[str, Any]:
        return stored_to_response(item) if control is None else to_response(item, control)

    old, new = every(before, before_control), every(after, after_control)
    # Times change with every write.
    return {name for name in new if old[name] != new[name]} - {"created", "modified"}


def drift(item: MailingList, control: Control) -> list[str]:
    """Return the parameters whose values differ in account storage and list server."""
    pairs = {
        "name": (item.name, control.name),
        "max_message_size": (item.max_message_size, control.max_message_size),
        "owner": (item.owners, frozenset(control.owners)),
        "moderators": (item.moderators, frozenset(control.moderators)),
        "extra_addresses": (item.extra_addresses, frozenset(control.extra_addresses)),
    }
    return [name for name, (stored, used) in pairs.items() if _folded(stored) != _folded(used)]


def _folded(value: object) -> object:
    return frozenset(map(fold, value)) if isinstance(value, frozenset) else value
