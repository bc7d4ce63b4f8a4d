"""Subscribable mailing lists: the two records of one list, and how they are shown.

``MailingList`` is what the account storage holds (who gets mail to the list, what iRedAPD reads);
``Control`` is what mlmmj obeys. Owners, moderators, extra addresses, name and size limit are in
both.
"""

from __future__ import annotations

import re
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
"""Who may send to a list. iRedAPD enforces domain and subdomain, mlmmj the last two."""
BY_IREDAPD: Final = frozenset({"domain", "subdomain"})
VERSIONS: Final = ("normal", "digest", "nomail")
"""How a subscriber gets posts: each, collected, not at all."""

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
"""Switches of mlmmj, in the API's words."""
DEFAULT_FLAGS: Final = frozenset(
    {
        "disable_retrieving_old_posts",
        "only_subscriber_can_get_old_posts",
        "disable_retrieving_subscribers",
        "disable_send_copy_to_sender",
    }
)
"""What is on in a new list, beside who may post."""
ROLE_PARAMETERS: Final = ("owner", "moderators", "subscription_moderators")
"""Parameters that name people with rights over a list."""

MAX_SIZE: Final = 2**31 - 1
"""Largest ``max_message_size``: mlmmj 1.3 cuts more to 32 bits, and then refuses every post."""
MAX_INVITATIONS: Final = 1000
"""Most subscribers whom one request asks to confirm: each is a mail."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class MailingList:
    """What rows or an entry hold of a list. Size in bytes, 0 is unlimited."""

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
    """What mlmmj obeys. ``flags`` are those of ``FLAGS`` that are on; sizes as above.

    People and extra addresses that were read are sorted. Subject prefix and headers are as they go
    into mail.
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
    """Who gets a list's posts, and in which of ``VERSIONS``."""

    mail: str
    version: str = "normal"


@dataclass(frozen=True, slots=True)
class State:
    """A whole list: both records."""

    stored: MailingList
    control: Control


# Names and addresses -----------------------------------------------------------------------------


def is_safe(address: str) -> bool:
    """Tell whether a list's address names one directory of the spool, and cannot leave it."""
    name = local_part_of(address)
    return bool(_NAME.fullmatch(name)) and ".." not in name and "/" not in domain_of(address)


def stored_subscriber(text: str) -> str:
    """Return how somebody may be subscribed already, as GET shows it: perhaps no address at all."""
    try:
        return existing_mail(text)
    except InvalidAddress:
        return text.strip().lower()


def is_address(text: str) -> bool:
    """Tell whether a subscriber's text can be one of an address."""
    try:
        return existing_mail(text) == text
    except InvalidAddress:
        return False


# Answers -----------------------------------------------------------------------------------------


def _yes(value: object) -> str:
    return "yes" if value else "no"


def stored_to_response(item: MailingList) -> dict[str, Any]:
    """Return what lists of lists show: the account storage's part, whichever it is."""
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
    """Return a list's profile: what mlmmj obeys is shown as it is on disk."""
    return stored_to_response(item) | {
        "max_message_size": control.max_message_size,
        "owner": list(control.owners),
        "moderators": list(control.moderators),
        "subscription_moderators": list(control.subscription_moderators),
        "moderate_subscription": _yes(control.moderate_subscription),
        "extra_addresses": list(control.extra_addresses),
        "subject_prefix": list_footers.decoded(control.subject_prefix),
        "custom_headers": [list_footers.shown_header(line) for line in control.custom_headers],
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
    """Name what is different of a list; without ``control`` in the account storage."""

    def every(item: MailingList, control: Control | None) -> dict[str, Any]:
        return stored_to_response(item) if control is None else to_response(item, control)

    old, new = every(before, before_control), every(after, after_control)
    # Times are not what a list is changed in.
    return {name for name in new if old[name] != new[name]} - {"created", "modified"}


def drift(item: MailingList, control: Control) -> list[str]:
    """Name what the account storage and the list server disagree about."""
    pairs = {
        "name": (item.name, control.name),
        "max_message_size": (item.max_message_size, control.max_message_size),
        "owner": (item.owners, frozenset(control.owners)),
        "moderators": (item.moderators, frozenset(control.moderators)),
        "extra_addresses": (item.extra_addresses, frozenset(control.extra_addresses)),
    }
    return [name for name, (stored, obeyed) in pairs.items() if _kept(stored) != _kept(obeyed)]


def _kept(value: object) -> object:
    return frozenset(map(fold, value)) if isinstance(value, frozenset) else value
