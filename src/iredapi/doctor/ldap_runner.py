"""The examination of a directory: schema, rights, every entry, and the repairs.

The tree is read twice, in pages: what entries depend on, then the entries themselves; what seems
wrong is looked at once more, because the service goes on writing meanwhile. A repair
holds the locks that the service's writes hold, reads the entry and all that it depends on again,
and changes what is still wrong.
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
from iredapi.doctor.repair_log import note
from iredapi.doctor.state_checks import is_well
from iredapi.domain.addresses import domain_of
from iredapi.errors import ApiError
from iredapi.runtime.startup import open_state
from iredapi.state import LockTimeout, State, StateUnavailable

_ADMIN: Final = "(objectClass=mailAdmin)"
_NOBODY: Final = "iredapi-doctor.invalid"
_TRIES: Final = 5
_PATIENCE: Final = 60.0
"""Seconds that a write may take; its record in the journal is no finding before."""


class TreeExamination:
    """Looks at the directory of a configuration; closes it at the end."""

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
        self._looked = False
        self.accounts = TreeDirectory(self._directory, self._tree)
        self.usable = False
        """Whether the accounts could be read."""

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
        """Say what is wrong."""
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
            why = "it does not answer" if isinstance(error, Unavailable) else str(error)
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
        """Tell whether no server can be reached that takes writes, whoever sends them."""
        if await self._directory.takes_writes():
            return False
        try:
            await self._may_write(self._tree.base, "description")
        except ReadsOnly:
            return True
        return False

    async def _rights(self) -> AsyncIterator[Finding]:
        """Try to take away values that are not there: who may, is told that they are not there."""
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
            await self._directory.modify(dn, [Change(Op.DELETE, name, (_NOBODY,))])
        except Refused:
            return False
        except NoSuchValue:
            return True
        return True

    # -- what writes have left ---------------------------------------------------------------------

    async def _opened_state(self) -> State | None:
        """Open the state database, unless that would make or migrate it."""
        if not self._looked and await is_well(self._settings):
            with suppress(ConfigurationError):
                self._state = await open_state(self._settings)
        self._looked = True
        return self._state

    async def _journal(self) -> AsyncIterator[Finding]:
        """Tell of writes that broke off and were not taken back."""
        state = await self._opened_state() if "WRITE_UNFINISHED" in self._only else None
        if state is None:
            return
        for record_id, names in await state.journal.open():
            record = await state.journal.read(record_id)
            if record is None or time.time() - record.created < _PATIENCE:
                continue
            fixed = self._fix and await self._take_back(state, record_id, names)
            yield Finding("WRITE_UNFINISHED", ", ".join(sorted(names)), fixed=fixed)
            if fixed:
                await note(self._databases, "WRITE_UNFINISHED", sorted(names))

    async def _take_back(self, state: State, record_id: str, names: Collection[str]) -> bool:
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
        facts = await Facts.of_all(self._directory, self._tree)
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
            # One connection is held meanwhile; repairs take others.
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
                found = await self._still(entry.dn, facts, found)
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
            await note(self._databases, code, subjects)

    async def _still(self, dn: str, facts: Facts, found: Sequence[Wrong]) -> Sequence[Wrong]:
        """Return what is still wrong when no write is under way: sweeps take their time."""
        entry = await self._directory.get(dn)
        state = await self._opened_state()
        if entry is None:
            return []
        try:
            async with AsyncExitStack() as stack:
                if state is not None:
                    await stack.enter_async_context(quiet(state, _locks_of(entry, facts)))
                now = await self._judged(dn)
        except (LockTimeout, StateUnavailable):
            return found
        # Shared mailboxes take those of all users to see.
        return [wrong for wrong in found if wrong.code == "MAILBOX_SHARED" or _id(wrong) in now]

    async def _judged(self, dn: str) -> set[tuple[str, str, str]]:
        entry = await self._directory.get(dn)
        if entry is None:
            return set()
        facts = await Facts.around(self._directory, self._tree, entry)
        return {_id(wrong) for wrong in judge(entry, facts, self._settings)}

    async def _repair(self, entry: Entry, facts: Facts, codes: set[str]) -> Sequence[Wrong]:
        """Repair what is still wrong with an entry; again when somebody else was faster."""
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
        facts = await Facts.around(self._directory, self._tree, entry)
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
    """Return the domains whose writers must wait: the entry's own, and those that it names."""
    named = {domain_of(mail) for name in NAMING for mail in words(entry, name)}
    named |= words(entry, "domainName")
    hosts = {host for name in named for host in (name, *facts.targets.get(name, ()))}
    return {name for name in hosts if name in facts.domains} | {
        domain_of(mail) for mail in words(entry, "mail")
    }
