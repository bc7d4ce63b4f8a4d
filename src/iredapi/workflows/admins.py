"""Standalone admins: passwords of forms, and what the command line does."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from iredapi.backends.unit_of_work import ReadUnit
from iredapi.domain import addresses
from iredapi.domain.actors import SYSTEM, Actor
from iredapi.errors import problem
from iredapi.operations import admins
from iredapi.operations.passwords import stored_for_admin
from iredapi.runtime.context import AppContext


@dataclass(frozen=True, slots=True)
class FirstAdmin:
    """The first admin of an embedded database, if it was just created; else both are empty."""

    mail: str
    password: str | None


async def create_admin(
    context: AppContext, mail: str, password: str, *, name: str = "", is_global: bool = True
) -> None:
    """Create a standalone admin. Raises ApiError."""
    address = _valid_address(mail)
    changes = {"password": password.strip(), "name": name, "is_global_admin": is_global}
    hashed = await (await context.admin_passwords()).prepare(changes)
    await context.write(SYSTEM, admins.create, address, changes, hashed)


async def set_admin_password(context: AppContext, mail: str, password: str) -> None:
    """Give a standalone admin a new password; all its sessions end. Raises ApiError."""
    changes = {"password": password.strip()}
    hashed = await (await context.admin_passwords()).prepare(changes)
    await context.write(SYSTEM, admins.update, _valid_address(mail), changes, hashed)


async def ensure_first_admin(context: AppContext) -> FirstAdmin:
    """Create the first global admin of an embedded database, unless one exists already."""
    mail = _valid_address(context.settings.admin)
    if await context.read(SYSTEM, count_globals):
        return FirstAdmin("", None)
    given = context.settings.admin_password.get_secret_value()
    password = given or f"{secrets.token_urlsafe(18)}-Aa1"
    await create_admin(context, mail, password)
    return FirstAdmin(mail, password)


async def prepare_admin_password(
    context: AppContext, actor: Actor, mail: str, changes: Mapping[str, Any]
) -> str:
    """Return the hash for the password in a form of a standalone admin.

    The stored hash if the password is the same. Raises ApiError.
    """
    stored = ""
    if "password" in changes:
        stored = await context.read(actor, stored_for_admin, mail)
    return await (await context.admin_passwords()).prepare(changes, stored=stored)


async def count_globals(unit: ReadUnit) -> int:
    """Count the active global admins."""
    return await unit.admins.globals_without(())


def _valid_address(mail: str) -> str:
    try:
        return addresses.new_account(mail)
    except addresses.InvalidAddress as error:
        raise problem("mail", "INVALID_MAIL", str(error)) from None
