"""API tokens, sessions and rights of the caller."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from iredapi.auth import tokens
from iredapi.auth.permissions import Action
from iredapi.domain import account_settings
from iredapi.errors import NotFound
from iredapi.schemas.params import NoParams
from iredapi.schemas.tokens import (
    NewToken,
    NewTokenProfile,
    Rotation,
    SessionProfile,
    TokenProfile,
    WhoAmI,
)
from iredapi.state import Token
from iredapi.web import responses
from iredapi.web.operation_route import OperationRequest, Router

router = Router(tags=["API Token"])
_ID_LENGTH = 16


@router.operation("GET", "/whoami", Action.WHOAMI, NoParams, answer=WhoAmI)
async def whoami(call: OperationRequest[NoParams]) -> Response:
    """Show the caller's account, and the current rights of this session or token."""
    actor = call.actor
    token = None
    if actor.token:
        token = shown(await tokens.get(call.context, actor, actor.token), _now(call))
    return responses.success(
        {
            "username": actor.username,
            "isglobaladmin": int(actor.is_global),
            "managed_domains": [] if actor.is_global else sorted(actor.domains),
            "may_create_domains": int(actor.may_create_domains and not actor.read_only),
            "read_only": int(actor.read_only),
            "settings": account_settings.to_response(actor.settings),
            "client": call.client,
            "token": token,
        }
    )


@router.operation("GET", "/tokens", Action.TOKENS_LIST, NoParams, answer=list[TokenProfile])
async def list_tokens(call: OperationRequest[NoParams]) -> Response:
    """List your API tokens. A token sees only those that have no more rights than itself."""
    found = await tokens.listed(call.context, call.actor)
    return responses.success([shown(token, _now(call)) for token in found])


@router.operation(
    "POST",
    "/tokens",
    Action.TOKEN_CREATE,
    NewToken,
    answer=NewTokenProfile,
    errors=["INVALID_DOMAIN_NAME", "INVALID_NETWORK", "TOO_MANY_TOKENS"],
)
async def create_token(call: OperationRequest[NewToken]) -> Response:
    """Create an API token. Its secret is shown only in this answer.

    A token has at most the rights that its owner has at the time of each call. It ends when the
    owner's account is deleted, loses admin rights or gets a new password; it does not work while
    the owner is disabled. A limited token cannot give anybody rights that would last longer than
    the token.
    """
    token, secret = await tokens.create(call.context, call.actor, call.form.wish())
    return call.success(shown(token, _now(call)) | _with(token, secret))


@router.operation(
    "GET",
    "/token/{token_id}",
    Action.TOKEN_READ,
    NoParams,
    answer=TokenProfile,
    errors=["NO_SUCH_TOKEN"],
)
async def get_token(call: OperationRequest[NoParams]) -> Response:
    """Show one of your API tokens."""
    return responses.success(shown(await _token(call), _now(call)))


@router.operation(
    "DELETE", "/token/{token_id}", Action.TOKEN_REVOKE, NoParams, errors=["NO_SUCH_TOKEN"]
)
async def revoke_token(call: OperationRequest[NoParams]) -> Response:
    """Revoke an API token: it stops working on all replicas at once."""
    await tokens.revoke(call.context, call.actor, await _token(call))
    return call.success()


@router.operation(
    "POST",
    "/token/{token_id}/rotate",
    Action.TOKEN_ROTATE,
    Rotation,
    answer=NewTokenProfile,
    errors=["NO_SUCH_TOKEN", "LIMITED_TOKEN"],
)
async def rotate_token(call: OperationRequest[Rotation]) -> Response:
    """Give an API token a new secret, shown only in this answer.

    Nothing else of it changes. With `overlap` both secrets work for a while. A limited token can
    rotate only itself.
    """
    overlap = call.form.overlap or 0
    token, secret = await tokens.rotate(call.context, call.actor, await _token(call), overlap)
    return call.success(shown(token, _now(call)) | _with(token, secret))


@router.operation("GET", "/sessions", Action.SESSIONS_LIST, NoParams, answer=list[SessionProfile])
async def list_sessions(call: OperationRequest[NoParams]) -> Response:
    """List your login sessions."""
    found = await call.context.state.sessions.list(call.actor.username)
    current = await call.context.state.sessions.load(call.request.scope["iredapi.session"])
    return responses.success(
        [
            {
                "id": session.name,
                "client": session.client,
                "created": moment(session.created),
                "last_seen": moment(session.seen),
                "expires": moment(session.expires),
                "current": int(current is not None and session.id_hash == current.id_hash),
            }
            for session in found
        ]
    )


@router.operation("DELETE", "/sessions", Action.SESSIONS_END, NoParams)
async def end_other_sessions(call: OperationRequest[NoParams]) -> Response:
    """End all your login sessions except the one of this request."""
    current = str(call.request.scope["iredapi.session"])
    await call.context.state.sessions.end_named(call.actor.username, "", but=current)
    call.context.sessions.invalidate()
    return call.success()


@router.operation(
    "DELETE", "/session/{session_id}", Action.SESSION_END, NoParams, errors=["NO_SUCH_SESSION"]
)
async def end_session(call: OperationRequest[NoParams]) -> Response:
    """End one of your login sessions: on this replica at once, on others within a second."""
    name = call.word("session_id")
    ended = _is_id(name) and await call.context.state.sessions.end_named(call.actor.username, name)
    if not ended:
        raise NotFound("NO_SUCH_SESSION")
    call.context.sessions.invalidate()
    return call.success()


async def _token(call: OperationRequest[Any]) -> Token:
    token_id = call.word("token_id")
    if not _is_id(token_id):
        raise NotFound("NO_SUCH_TOKEN")
    return await tokens.get(call.context, call.actor, token_id)


def _is_id(text: str) -> bool:
    return len(text) == _ID_LENGTH and set(text) <= set("0123456789abcdef")


def _now(call: OperationRequest[Any]) -> float:
    return call.context.state.tokens.now()


def shown(token: Token, now: float) -> dict[str, Any]:
    """Return a token as answers show it: without its secret and the hash of that."""
    grant = token.grant
    status = "active"
    if grant.expires is not None and grant.expires <= now:
        status = "expired"
    elif grant.domains == frozenset():
        status = "disabled"
    return {
        "id": token.id,
        "label": token.label,
        "hint": token.hint,
        "status": status,
        "read_only": int(grant.read_only),
        "domains": None if grant.domains is None else sorted(grant.domains),
        "networks": sorted(grant.networks),
        "created": moment(token.created),
        "expires": None if grant.expires is None else moment(grant.expires),
        "last_used": None if token.used is None else moment(token.used),
    }


def _with(token: Token, secret: str) -> dict[str, Any]:
    return {
        "token": secret,
        "old_secret_until": moment(token.old_until) if token.old_until else None,
    }


def moment(seconds: float) -> str:
    """Return seconds since 1970 as text in UTC, as in all answers."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
