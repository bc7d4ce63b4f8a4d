"""Creating and changing a mail user: hash, batch or write alone, subscribe to default lists."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from iredapi.backends.unit_of_work import UnitOfWork
from iredapi.concurrency.shield import finish
from iredapi.domain import addresses
from iredapi.domain.actors import Actor
from iredapi.domain.changed_parameters import of_user_fields
from iredapi.errors import ApiError
from iredapi.operations import users
from iredapi.operations.passwords import Passwords, lengths_of, stored_for
from iredapi.runtime.context import AppContext
from iredapi.runtime.transactions import WriteResult
from iredapi.workflows.list_membership import join_default_lists
from iredapi.workflows.mailing_list_steps import with_skipped


async def create_user(
    context: AppContext, actor: Actor, mail: str, changes: Mapping[str, Any]
) -> WriteResult:
    """Create a user, and subscribe it to the default lists of its domain. Raises ApiError.

    Ordinary users that are created at the same time share a transaction.
    """
    hashed, passwords = await _hashed(context, actor, mail, changes)
    if batched := await context.user_batcher.create(actor, mail, changes, hashed, passwords):
        done = WriteResult(adjusted=tuple(item.to_dict() for item in batched.adjusted))
    else:
        done = await context.write(actor, users.create, mail, changes, hashed, passwords)
    return await joined(context, actor, mail, done)


async def _hashed(
    context: AppContext, actor: Actor, mail: str, changes: Mapping[str, Any]
) -> tuple[str, Passwords]:
    passwords = await context.passwords()
    try:
        # Hashed before anything is locked. The operation checks the limits of the domain.
        return await passwords.hashed(changes), passwords
    except ApiError:
        # The limits of the domain too: one answer lists everything that is wrong with a password.
        await prepare_password(context, actor, addresses.domain_of(mail), changes)
        raise


async def creation(
    context: AppContext, actor: Actor, mail: str, changes: Mapping[str, Any]
) -> Callable[[UnitOfWork], Awaitable[None]]:
    """Return what creates a user in a unit; the password is hashed already. Raises ApiError."""
    hashed, passwords = await _hashed(context, actor, mail, changes)

    async def create(unit: UnitOfWork) -> None:
        await users.create(unit, mail, changes, hashed, passwords)

    return create


async def joined(context: AppContext, actor: Actor, mail: str, done: WriteResult) -> WriteResult:
    """Subscribe a user that was created to the default lists of its domain."""
    server = context.list_server
    if server is None or not server.accepts(mail):
        return done
    return with_skipped(done, await finish(join_default_lists(context, actor, server, mail)))


async def update_user(
    context: AppContext, actor: Actor, mail: str, changes: Mapping[str, Any], hashed: str
) -> WriteResult:
    """Change a user; ``hashed`` is from ``prepare_user_password``. Raises ApiError.

    Changes of different users that arrive at the same time share a statement.
    """
    # Batches match folded addresses only.
    if addresses.typed(mail) == mail and (
        batched := await context.user_batcher.change(actor, mail, changes, hashed)
    ):
        return WriteResult(changed=of_user_fields(batched.changed or ()))
    return await context.write(actor, users.update, mail, changes, hashed)


async def prepare_password(
    context: AppContext, actor: Actor, domain: str, changes: Mapping[str, Any]
) -> str:
    """Return the hash for the password in a form, or an empty text; before any lock."""
    if "password_hash" not in changes and "password" not in changes:
        return ""
    lengths = await context.read(actor, lengths_of, domain)
    return await (await context.passwords()).prepare(changes, lengths)


async def prepare_user_password(
    context: AppContext, actor: Actor, mail: str, changes: Mapping[str, Any]
) -> str:
    """Return the hash for the password in a form of a user; the stored one if it is the same.

    The operation still refuses a change that is not allowed: a hash is no permission.
    """
    if "password" not in changes:
        return await prepare_password(context, actor, addresses.domain_of(mail), changes)
    lengths, stored = await context.read(actor, stored_for, mail)
    return await (await context.passwords()).prepare(changes, lengths, stored)
