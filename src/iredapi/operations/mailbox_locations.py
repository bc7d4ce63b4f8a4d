"""Locations of mailboxes: checks a path in a request, or generates an unused one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from iredapi.backends.protocols.values import RetryUnit
from iredapi.backends.unit_of_work import ReadUnit, UnitOfWork
from iredapi.domain import mailbox_paths
from iredapi.errors import Conflict, problem


async def location_of_new_user(
    unit: UnitOfWork, mail: str, changes: Mapping[str, Any], queued: frozenset[str]
) -> mailbox_paths.Location:
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
