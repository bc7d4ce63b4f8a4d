"""Requests with ``dry_run=yes`` (ADR 18)."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.domain.addresses import domain_of, fold
from iredapi.errors import problem
from iredapi.runtime.dry_run import DRY_RUN, DryRun
from iredapi.web.idempotency import NOT_HERE

if TYPE_CHECKING:
    from iredapi.web.operation_route import OperationRequest


def begun(action: Action) -> DryRun:
    """Return a new dry run. Raises InvalidParameters for an action that has none."""
    if action in NOT_HERE:
        detail = "Logins, tokens, sessions and webhooks have no dry run."
        raise problem("dry_run", "INVALID_VALUE", detail)
    return DryRun()


async def carried_out(dry: DryRun, work: Awaitable[Response]) -> Response:
    """Carry out a request as a dry run; the next request in the same context is none."""
    token = DRY_RUN.set(dry)
    try:
        return await work
    finally:
        DRY_RUN.reset(token)


def told(call: OperationRequest[Any], dry: DryRun) -> dict[str, Any]:
    """Return what the answer to a dry run has beside that of the real request.

    To a normal admin no changes in domains of others: a removed user may own a mailing list there.
    """
    actor, target = call.actor, call.target
    named = {target.domain, domain_of(target.mail)} - {""}
    """A new domain is not managed yet."""

    def is_visible(account: str) -> bool:
        # Policies of a domain are stored as "@example.com", and as "@.example.com".
        name = fold(account.rpartition("@")[2].lstrip("."))
        return account == actor.username or name in named or actor.manages(name)

    return dry.to_response(is_visible if not actor.is_global else lambda _: True)
