"""Examines a directory: schema, rights, unfinished writes and every entry, and repairs.

The tree is read twice, in pages: first what entries depend on (``ldap_facts``), then the entries
themselves. A finding is checked once more, because the service may have written meanwhile. A repair
takes the locks that the service's writes take, reads the entry and what it depends on again, and
changes what is still wrong.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Final, Self

from iredapi.backends.ldap.client import Change, Directory, Entry, Op, Scope
from iredapi.backends.ldap.directories import REQUIRED, options_of
from iredapi.backends.ldap.dn_layout import ALL_ACCOUNTS, Tree
from iredapi.backends.ldap.entry_diff import Edit
from iredapi.backends.ldap.errors import (
    EntryExists,
    LdapError,
    NoSuchValue,
    ReadsOnly,
    Refused,
    Unavailable,
)
from iredapi.backends.ldap.locks import Contended, UnitLocks, quiet, recover
from iredapi.backends.ldap.schema_definitions import SCHEMAS
from iredapi.backends.ldap.session import words
from iredapi.backends.ldap.write_plan import encoded
from iredapi.config.errors import ConfigurationError
from iredapi.config.settings import Settings
from iredapi.database.session import Databases
from iredapi.doctor.findings import Finding
from iredapi.doctor.ldap_checks import Add, Wrong, judge
from iredapi.doctor.ldap_facts import DOMAIN, NAMING, PAGE, Facts, TreeDirectory
from iredapi.doctor.repair_log import log_repairs
from iredapi.doctor.state_checks import is_usable
from iredapi.domain.addresses import domain_of
from iredapi.errors import ApiError
from iredapi.runtime.startup import open_state
from iredapi.state import LockTimeout, State, StateUnavailable

_ADMIN: Final = "(objectClass=mailAdmin)"
_ABSENT_VALUE: Final = "iredapi-doctor.invalid"
_TRIES: Final = 5
_MAX_WRITE_SECONDS: Final = 60.0
"""Maximum duration of a write in seconds; younger records of the journal are no findings."""


class TreeExamination:
    """Examines the directory of a configuration; an async context manager that closes it."""

    def __init__(
        self, settings: Settings, databases: Databases, only: Collection[str], *, fix: bool
    ) -> None:
        self._settings = settings
        self._databases = databases
        self._only = only
        self._fix = fix
        self._tree = Tree(settings.ldap_base_dn, settings.admin_base_dn)
        self._directory = Directory(options_of(settings))
        self._state: State | None = None
        self._state_tried = False
        self.accounts = TreeDirectory(self._directory, self._tree)
        self.usable = False
        """Whether accounts can be read: the checks of the other databases need them."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._directory.close()
        if self._state is not None:
            await self._state.connections.close()

    async def findings(self) -> AsyncIterator[Finding]:
        """Examine everything and yield what is wrong."""
        try:
            async for finding in self._server():
                yield finding
            if not self.usable:
                return
            async for finding in self._journal():
                yield finding
            async for finding in self._entries():
                yield finding
        except LdapError as error:
            self.usable = False
            why = "it cannot be reached" if isinstance(error, Unavailable) else str(error)
            yield Finding("SERVER_AWAY", "ldap", why)

    # -- the server --------------------------------------------------------------------------------

    async def _server(self) -> AsyncIterator[Finding]:
        try:
            known = await self._directory.schema()
        except Refused:
            yield Finding("RIGHT_MISSING", "ldap", "the bind is refused")
            return
        lacking = sorted(REQUIRED - known)
        for name in lacking:
            yield Finding("SCHEMA_LACKS", f"ldap.{name}")
        for name in _names_of_schema():
            if name.lower() not in known | REQUIRED:
                yield Finding("SCHEMA_OLDER", f"ldap.{name}")
        readable = True
        for base in (self._tree.base, self._tree.admin_base):
            if await self._directory.get(base, ("1.1",)) is None:
                readable = False
                yield Finding("RIGHT_MISSING", base, "read, or there is no such entry")
        self.usable = readable and not lacking
        if readable and await self._reads_only():
            yield Finding("DIRECTORY_READS_ONLY", "ldap")
            return
        if self.usable and "RIGHT_MISSING" in self._only:
            async for finding in self._rights():
                yield finding

    async def _reads_only(self) -> bool:
        """Tell whether no server that can be reached accepts writes."""
        if await self._directory.takes_writes():
            return False
        try:
            await self._may_write(self._tree.base, "description")
        except ReadsOnly:
            return True
        return False

    async def _rights(self) -> AsyncIterator[Finding]:
        """Test write access: delete a value that does not exist.

        The server checks the right first, then answers noSuchAttribute.
        """
        sample = [self._tree.base, self._tree.admin_base]
        for base, scope, kind in (
            (self._tree.base, Scope.ONE, DOMAIN),
            (self._tree.base, Scope.SUB, "(objectClass=mailUser)"),
            (self._tree.admin_base, Scope.ONE, _ADMIN),
        ):
            async for page in self._directory.pages(base, scope, kind, ("1.1",), size=1):
                sample.append(page[0].dn)
                break
        for dn in sample:
            entry = await self._directory.get(dn)
            if entry is None:
                continue
            names = ["description"]
            if words(entry, "objectClass") & {"mailuser", "mailadmin"}:
                names.append("userPassword")
            for name in names:
                if not await self._may_write(dn, name):
                    yield Finding("RIGHT_MISSING", dn, f"write {name}")

    async def _may_write(self, dn: str, name: str) -> bool:
        try:
            await self._directory.modify(dn, [Change(Op.DELETE, name, (_ABSENT_VALUE,))])
        except Refused:
            return False
        except NoSuchValue:
            return True
        return True

    # -- unfinished writes -------------------------------------------------------------------------

    async def _opened_state(self) -> State | None:
        """Open the state database once, unless that would create or migrate it."""
        if not self._state_tried and await is_usable(self._settings):
            with suppress(ConfigurationError):
                self._state = await open_state(self._settings)
        self._state_tried = True
        return self._state

    async def _journal(self) -> AsyncIterator[Finding]:
        """Report writes that were interrupted and have not been undone."""
        state = await self._opened_state() if "WRITE_UNFINISHED" in self._only else None
        if state is None:
            return
        for record_id, names in await state.journal.open():
            record = await state.journal.read(record_id)
            if record is None or time.time() - record.created < _MAX_WRITE_SECONDS:
                continue
            fixed = self._fix and await self._undo(state, record_id, names)
            yield Finding("WRITE_UNFINISHED", ", ".join(sorted(names)), fixed=fixed)
            if fixed:
                await log_repairs(self._databases, "WRITE_UNFINISHED", sorted(names))

    async def _undo(self, state: State, record_id: str, names: Collection[str]) -> bool:
        locks = UnitLocks(state, self._directory)
        try:
            await locks.take(*names)
            await recover(state, self._directory, record_id)
        except (ApiError, Contended, StateUnavailable):
            return False
        finally:
            await locks.release()
        return True

    # -- entries -----------------------------------------------------------------------------------

    async def _entries(self) -> AsyncIterator[Finding]:
        facts = await Facts.of_tree(self._directory, self._tree)
        for address, owners in sorted(facts.shared.items()):
            code = "ADDRESS_TWICE" if address in owners else "ALIAS_ADDRESS_SHARED"
            yield Finding(code, address, " and ".join(sorted(owners)))
        if not facts.globals:
            yield Finding("NO_GLOBAL_ADMIN", "ldap")
        for base, scope, kind in (
            (self._tree.base, Scope.ONE, DOMAIN),
            (self._tree.base, Scope.SUB, ALL_ACCOUNTS),
            (self._tree.admin_base, Scope.ONE, _ADMIN),
        ):
            # The paged search keeps one connection; repairs use others.
            async for page in self._directory.pages(base, scope, kind, size=PAGE):
                async for finding in self._page(page, facts):
                    yield finding

    async def _page(self, page: Sequence[Entry], facts: Facts) -> AsyncIterator[Finding]:
        repaired: dict[str, list[str]] = {}
        for entry in page:
            found: Sequence[Wrong] = [
                wrong for wrong in judge(entry, facts, self._settings) if wrong.code in self._only
            ]
            if found:
                found = await self._check_again(entry.dn, facts, found)
            fixed: Sequence[Wrong] = ()
            if self._fix and any(wrong.repair for wrong in found):
                fixed = await self._repair(entry, facts, {wrong.code for wrong in found})
            done = {(wrong.code, wrong.detail) for wrong in fixed}
            for wrong in found:
                is_fixed = (wrong.code, wrong.detail) in done
                if is_fixed:
                    repaired.setdefault(wrong.code, []).append(wrong.subject)
                yield Finding(wrong.code, wrong.subject, wrong.detail, is_fixed)
        for code, subjects in repaired.items():
            await log_repairs(self._databases, code, subjects)

    async def _check_again(self, dn: str, facts: Facts, found: Sequence[Wrong]) -> Sequence[Wrong]:
        """Check again while no write is running, and return what is still wrong."""
        entry = await self._directory.get(dn)
        state = await self._opened_state()
        if entry is None:
            return []
        try:
            async with AsyncExitStack() as stack:
                if state is not None:
                    await stack.enter_async_context(quiet(state, _locks_of(entry, facts)))
                now = await self._current_findings(dn)
        except (LockTimeout, StateUnavailable):
            return found
        # A shared mailbox can only be seen with the mailboxes of all users.
        return [wrong for wrong in found if wrong.code == "MAILBOX_SHARED" or _id(wrong) in now]

    async def _current_findings(self, dn: str) -> set[tuple[str, str, str]]:
        entry = await self._directory.get(dn)
        if entry is None:
            return set()
        facts = await Facts.of_entry(self._directory, self._tree, entry)
        return {_id(wrong) for wrong in judge(entry, facts, self._settings)}

    async def _repair(self, entry: Entry, facts: Facts, codes: set[str]) -> Sequence[Wrong]:
        """Repair what is still wrong with an entry; retry after a conflict with another write."""
        state = await self._opened_state()
        if state is None:
            return ()
        names = _locks_of(entry, facts)
        for _ in range(_TRIES):
            locks = UnitLocks(state, self._directory)
            try:
                await locks.take(*names)
                return await self._repair_locked(entry.dn, codes)
            except Contended as error:
                names = set(error.names)
            except (NoSuchValue, EntryExists):
                continue
            except (ApiError, StateUnavailable, LdapError):
                return ()
            finally:
                await locks.release()
        return ()

    async def _repair_locked(self, dn: str, codes: set[str]) -> Sequence[Wrong]:
        entry = await self._directory.get(dn)
        if entry is None:
            return ()
        facts = await Facts.of_entry(self._directory, self._tree, entry)
        edit = Edit(entry)
        done: list[Wrong] = []
        for wrong in judge(entry, facts, self._settings):
            if wrong.repair is None or wrong.code not in codes:
                continue
            done.append(wrong)
            if isinstance(wrong.repair, Add):
                await self._directory.add(wrong.repair.dn, encoded(wrong.repair.attributes))
            else:
                wrong.repair(edit)
        await self._directory.modify(dn, edit.changes())
        return done


def _names_of_schema() -> list[str]:
    attributes = [item.name for schema in SCHEMAS.values() for item in schema.attributes]
    return sorted(attributes + [item.name for s in SCHEMAS.values() for item in s.classes])


def _id(wrong: Wrong) -> tuple[str, str, str]:
    return wrong.code, wrong.subject, wrong.detail


def _locks_of(entry: Entry, facts: Facts) -> set[str]:
    """Return the domains to lock: those of the entry, and those of the addresses it names."""
    named = {domain_of(mail) for name in NAMING for mail in words(entry, name)}
    named |= words(entry, "domainName")
    hosts = {host for name in named for host in (name, *facts.targets.get(name, ()))}
    return {name for name in hosts if name in facts.domains} | {
        domain_of(mail) for mail in words(entry, "mail")
    }
