"""Operations on mail alias accounts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iredapi.backends.protocols.values import Profile
from iredapi.backends.unit_of_work import ReadUnit, UnitOfWork
from iredapi.domain import aliases, canonical, domains, limits, revisions
from iredapi.domain import changed_parameters as differences
from iredapi.domain.addresses import domain_of
from iredapi.domain.audit_events import Kind, Subject, account_event, rename_event
from iredapi.domain.domains import Domain
from iredapi.domain.revisions import About
from iredapi.errors import NotFound
from iredapi.operations import accounts
from iredapi.operations.preconditions import state_of

_TARGETS = ("members", "add_member")
_MODERATORS = ("moderators", "add_moderator")


async def profile(unit: ReadUnit, address: str) -> Profile:
    """Return an alias account's profile."""
    found = await unit.aliases.profile(address)
    if found is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    unit.state = state_of(found)
    return found


async def page(
    unit: ReadUnit, domain: str, after: str, limit: int, *, disabled_only: bool
) -> list[Profile]:
    """Return the next profiles of a domain."""
    return await unit.aliases.page(domain, after, limit, disabled_only=disabled_only)


async def canonical_view(unit: ReadUnit, address: str) -> canonical.CanonicalView:
    """Return the canonical view of an alias account."""
    found = await unit.aliases.get(address)
    if found is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    view = canonical.alias(found)
    # The view does not show the policy.
    unit.state = state_of(view, found.access_policy)
    return view


async def canonical_views(
    unit: ReadUnit, domain: str, after: str, limit: int, *, disabled_only: bool
) -> list[canonical.CanonicalView]:
    """Return the canonical views of the next aliases of a domain."""
    found = await unit.aliases.records(domain, after, limit, disabled_only=disabled_only)
    return [canonical.alias(item) for item in found]


async def addresses(
    unit: ReadUnit, domain: str, after: str, limit: int, *, disabled_only: bool
) -> list[str]:
    """Return the next addresses of a domain."""
    return await unit.aliases.addresses(domain, after, limit, disabled_only=disabled_only)


async def create(unit: UnitOfWork, address: str, changes: Mapping[str, Any]) -> None:
    """Create an alias account."""
    aliases.check(changes, unit.features)
    domain = await accounts.claim_domain(unit, domain_of(address))
    await accounts.refuse_if_in_use(unit, address, domain)
    if domain.aliases:
        usage = await unit.domains.usage(domain.name)
        limits.check_account_limit(domain.aliases, usage.aliases)
    changes = await _usable(unit, domain, changes)
    accounts.skip_absent(unit, (), changes, "remove_member")
    accounts.skip_absent(unit, (), changes, "remove_moderator")
    await unit.aliases.add(aliases.draft(address, changes, domain, unit.features))
    unit.note(account_event(Kind.CREATE, "mail alias", address, subject=Subject.ALIAS))


async def _usable(unit: ReadUnit, domain: Domain, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request without members and moderators of the own domain that do not exist."""
    kept = await accounts.only_existing(unit, domain, changes, _TARGETS)
    sent = {name: changes[name] for name in _MODERATORS if name in changes}
    wild = {name: tuple(filter(aliases.is_wildcard, mails)) for name, mails in sent.items()}
    single = {name: tuple(m for m in sent[name] if m not in wild[name]) for name in sent}
    found = await accounts.only_existing(unit, domain, single, _MODERATORS)
    return kept | {name: (*found[name], *wild[name]) for name in sent}


async def update(unit: UnitOfWork, address: str, changes: Mapping[str, Any]) -> None:
    """Change an alias account: the parameters that were sent."""
    aliases.check(changes, unit.features)
    domain = await accounts.domain_of_account(unit, address)
    before = await unit.aliases.claim(address)
    if before is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    changes = await _usable(unit, domain, changes)
    accounts.skip_absent(unit, before.members, changes, "remove_member")
    accounts.skip_absent(unit, before.moderators, changes, "remove_moderator")
    after = aliases.revise(before, changes, domain, unit.features)
    different = differences.of_alias(before, after)
    if not unit.report_changed(different, revisions.of_alias, before, after):
        return
    await unit.aliases.save(before, after)
    if before.active != after.active:
        kind = Kind.ACTIVE if after.active else Kind.DISABLE
        unit.note(account_event(kind, "mail alias", address, subject=Subject.ALIAS))
    names = accounts.parameter_names(changes)
    unit.note(account_event(Kind.UPDATE, "mail alias", address, names, Subject.ALIAS))


async def rename(unit: UnitOfWork, old: str, new: str) -> None:
    """Change the address of an alias within its domain."""
    accounts.refuse_other_domain(old, new)
    unit.report_changed(["mail"], revisions.of_mail, About.ALIAS, old, new)
    domain = await accounts.claim_domain(unit, domain_of(old))
    before = await unit.aliases.claim(old)
    if before is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    await accounts.refuse_if_in_use(unit, new, domain)
    await unit.aliases.rename(before.address, new)
    await unit.domains.save(domain, domains.replace_in_defaults(domain, old, new))
    await unit.related_data.rename_account(old, new)
    unit.note(rename_event("mail alias", old, new, Subject.ALIAS))


async def remove(unit: UnitOfWork, address: str) -> None:
    """Remove an alias account."""
    # The exclusive lock keeps other requests from adding references to the alias.
    domain = await unit.domains.claim(domain_of(address))
    before = await unit.aliases.claim(address)
    if before is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    await unit.aliases.remove(before.address)
    if domain is not None:
        await unit.domains.save(domain, domains.replace_in_defaults(domain, address))
    await accounts.forget_policies(unit, before.address)
    unit.note(account_event(Kind.DELETE, "mail alias", address, subject=Subject.ALIAS))
