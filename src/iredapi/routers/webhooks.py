"""Webhooks."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.domain.change_events import utc_milliseconds
from iredapi.domain.webhooks import Webhook
from iredapi.errors import NotFound
from iredapi.schemas.params import NoParams
from iredapi.schemas.webhooks import (
    DeliveryFilter,
    DeliveryRow,
    EnabledWebhookProfile,
    NewWebhook,
    NewWebhookProfile,
    PingResult,
    SecretRotation,
    WebhookEdit,
    WebhookProfile,
)
from iredapi.web import responses
from iredapi.web.operation_route import OperationRequest, Router
from iredapi.workflows import webhooks

router = Router(tags=["Webhook"])
_OFF: Final = ["EVENTS_NOT_KEPT", "WEBHOOKS_OFF"]
_GONE: Final = "NO_SUCH_WEBHOOK"
_DELIVERIES: Final = 100


@router.operation(
    "GET", "/webhooks", Action.WEBHOOKS_LIST, NoParams, answer=list[WebhookProfile], errors=_OFF
)
async def list_webhooks(call: OperationRequest[NoParams]) -> Response:
    """List your webhooks; global admins see those of all admins."""
    found = await webhooks.listed(call.context, call.actor)
    end = await call.context.state.events.end()
    return responses.success([one.to_response(end) for one in found])


@router.operation(
    "POST",
    "/webhooks",
    Action.WEBHOOK_CREATE,
    NewWebhook,
    answer=NewWebhookProfile,
    errors=["INVALID_URL", "INVALID_DOMAIN_NAME", "TOO_MANY_WEBHOOKS", *_OFF],
)
async def create_webhook(call: OperationRequest[NewWebhook]) -> Response:
    """Have events sent to a URL. The secret that signs them is shown only in this answer.

    What is sent are the events that the owner may see at that time: of all domains to a global
    admin, otherwise of the domains that the owner manages then. It ends when the owner is disabled,
    deleted, or no longer a global admin.
    """
    made = await webhooks.create(call.context, call.actor, call.form.changes())
    return call.success(await _shown(call, made) | _with(made))


@router.operation(
    "GET",
    "/webhook/{webhook_id}",
    Action.WEBHOOK_READ,
    NoParams,
    answer=WebhookProfile,
    errors=[_GONE, *_OFF],
)
async def get_webhook(call: OperationRequest[NoParams]) -> Response:
    """Show one of your webhooks: whether it works, and how far it has come."""
    return responses.success(await _shown(call, await _webhook(call)))


@router.operation(
    "PUT",
    "/webhook/{webhook_id}",
    Action.WEBHOOK_UPDATE,
    WebhookEdit,
    errors=["INVALID_URL", "INVALID_DOMAIN_NAME", _GONE, *_OFF],
)
async def update_webhook(call: OperationRequest[WebhookEdit]) -> Response:
    """Change a webhook: for events that were not sent yet, too. The secret stays."""
    webhook, sent = await _webhook(call), call.form.changes()
    changed = await webhooks.change(call.context, call.actor, webhook, sent)
    return responses.success(changed=changed, ignored=call.ignored)


@router.operation(
    "DELETE", "/webhook/{webhook_id}", Action.WEBHOOK_DELETE, NoParams, errors=[_GONE, *_OFF]
)
async def delete_webhook(call: OperationRequest[NoParams]) -> Response:
    """Delete a webhook: nothing more is sent, but for what is under way."""
    await webhooks.delete(call.context, call.actor, await _webhook(call))
    return call.success()


@router.operation(
    "POST",
    "/webhook/{webhook_id}/rotate",
    Action.WEBHOOK_ROTATE,
    SecretRotation,
    answer=NewWebhookProfile,
    errors=[_GONE, *_OFF],
)
async def rotate_webhook(call: OperationRequest[SecretRotation]) -> Response:
    """Give a webhook a new secret, shown only in this answer.

    With `overlap` requests have a signature of each secret for a while.
    """
    overlap = call.form.overlap or 0
    made, _ = await webhooks.rotate(call.context, call.actor, await _webhook(call), overlap)
    return call.success(await _shown(call, made) | _with(made))


@router.operation(
    "POST",
    "/webhook/{webhook_id}/ping",
    Action.WEBHOOK_PING,
    NoParams,
    answer=PingResult,
    errors=[_GONE, *_OFF],
)
async def ping_webhook(call: OperationRequest[NoParams]) -> Response:
    """Send a test of the kind `ping`, and tell what the receiver answered.

    It is sent once, also while the webhook is disabled.
    """
    return call.success(await webhooks.ping(call.context, call.actor, await _webhook(call)))


@router.operation(
    "POST",
    "/webhook/{webhook_id}/enable",
    Action.WEBHOOK_ENABLE,
    NoParams,
    answer=EnabledWebhookProfile,
    errors=[_GONE, *_OFF],
)
async def enable_webhook(call: OperationRequest[NoParams]) -> Response:
    """Send again what has happened since a webhook was disabled.

    Events are kept for `IREDAPI_EVENTS_DAYS`. If some are gone, read the accounts again.
    """
    missed = await webhooks.enable(call.context, call.actor, await _webhook(call))
    return call.success(await _shown(call, await _webhook(call)) | {"missed": missed})


@router.operation(
    "GET",
    "/webhook/{webhook_id}/deliveries",
    Action.WEBHOOK_DELIVERIES_LIST,
    DeliveryFilter,
    answer=list[DeliveryRow],
    errors=[_GONE, *_OFF],
)
async def list_deliveries(call: OperationRequest[DeliveryFilter]) -> Response:
    """List the last attempts to deliver events, the newest first: of seven days, at most 1000."""
    limit = call.form.changes().get("limit", _DELIVERIES)
    found = await webhooks.deliveries(call.context, await _webhook(call), limit)
    return responses.success([one.to_response() for one in found])


async def _webhook(call: OperationRequest[Any]) -> Webhook:
    webhook_id = call.word("webhook_id")
    if not (len(webhook_id) == 16 and set(webhook_id) <= set("0123456789abcdef")):
        webhooks.require_on(call.context)
        raise NotFound(_GONE)
    return await webhooks.get(call.context, call.actor, webhook_id)


async def _shown(call: OperationRequest[Any], webhook: Webhook) -> dict[str, Any]:
    return webhook.to_response(await call.context.state.events.end())


def _with(webhook: Webhook) -> dict[str, Any]:
    until = webhook.old_until
    return {
        "secret": webhook.secret,
        "old_secret_until": utc_milliseconds(until) if until else None,
    }
