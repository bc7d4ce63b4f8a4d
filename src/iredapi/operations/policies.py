"""Permission check of policy operations: the scope exists, and its profile is not disabled."""

from __future__ import annotations

from iredapi.backends.unit_of_work import ReadUnit, UnitOfWork
from iredapi.domain.domains import Domain
from iredapi.domain.scopes import Kind, Scope
from iredapi.errors import NotFound, PermissionDenied
from iredapi.operations import accounts


async def permitted(unit: ReadUnit, scope: Scope, profile: str) -> None:
    """Refuse a scope that does not exist, or whose profile is disabled for normal admins.

    ``profile`` is spampolicy, throttle, wblist or greylisting. Raises NotFound
    ``NO_SUCH_DOMAIN`` or ``NO_SUCH_ACCOUNT``, or PermissionDenied.
    """
    if scope.kind is not Kind.GLOBAL:
        await _check(unit, scope, profile, await accounts.known_domain(unit, scope.domain))


async def permitted_to_write(unit: UnitOfWork, scope: Scope, profile: str) -> None:
    """Check as ``permitted``, with a shared lock on the domain.

    A removal needs the exclusive lock, so no policy is written for an account being removed.
    """
    if scope.kind is not Kind.GLOBAL:
        await _check(
            unit, scope, profile, await accounts.claim_domain(unit, scope.domain, share=True)
        )


async def _check(unit: ReadUnit, scope: Scope, profile: str, domain: Domain) -> None:
    of_user = scope.kind is Kind.USER
    if not unit.actor.is_global and (
        domain.hides(profile) or (of_user and domain.hides(profile, of_user=True))
    ):
        raise PermissionDenied(detail=f"The profile {profile} is disabled in this domain.")
    if of_user and not await unit.addresses.taken([scope.name]):
        raise NotFound("NO_SUCH_ACCOUNT")
