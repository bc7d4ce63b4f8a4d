"""API tokens in use: who calls with one, and who may make, see, rotate and revoke which.

A token is a bearer of its owner's rights, cut down (``domain.tokens``). The owner is read at every
call, so nothing outlives the owner's rights, nor the password of the owner that it was made with.
Whoever calls with a token may only touch tokens that are no wider than that one.
"""

from __future__ import annotations

import hashlib

from iredapi.auth import ip_allowlist, login
from iredapi.backends.unit_of_work import ReadUnit
from iredapi.domain import addresses
from iredapi.domain.actors import SYSTEM, Actor, Principal
from iredapi.domain.audit_events import Event, Kind
from iredapi.domain.tokens import FULL, Grant, TokenRequest, narrowed, too_limited
from iredapi.errors import (
    ApiError,
    Conflict,
    NotFound,
    PermissionDenied,
    problem,
)
from iredapi.runtime.context import AppContext
from iredapi.state import Token, TooManyTokens

_DAY = 86400


async def token_actor(context: AppContext, secret: str, client: str) -> Actor:
    """Return who calls with a token, as the owner is now.

    Raises ApiError ``INVALID_TOKEN`` (401) or PermissionDenied ``NOT_ALLOWED_IP``.
    """
    token = await context.state.tokens.load(secret)
    if token is None or token.grant.domains == frozenset():
        raise ApiError("INVALID_TOKEN")
    owner = await context.read(SYSTEM, login.find_principal, token.owner)
    if owner is None:
        # Disabled or gone. A later account of this name is told apart below.
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
    # A token is no way around the panel's lists of addresses.
    await ip_allowlist.require_listed(context, client, "admin_login_ip_list")
    if owner.is_global:
        await ip_allowlist.require_listed(context, client, "global_admin_ip_list")
    await context.state.tokens.touch(token)
    return narrowed(login.actor_of(owner, client), token.id, token.grant)


async def _has_password_of(context: AppContext, owner: Principal, token: Token) -> bool:
    """Tell whether the owner's password is still that of the token's creation.

    Who had the old one may have made the token.
    """
    if context.settings.tokens_outlive_password:
        return True
    credential = login.fingerprint(owner)
    if token.credential is None:
        await context.state.tokens.bind(token, credential)
        return True
    return token.credential == credential


def account_of(principal: Principal) -> str:
    """Return what a later account of the same name does not have.

    Where the storage has nothing better it is the password, and a token ends with it.
    """
    if not principal.account_created_at:
        return login.fingerprint(principal)
    text = f"{principal.username}\0{principal.account_created_at}"
    return hashlib.sha256(text.encode()).hexdigest()


async def create(context: AppContext, actor: Actor, wish: TokenRequest) -> tuple[Token, str]:
    """Make a token for whoever calls; the secret is shown only now. Raises ApiError.

    Limited tokens make none: it would work on when they have been revoked.
    """
    if actor.limited:
        raise too_limited()
    owner = await context.read(actor, login.find_principal, actor.username)
    if owner is None or actor.credential not in {"", login.fingerprint(owner)}:
        # The password was changed in this second: who knew the old one gets nothing more.
        raise ApiError("LOGIN_REQUIRED")
    for name, value in (("domains", wish.domains), ("networks", wish.networks)):
        # Nothing at all would be of no use, and everything is not what was said.
        if value is not None and not value:
            raise problem(name, "EMPTY_NOT_ALLOWED")
    grant = Grant(
        read_only=bool(wish.read_only),
        domains=wish.domains,
        networks=wish.networks or frozenset(),
        expires=context.state.tokens.now() + wish.days * _DAY if wish.days else None,
    )
    if grant.domains is not None:
        foreign = [name for name in grant.domains if not actor.manages(name)]
        if foreign:
            refused = problem("domains", "PERMISSION_DENIED", "That is more than you have.")
            refused.status = 403
            raise refused
        missing = await context.read(actor, _missing, grant.domains)
        if missing:
            raise problem("domains", "INVALID_DOMAIN_NAME", f"{missing[0]} is no mail domain.")
    try:
        token, secret = await context.state.tokens.create(
            owner.username,
            login.role_of(owner),
            account_of(owner),
            login.fingerprint(owner),
            wish.label,
            grant,
        )
    except TooManyTokens:
        raise Conflict("TOO_MANY_TOKENS") from None
    await _note(context, actor, Kind.CREATE, token)
    return token, secret


async def create_for(context: AppContext, mail: str, wish: TokenRequest) -> tuple[Token, str]:
    """Make a token for an admin, from the command line. Raises ApiError."""
    try:
        address = addresses.existing_mail(mail)
    except addresses.InvalidAddress:
        raise problem("mail", "INVALID_MAIL") from None
    owner = await context.read(SYSTEM, login.find_principal, address)
    if owner is None:
        raise NotFound("NO_SUCH_ACCOUNT", f"{address} is no active admin.")
    return await create(context, login.actor_of(owner, ""), wish)


async def listed(context: AppContext, actor: Actor) -> list[Token]:
    """Return the tokens that the caller may touch."""
    own = await _grant(context, actor)
    found = await context.state.tokens.list(actor.username)
    return [token for token in found if not own.exceeded_by(token.grant)]


async def get(context: AppContext, actor: Actor, token_id: str) -> Token:
    """Return one of the tokens that the caller may touch. Raises NotFound."""
    token = await context.state.tokens.get(token_id)
    if token is None or token.owner != actor.username:
        raise NotFound("NO_SUCH_TOKEN")
    if (await _grant(context, actor)).exceeded_by(token.grant):
        raise NotFound("NO_SUCH_TOKEN")
    return token


async def rotate(
    context: AppContext, actor: Actor, token: Token, overlap: int
) -> tuple[Token, str]:
    """Give a token a new secret; the old one works for ``overlap`` seconds more.

    A limited token renews only itself: the secret of another one would be good when it has ended.
    """
    if actor.limited and token.id != actor.token:
        raise too_limited()
    found = await context.state.tokens.rotate(token, overlap)
    if found is None:
        raise NotFound("NO_SUCH_TOKEN")
    await _note(context, actor, Kind.UPDATE, token)
    return found


async def revoke(context: AppContext, actor: Actor, token: Token) -> None:
    """End a token, on every replica at once."""
    await context.state.tokens.revoke(token.id)
    await _note(context, actor, Kind.DELETE, token)


async def _grant(context: AppContext, actor: Actor) -> Grant:
    """Return what the caller's own token is limited to; with a session, nothing."""
    if not actor.token:
        return FULL
    token = await context.state.tokens.get(actor.token)
    if token is None:
        raise ApiError("INVALID_TOKEN")
    return token.grant


async def _missing(unit: ReadUnit, domains: frozenset[str]) -> list[str]:
    return [name for name in sorted(domains) if await unit.domains.get(name) is None]


async def _note(context: AppContext, actor: Actor, kind: Kind, token: Token) -> None:
    verbs = {Kind.CREATE: "Create", Kind.UPDATE: "Rotate", Kind.DELETE: "Revoke"}
    message = f"{verbs[kind]} API token {token.id} of {token.owner}."
    await context.audit(actor, [Event(kind, message, username=token.owner)])
