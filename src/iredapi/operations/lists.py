"""Operations on subscribable mailing lists in the account storage.

``workflows.mailing_lists`` combines them with calls of the list server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from iredapi.backends.protocols.values import Profile
from iredapi.backends.unit_of_work import ReadUnit, Skipped, UnitOfWork
from iredapi.domain import (
    account_settings,
    canonical,
    domains,
    limits,
    list_updates,
    lists,
    revisions,
)
from iredapi.domain.addresses import domain_of, fold, local_part_of, without
from iredapi.domain.audit_events import Kind, Subject, account_event, further_change
from iredapi.domain.domains import Domain
from iredapi.domain.lists import MailingList
from iredapi.errors import Conflict, NotFound, problem
from iredapi.operations import accounts

Usable = tuple[dict[str, Any], tuple[Skipped, ...]]
SUBSCRIBERS = ("subscribers", "add_subscribers")
_CHECKED = ("moderators", "subscription_moderators", *SUBSCRIBERS)
"""Parameters of which mlmmjadmin silently ignores addresses that it does not accept."""
_WHAT = "mailing list"


async def get(unit: ReadUnit, address: str) -> MailingList:
    """Return a list. Raises NotFound."""
    found = await unit.lists.get(address)
    if found is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    return found


async def to_change(unit: ReadUnit, address: str, changes: Mapping[str, Any]) -> MailingList:
    """Return a list with all addresses that a change may remove. Raises NotFound."""
    return await _with_others(unit, await get(unit, address), changes)


async def _with_others(
    unit: ReadUnit, item: MailingList, changes: Mapping[str, Any]
) -> MailingList:
    if "extra_addresses" not in changes:
        return item
    # Postfix also uses rows with the address of the list in another spelling.
    others = await unit.lists.other_addresses(item.address)
    return replace(item, extra_addresses=item.extra_addresses | others)


async def find(unit: ReadUnit, address: str) -> MailingList | None:
    """Return a list, or None."""
    return await unit.lists.get(address)


async def page(unit: ReadUnit, domain: str, after: str, limit: int) -> list[Profile]:
    """Return the profiles of the next lists of a domain, from the account storage only."""
    return [lists.stored_to_response(item) for item in await unit.lists.page(domain, after, limit)]


async def canonical_views(
    unit: ReadUnit, domain: str, after: str, limit: int
) -> list[canonical.CanonicalView]:
    """Return the canonical views of the next lists of a domain."""
    return [canonical.mailing_list(item) for item in await unit.lists.page(domain, after, limit)]


async def addresses(unit: ReadUnit, domain: str, after: str, limit: int) -> list[str]:
    """Return the next addresses of a domain."""
    return await unit.lists.addresses(domain, after, limit)


async def managed_by(
    unit: ReadUnit, mails: Collection[str], domains_: Collection[str]
) -> frozenset[str]:
    """Return lists with these owners or moderators, or with any from these domains."""
    return await unit.lists.managed_by(mails, domains_)


async def exist(unit: ReadUnit) -> bool:
    """Tell whether there may be a list in any domain."""
    return await unit.lists.has_any()


async def defaults(unit: ReadUnit, domain: str) -> list[str]:
    """Return the lists that new users of a domain are subscribed to."""
    found = await unit.domains.get(domain)
    if found is None:
        return []
    # In LDAP one setting has lists of both kinds.
    names = frozenset[str]().union(
        *(
            account_settings.words(found.settings, key)
            for key in ("default_mailing_lists", "default_groups")
        )
    )
    return [name for name in sorted(names) if await unit.lists.get(name) is not None]


async def prepare_new(
    unit: ReadUnit, address: str, changes: Mapping[str, Any], accepts: Callable[[str], bool]
) -> Usable:
    """Return the usable parameters of a request for a new list, and the skipped values."""
    domain = await accounts.get_domain(unit, domain_of(address))
    await accounts.refuse_if_in_use(unit, address, domain)
    await _room(unit, domain)
    return await _usable(unit, domain, MailingList(address), changes, accepts)


async def prepare(
    unit: ReadUnit, before: MailingList, changes: Mapping[str, Any], accepts: Callable[[str], bool]
) -> Usable:
    """Return the usable parameters of a change, and the skipped values."""
    domain = await accounts.get_domain(unit, domain_of(before.address))
    return await _usable(unit, domain, before, changes, accepts)


async def _room(unit: ReadUnit, domain: Domain, *, but: int = 0) -> None:
    if domain.lists:
        usage = await unit.domains.usage(domain.name)
        limits.check_account_limit(domain.lists, usage.lists - but)


async def _usable(
    unit: ReadUnit,
    domain: Domain,
    before: MailingList,
    changes: Mapping[str, Any],
    accepts: Callable[[str], bool],
) -> Usable:
    await _refuse_own(unit, domain, before, changes)
    kept = await accounts.only_existing(unit, domain, changes, lists.ROLE_PARAMETERS)
    for param in _CHECKED:
        for mail in kept.get(param, ()):
            if not accepts(mail):
                unit.skip(param, mail, "INVALID_MAIL")
        if param in kept:
            kept[param] = tuple(mail for mail in kept[param] if accepts(mail))
    named = changes.get("subscription_moderators")
    if named and not kept["subscription_moderators"]:
        # None of the named moderators exists, so the owners moderate subscriptions.
        kept.setdefault("moderate_subscription", True)
    if "extra_addresses" in kept:
        used = await _used(unit, domain, before, kept["extra_addresses"], unit.domains.get)
        for address in sorted(used):
            unit.skip("extra_addresses", address, "ALREADY_EXISTS")
        kept["extra_addresses"] = tuple(
            item for item in kept["extra_addresses"] if item not in used
        )
    return kept, tuple(unit.skipped)


async def _refuse_own(
    unit: ReadUnit, domain: Domain, before: MailingList, changes: Mapping[str, Any]
) -> None:
    """Refuse a list that is to be sent its own posts, notices or requests of moderation.

    mlmmj-sub 1.5 fails on the list's main address and 1.3 ignores it; mail to the other addresses
    would go round in circles. Owners and moderators that are stored already may be sent again.
    """
    sent = [
        (param, mail)
        for param in (*lists.ROLE_PARAMETERS, *SUBSCRIBERS)
        for mail in without(changes.get(param, ()), _stored_people(before, param))
    ]
    if not sent:
        return
    own = {before.address, *before.extra_addresses, *changes.get("extra_addresses", ())}
    names = set()
    for name in {domain_of(address) for address in own}:
        found = domain if name in domain.names else await unit.domains.get(name)
        # Mail to a primary domain's address is taken in its alias domains, too.
        aliases = found.names if found is not None and found.name == name else {name}
        names |= {
            f"{local_part_of(address)}@{alias}"
            for address in own
            if domain_of(address) == name
            for alias in aliases
        }
    for param, mail in sorted(sent):
        if lists.leads_to(mail, names):
            raise problem(param, "OWN_ADDRESS", f"{mail} is an address of the list itself.")


def _stored_people(before: MailingList, param: str) -> frozenset[str]:
    stored = {"owner": before.owners, "moderators": before.moderators}
    return stored.get(param, frozenset())


async def _used(
    unit: ReadUnit,
    domain: Domain,
    before: MailingList,
    extra: Collection[str],
    find_domain: Callable[[str], Awaitable[Domain | None]],
) -> set[str]:
    """Return new extra addresses that are in use; refuse those in domains of others."""
    wanted = without(extra, {*before.extra_addresses, before.address})
    for name in sorted({domain_of(address) for address in wanted} - domain.live_names):
        if not unit.actor.manages(name) or await find_domain(name) is None:
            raise problem(
                "extra_addresses", "INVALID_DOMAIN_NAME", f"{name} is not a domain of yours."
            )
    # An address in the primary domain also receives mail in its alias domains.
    names = {
        address: {address} | {f"{local_part_of(address)}@{name}" for name in domain.names}
        if domain_of(address) in domain.names
        else {address}
        for address in wanted
    }
    asked = sorted({name for group in names.values() for name in group})
    if not asked:
        return set()
    own = {*map(fold, before.extra_addresses), fold(before.address)}
    taken = await unit.addresses.in_use(asked) | await unit.admins.exists(sorted(wanted))
    return {address for address in wanted if address in taken or names[address] & taken - own}


async def _lock_extra(
    unit: UnitOfWork, domain: Domain, before: MailingList, after: MailingList
) -> None:
    used = await _used(unit, domain, before, after.extra_addresses, unit.domains.claim)
    if used:
        raise Conflict("ALREADY_EXISTS", f"{min(used)} is in use.")


async def add(unit: UnitOfWork, item: MailingList) -> None:
    """Add a new list to the account storage, so that it gets mail; its spool is ready."""
    domain = await accounts.claim_domain(unit, domain_of(item.address))
    # mlmmjadmin may have added rows: its SQL and LDAP backends do.
    present = await unit.lists.claim(item.address)
    if present is None:
        await accounts.refuse_if_in_use(unit, item.address, domain)
    await _room(unit, domain, but=0 if present is None else 1)
    await _lock_extra(unit, domain, MailingList(item.address), item)
    if present is None:
        await unit.lists.add(item)
    else:
        await unit.lists.save(
            present, replace(item, created=present.created, modified=present.modified)
        )
    unit.note(account_event(Kind.CREATE, _WHAT, item.address, subject=Subject.LIST))


async def save(
    unit: UnitOfWork,
    before: MailingList,
    after: MailingList,
    changes: Mapping[str, Any],
    different: Collection[str] = (),
    server: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {}),
) -> None:
    """Write a change; ``different`` are parameters that the list server has changed already.

    ``server`` has their values before and after.
    """
    more = bool(without(after.extra_addresses, before.extra_addresses))
    domain = await accounts.claim_domain(unit, domain_of(before.address), share=not more)
    held = await unit.lists.claim(before.address)
    if held is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    held = await _with_others(unit, held, changes)
    after = list_updates.merge_changes(before, after, held)
    if more:
        await _lock_extra(unit, domain, held, after)
    names = {*lists.different(held, after), *different}
    if not unit.report_changed(names, revisions.of_list, held, after, server):
        return
    await unit.lists.save(held, after)
    for gone in sorted(map(fold, without(held.extra_addresses, after.extra_addresses))):
        await unit.related_data.remove_account_data(gone)
        unit.announce(further_change(Subject.POLICY, gone, gone=True))
    if held.active != after.active:
        kind = Kind.ACTIVE if after.active else Kind.DISABLE
        unit.note(account_event(kind, _WHAT, after.address, subject=Subject.LIST))
    if changes:
        sent = accounts.parameter_names(changes)
        unit.note(account_event(Kind.UPDATE, _WHAT, after.address, sent, Subject.LIST))


async def switch(unit: UnitOfWork, address: str, *, active: bool) -> None:
    """Enable or disable a list during its removal."""
    held = await unit.lists.claim(address)
    if held is not None:
        await unit.lists.save(held, replace(held, active=active))
        unit.announce(further_change(Subject.LIST, address, "accountStatus"))


async def remove(unit: UnitOfWork, before: MailingList) -> None:
    """Remove a list from the account storage, and all references to it."""
    address = before.address
    # The exclusive lock keeps other requests from adding references to the list.
    domain = await unit.domains.claim(domain_of(address))
    if await unit.lists.claim(address) is None and await unit.users.get(address) is not None:
        return  # the list was removed, and a user has its address now
    await unit.lists.remove(address)
    if domain is not None:
        await unit.domains.save(domain, domains.replace_in_defaults(domain, address))
    await accounts.forget_policies(unit, address)
    for gone in sorted(map(fold, before.extra_addresses)):
        await unit.related_data.remove_account_data(gone)
        unit.announce(further_change(Subject.POLICY, gone, gone=True))
    unit.note(account_event(Kind.DELETE, _WHAT, address, subject=Subject.LIST))


async def note_orphan(unit: UnitOfWork, address: str) -> None:
    """Write an audit event: the rest of a list on the list server was removed."""
    unit.note(account_event(Kind.DELETE, _WHAT, address, subject=Subject.LIST))
