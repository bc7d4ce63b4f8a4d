"""Webhooks: who may make, see and change them, and the test of one."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from iredapi.concurrency.turns import Turns
from iredapi.domain import http_urls
from iredapi.domain.actors import SYSTEM, Actor, account_of, fingerprint
from iredapi.domain.audit_events import Event, Kind
from iredapi.domain.change_events import utc_milliseconds
from iredapi.domain.webhooks import PING, Delivery, Webhook
from iredapi.errors import ApiError, Conflict, NotFound, problem
from iredapi.operations import managed_domains
from iredapi.runtime.context import AppContext
from iredapi.state.webhooks import TooManyWebhooks
from iredapi.workflows.webhook_owners import find_owner
from iredapi.workflows.webhook_requests import Receiver, tls_of, why_not

_PINGS: Final = 2
_turns: Final = Turns(_PINGS, f"{_PINGS} webhooks of this admin are tested already.")


def require_on(context: AppContext) -> None:
    """Raise ApiError if this service has no events, or no webhooks."""
    if not context.settings.events:
        raise ApiError("EVENTS_NOT_KEPT")
    if not context.settings.webhooks:
        raise ApiError("WEBHOOKS_OFF")


async def listed(context: AppContext, actor: Actor) -> list[Webhook]:
    """Return the webhooks that the caller may see."""
    require_on(context)
    if actor.is_global:
        return await context.state.webhooks.listed()
    found = await context.state.webhooks.listed(actor.username)
    account = await _account(context, actor)
    return [one for one in found if one.is_known_to(actor) and one.account == account]


async def get(context: AppContext, actor: Actor, webhook_id: str) -> Webhook:
    """Return one of them. Raises NotFound."""
    require_on(context)
    found = await context.state.webhooks.get(webhook_id)
    if found is None or not found.is_known_to(actor):
        raise NotFound("NO_SUCH_WEBHOOK")
    # An earlier account may have had the same name.
    if not actor.is_global and found.account != await _account(context, actor):
        raise NotFound("NO_SUCH_WEBHOOK")
    return found


async def _account(context: AppContext, actor: Actor) -> str:
    owner = await context.read(SYSTEM, find_owner, actor.username)
    return "" if owner is None else account_of(owner)


async def create(context: AppContext, actor: Actor, wish: Mapping[str, Any]) -> Webhook:
    """Create a webhook of the caller. Raises ApiError.

    ``wish`` has ``label`` and ``url``, and may have ``kinds`` and ``domains``; an empty one of
    these is no limit.
    """
    require_on(context)
    wanted = await _checked(context, actor, {"kinds": (), "domains": (), **wish})
    owner = await context.read(SYSTEM, find_owner, actor.username)
    if owner is None or actor.credential not in {"", fingerprint(owner)}:
        # The password was changed within the last second, so the session is not valid any more.
        raise ApiError("LOGIN_REQUIRED")
    columns = {
        "owner": owner.username,
        "role": "global" if owner.is_global else "normal",
        "account": account_of(owner),
    }
    end = await context.state.events.end()
    try:
        made = await context.state.webhooks.create(columns, **wanted, position=end)
    except TooManyWebhooks:
        raise Conflict("TOO_MANY_WEBHOOKS") from None
    await _note(context, actor, Kind.CREATE, "Create", made)
    return made


async def change(
    context: AppContext, actor: Actor, webhook: Webhook, wish: Mapping[str, Any]
) -> list[str]:
    """Change what was sent of ``create``'s parameters; return the names of what is different.

    Raises ApiError.
    """
    wanted = await _checked(context, actor, wish)
    changes = {name: value for name, value in wanted.items() if getattr(webhook, name) != value}
    if changes:
        if not await context.state.webhooks.change(webhook.id, changes):
            raise NotFound("NO_SUCH_WEBHOOK")
        await _note(context, actor, Kind.UPDATE, f"Update ({', '.join(sorted(changes))})", webhook)
    return sorted(changes)


async def _checked(context: AppContext, actor: Actor, wish: Mapping[str, Any]) -> dict[str, Any]:
    wanted = dict(wish)
    if "url" in wanted:
        refusal = why_not(context.settings, http_urls.parse(wanted["url"]))
        if refusal:
            raise problem("url", "INVALID_URL", refusal)
    if "kinds" in wanted:
        wanted["kinds"] = frozenset(wanted["kinds"])
    if "domains" in wanted:
        names = frozenset(wanted["domains"])
        await context.read(actor, managed_domains.check, names)
        wanted["domains"] = names or None
    return wanted


async def delete(context: AppContext, actor: Actor, webhook: Webhook) -> None:
    """Remove a webhook; what is being sent may still arrive."""
    await context.state.webhooks.delete(webhook.id)
    await _note(context, actor, Kind.DELETE, "Delete", webhook)


async def enable(context: AppContext, actor: Actor, webhook: Webhook) -> int:
    """Send again, from where it has stopped; return how many events are gone meanwhile.

    Events are kept for some days only.
    """
    first = await context.state.events.read(webhook.position, 1)
    if first:
        missed = first[0].position - webhook.position - 1
    else:
        missed = max(await context.state.events.end() - webhook.position, 0)
    if not await context.state.webhooks.enable(webhook):
        raise NotFound("NO_SUCH_WEBHOOK")
    await _note(context, actor, Kind.UPDATE, "Enable", webhook)
    return missed


async def rotate(
    context: AppContext, actor: Actor, webhook: Webhook, overlap: int
) -> tuple[Webhook, str]:
    """Replace the secret, and return the webhook with the new one."""
    secret = await context.state.webhooks.rotate(webhook, overlap)
    found = await context.state.webhooks.get(webhook.id)
    if secret is None or found is None:
        raise NotFound("NO_SUCH_WEBHOOK")
    await _note(context, actor, Kind.UPDATE, "Rotate the secret of", webhook)
    return found, secret


async def deliveries(context: AppContext, webhook: Webhook, limit: int) -> Sequence[Delivery]:
    """Return the last attempts, the newest first."""
    return await context.state.webhooks.deliveries(webhook.id, limit)


async def ping(context: AppContext, actor: Actor, webhook: Webhook) -> dict[str, Any]:
    """Send a test and return what became of it. It is not sent again. Raises Overloaded."""
    now, event_id = context.state.webhooks.clock(), secrets.token_hex(16)
    body = orjson.dumps(
        {"id": event_id, "time": utc_milliseconds(now), "kind": PING, "webhook": webhook.id}
    )
    with _turns.of(actor.username):
        receiver = Receiver(context.settings, await tls_of(context.settings), webhook)
        try:
            outcome = await receiver.send(event_id, PING, body, now)
        finally:
            await receiver.close()
    return {
        "event": event_id,
        "status": outcome.status,
        "reason": outcome.reason or None,
        "ms": outcome.milliseconds,
    }


async def _note(context: AppContext, actor: Actor, kind: Kind, verb: str, webhook: Webhook) -> None:
    message = f"{verb} webhook {webhook.id} of {webhook.owner}."
    await context.audit(actor, [Event(kind, message, username=webhook.owner)])
