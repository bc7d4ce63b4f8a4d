"""Rights check: mail users who have rights that the actor does not have (ADR 13)."""

from __future__ import annotations

from iredapi.backends.unit_of_work import ReadUnit
from iredapi.domain import users, wider_rights
from iredapi.domain.users import User
from iredapi.errors import PermissionDenied


async def has_wider_rights(unit: ReadUnit, user: User) -> bool:
    """Tell whether a user has rights that the actor does not have."""
    if unit.actor.is_global or not user.has_rights:
        return False
    settings = await unit.admins.limits_of_user(user.mail)
    return wider_rights.has_wider_rights(unit.actor, user.managed_domains, settings)


async def refuse_wider_rights(unit: ReadUnit, user: User) -> None:
    """Refuse to remove or rename a user who has rights that the actor does not have."""
    users.protect_global_admin(unit.actor, user)
    if await has_wider_rights(unit, user):
        raise PermissionDenied(detail="This user has rights as an admin that you do not have.")


async def users_with_wider_rights(unit: ReadUnit, domain: str) -> frozenset[str]:
    """Return the users of a domain who have rights that the actor does not have."""
    beyond = await unit.users.admins_beyond(domain, unit.actor.domains)
    others = await unit.users.admins_in(domain) - beyond
    return beyond | {
        mail
        for mail in others
        if wider_rights.has_wider_rights(unit.actor, (), await unit.admins.limits_of_user(mail))
    }
