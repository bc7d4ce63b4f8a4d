"""Paths of mailboxes: the one that a request names, or a generated one that nobody has."""

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
        raise problem("maildir", "INVALID_MAILDIR", "Another account's mailbox lies there.")
    return location


async def free_location(
    unit: ReadUnit, mail: str, queued: frozenset[str]
) -> mailbox_paths.Location:
    """Return a generated path that nobody has: not one that waits to be removed either."""
    # Server local time, as iRedMail's own tools write it into paths.
    moment, layout = datetime.now().astimezone(), unit.rules.users.layout
    waiting = {path.rstrip("/") for path in queued}
    location = mailbox_paths.generate(mail, layout, moment)
    if layout.append_timestamp:
        while location.path in waiting:
            moment += timedelta(seconds=1)
            location = mailbox_paths.generate(mail, layout, moment)
    elif await unit.users.paths_near(location.path):
        raise Conflict("ALREADY_EXISTS", f"A mailbox lies in {location.path} already.")
    if len(location.path) > mailbox_paths.MAX_PATH:
        raise problem("mail", "INVALID_MAIL", "The address is too long for a mailbox path.")
    return location


def outlive_timestamp(location: mailbox_paths.Location) -> None:
    """Put off what frees a path that could be generated again in this very second.

    Only for a user that is renamed in the second of its creation: the old address is free then, and
    a new user of it would get the same mailbox.
    """
    moment = datetime.now().astimezone()
    if location.path.endswith(moment.strftime("-%Y.%m.%d.%H.%M.%S")):
        raise RetryUnit(1.0 - moment.microsecond / 1_000_000 + 0.01)
