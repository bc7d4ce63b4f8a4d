"""Operations on mail domains."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from iredapi.backends.protocols.values import Profile
from iredapi.backends.unit_of_work import ReadUnit, UnitOfWork
from iredapi.domain import canonical, domains, limits, ownership, revisions, suspension
from iredapi.domain import changed_parameters as differences
from iredapi.domain.addresses import can_have_accounts, domain_of, fold, without
from iredapi.domain.admins import keep_one_global_admin
from iredapi.domain.audit_events import Kind, Subject, domain_event, further_change
from iredapi.domain.domains import Domain
from iredapi.domain.revisions import About
from iredapi.errors import Conflict, LoginRequired, NotFound, PermissionDenied
from iredapi.operations import accounts
from iredapi.operations.preconditions import state_of

_LIMITS = frozenset({"quota", "number_of_users", "number_of_aliases", "number_of_lists"})


async def profile(unit: ReadUnit, name: str) -> Profile:
    """Return a domain's profile."""
    found = await unit.domains.profile(name)
    if found is None:
        raise NotFound("NO_SUCH_DOMAIN")
    unit.state = state_of(found)
    return found


async def page(unit: ReadUnit, after: str, limit: int, *, disabled_only: bool) -> list[Profile]:
    """Return the next profiles of the actor's domains."""
    only = None if unit.actor.is_global else unit.actor.domains
    return await unit.domains.page(after, limit, only=only, disabled_only=disabled_only)


async def canonical_view(unit: ReadUnit, name: str) -> canonical.CanonicalView:
    """Return the canonical view of a domain, with counters."""
    found = await accounts.get_domain(unit, name)
    admins = await unit.domains.admins_of([found.name])
    usage = await unit.domains.usage(found.name)
    view = canonical.domain(found, admins.get(found.name, ()))
    unit.state = state_of(view)
    return view | canonical.counters(
        users=usage.users,
        aliases=usage.aliases,
        lists=usage.lists,
        allocated_quota=usage.allocated_quota,
    )


async def canonical_views(
    unit: ReadUnit, after: str, limit: int, *, disabled_only: bool
) -> list[canonical.CanonicalView]:
    """Return the canonical views of the next of the actor's domains, without counters."""
    only = None if unit.actor.is_global else unit.actor.domains
    found = await unit.domains.records(after, limit, only=only, disabled_only=disabled_only)
    admins = await unit.domains.admins_of([item.name for item in found]) if found else {}
    return [canonical.domain(item, admins.get(item.name, ())) for item in found]


async def names(unit: ReadUnit, after: str, limit: int, *, disabled_only: bool) -> list[str]:
    """Return the next names of the actor's domains."""
    only = None if unit.actor.is_global else unit.actor.domains
    return await unit.domains.names(after, limit, only=only, disabled_only=disabled_only)


async def create(unit: UnitOfWork, name: str, changes: Mapping[str, Any]) -> None:
    """Create a domain; a normal admin becomes its admin."""
    actor = unit.actor
    rules = unit.rules.domains
    domain = domains.draft(name, changes, actor, rules, unit.features)
    changes = await accounts.only_existing(unit, domain, changes, ["catchall"])
    domain = domains.draft(name, changes, actor, rules, unit.features)
    if limits.is_limited(actor):
        totals = await unit.domains.totals(await _lock_managed(unit))
        limits.check_admin_limits(actor, totals, domain.allocation)
    accounts.skip_absent(unit, (), changes, "remove_alias_domain")
    if changes.get("account_status") and not domain.active:
        unit.adjust("account_status", "active", "disabled", "OWNERSHIP_NOT_VERIFIED")
    await _reserve(unit, domain.names)
    verified = actor.is_global or not rules.verify_ownership
    await unit.domains.add(domain, "" if actor.is_global else actor.username, verified=verified)
    if not verified:
        await unit.related_data.add_pending_ownership(actor, name, (), _verify_code())
        if domain.alias_domains:
            await unit.related_data.add_pending_ownership(
                actor, name, domain.alias_domains, _verify_code()
            )
    unit.note(domain_event(Kind.CREATE, name))


async def _lock_managed(unit: UnitOfWork) -> frozenset[str]:
    """Lock the actor's account and return its current domains.

    The lock serialises writes that count against one admin's limits. Domains that were read before
    it may be outdated.
    """
    username = unit.actor.username
    if await unit.admins.claim(username) is None:
        await unit.users.claim(username)
    principal = await unit.admins.principal(username)
    if principal is None:
        raise LoginRequired
    return principal.domains


def _verify_code() -> str:
    return ownership.PREFIX + secrets.token_urlsafe(15)


async def _reserve(unit: UnitOfWork, names: Collection[str]) -> None:
    """Lock the names of new domains or alias domains, and refuse names in use.

    A normal admin cannot create a domain with addresses of standalone admins: it could create a
    mail user with the address of such an admin.
    """
    if used := await unit.domains.reserve(names):
        raise Conflict("ALREADY_EXISTS", f"{min(used)} is already a domain or an alias domain.")
    if not unit.actor.is_global and await unit.admins.inside(names):
        raise PermissionDenied(
            detail="Only a global admin may create a domain with addresses of standalone admins."
        )


async def update(unit: UnitOfWork, name: str, changes: Mapping[str, Any]) -> None:
    """Change a domain: the parameters that were sent."""
    actor, rules = unit.actor, unit.rules.domains
    limited = bool(_LIMITS & changes.keys()) and limits.is_limited(actor)
    managed = await _lock_managed(unit) if limited else frozenset()
    before = await accounts.claim_domain(unit, name)
    domains.permit(actor, before, changes, rules)
    await _only_verified(unit, before, changes)
    if "primarymx" in changes and not changes.get("is_backupmx"):
        unit.ignore(["primarymx"])
    await _protect_global_admins(unit, before, changes)
    changes = await accounts.only_existing(unit, before, changes, ["catchall"])
    accounts.skip_absent(unit, before.alias_domains, changes, "remove_alias_domain")
    after = domains.revise(before, changes, rules, unit.features)
    if limited:
        others = await unit.domains.totals(without(managed, [name]))
        limits.check_admin_limits(actor, others, after.allocation, before.allocation)
    new = without(after.alias_domains, before.alias_domains)
    if new:
        await _reserve(unit, new)
    verified = actor.is_global or not rules.verify_ownership
    if verified:
        after = domains.activate_alias_domains(after, changes.get("add_alias_domain", ()))
    different = differences.of_domain(before, after)
    if "suspend" in changes and await unit.users.set_suspended(
        before.name, suspended=changes["suspend"]
    ):
        # Also of a domain that is suspended already: other programs may have added users.
        different = tuple(sorted({*different, "suspend"}))
    await _settle_ownership(unit, before, after, changes)
    if not unit.report_changed(different, revisions.of_domain, before, after):
        return
    removed = without(before.alias_domains, after.alias_domains)
    removed = await _without_hosted(unit, name, removed) if removed else removed
    await unit.domains.save(before, after, verified=verified)
    for gone in sorted(removed):
        await unit.related_data.remove_domain_data(gone)
    if {"suspend", "aliasDomains"}.intersection(different):
        unit.announce(further_change(Subject.USERS, after.name, *different))
    if new and not verified:
        await unit.related_data.add_pending_ownership(actor, name, new, _verify_code())
    _note_update(unit, before, after, changes)


async def _without_hosted(
    unit: UnitOfWork, name: str, alias_domains: Collection[str]
) -> frozenset[str]:
    """Return, folded, the alias domains whose policies belong to their target."""
    own = frozenset(map(fold, filter(can_have_accounts, alias_domains)))
    return own - await unit.domains.hosted(own, but=fold(name))


async def _protect_global_admins(
    unit: UnitOfWork, before: Domain, changes: Mapping[str, Any]
) -> None:
    """Refuse that a normal admin suspends or resumes the mail user of a global admin."""
    if unit.actor.is_global or "suspend" not in changes:
        return
    if not changes["suspend"] and not suspension.is_suspended(before.settings):
        return  # some clients always send it
    if await unit.users.globals_in(before.name):
        raise PermissionDenied("PERMISSION_DENIED_UPDATE_GLOBAL_ADMIN_PROFILE")


async def _only_verified(unit: UnitOfWork, before: Domain, changes: Mapping[str, Any]) -> None:
    """Refuse that a normal admin enables a domain whose ownership is not verified."""
    if (
        not unit.actor.is_global
        and unit.rules.domains.verify_ownership
        and changes.get("account_status")
        and not before.active
        and await unit.related_data.is_ownership_pending(before.name)
    ):
        raise domains.refusal(["account_status"])


async def _settle_ownership(
    unit: UnitOfWork, before: Domain, after: Domain, changes: Mapping[str, Any]
) -> None:
    """End what waits for a proof of names whose status a global admin decides.

    Otherwise a proof of later would switch a domain on that was disabled for another reason.
    """
    if not unit.actor.is_global:
        return
    names = before.inactive_alias_domains & after.alias_domains - after.inactive_alias_domains
    if "account_status" in changes and not (before.active and after.active):
        names |= {before.name}
    if names:
        await unit.related_data.end_pending_ownership(before.name, names)


def _note_update(
    unit: UnitOfWork, before: Domain, after: Domain, changes: Mapping[str, Any]
) -> None:
    if before.active != after.active:
        kind = Kind.ACTIVE if after.active else Kind.DISABLE
        unit.note(domain_event(kind, after.name))
    rest = {name: None for name in changes if name != "account_status"}
    if rest:
        unit.note(domain_event(Kind.UPDATE, after.name, accounts.parameter_names(rest)))


class ListsRemain(Conflict):
    """The domain still has mailing lists, which must be removed before it."""

    code = "CHANGED_MEANWHILE"


async def check_removal(unit: ReadUnit, name: str) -> Domain:
    """Return a domain that the actor may remove. Raises ApiError."""
    return await _removable(unit, name, unit.domains.get)


async def _removable(
    unit: ReadUnit, name: str, find: Callable[[str], Awaitable[Domain | None]]
) -> Domain:
    actor = unit.actor
    if domain_of(actor.username) == fold(name):
        raise Conflict("CANNOT_REMOVE_YOURSELF", "Your own account is in this domain.")
    domain = accounts.require_domain(await find(name))
    globals_inside = await unit.users.globals_in(name)
    if globals_inside and not actor.is_global:
        raise PermissionDenied("PERMISSION_DENIED_UPDATE_GLOBAL_ADMIN_PROFILE")
    if not actor.is_global and await unit.users.admins_beyond(name, actor.domains):
        raise PermissionDenied(detail="A user of this domain manages a domain that you do not.")
    if globals_inside:
        keep_one_global_admin(await unit.admins.globals_without((), domain=fold(name)))
    return domain


async def remove(unit: UnitOfWork, name: str, days: int, *, with_lists: bool = True) -> None:
    """Remove a domain with all its accounts; mailboxes stay on disk for some days, or for ever.

    With ``with_lists=False`` it raises ListsRemain if the domain has mailing lists.
    """
    domain = await _removable(unit, name, unit.domains.claim)
    if not with_lists and await unit.lists.addresses(domain.name, "", 1):
        raise ListsRemain
    await unit.admins.hold([fold(mail) for mail in await unit.domains.admins(name)])
    names = await _without_hosted(unit, name, domain.alias_domains) | {fold(domain.name)}
    standalone = await unit.admins.inside(names)
    await unit.domains.remove(domain.name, accounts.removal(unit, days))
    if domain.name != fold(domain.name):
        # Another domain may have the same name in another case.
        names -= await unit.domains.taken(names)
    for gone in sorted(names):
        await unit.related_data.remove_domain_data(gone)
    unit.revocations.domains |= names
    # Standalone admins with an address in the domain do not belong to it and stay.
    unit.revocations.exempt_admins |= standalone
    unit.note(domain_event(Kind.DELETE, name))


async def change_admins(unit: UnitOfWork, name: str, changes: Mapping[str, Any]) -> None:
    """Add and remove admins of a domain; removals first."""
    actor = unit.actor
    wanted = tuple(changes.get("add_admin", ()))
    foreign = [mail for mail in wanted if not actor.manages_account(mail)]
    if foreign and not actor.is_global:
        raise domains.refusal(["add_admin"])
    name = fold((await accounts.claim_domain(unit, name)).name)
    present = await unit.domains.admins(name)
    accounts.skip_absent(unit, present, changes, "remove_admin")
    gone = set(present - without(present, changes.get("remove_admin", ())))
    if changes.get("remove_all_admins"):
        gone |= present
    for mail in sorted(gone) if not actor.is_global else ():
        # A domain counts against the limits of its admins. A limited admin cannot give it to one of
        # its own mail users to get room for another domain.
        limited = await unit.admins.principal(fold(mail))
        if limited is not None and limits.is_limited(limited):
            gone.remove(mail)
            unit.skip("remove_admin", mail, "PERMISSION_DENIED")
    await unit.admins.hold({*map(fold, gone), *wanted})
    active = (await unit.domains.admins_of([name])).get(name, frozenset())
    existing = await unit.admins.exists(wanted) if wanted else frozenset()
    for mail in wanted:
        if mail not in existing:
            unit.skip("add_admin", mail, "NO_SUCH_ACCOUNT")
    granted = frozenset(mail for mail in wanted if mail in existing)
    new = granted - {fold(mail) for mail in active - gone}
    now = (present - gone) | granted
    unit.report_changed(
        ["admins"] if gone or new else [], revisions.of_set, About.DOMAIN, present, now
    )
    if gone:
        await unit.domains.remove_admins(name, gone)
        unit.note(domain_event(Kind.REVOKE, name, ", ".join(sorted(gone))))
    if granted:
        # For existing admins too: their mark as admins may be missing.
        await unit.domains.add_admins(name, granted)
    if new:
        unit.note(domain_event(Kind.GRANT, name, ", ".join(sorted(new))))
