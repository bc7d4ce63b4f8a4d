"""The caller of a long request, with its rights of now."""

from __future__ import annotations

from typing import Any

from iredapi.auth import login, tokens
from iredapi.auth.permissions import Action, Target, check
from iredapi.domain.actors import Actor
from iredapi.errors import LoginRequired
from iredapi.web.authentication import bearer_of
from iredapi.web.operation_route import OperationRequest


async def renewed(call: OperationRequest[Any], action: Action) -> Actor:
    """Return the caller as the account storage has it now. Raises ApiError if it may not go on."""
    scope = call.request.scope
    secret, session = bearer_of(scope), scope.get("iredapi.session", "")
    if secret is not None:
        found: Actor | None = await tokens.token_actor(call.context, secret, call.client)
    else:
        found = await login.session_actor(call.context, session, call.client)
    if found is None:
        raise LoginRequired
    check(found, action, Target())
    return found
