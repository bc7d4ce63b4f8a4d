"""Write plans on several servers that replicate (mirror mode): one may stop at any moment.

slapd answers before the other servers have the change, and of two changes of one entry the newer
one wins with the whole entry. So a plan is done when the other servers have it too, and is carried
out again on another server when the first one stops meanwhile: whatever that one has of it, and
brings along when it is back, is older then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from iredapi.backends.ldap import write_plan
from iredapi.backends.ldap.client import Directory, Entry, Op
from iredapi.backends.ldap.dn_layout import same
from iredapi.backends.ldap.entry_diff import Edit
from iredapi.backends.ldap.errors import (
    EntryExists,
    LdapError,
    NoSuchEntry,
    NoSuchValue,
    Unavailable,
    ValueExists,
)
from iredapi.backends.ldap.write_plan import Add, Delete, Modify, Rename, Step, Writer

_log = structlog.get_logger(__name__)
_TRIES: Final = 3
"""How often a plan is carried out again: another server may stop, too."""
_PAUSE: Final = 0.1
"""Seconds before that, when a change of the server that stopped arrived in between."""


async def execute(writer: Writer, steps: Sequence[Step], servers: Directory) -> None:
    """Execute a plan. Raises LdapError after all steps were undone, or UndoFailed."""
    done: list[Step] = []
    since = servers.changes_of_servers
    try:
        for step in steps:
            await step.do(writer)
            done.append(step)
        await servers.replicated(since)
    except LdapError as error:
        # A step that was sent to another server than the one before it may be refused there, since
        # that server does not have the change of the step before. Undoing would find nothing.
        if isinstance(error, Unavailable) or servers.changes_of_servers != since:
            await _again(writer, steps, servers, error)
            return
        if done:
            await write_plan.undo_done(writer, done, error)
        raise


async def _again(
    writer: Writer, steps: Sequence[Step], servers: Directory, error: LdapError
) -> None:
    for _ in range(_TRIES):
        since = servers.changes_of_servers
        try:
            await repeat(writer, steps)
            await servers.replicated(since)
        except Unavailable as second:
            error = second
        except (EntryExists, NoSuchEntry, NoSuchValue, ValueExists) as second:
            # A change of the server that stopped arrived while a step was looked at, or sent.
            error = second
            await asyncio.sleep(_PAUSE)
        except LdapError as second:
            error = second
            break
        else:
            _log.info("ldap_write_repeated", steps=len(steps))
            return
    await write_plan.undo_done(writer, steps, error)
    raise error


async def repeat(directory: Writer, steps: Sequence[Step]) -> None:
    """Execute steps of which some may have been executed. Raises LdapError."""
    for step in steps:
        if not await _is_done(directory, step, steps):
            await step.do(directory)


async def _is_done(directory: Writer, step: Step, steps: Sequence[Step]) -> bool:
    match step:
        case Add(dn, attributes):
            there = await directory.get(dn)
            return there is not None and write_plan.same_attributes(there.attributes, attributes)
        case Modify(dn):
            there = await directory.get(dn)
            if there is None:
                # A later step has moved or removed the entry already.
                return any(
                    isinstance(later, Rename | Delete) and same(later.dn) == same(dn)
                    for later in steps
                )
            return _has(there, step)
        case Rename(dn, new_dn):
            return (
                await directory.get(dn, ("1.1",)) is None
                and await directory.get(new_dn, ("1.1",)) is not None
            )
    return False


def _has(there: Entry, step: Modify) -> bool:
    """Whether an entry is already as the step leaves it."""
    edit = Edit(there)
    for change in step.changes:
        if change.op is Op.ADD:
            edit.add(change.name, change.values)
        else:
            edit.discard(change.name, change.values)
    return not edit.changes()
