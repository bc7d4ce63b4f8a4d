"""Locations of mailboxes: checks a path in a request, or generates an unused one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from iredapi.backends.protocols.values import RetryUnit
from iredapi.backends.unit_of_work import ReadUnit, UnitOfWork
from iredapi.domain import mailbox_paths
from iredapi.domain.addresses import domain_of
from iredapi.domain.deleted_mailboxes import visible_to
from iredapi.errors import Conflict, PermissionDenied, problem

_MOST_DELETED: Final = 10_000
"""Deleted mailboxes of one address that are looked at."""


async def location_of_new_user(
    unit: UnitOfWork, mail: str, changes: Mapping[str, Any], queued: frozenset[str]
) -> mailbox_paths.Location:
    if changes.get("restore"):
        return await _restored_location(unit, mail, changes["restore"])
    if "maildir" in changes:
        return await given_location(unit, changes["maildir"])
    return await free_location(unit, mail, queued)


async def given_location(unit: UnitOfWork, text: str, *, owner: str = "") -> mailbox_paths.Location:
    try:
        location = mailbox_paths.parse_location(text, unit.rules.users.layout)
    except mailbox_paths.InvalidMaildir as error:
        raise problem("maildir", "INVALID_MAILDIR", str(error)) from None
    await unit.users.unqueue(location.path)
    if await unit.users.paths_near(location.path, but=owner):
        raise problem("maildir", "INVALID_MAILDIR", "Another account's mailbox is there.")
    return location


async def _restored_location(unit: UnitOfWork, mail: str, which: str) -> mailbox_paths.Location:
    """Return the location of an earlier user with the address, and take it out of the queue.

    ``which`` is its id there, or "yes" for the one that was deleted last.
    """
    wanted = replace(visible_to(unit.actor, domain_of(mail)), mail=mail)
    found = [
        box
        for box in await unit.deleted_mailboxes.page(wanted, 0, _MOST_DELETED)
        if which in ("yes", str(box.id)) and box.path.strip("/")
    ]
    if not found:
        raise problem("restore", "NO_SUCH_MAILBOX", f"There is no such deleted mailbox of {mail}.")
    try:
        location = mailbox_paths.deleted_location(found[-1].path, unit.rules.users.layout)
    except mailbox_paths.InvalidMaildir as error:
        raise problem("restore", "INVALID_MAILDIR", str(error)) from None
    await protect_global_admins(unit, location.path)
    await unit.users.unqueue(location.path)
    if await unit.users.paths_near(location.path):
        raise problem("restore", "MAILBOX_IN_USE", "Another account's mailbox is there.")
    return location


async def protect_global_admins(unit: ReadUnit, path: str) -> None:
    """Refuse a normal admin the deleted mailbox of a global admin."""
    if not unit.actor.is_global and await unit.deleted_mailboxes.is_guarded(path):
        raise PermissionDenied(
            "PERMISSION_DENIED_UPDATE_GLOBAL_ADMIN_PROFILE",
            "The mailbox was that of a global admin.",
        )


async def free_location(
    unit: ReadUnit, mail: str, queued: frozenset[str]
) -> mailbox_paths.Location:
    """Return a generated path that is not in use; ``queued`` paths wait to be removed."""
    # Local time of the server, as in paths made by iRedMail's tools.
    moment, layout = datetime.now().astimezone(), unit.rules.users.layout
    waiting = {path.rstrip("/") for path in queued}
    location = mailbox_paths.generate(mail, layout, moment)
    if layout.append_timestamp:
        while waiting and location.path in waiting:
            moment += timedelta(seconds=1)
            location = mailbox_paths.generate(mail, layout, moment)
    elif await unit.users.paths_near(location.path):
        raise Conflict("ALREADY_EXISTS", f"There is already a mailbox in {location.path}.")
    if len(location.path) > mailbox_paths.MAX_PATH:
        raise problem("mail", "INVALID_MAIL", "The address is too long for a mailbox path.")
    return location


def wait_until_path_is_unique(location: mailbox_paths.Location) -> None:
    """Raise RetryUnit until the second in the path of a mailbox is over.

    If a user is renamed in the second of its creation, a new user with the old address would get
    the same path.
    """
    moment = datetime.now().astimezone()
    if location.path.endswith(moment.strftime("-%Y.%m.%d.%H.%M.%S")):
        raise RetryUnit(1.0 - moment.microsecond / 1_000_000 + 0.01)
