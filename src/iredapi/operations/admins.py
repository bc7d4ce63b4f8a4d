"""Operations on standalone admins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from iredapi.backends.protocols.values import Profile
from iredapi.backends.unit_of_work import ReadUnit, UnitOfWork
from iredapi.domain import admins, canonical, revisions
from iredapi.domain import changed_parameters as differences
from iredapi.domain.actors import Actor, Principal
from iredapi.domain.addresses import domain_of, fold
from iredapi.domain.audit_events import Kind, Subject, account_event
from iredapi.errors import Conflict, NotFound, problem
from iredapi.operations import accounts
from iredapi.operations.preconditions import state_of


def visible(profile: Profile, hidden: frozenset[str], actor: Actor) -> Profile:
    """Remove hidden fields from a profile, and return it.

    Hashes are always hidden from normal admins and from limited tokens: a password found by
    cracking a hash would outlive the token.
    """
    if not actor.sees_hashes:
        hidden |= {"password", "userPassword"}
    for name in _hidden_names(hidden, tuple(profile)):
        del profile[name]
    return profile


@lru_cache(maxsize=256)
def _hidden_names(hidden: frozenset[str], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the hidden names, regardless of case; cached, as all profiles of a type are alike."""
    words = {name.lower() for name in hidden}
    return tuple(name for name in names if name.lower() in words)


async def profile(unit: ReadUnit, mail: str) -> Profile:
    """Return a standalone admin's profile."""
    found = await unit.admins.profile(mail)
    if found is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    unit.state = state_of(found)
    return visible(found, unit.rules.hidden_admin_fields, unit.actor)


async def canonical_view(unit: ReadUnit, mail: str) -> canonical.CanonicalView:
    """Return the canonical view of a standalone admin."""
    found = await unit.admins.get(mail)
    if found is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    view = canonical.admin(found)
    unit.state = state_of(view, found.password)
    return canonical.without(view, unit.rules.hidden_admin_fields)


async def create(unit: UnitOfWork, mail: str, changes: Mapping[str, Any], password: str) -> None:
    """Create a standalone admin; ``password`` is the hash."""
    if not password:
        raise problem("password", "REQUIRED")
    if await unit.domains.reserve([domain_of(mail)]):
        raise problem("mail", "CAN_NOT_BE_LOCAL_DOMAIN")
    if await unit.admins.claim(mail) is not None:
        raise Conflict("ALREADY_EXISTS", f"{mail} is already an admin.")
    admin = admins.draft(mail, changes, password)
    unit.ignore(admins.without_effect(admin, changes))
    await unit.admins.add(admin)
    unit.note(account_event(Kind.CREATE, "admin", mail, subject=Subject.ADMIN))


async def update(unit: UnitOfWork, mail: str, changes: Mapping[str, Any], password: str) -> None:
    """Change a standalone admin: the parameters that were sent."""
    before = await unit.admins.claim(mail)
    if before is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    after = admins.revise(before, changes, password)
    if before.is_global and before.active and not (after.is_global and after.active):
        admins.keep_one_global_admin(await unit.admins.globals_without([mail]))
    unit.ignore(admins.without_effect(after, changes))
    different = differences.of_admin(before, after)
    if not unit.report_changed(different, revisions.of_admin, before, after):
        return
    await unit.admins.save(before, after)
    accounts.end_access(unit, before, after)
    names = accounts.parameter_names(changes)
    unit.note(account_event(Kind.UPDATE, "admin", mail, names, Subject.ADMIN))


async def rehash(unit: UnitOfWork, principal: Principal, password: str) -> None:
    """Replace the hash of a login's password by another of the same password, ``password``."""
    mail = principal.username
    unit.affected_account = mail
    if await unit.admins.rehash(
        mail, principal.password, password, standalone=principal.standalone
    ):
        subject = Subject.ADMIN if principal.standalone else Subject.USER
        event = account_event(
            Kind.UPDATE, subject.value, mail, "new hash of the same password", subject
        )
        unit.note(replace(event, fields=("password",)))


async def remove(unit: UnitOfWork, mail: str) -> None:
    """Remove a standalone admin."""
    if fold(mail) == unit.actor.username:
        raise Conflict("CANNOT_REMOVE_YOURSELF")
    before = await unit.admins.claim(mail)
    if before is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    if before.is_global:
        admins.keep_one_global_admin(await unit.admins.globals_without([mail]))
    await unit.admins.remove(before.mail)
    await unit.related_data.remove_admin_data(fold(mail))
    unit.revocations.demoted.add(fold(mail))
    unit.note(account_event(Kind.DELETE, "admin", mail, subject=Subject.ADMIN))
