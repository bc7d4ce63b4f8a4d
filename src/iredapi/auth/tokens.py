"""API tokens: authentication with a token, and the rules for creating, rotating and revoking.

A token has the rights of its owner, which its limits reduce (``domain.tokens``). The owner is read
at every request. So a token ends with the owner's rights, and with the password that the owner had
when it was created. A request with a token may only manage tokens whose rights are not wider.
"""

from __future__ import annotations

from iredapi.auth import ip_allowlist, login
from iredapi.domain import addresses
from iredapi.domain.actors import SYSTEM, Actor, Principal, account_of, actor_of, fingerprint
from iredapi.domain.audit_events import Event, Kind
from iredapi.domain.tokens import FULL, Grant, TokenRequest, narrowed, too_limited
from iredapi.errors import (
    ApiError,
    Conflict,
    NotFound,
    PermissionDenied,
    problem,
)
from iredapi.operations import managed_domains
from iredapi.runtime.context import AppContext
from iredapi.state import Token, TooManyTokens

_DAY = 86400


async def token_actor(context: AppContext, secret: str, client: str) -> Actor:
    """Return the actor of a request with a token, with the current rights of its owner.

    Raises ApiError ``INVALID_TOKEN`` (401) or PermissionDenied ``NOT_ALLOWED_IP``.
    """
    token = await context.state.tokens.load(secret)
    if token is None or token.grant.domains == frozenset():
        raise ApiError("INVALID_TOKEN")
    owner = await context.read(SYSTEM, login.find_principal, token.owner)
    if owner is None:
        # Disabled or removed. The check below detects a later account of the same name.
        raise ApiError("INVALID_TOKEN")
    if (
        account_of(owner) != token.account
        or (token.role == "global" and not owner.is_global)
        or not await _has_password_of(context, owner, token)
    ):
        await context.state.tokens.revoke(token.id)
        raise ApiError("INVALID_TOKEN")
    if not token.grant.admits(client):
        raise PermissionDenied("NOT_ALLOWED_IP")
    # iRedAdmin's lists of client addresses apply to tokens too.
    await ip_allowlist.require_listed(context, client, "admin_login_ip_list")
    if owner.is_global:
        await ip_allowlist.require_listed(context, client, "global_admin_ip_list")
    await context.state.tokens.touch(token)
    return narrowed(actor_of(owner, client), token.id, token.grant)


async def _has_password_of(context: AppContext, owner: Principal, token: Token) -> bool:
    """Return whether the owner's password is still that of the token's creation.

    Somebody who knew the old password may have created the token.
    """
    if context.settings.tokens_outlive_password:
        return True
    credential = fingerprint(owner)
    if token.credential is None:
        await context.state.tokens.bind(token, credential)
        return True
    return token.credential == credential


async def create(context: AppContext, actor: Actor, wish: TokenRequest) -> tuple[Token, str]:
    """Create a token of the caller; return it with its secret. Raises ApiError.

    Limited tokens cannot: the new token would stay valid when they have been revoked.
    """
    if actor.limited:
        raise too_limited()
    owner = await context.read(actor, login.find_principal, actor.username)
    if owner is None or actor.credential not in {"", fingerprint(owner)}:
        # The password was changed within the last second, so the session is not valid any more.
        raise ApiError("LOGIN_REQUIRED")
    for name, value in (("domains", wish.domains), ("networks", wish.networks)):
        # An empty list would allow nothing; to treat it as "all" would be too much.
        if value is not None and not value:
            raise problem(name, "EMPTY_NOT_ALLOWED")
    grant = Grant(
        read_only=bool(wish.read_only),
        domains=wish.domains,
        networks=wish.networks or frozenset(),
        expires=context.state.tokens.now() + wish.days * _DAY if wish.days else None,
    )
    if grant.domains is not None:
        await context.read(actor, managed_domains.check, grant.domains)
    try:
        token, secret = await context.state.tokens.create(
            owner.username,
            login.role_of(owner),
            account_of(owner),
            fingerprint(owner),
            wish.label,
            grant,
        )
    except TooManyTokens:
        raise Conflict("TOO_MANY_TOKENS") from None
    await _note(context, actor, Kind.CREATE, token)
    return token, secret


async def create_for(context: AppContext, mail: str, wish: TokenRequest) -> tuple[Token, str]:
    """Create a token of an admin, for the command line. Raises ApiError."""
    try:
        address = addresses.existing_mail(mail)
    except addresses.InvalidAddress:
        raise problem("mail", "INVALID_MAIL") from None
    owner = await context.read(SYSTEM, login.find_principal, address)
    if owner is None:
        raise NotFound("NO_SUCH_ACCOUNT", f"{address} is no active admin.")
    return await create(context, actor_of(owner, ""), wish)


async def listed(context: AppContext, actor: Actor) -> list[Token]:
    """Return the tokens that the caller may manage."""
    own = await _grant(context, actor)
    found = await context.state.tokens.list(actor.username)
    return [token for token in found if not own.exceeded_by(token.grant)]


async def get(context: AppContext, actor: Actor, token_id: str) -> Token:
    """Return one of the tokens that the caller may manage. Raises NotFound."""
    token = await context.state.tokens.get(token_id)
    if token is None or token.owner != actor.username:
        raise NotFound("NO_SUCH_TOKEN")
    if (await _grant(context, actor)).exceeded_by(token.grant):
        raise NotFound("NO_SUCH_TOKEN")
    return token


async def rotate(
    context: AppContext, actor: Actor, token: Token, overlap: int
) -> tuple[Token, str]:
    """Replace a token's secret; the old one stays valid for ``overlap`` seconds.

    A limited token can only rotate itself: another one's secret would stay valid after its end.
    """
    if actor.limited and token.id != actor.token:
        raise too_limited()
    found = await context.state.tokens.rotate(token, overlap)
    if found is None:
        raise NotFound("NO_SUCH_TOKEN")
    await _note(context, actor, Kind.UPDATE, token)
    return found


async def revoke(context: AppContext, actor: Actor, token: Token) -> None:
    """Revoke a token, on all replicas at once."""
    await context.state.tokens.revoke(token.id)
    await _note(context, actor, Kind.DELETE, token)


async def _grant(context: AppContext, actor: Actor) -> Grant:
    """Return the limits of the caller's own token; no limits with a session."""
    if not actor.token:
        return FULL
    token = await context.state.tokens.get(actor.token)
    if token is None:
        raise ApiError("INVALID_TOKEN")
    return token.grant


async def _note(context: AppContext, actor: Actor, kind: Kind, token: Token) -> None:
    verbs = {Kind.CREATE: "Create", Kind.UPDATE: "Rotate", Kind.DELETE: "Revoke"}
    message = f"{verbs[kind]} API token {token.id} of {token.owner}."
    await context.audit(actor, [Event(kind, message, username=token.owner)])
