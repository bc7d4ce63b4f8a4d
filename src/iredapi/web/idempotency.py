"""The header ``Idempotency-Key``: what is sent several times is carried out once (ADR 16)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.backends.unit_of_work import STRICT
from iredapi.concurrency.shield import finish
from iredapi.domain.actors import Actor
from iredapi.errors import ApiError
from iredapi.operations.outcomes import look
from iredapi.runtime.attempts import ATTEMPT, Attempt, in_use
from iredapi.runtime.context import AppContext
from iredapi.runtime.transactions import WriteResult
from iredapi.schemas.params import Params
from iredapi.state import StateUnavailable
from iredapi.state.idempotency_keys import Claim, IdempotencyKeys, InUse, Reused, Stored
from iredapi.web import entity_tags, request_headers, responses
from iredapi.web.request_body import Raw
from iredapi.workflows import crashes

if TYPE_CHECKING:
    from iredapi.web.operation_route import Handler, OperationRequest

Form = TypeVar("Form", bound=Params)
HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotent-Replayed"
NOT_HERE: Final = frozenset(
    {Action.LOGIN, Action.LOGOUT, Action.USER_VERIFY_PASSWORD, Action.ADMIN_VERIFY_PASSWORD}
    | {Action.TOKEN_CREATE, Action.TOKEN_REVOKE, Action.TOKEN_ROTATE}
    | {Action.WEBHOOK_CREATE, Action.WEBHOOK_DELETE, Action.WEBHOOK_ENABLE, Action.WEBHOOK_PING}
    | {Action.WEBHOOK_ROTATE, Action.WEBHOOK_UPDATE}
    | {Action.SESSIONS_END, Action.SESSION_END, Action.IMPORT}
)
"""Actions that refuse the header: their answers are secrets, or about the caller's login, or long.
"""
_NAME: Final = HEADER.lower().encode()
_KEY: Final = re.compile(rb"[\x21-\x7e]{1,255}")
_NOT_DECIDED: Final = frozenset({401, 408, 425, 429})
_OF_BODY: Final = (b"content-length", b"content-type")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """Digests that identify a caller's key, and the request that was sent with it."""

    id: str
    request: str


def key_of(request: Request, action: Action) -> bytes | None:
    """Return the key of a request; None: it has none. Raises ApiError."""
    found = request_headers.values(request.scope, _NAME)
    if not found:
        return None
    if action in NOT_HERE:
        raise ApiError("IDEMPOTENCY_KEY_NOT_SUPPORTED")
    if len(found) > 1 or not _KEY.fullmatch(found[0]):
        raise ApiError("INVALID_IDEMPOTENCY_KEY")
    key: bytes = found[0]
    return key


async def keyed(
    context: AppContext, request: Request, caller: Actor, key: bytes, raw: Raw
) -> KeyedRequest:
    """Return the digests of a request with a key. Raises StateUnavailable."""
    owner = f"{caller.username}\0{caller.token}\0".encode()
    condition = entity_tags.header(request, b"if-match")
    # Parameters and not the body: a multipart body has another boundary each time.
    sent = [request.method, request.scope["path"], raw, condition, STRICT.get()]
    return KeyedRequest(
        hashlib.sha256(owner + key).hexdigest(),
        await context.request_digests.of_request(
            orjson.dumps(sent, option=orjson.OPT_SORT_KEYS),
            has_password=any("passw" in name.lower() for name in raw),
        ),
    )


async def once(
    call: OperationRequest[Form],
    sent: KeyedRequest,
    action: str,
    handler: Handler[Form],
    worded: Callable[[ApiError], ApiError],
) -> Response:
    """Carry out a request, or return its first answer. Raises ApiError or StateUnavailable.

    ``worded`` returns an error as the client is told it.
    """
    found = await call.context.state.idempotency_keys.begin(sent.id, sent.request)
    match found:
        case Stored():
            return _replayed(call.request, found)
        case InUse():
            raise in_use()
        case Reused():
            raise ApiError("IDEMPOTENCY_KEY_REUSED")
        case Claim():
            # To its end: the client may have hung up, and asks again.
            return await finish(_carried_out(call, found, action, handler, worded))


def _replayed(request: Request, stored: Stored) -> Response:
    if stored.body is None:
        raise ApiError("ANSWER_NOT_KEPT")
    request.scope["iredapi.code"] = orjson.loads(stored.body).get("_msg", "")
    headers = orjson.loads(stored.headers) | {REPLAYED: "true"}
    return responses.Json(stored.body.encode(), stored.status, headers)


async def _carried_out(
    call: OperationRequest[Form],
    claim: Claim,
    action: str,
    handler: Handler[Form],
    worded: Callable[[ApiError], ApiError],
) -> Response:
    context, target, keys = call.context, call.target, call.context.state.idempotency_keys
    name = target.domain or target.mail
    seen = look(action, name, target.new_mail, call.form.changes())
    attempt = Attempt(keys, claim, seen, context.request_digests.digest)
    async with keys.held(claim):
        try:
            response = await _run(call, attempt, action, handler)
        except BaseException as error:
            if not isinstance(error, ApiError) or not _is_decided(error):
                await _written(attempt.give_back())
                raise
            told = worded(error)
            call.request.scope["iredapi.code"] = told.code
            always_200 = context.settings.always_200
            response = responses.failure(told, call.request_id, always_200=always_200)
        await _written(_store(keys, claim, response))
    return response


async def _run(
    call: OperationRequest[Form], attempt: Attempt, action: str, handler: Handler[Form]
) -> Response:
    done = await attempt.resolve(call.context.write)
    if done is None:
        ATTEMPT.set(attempt)
        return await handler(call)
    result = WriteResult.of(done)
    name = call.target.domain or call.target.mail
    return call.done(await crashes.complete(call.context, call.actor, action, name, result))


async def _store(keys: IdempotencyKeys, claim: Claim, response: Response) -> None:
    kept = {
        name.decode(): value.decode()
        for name, value in response.raw_headers
        if name not in _OF_BODY
    }
    headers = orjson.dumps(kept).decode()
    await keys.store(claim, response.status_code, headers, bytes(response.body))


def _is_decided(error: ApiError) -> bool:
    return (
        400 <= error.status < 500
        and error.status not in _NOT_DECIDED
        and not error.retry_after
        and error.code != "CHANGED_MEANWHILE"
    )


async def _written(write: Awaitable[None]) -> None:
    """Write to the state database. If that fails, the next request looks what was made."""
    try:
        await write
    except StateUnavailable as error:
        _log.warning("idempotency_key_not_written", reason=str(error))
    except Exception:
        # The change is made: the answer must not say anything else.
        _log.exception("idempotency_key_not_written")
