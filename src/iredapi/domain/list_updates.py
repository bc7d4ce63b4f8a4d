"""Changes of subscribable mailing lists: new versions of both records, and their rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import fields, replace
from typing import Any, Final

from iredapi.domain import list_footers
from iredapi.domain.addresses import domain_of, fold, local_part_of, unique
from iredapi.domain.features import Feature
from iredapi.domain.lists import BY_IREDAPD, DEFAULT_FLAGS, FLAGS, Control, MailingList, State
from iredapi.errors import InvalidParameters, Problem, problem

_POSTERS: Final[Mapping[str, str]] = {
    "membersonly": "only_subscriber_can_post",
    "moderatorsonly": "only_moderator_can_post",
}
_STORED: Final = frozenset({"account_status", "newsletter_description"})
"""Parameters that only the account storage has."""
_MODIFIERS: Final = frozenset({"require_confirm", "subscription", "open_extra_addresses"})
"""Parameters that modify the meaning of others."""


def merge_changes(read: MailingList, after: MailingList, held: MailingList) -> MailingList:
    """Return the record that is locked now, with the changes made to the one that was read."""
    changes = {
        item.name: getattr(after, item.name)
        for item in fields(MailingList)
        if getattr(after, item.name) != getattr(read, item.name)
    }
    return replace(held, **changes)


def needs_server(changes: Mapping[str, Any], before: MailingList) -> bool:
    """Tell whether a change concerns the list server; otherwise only the account storage."""
    for name, value in changes.items():
        if name in _STORED or name in _MODIFIERS:
            continue
        if name == "access_policy" and not {value, before.access_policy} & _POSTERS.keys():
            continue
        return True
    return False


def check_extra_addresses(
    before: MailingList, after: MailingList, changes: Mapping[str, Any], features: Set[Feature]
) -> None:
    """Refuse a policy that iRedAPD would not apply to the extra addresses of a list.

    iRedAPD 6.1 looks up lists in SQL by the recipient address. For an extra address it finds no
    policy and accepts mail from everybody. ``open_extra_addresses=yes`` allows it; a list that is
    stored like that may keep it.
    """
    if (
        Feature.EXTRA_ADDRESS_POLICIES in features
        or changes.get("open_extra_addresses")
        or after.access_policy not in BY_IREDAPD
        or not after.extra_addresses
        or (before.access_policy in BY_IREDAPD and after.extra_addresses <= before.extra_addresses)
    ):
        return
    detail = (
        f"accessPolicy={after.access_policy} would not apply to extra_addresses: everybody could "
        "send to them. Send open_extra_addresses=yes to have both."
    )
    raise InvalidParameters(
        *(
            Problem(name, "CONFLICTING_PARAMETERS", detail)
            for name in ("access_policy", "extra_addresses")
        )
    )


def draft(address: str, changes: Mapping[str, Any], mlid: str, transport: str) -> State:
    """Return a new list. Raises InvalidParameters."""
    domain = domain_of(address)
    postmaster = (f"postmaster@{domain}",)
    if changes.get("moderated") and not changes.keys() & {"owner", "moderators"}:
        raise problem(
            "moderated", "MISSING_COMPANION", "A moderated list needs owner or moderators."
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
        custom_headers=list_footers.custom_headers(address, (), ()),
    )
    if changes.get("moderated") and "moderators" not in changes:
        # The sent owners moderate, not the default moderator (the postmaster).
        control = replace(control, moderators=())
    return revise(State(stored, control), changes)


def revise(before: State, changes: Mapping[str, Any]) -> State:
    """Return the changed list. Raises InvalidParameters."""
    stored, control = before.stored, before.control
    policy, posters = _access(before, changes)
    flags = {name for name in FLAGS if changes.get(name, name in control.flags)}
    flags = (flags - set(_POSTERS.values())) | posters
    owners = _addresses(changes, "owner", control.owners)
    moderators = _moderators(control, changes, owners, moderated="moderated" in flags)
    text, markup = list_footers.footers(control.footer_text, control.footer_html, changes)
    headers_ = control.custom_headers
    if "custom_headers" in changes:
        headers_ = list_footers.custom_headers(
            stored.address, control.custom_headers, changes["custom_headers"]
        )
    moderate, subscription_moderators = _subscription_moderators(control, changes)
    extra = tuple(
        sorted(
            item
            for item in set(changes.get("extra_addresses", control.extra_addresses))
            if fold(item) != fold(stored.address)
        )
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
            # As mlmmjadmin stores them: owners sorted, moderators in the order that was sent.
            owners=tuple(sorted(owners)),
            moderators=moderators,
            moderate_subscription=moderate,
            subscription_moderators=subscription_moderators,
            extra_addresses=extra,
            max_message_size=size,
            subject_prefix=(
                list_footers.encoded(changes["subject_prefix"])
                if "subject_prefix" in changes
                else control.subject_prefix
            ),
            custom_headers=headers_,
            remove_headers=tuple(sorted(changes.get("remove_headers", control.remove_headers))),
            footer_text=text,
            footer_html=markup,
            newsletter=changes.get("is_newsletter", control.newsletter),
        ),
    )


def revise_stored(before: MailingList, changes: Mapping[str, Any]) -> MailingList:
    """Return the stored record after a change that does not concern the list server."""
    return replace(
        before,
        active=changes.get("account_status", before.active),
        access_policy=changes.get("access_policy", before.access_policy),
        description=changes.get("newsletter_description", before.description),
    )


def _access(before: State, changes: Mapping[str, Any]) -> tuple[str, set[str]]:
    """Return the access policy, and the flag (at most one) with which mlmmj enforces it.

    The flag follows from a sent policy, or the policy from sent flags. Raises InvalidParameters
    when both were sent and contradict each other.
    """
    moderators, subscribers = "only_moderator_can_post", "only_subscriber_can_post"
    sent = {name: changes[name] for name in (moderators, subscribers) if name in changes}
    if "access_policy" in changes:
        policy = changes["access_policy"]
        flag = _POSTERS.get(policy, "")
        wrong = [name for name, value in sent.items() if value != (name == flag)]
        # With both flags on, the stricter one applies, and it is the policy's.
        if flag == moderators and sent.get(moderators):
            wrong = []
        if wrong:
            raise InvalidParameters(
                *(
                    Problem(
                        name,
                        "CONFLICTING_PARAMETERS",
                        f"accessPolicy={policy} needs another value",
                    )
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


def _addresses(changes: Mapping[str, Any], param: str, present: tuple[str, ...]) -> tuple[str, ...]:
    """Return the addresses of a parameter; another order of the same ones is no change."""
    sent: tuple[str, ...] = changes.get(param, present)
    return present if frozenset(sent) == frozenset(present) else sent


def _moderators(
    control: Control, changes: Mapping[str, Any], owners: Iterable[str], *, moderated: bool
) -> tuple[str, ...]:
    """Return the moderators; the owners, when posts are moderated and there are no moderators.

    Without any, mlmmj would keep the posts and notify nobody. Raises InvalidParameters.
    """
    moderators = _addresses(changes, "moderators", control.moderators)
    if not moderated or moderators:
        return moderators
    found = tuple(owners)
    if not found:
        raise problem(
            "moderated", "MISSING_COMPANION", "A moderated list needs a moderator or an owner."
        )
    return found


def _subscription_moderators(
    control: Control, changes: Mapping[str, Any]
) -> tuple[bool, tuple[str, ...]]:
    """Return whether subscriptions are moderated, and the moderators; none: the owners."""
    if changes.get("moderate_subscription") is False:
        return False, ()
    if "subscription_moderators" in changes:
        named = _addresses(changes, "subscription_moderators", control.subscription_moderators)
        return changes.get("moderate_subscription", bool(named)), named
    if changes.get("moderate_subscription"):
        return True, control.subscription_moderators
    return control.moderate_subscription, control.subscription_moderators


def owners_and_moderators(control: Control) -> frozenset[str]:
    """Return all owners, moderators and subscription moderators of a list."""
    return frozenset((*control.owners, *control.moderators, *control.subscription_moderators))


def with_successors(
    address: str, control: Control, successor: Callable[[str], str]
) -> dict[str, tuple[str, ...] | bool]:
    """Return the changes of a list whose owners or moderators are removed or renamed.

    ``successor`` returns the new address of an owner or moderator; empty: it is removed. A
    moderated list keeps a moderator: the postmaster, when no owner or moderator is left.
    """
    before = {
        "owner": control.owners,
        "moderators": control.moderators,
        "subscription_moderators": control.subscription_moderators,
    }
    after = {
        name: unique(filter(None, map(successor, addresses))) for name, addresses in before.items()
    }
    changes: dict[str, tuple[str, ...] | bool] = {
        name: addresses for name, addresses in after.items() if addresses != before[name]
    }
    if changes.get("subscription_moderators") == ():
        changes["moderate_subscription"] = True  # by the owners
    if "moderated" in control.flags and not after["moderators"] and not after["owner"]:
        changes["moderators"] = (f"postmaster@{domain_of(address)}",)
    return changes
