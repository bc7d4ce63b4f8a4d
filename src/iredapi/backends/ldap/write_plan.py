"""Write plan: the writes of one request, sent in order and undone in reverse when one fails.

slapd changes one entry atomically and has no transaction over several. So a plan of several steps
is first recorded in the journal of the state database. If its process dies, another one finds the
record and undoes the steps (``backends.ldap.locks.recover``). Undoing compares with the stored
entries: it can be repeated, and changes nothing that the plan did not write.

A bulk step (all accounts of a domain) is too large for that and is not undone. It searches itself
for entries that still need the change, and precedes the step that shows the request as done: so the
same request, sent again, completes it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from iredapi.backends.ldap.client import Change, Directory, Entry, Op
from iredapi.backends.ldap.dn_layout import same
from iredapi.backends.ldap.entry_diff import Edit
from iredapi.backends.ldap.errors import (
    Busy,
    EntryExists,
    LdapError,
    NoSuchEntry,
    NoSuchValue,
    NotLeaf,
    PasswordRefused,
    ReadsOnly,
    Unavailable,
    ValueExists,
)
from iredapi.backends.ldap.modify_requests import send
from iredapi.errors import WriteWhileReading

_log = structlog.get_logger(__name__)
_TRIES = 5
_NOT_NOW = (Busy, ReadsOnly, Unavailable)
"""Errors that do not depend on the change: the same change may succeed later."""
Attributes = Mapping[str, tuple[bytes, ...]]


def encoded(attributes: Mapping[str, Collection[str | bytes]]) -> dict[str, tuple[bytes, ...]]:
    """Return attributes with values as bytes; those without a value are left out."""
    found = {
        name: tuple(value.encode() if isinstance(value, str) else value for value in values)
        for name, values in attributes.items()
    }
    return {name: values for name, values in found.items() if values}


class Writer(Protocol):
    """The methods of a directory that the steps of a plan call."""

    async def get(self, dn: str, names: Sequence[str] = ("*",)) -> Entry | None:
        """See ``Directory``, as for the others."""
        ...

    async def below(self, dn: str) -> list[Entry]: ...

    async def add(self, dn: str, attributes: Attributes) -> None: ...

    async def modify(self, dn: str, changes: Sequence[Change]) -> None: ...

    async def delete(self, dn: str) -> None: ...

    async def rename(self, dn: str, new_dn: str) -> None: ...


class LockGuard:
    """A directory that checks before each write that the unit still holds its locks.

    A process that stood still for too long (a frozen machine, no state database) loses its locks.
    Another process may have undone its steps since, so it must not write any more.
    """

    def __init__(self, directory: Directory, check: Callable[[], None]) -> None:
        """``check`` raises LdapError when a lock is lost."""
        self._directory = directory
        self._check = check

    async def get(self, dn: str, names: Sequence[str] = ("*",)) -> Entry | None:
        return await self._directory.get(dn, names)

    async def below(self, dn: str) -> list[Entry]:
        return await self._directory.below(dn)

    async def add(self, dn: str, attributes: Attributes) -> None:
        self._check()
        await self._directory.add(dn, attributes)

    async def modify(self, dn: str, changes: Sequence[Change]) -> None:
        self._check()
        await self._directory.modify(dn, changes)

    async def delete(self, dn: str) -> None:
        self._check()
        await self._directory.delete(dn)

    async def rename(self, dn: str, new_dn: str) -> None:
        self._check()
        await self._directory.rename(dn, new_dn)


@dataclass(frozen=True, slots=True)
class Add:
    """A new entry."""

    dn: str
    attributes: Attributes = field(repr=False)

    async def do(self, directory: Writer) -> None:
        await directory.add(self.dn, self.attributes)

    async def undo(self, directory: Writer) -> None:
        # An entry of the same name made by others has another password, or other members.
        there = await directory.get(self.dn)
        if there is not None and same_attributes(there.attributes, self.attributes):
            # If others have added entries below it, it stays.
            with suppress(NoSuchEntry, NotLeaf):
                await directory.delete(self.dn)


@dataclass(frozen=True, slots=True)
class Modify:
    """A change of one entry: values to delete and values to add."""

    dn: str
    changes: tuple[Change, ...] = field(repr=False)

    async def do(self, directory: Writer) -> None:
        await send(directory, self.dn, self.changes)

    async def undo(self, directory: Writer) -> None:
        # An overlay (refint, memberof) may undo the same values at the same time.
        for attempt in range(_TRIES):
            there = await directory.get(self.dn)
            if there is None:
                return
            try:
                await send(directory, self.dn, self._reverse(there, self.changes))
            except (NoSuchEntry, NoSuchValue, ValueExists):
                if attempt == _TRIES - 1:
                    raise
            except _NOT_NOW:
                raise
            except LdapError:
                await self._undo_one_by_one(directory, there)
                return
            else:
                return

    @staticmethod
    def _reverse(there: Entry, changes: Sequence[Change]) -> tuple[Change, ...]:
        edit = Edit(there)
        for change in reversed(changes):
            if change.op is Op.ADD:
                edit.discard(change.name, change.values)
            else:
                edit.add(change.name, change.values)
        return edit.changes()

    async def _undo_one_by_one(self, directory: Writer, there: Entry) -> None:
        """Undo attribute by attribute, and leave out those that cannot be undone.

        The attribute may have got another value, or a password policy may refuse to change a new
        password so soon. A record that can never be undone would block its domains for ever.
        """
        for name in dict.fromkeys(change.name for change in self.changes):
            own = [change for change in self.changes if change.name == name]
            try:
                await send(directory, self.dn, self._reverse(there, own))
            except _NOT_NOW:
                raise
            except LdapError as error:
                _log.warning("ldap_value_not_undone", attribute=name, code=error.code)


@dataclass(frozen=True, slots=True)
class Rename:
    """A new DN for an entry and everything below it; one atomic operation."""

    dn: str
    new_dn: str

    async def do(self, directory: Writer) -> None:
        await directory.rename(self.dn, self.new_dn)

    async def undo(self, directory: Writer) -> None:
        if await directory.get(self.dn, ["1.1"]) is None:
            with suppress(NoSuchEntry, EntryExists):
                await directory.rename(self.new_dn, self.dn)


@dataclass(frozen=True, slots=True)
class Delete:
    """The removal of an entry; ``attributes`` are restored when it is undone."""

    dn: str
    attributes: Attributes = field(repr=False)

    async def do(self, directory: Writer) -> None:
        with suppress(NoSuchEntry):  # deleted already
            await directory.delete(self.dn)

    async def undo(self, directory: Writer) -> None:
        # Without its parent it cannot be restored: its domain was deleted since.
        with suppress(EntryExists, NoSuchEntry):
            try:
                await directory.add(self.dn, self.attributes)
            except PasswordRefused:
                # A password policy refuses the stored hash: restore the entry without it.
                kept = {k: v for k, v in self.attributes.items() if k.lower() != "userpassword"}
                await directory.add(self.dn, kept)
                _log.error("ldap_password_not_restored", dn=self.dn)


@dataclass(frozen=True, slots=True)
class BulkStep:
    """A change of many entries, page by page; repeating it completes it.

    ``find`` yields pages of entries that still need it; ``change`` returns the changes of each.
    """

    find: Callable[[], AsyncIterator[list[Entry]]]
    change: Callable[[Entry], Sequence[Change] | None]
    """The changes of an entry; None deletes it."""
    left_out: Callable[[Entry, LdapError], None] | None = None
    """Called for entries that the server refused to change; None: the first refusal is an error."""
    some: bool = False
    """Whether it is an error when the server refused to change every entry found."""

    async def do(self, directory: Writer) -> None:
        refused: list[tuple[Entry, LdapError]] = []
        changed = False
        async for page in self.find():
            for entry in page:
                changes = self.change(entry)
                try:
                    if changes is None:
                        await delete_all(directory, entry.dn)
                    elif changes:
                        await self._modify(directory, entry, changes)
                        changed = True
                except NoSuchEntry:
                    continue
                except _NOT_NOW:
                    raise
                except LdapError as error:
                    if self.left_out is None:
                        raise
                    refused.append((entry, error))
        if refused and self.some and not changed:
            raise refused[0][1]
        for entry, reason in refused:
            _log.warning("ldap_entry_left_out", dn=entry.dn, code=reason.code)
            if self.left_out is not None:
                self.left_out(entry, reason)

    async def _modify(self, directory: Writer, entry: Entry, changes: Sequence[Change]) -> None:
        """Change an entry; retry when another program changed it at the same time."""
        for attempt in range(_TRIES):
            try:
                await send(directory, entry.dn, changes)
            except (NoSuchValue, ValueExists):
                there = await directory.get(entry.dn)
                if there is None or attempt == _TRIES - 1:
                    raise
                changes = self.change(there) or ()
            else:
                return

    async def undo(self, _directory: Writer) -> None:
        """Do nothing: the same request, sent again, completes a bulk step."""


async def delete_all(directory: Writer, dn: str) -> None:
    """Delete an entry and everything below it, deepest first."""
    try:
        await directory.delete(dn)
    except NotLeaf:
        for below in await directory.below(dn):
            with suppress(NoSuchEntry):
                await directory.delete(below.dn)
        await directory.delete(dn)


Step = Add | Modify | Rename | Delete | BulkStep


class Plan:
    """The steps of one unit, in order; all edits of one entry are one step.

    A ``read_only`` plan raises WriteWhileReading for every step.
    """

    def __init__(self, *, read_only: bool = False) -> None:
        self._read_only = read_only
        self._steps: list[Step | Edit] = []
        self._edits: dict[str, Edit] = {}

    def edit(self, entry: Entry) -> Edit:
        """Return the edit of an entry; its position is that of the first call."""
        self._permit(entry.dn)
        key = same(entry.dn)
        if key not in self._edits:
            self._edits[key] = Edit(entry)
            self._steps.append(self._edits[key])
        return self._edits[key]

    def append(self, step: Step) -> None:
        """Add a step."""
        self._permit(type(step).__name__)
        self._steps.append(step)

    def _permit(self, what: str) -> None:
        if self._read_only:
            raise WriteWhileReading(what)

    def steps(self, fit: Callable[[Edit], None]) -> list[Step]:
        """Return the steps, without edits that change nothing.

        ``fit`` adapts an edit to the server's schema.
        """
        found: list[Step] = []
        for step in self._steps:
            if not isinstance(step, Edit):
                found.append(step)
                continue
            fit(step)
            if changes := step.changes():
                found.append(Modify(step.dn, changes))
        return found


class UndoFailed(LdapError):
    """A plan failed and could not be undone; its record stays in the journal, for a retry."""


async def execute(directory: Writer, steps: Sequence[Step]) -> None:
    """Execute a plan. Raises LdapError after all steps were undone, or UndoFailed."""
    done: list[Step] = []
    for step in steps:
        try:
            await step.do(directory)
        except LdapError as error:
            if isinstance(error, Unavailable) and error.uncertain:
                done.append(step)
            if done:
                await undo_done(directory, done, error)
            raise
        done.append(step)


async def undo_done(directory: Writer, done: Sequence[Step], error: LdapError) -> None:
    """Undo steps after an error. Raises UndoFailed."""
    try:
        await undo(directory, done)
    except LdapError as second:
        _log.error("ldap_undo_failed", code=second.code, effect="it is undone later")
        raise UndoFailed(error.code) from error


async def undo(directory: Writer, steps: Sequence[Step]) -> None:
    """Undo steps in reverse order, whether they were executed or not."""
    for step in reversed(steps):
        await step.undo(directory)


def same_attributes(one: Attributes, other: Attributes) -> bool:
    """Tell whether two entries have the same values."""

    def comparable(attributes: Attributes) -> dict[str, frozenset[bytes]]:
        return {name.lower(): frozenset(values) for name, values in attributes.items()}

    return comparable(one) == comparable(other)
