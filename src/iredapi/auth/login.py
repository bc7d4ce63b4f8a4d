"""Logins, sessions, and the verification of passwords."""

from __future__ import annotations

import asyncio
import hmac
from functools import partial

import structlog

from iredapi.auth import ip_allowlist, login_throttle
from iredapi.backends.unit_of_work import ReadUnit
from iredapi.domain import addresses, password_costs
from iredapi.domain.actors import SYSTEM, Actor, Principal, actor_of, fingerprint
from iredapi.domain.audit_events import Event, Kind
from iredapi.domain.password_readers import NOT_KNOWN, PasswordReader
from iredapi.domain.passwords import HASH_SEPARATOR
from iredapi.errors import (
    ApiError,
    InvalidCredentials,
    NotFound,
    Overloaded,
    PermissionDenied,
    problem,
)
from iredapi.operations import admins
from iredapi.runtime.context import AppContext
from iredapi.state import Role

_REHASH_PATIENCE = 5.0
"""Maximum seconds that a login waits for the replacement of its hash."""
_ACTORS = 1000
"""Maximum number of cached actors."""
_log = structlog.get_logger(__name__)


class _WrongButOverloaded(Overloaded):
    """The password is wrong, but there was no time to hide why. So the answer is OVERLOADED."""


async def login(context: AppContext, username: str, password: str, client: str) -> str:
    """Check an admin's password and return the id of a new session.

    The answer to an unknown name, and its time, are those of a wrong password.
    """
    if not password.strip():
        raise problem("password", "EMPTY_PASSWORD")
    try:
        mail = addresses.existing_mail(username)
    except addresses.InvalidAddress:
        raise problem("username", "INVALID_USERNAME") from None
    await ip_allowlist.require_listed(context, client, "admin_login_ip_list")
    counters = await login_throttle.counters(context, mail, client)
    async with context.login_semaphores.enter(*counters.keys, width=counters.width):
        attempt = await login_throttle.begin(context, counters, password.strip())
        try:
            principal = await _authenticated(context, counters, password.strip())
            if principal.is_global:
                # Before the attempt is withdrawn: attempts from other networks stay counted.
                await ip_allowlist.require_listed(context, client, "global_admin_ip_list")
        except ApiError as error:
            if isinstance(error, InvalidCredentials | PermissionDenied | _WrongButOverloaded):
                _log.warning("login_failed", account=mail, client=client, code=error.code)
                await login_throttle.failed(context, attempt)
            else:
                # No wrong password: such failures must not lock out the account.
                await context.state.attempts.withdraw(attempt)
            raise
        principal = await _rehashed(context, principal, password.strip(), client)
        session, row = await context.state.sessions.new(
            mail, role_of(principal), fingerprint(principal), client
        )
        await login_throttle.succeeded(context, counters, attempt, row)
    actor = actor_of(principal, client)
    await context.audit(actor, [Event(Kind.LOGIN, "Admin login success", username=mail)])
    return session


async def _authenticated(
    context: AppContext, counters: login_throttle.Counters, plain: str
) -> Principal:
    mail = counters.account
    principal = await context.read(SYSTEM, find_principal, mail)
    stored = "" if principal is None else principal.password
    guess = (mail, counters.where, plain, stored)
    if context.wrong_guesses.has(*guess):
        raise InvalidCredentials
    in_use = await context.slow_hashes.get(stored)
    if principal is not None and await context.hasher.verify(plain, stored):
        return principal
    verified = stored.split(HASH_SEPARATOR)
    several = password_costs.are_too_costly(verified)
    if several or any(map(password_costs.is_too_costly, verified)):
        _log.warning("hash_too_costly", account=mail, hint="Set the password anew.")
    # The time must not reveal which accounts exist, nor the schemes of their hashes.
    try:
        left = password_costs.rest(in_use, () if several else verified)
        await context.hasher.equalise(plain, left)
    except Overloaded:
        raise _WrongButOverloaded from None
    context.wrong_guesses.note(*guess)
    raise InvalidCredentials


async def _rehashed(
    context: AppContext, principal: Principal, plain: str, client: str
) -> Principal:
    """Replace the outdated hash of a password that was just verified. Never raises.

    Returns the principal with the hash that is stored now.
    """
    # Without a date of creation, tokens are bound to the hash, and a new hash would end them.
    if not (context.settings.rehash_at_login and principal.account_created_at):
        return principal
    chosen = context.admin_passwords if principal.standalone else context.passwords
    try:
        async with asyncio.timeout(_REHASH_PATIENCE):
            passwords = await chosen()
            if not passwords.outdated(principal.password):
                return principal
            hashed = await passwords.renew(plain)
            await context.write(actor_of(principal, client), admins.rehash, principal, hashed)
            now = await context.read(SYSTEM, find_principal, principal.username)
            # A parallel login may have replaced it first, or somebody changed the password.
            if now is None or not (
                now.password == hashed or await context.hasher.verify(plain, now.password)
            ):
                return principal
            proved = (now.username, fingerprint(principal), fingerprint(now))
            await context.state.sessions.rebind_credential(*proved)
            await context.state.tokens.rebind_credential(*proved)
    except Exception as error:
        _log.warning("not_rehashed", account=principal.username, reason=repr(error))
        return principal
    return now


async def session_actor(context: AppContext, session_id: str, client: str) -> Actor | None:
    """Return the actor of a session with the current rights of its account; None: not valid.

    A session ends when the password is changed, and when the account is disabled or demoted, also
    by another program: the account is read again at least every second.
    """
    found = await context.sessions.get_or_load(
        session_id, partial(_load_principal, context, session_id)
    )
    if found is None:
        return None
    principal, actor = context.actors.get(session_id, (None, SYSTEM))
    if principal is not found or actor.client != client:
        if len(context.actors) >= _ACTORS:
            context.actors.clear()
        actor = actor_of(found, client)
        context.actors[session_id] = found, actor
    return actor


async def _load_principal(context: AppContext, session_id: str) -> Principal | None:
    async with context.deadline():
        session = await context.state.sessions.load(session_id)
        if session is None:
            return None
        principal = await context.read(SYSTEM, find_principal, session.username)
        if (
            principal is None
            or not hmac.compare_digest(fingerprint(principal), session.credential)
            or (session.role == "global" and not principal.is_global)
        ):
            await context.state.sessions.end(session_id)
            return None
        return principal


async def logout(context: AppContext, session_id: str) -> None:
    """End a session."""
    try:
        await context.state.sessions.end(session_id)
    finally:
        context.sessions.invalidate(lambda key, _: key == session_id)


async def verify(
    context: AppContext, actor: Actor, mail: str, plain: str, *, of_admin: bool
) -> None:
    """Verify an account's password. Raises InvalidCredentials (403) or NotFound."""
    # The throttle counts attempts per verified account, for all callers together.
    counters = login_throttle.counters_of_account(mail, actor.client)
    async with context.login_semaphores.enter(*counters.keys):
        attempt = await login_throttle.begin(context, counters, plain.strip())
        try:
            stored = await context.read(actor, find_password, mail, of_admin=of_admin)
            if stored is None:
                raise NotFound("NO_SUCH_ACCOUNT")
            # Of a user, the answer of the mail server is asked for.
            reader = NOT_KNOWN if of_admin else context.settings.password_reader
            if not await context.hasher.verify(plain.strip(), reader.as_read(stored)):
                raise InvalidCredentials(detail=_why_nobody(reader, stored), status=403)
        except ApiError as error:
            if isinstance(error, InvalidCredentials):
                await login_throttle.failed(context, attempt)
            else:
                await context.state.attempts.withdraw(attempt)
            raise
        await context.state.attempts.succeeded(attempt)


def _why_nobody(reader: PasswordReader, stored: str) -> str:
    """Say why no password at all logs a user in; "" when one does."""
    if not stored or reader.as_read(stored):
        return ""
    first = stored.split(HASH_SEPARATOR, maxsplit=1)[0]
    return f"{reader.refuses(first)}: no password logs this user in."


async def find_principal(unit: ReadUnit, mail: str) -> Principal | None:
    """Return the account that may log in with this address; None: there is none."""
    return await unit.admins.principal(mail)


async def find_password(unit: ReadUnit, mail: str, *, of_admin: bool) -> str | None:
    """Return the stored hash of an admin or a mail user; None: no such account."""
    if of_admin:
        return await unit.admins.password(mail)
    user = await unit.users.get(mail)
    if user is not None and HASH_SEPARATOR in user.password:
        return await unit.users.password(mail)  # in the order of the directory
    return None if user is None else user.password


def role_of(principal: Principal) -> Role:
    """Return the role that a session or token is bound to."""
    return "global" if principal.is_global else "normal"
