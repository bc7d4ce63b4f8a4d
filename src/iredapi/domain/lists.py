"""Subscribable mailing lists: the two records of one list, and their rules.

``MailingList`` is what the account storage holds (who gets mail to the list, what iRedAPD reads);
``Control`` is what mlmmj obeys. Owners, moderators, extra addresses, name and size limit are in
both.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from iredapi.domain.addresses import (
    InvalidAddress,
    domain_of,
    existing_mail,
    local_part_of,
    new_account,
    unique,
)
from iredapi.errors import InvalidParameters, Problem, problem

POLICIES: Final = ("public", "domain", "subdomain", "membersonly", "moderatorsonly")
"""Who may send to a list. iRedAPD enforces domain and subdomain, mlmmj the last two."""
LEGACY_POLICIES: Final[Mapping[str, str]] = {"allowedonly": "moderatorsonly"}
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
_POSTERS: Final[Mapping[str, str]] = {
    "membersonly": "only_subscriber_can_post",
    "moderatorsonly": "only_moderator_can_post",
}
_STORED: Final = frozenset({"account_status", "newsletter_description"})
"""Parameters that the account storage alone holds."""
OFFICES: Final = ("owner", "moderators", "subscription_moderators")
"""Parameters that name people with rights over a list."""

MAX_INVITATIONS: Final = 1000
"""Most subscribers whom one request asks to confirm: each is a mail."""
MAX_FOOTER: Final = 64 * 1024
"""Characters."""
MAX_HEADERS: Final = 50

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,76}")
_TAG = re.compile(r"<[^<>]*>")


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
    """What mlmmj obeys. ``flags`` are those of ``FLAGS`` that are on; sizes as above."""

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


def new_list(text: str) -> str:
    """Return the address of a new list. Raises InvalidAddress."""
    address = new_account(text)
    if not is_safe(address):
        raise InvalidAddress("a list's name has letters, digits, dots, dashes and underscores")
    return address


def subscriber(text: str) -> str:
    """Return the address of somebody who may be subscribed already: lenient. InvalidAddress."""
    mail = existing_mail(text)
    if "," in mail:
        raise InvalidAddress("an address has no comma")
    return mail


# Texts -------------------------------------------------------------------------------------------


def fixed_headers(address: str) -> tuple[str, ...]:
    """Return the headers that every list adds to its posts."""
    name, domain = local_part_of(address), domain_of(address)
    return (
        "Precedence: bulk",
        f"List-Id: <{address}>",
        f"Reply-To: {address}",
        f"List-Post: <mailto:{address}>",
        f"List-Subscribe: <mailto:{name}+subscribe@{domain}>",
        f"List-Unsubscribe: <mailto:{name}+unsubscribe@{domain}>",
    )


def headers(text: str) -> tuple[str, ...]:
    """Return the lines of ``custom_headers``: separated by line feeds or the two characters "\\n".

    Raises ValueError for a line that is no header: what follows a CR would be one of its own.
    """
    lines = text.replace("\\r\\n", "\n").replace("\\n", "\n").replace("\r\n", "\n").split("\n")
    found = []
    for line in filter(None, map(str.strip, lines)):
        name, colon, value = line.partition(":")
        if not colon or not _HEADER.fullmatch(name) or not value.strip().isprintable():
            raise ValueError(f"{line[:80]!r} is not a header such as X-Team: sales")
        if len(line) > 900:
            raise ValueError("a header has at most 900 characters")
        found.append(line)
    if len(found) > MAX_HEADERS:
        raise ValueError(f"more than {MAX_HEADERS} headers")
    return unique(found)


def header_name(text: str) -> str:
    """Return a header's name with the colon that mlmmj wants. Raises ValueError."""
    name = text.removesuffix(":")
    if not _HEADER.fullmatch(name):
        raise ValueError("not the name of a header")
    return f"{name}:"


def footer(text: str) -> str:
    """Return a footer with plain line feeds. Raises ValueError."""
    text = text.replace("\r\n", "\n").strip()
    if len(text) > MAX_FOOTER:
        raise ValueError(f"a footer has at most {MAX_FOOTER} characters")
    if not all(character.isprintable() or character in "\n\t" for character in text):
        raise ValueError("a footer has no control characters")
    return text


def _custom_headers(address: str, present: Iterable[str], sent: Iterable[str]) -> tuple[str, ...]:
    """Return own headers with the fixed ones, which may be sent back but not be changed."""
    fixed = {_named(line): line for line in (*fixed_headers(address), *present)}
    fixed = {name: fixed[name] for name in _FIXED}
    own = []
    for line in sent:
        name = _named(line)
        if name not in fixed:
            own.append(line)
        elif _content(line) != _content(fixed[name]):
            raise problem(
                "custom_headers", "INVALID_VALUE", f"Every list has its own {name}: header."
            )
    return tuple(sorted([*own, *fixed.values()]))


def own_headers(lines: Iterable[str]) -> tuple[str, ...]:
    """Return headers without the fixed ones."""
    return tuple(line for line in lines if _named(line) not in _FIXED)


def _named(line: str) -> str:
    return line.partition(":")[0].strip().lower()


def _content(line: str) -> str:
    return line.partition(":")[2].strip()


_FIXED: Final = frozenset(_named(line) for line in fixed_headers("@"))


def _footers(before: Control, changes: Mapping[str, Any]) -> tuple[str, str]:
    """Return both footers: iRedMail's wrapper applies them only when both are there.

    The one that is not sent is made from the other; clearing one clears both.
    """
    if not changes.keys() & {"footer_text", "footer_html"}:
        return before.footer_text, before.footer_html
    text, markup = changes.get("footer_text", ""), changes.get("footer_html", "")
    old_text, old_markup = before.footer_text, before.footer_html
    if "footer_text" not in changes and markup:
        derived = not old_text or old_text == _as_text(old_markup)
        text = _as_text(markup) if derived else old_text
    if "footer_html" not in changes and text:
        derived = not old_markup or old_markup == _as_html(old_text)
        markup = _as_html(text) if derived else old_markup
    if text and not markup:
        markup = _as_html(text)
    if markup and not text:
        text = _as_text(markup)
    return text, markup


def _as_html(text: str) -> str:
    return f"<p>{html.escape(text)}</p>".replace("\n", "<br>\n") if text else ""


def _as_text(markup: str) -> str:
    # A footer of pictures only still needs a text: without one, the wrapper applies neither.
    return (html.unescape(_TAG.sub("", markup)).strip() or "--") if markup else ""


# Rules -------------------------------------------------------------------------------------------


def merged(read: MailingList, after: MailingList, held: MailingList) -> MailingList:
    """Return what is held now with what was to change since it was read."""
    changes = {
        item.name: getattr(after, item.name)
        for item in fields(MailingList)
        if getattr(after, item.name) != getattr(read, item.name)
    }
    return replace(held, **changes)


def needs_server(changes: Mapping[str, Any], before: MailingList) -> bool:
    """Tell whether a change reaches what mlmmj obeys, or only the account storage."""
    for name, value in changes.items():
        if name in _STORED or name in {"require_confirm", "subscription"}:
            continue
        if name == "access_policy" and not {value, before.access_policy} & _POSTERS.keys():
            continue
        return True
    return False


def draft(address: str, changes: Mapping[str, Any], mlid: str, transport: str) -> State:
    """Return a new list from what was sent. Raises InvalidParameters."""
    domain = domain_of(address)
    postmaster = (f"postmaster@{domain}",)
    if changes.get("moderated") and not changes.keys() & {"owner", "moderators"}:
        raise problem(
            "moderated", "MISSING_COMPANION", "Send owner or moderators: who is to moderate?"
        )
    stored = MailingList(
        address,
        mlid=mlid,
        transport=f"{transport}:{domain}/{local_part_of(address)}",
        owners=frozenset(postmaster),
        moderators=frozenset(postmaster),
    )
    control = Control(
        flags=DEFAULT_FLAGS | {"only_subscriber_can_post"},
        owners=postmaster,
        moderators=postmaster,
        custom_headers=_custom_headers(address, (), ()),
    )
    if changes.get("moderated") and "moderators" not in changes:
        # The owners moderate, not the default moderator.
        control = replace(control, moderators=())
    return revise(State(stored, control), changes)


def revise(before: State, changes: Mapping[str, Any]) -> State:
    """Return the list as it is to be. Raises InvalidParameters."""
    stored, control = before.stored, before.control
    policy, posters = _access(before, changes)
    flags = {name for name in FLAGS if changes.get(name, name in control.flags)}
    flags = (flags - set(_POSTERS.values())) | posters
    owners = changes.get("owner", control.owners)
    moderators = _moderators(control, changes, owners, moderated="moderated" in flags)
    text, markup = _footers(control, changes)
    headers_ = control.custom_headers
    if "custom_headers" in changes:
        headers_ = _custom_headers(
            stored.address, control.custom_headers, changes["custom_headers"]
        )
    moderate, gatekeepers = _gate(control, changes)
    extra = tuple(
        item
        for item in changes.get("extra_addresses", control.extra_addresses)
        if item != stored.address
    )
    size = changes.get("max_message_size", control.max_message_size)
    return State(
        replace(
            stored,
            name=changes.get("name", stored.name),
            active=changes.get("account_status", stored.active),
            access_policy=policy,
            newsletter=changes.get("is_newsletter", stored.newsletter),
            description=changes.get("newsletter_description", stored.description),
            max_message_size=changes.get("max_message_size", stored.max_message_size),
            owners=frozenset(owners) if "owner" in changes else stored.owners,
            moderators=(
                frozenset(moderators)
                if "moderators" in changes or moderators != control.moderators
                else stored.moderators
            ),
            extra_addresses=(
                frozenset(extra) if "extra_addresses" in changes else stored.extra_addresses
            ),
        ),
        replace(
            control,
            name=changes.get("name", stored.name),
            flags=frozenset(flags),
            owners=owners,
            moderators=moderators,
            moderate_subscription=moderate,
            subscription_moderators=gatekeepers,
            extra_addresses=extra,
            max_message_size=size,
            subject_prefix=changes.get("subject_prefix", control.subject_prefix),
            custom_headers=headers_,
            remove_headers=tuple(sorted(changes.get("remove_headers", control.remove_headers))),
            footer_text=text,
            footer_html=markup,
            newsletter=changes.get("is_newsletter", control.newsletter),
        ),
    )


def revise_stored(before: MailingList, changes: Mapping[str, Any]) -> MailingList:
    """Return the stored record after a change that does not reach the list server."""
    return replace(
        before,
        active=changes.get("account_status", before.active),
        access_policy=changes.get("access_policy", before.access_policy),
        description=changes.get("newsletter_description", before.description),
    )


def _access(before: State, changes: Mapping[str, Any]) -> tuple[str, set[str]]:
    """Return the policy, and the flag (at most one) that makes mlmmj enforce it.

    A policy decides the flags, or flags the policy. Raises InvalidParameters when both were sent
    and contradict each other.
    """
    moderators, subscribers = "only_moderator_can_post", "only_subscriber_can_post"
    sent = {name: changes[name] for name in (moderators, subscribers) if name in changes}
    if "access_policy" in changes:
        policy = changes["access_policy"]
        flag = _POSTERS.get(policy, "")
        wrong = [name for name, value in sent.items() if value != (name == flag)]
        # Both on: the narrower one counts, and it is the policy's.
        if flag == moderators and sent.get(moderators):
            wrong = []
        if wrong:
            raise InvalidParameters(
                *(
                    Problem(name, "CONFLICTING_PARAMETERS", f"accessPolicy={policy} says otherwise")
                    for name in ("access_policy", *wrong)
                )
            )
        return policy, {flag} - {""}
    now = before.control.flags & set(_POSTERS.values())
    if not sent:
        return before.stored.access_policy or "public", set(now)
    flags = (set(now) | {name for name, value in sent.items() if value}) - {
        name for name, value in sent.items() if not value
    }
    if sent.get(moderators):
        return "moderatorsonly", {moderators}
    if sent.get(subscribers):
        return "membersonly", {subscribers}
    if moderators in flags:
        return "moderatorsonly", {moderators}
    if subscribers in flags:
        return "membersonly", {subscribers}
    policy = before.stored.access_policy
    return ("public" if policy in _POSTERS or not policy else policy), set()


def _moderators(
    control: Control, changes: Mapping[str, Any], owners: Iterable[str], *, moderated: bool
) -> tuple[str, ...]:
    """Return the moderators; the owners, when posts are moderated and nobody else is named.

    Without any, mlmmj would keep posts and tell nobody.
    """
    moderators: tuple[str, ...] = changes.get("moderators", control.moderators)
    if not moderated or moderators:
        return moderators
    found = tuple(owners)
    if not found:
        raise problem(
            "moderated", "MISSING_COMPANION", "A moderated list needs a moderator or an owner."
        )
    return found


def _gate(control: Control, changes: Mapping[str, Any]) -> tuple[bool, tuple[str, ...]]:
    """Return whether subscriptions are moderated, and by whom; nobody named: by the owners."""
    if changes.get("moderate_subscription") is False:
        return False, ()
    if "subscription_moderators" in changes:
        named = changes["subscription_moderators"]
        return changes.get("moderate_subscription", bool(named)), named
    if changes.get("moderate_subscription"):
        return True, control.subscription_moderators
    return control.moderate_subscription, control.subscription_moderators


# Answers -----------------------------------------------------------------------------------------


def _yes(value: object) -> str:
    return "yes" if value else "no"


def shown_stored(item: MailingList) -> dict[str, Any]:
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
        "owner": sorted(item.owners),
        "moderators": sorted(item.moderators),
        "extra_addresses": sorted(item.extra_addresses),
    }


def shown(item: MailingList, control: Control) -> dict[str, Any]:
    """Return a list's profile: what mlmmj obeys is shown as it is on disk."""
    return shown_stored(item) | {
        "max_message_size": control.max_message_size,
        "owner": list(control.owners),
        "moderators": list(control.moderators),
        "subscription_moderators": list(control.subscription_moderators),
        "moderate_subscription": _yes(control.moderate_subscription),
        "extra_addresses": list(control.extra_addresses),
        "subject_prefix": control.subject_prefix,
        "custom_headers": list(control.custom_headers),
        "remove_headers": list(control.remove_headers),
        "footer_text": control.footer_text,
        "footer_html": control.footer_html,
        **{name: _yes(name in control.flags) for name in FLAGS},
    }


def drift(item: MailingList, control: Control) -> list[str]:
    """Name what the account storage and the list server disagree about."""
    pairs = {
        "name": (item.name, control.name),
        "max_message_size": (item.max_message_size, control.max_message_size),
        "owner": (item.owners, frozenset(control.owners)),
        "moderators": (item.moderators, frozenset(control.moderators)),
        "extra_addresses": (item.extra_addresses, frozenset(control.extra_addresses)),
    }
    return [name for name, (stored, obeyed) in pairs.items() if stored != obeyed]


# People ------------------------------------------------------------------------------------------


def succeed(
    address: str, control: Control, successor: Callable[[str], str]
) -> dict[str, tuple[str, ...] | bool]:
    """Return the changes of a list when people go or get another address.

    ``successor`` returns somebody's new address, or an empty text. A moderated list keeps a
    moderator: the postmaster, when nobody else is left.
    """
    before = {
        "owner": control.owners,
        "moderators": control.moderators,
        "subscription_moderators": control.subscription_moderators,
    }
    after = {name: unique(filter(None, map(successor, people))) for name, people in before.items()}
    changes: dict[str, tuple[str, ...] | bool] = {
        name: people for name, people in after.items() if people != before[name]
    }
    if changes.get("subscription_moderators") == ():
        changes["moderate_subscription"] = True  # the owners do it now
    if "moderated" in control.flags and not after["moderators"] and not after["owner"]:
        changes["moderators"] = (f"postmaster@{domain_of(address)}",)
    return changes
