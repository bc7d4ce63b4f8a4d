"""The LDAP storage of one process: opens units of work, commits them, recovers failed writes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress

import structlog
from sqlalchemy.exc import DBAPIError

from iredapi.backends.ldap import failover, write_plan
from iredapi.backends.ldap.client import Directory, DirectoryOptions
from iredapi.backends.ldap.dn_layout import Tree
from iredapi.backends.ldap.errors import (
    Busy,
    EntryExists,
    InvalidData,
    LdapError,
    NoSuchEntry,
    NoSuchValue,
    NotUnique,
    PasswordRefused,
    ReadsOnly,
    Refused,
    Unavailable,
    ValueExists,
)
from iredapi.backends.ldap.iredadmin_mailbox_tables import IredadminAccounts
from iredapi.backends.ldap.list_cache import Listings
from iredapi.backends.ldap.locks import Contended, UnitLocks, recover
from iredapi.backends.ldap.session import Options, Session
from iredapi.backends.ldap.start_errors import STRONGER_AUTH_REQUIRED, explain
from iredapi.backends.ldap.write_plan import BulkStep, LockGuard, Step
from iredapi.backends.ldap.write_plan_journal import dump
from iredapi.backends.protocols.values import ChangedMeanwhile, RetryUnit
from iredapi.backends.sql import tables
from iredapi.config.settings import Settings
from iredapi.database.session import Connections, Databases
from iredapi.errors import ApiError, Conflict, ServerDown, problem
from iredapi.observability.health_checks import READS_ONLY
from iredapi.state import State, StateUnavailable
from iredapi.state.idempotency_keys import CURRENT, Claim

RECOVERY_SECONDS = 15.0
"""Interval in seconds of the search for unfinished writes of other processes."""
_UNWILLING = 53
_ERASE_SECONDS = 0.5
"""Pause in seconds before a journal record is erased again, while the state database is down."""
REQUIRED = frozenset(
    {"maildomain", "mailuser", "mailalias", "maillist", "mailadmin", "mailexternaluser"}
    | {"domainstatus", "domainpendingaliasname", "accountsetting", "shadowaddress"}
)
"""Names of iRedMail 0.9.8, the oldest supported schema, in lower case."""
_log = structlog.get_logger(__name__)


def options_of(settings: Settings) -> DirectoryOptions:
    """Return the connection options of a configuration."""
    return DirectoryOptions(
        uris=tuple(settings.ldap_uri),
        bind_dn=settings.ldap_bind_dn,
        password=settings.ldap_bind_password.get_secret_value(),
        starttls=settings.ldap_starttls,
        ca_file=settings.ldap_ca_file,
        verify=settings.ldap_verify,
        size=settings.ldap_pool_size,
        connect_timeout=settings.connect_timeout,
        timeout=settings.ldap_timeout,
        pool_timeout=settings.pool_timeout,
        base=settings.ldap_base_dn,
    )


class Directories:
    """Everything that the units of one process share."""

    def __init__(self, settings: Settings, databases: Databases, state: State) -> None:
        self._reach = options_of(settings)
        self.directory = Directory(self._reach)
        self.databases = databases
        self.state = state
        self._tree = Tree(settings.ldap_base_dn, settings.admin_base_dn)
        self._options = Options(member_dns=settings.ldap_member_dns)
        self._listings = Listings()
        self._quota = tables.used_quota
        self._recovery: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self.bulk_steps = asyncio.Semaphore(settings.ldap_pool_size // 2)
        """A bulk step needs two connections; with this limit they cannot block each other."""

    async def ping(self) -> object:
        """Read the base entry. Raises LdapError, or LookupError if there is no base entry.

        Returns ``READS_ONLY`` if no server that accepts writes can be reached.
        """
        if await self.directory.get(self._tree.base, ("1.1",)) is None:
            raise LookupError(self._tree.base)
        return None if await self.directory.takes_writes() else READS_ONLY

    async def open(self, *, writing: bool, retry_reason: RetryUnit | None = None) -> LdapUnit:
        """Begin a unit of work; a retry after Contended takes all needed locks at the beginning."""
        locks = UnitLocks(self.state, self.directory) if writing else None
        if locks is not None and isinstance(retry_reason, Contended):
            try:
                await locks.take(*retry_reason.names)
            except BaseException:
                await locks.release()
                raise
        connections = await self.databases.open(writing=writing)
        try:
            known = await self.directory.definitions()
        except BaseException:
            await connections.close()
            if locks is not None:
                await locks.release()
            raise
        session = Session(
            self.directory,
            self._tree,
            IredadminAccounts(connections, self._quota),
            self._options,
            self._listings,
            locks,
            known,
        )
        return LdapUnit(self, session, connections, locks)

    async def start(self) -> str:
        """Check server and configuration, then start the recovery of unfinished writes.

        Returns the error in the configuration, or an empty text. Raises ServerDown.
        """
        try:
            known = await self.directory.schema()
            for name, dn in (("BASE", self._tree.base), ("ADMIN_BASE", self._tree.admin_base)):
                if await self.directory.get(dn, ["1.1"]) is None:
                    return f"IREDAPI_LDAP_{name}_DN: there is no entry {dn}, or it may not be read"
        except Refused as error:
            if error.code == STRONGER_AUTH_REQUIRED:
                return explain(self._reach, error.code)[0]
            return (
                "IREDAPI_LDAP_BIND_DN, IREDAPI_LDAP_BIND_PASSWORD: the server rejects them: one of "
                "the two is wrong"
            )
        except Unavailable as error:
            sentence, is_down = await asyncio.to_thread(explain, self._reach, error.code)
            if not is_down:
                return sentence
            raise ServerDown(detail=sentence) from None
        except InvalidData:
            return "IREDAPI_LDAP_BASE_DN, IREDAPI_LDAP_ADMIN_BASE_DN: one of them is not a DN"
        if missing := sorted(REQUIRED - known):
            return (
                "IREDAPI_LDAP_URI: the server does not have iRedMail's schema; missing: "
                f"{', '.join(missing[:5])}"
            )
        if self._recovery is None:
            self._recovery = asyncio.create_task(self._recover_periodically())
        return ""

    async def _recover_periodically(self) -> None:
        while not self._closing.is_set():
            with suppress(StateUnavailable):
                await self.recover()
            with suppress(TimeoutError):
                async with asyncio.timeout(RECOVERY_SECONDS):
                    await self._closing.wait()

    async def recover(self) -> None:
        """Undo unfinished writes of processes that have died: those whose locks are free."""
        for record_id, names in await self.state.journal.open():
            # A record that cannot be undone now must not block the others.
            with suppress(LdapError, ApiError, RetryUnit):
                await self._recover(record_id, names)

    async def _recover(self, record_id: str, names: Collection[str]) -> None:
        locks = UnitLocks(self.state, self.directory)
        try:
            # This undoes the records. A running writer holds its locks until its record is erased.
            await locks.take(*names)
            await recover(self.state, self.directory, record_id)
        finally:
            await locks.release()

    async def close(self) -> None:
        """Close all connections."""
        if self._recovery is not None:
            # The event as well: Python 3.11 may lose a cancellation while aiomysql connects.
            self._closing.set()
            self._recovery.cancel()
            await asyncio.gather(self._recovery, return_exceptions=True)
        await self.directory.close()


class LdapUnit:
    """One unit of work: SQL transactions, locks of domains, and the write plan."""

    def __init__(
        self,
        directories: Directories,
        session: Session,
        connections: Connections,
        locks: UnitLocks | None,
    ) -> None:
        self._directories = directories
        self.session = session
        self.connections = connections
        self._locks = locks
        self.plan_begun = False
        """Whether ``commit`` has committed the SQL databases."""

    async def commit(self) -> None:
        """Commit the SQL databases, execute the write plan, then call ``session.after``."""
        steps = self.session.plan.steps(self.session.fit)
        if self._locks is not None:
            self._locks.check()
        if steps:
            await self._check_writable()
        await self.connections.commit()
        self.plan_begun = True
        # SQLite has one writer at a time, and callbacks in ``after`` write too.
        await self.connections.close()
        try:
            await self._changed(steps)
        except write_plan.UndoFailed:
            raise
        except (LdapError, ChangedMeanwhile):
            await self._failed()
            raise
        for work in self.session.after:
            await work()

    async def rehearse(self) -> None:
        """Check what ``commit`` checks before it writes; the plan is dropped."""
        steps = self.session.plan.steps(self.session.fit)
        if self._locks is not None:
            self._locks.check()
        if steps:
            await self._check_writable()

    async def _check_writable(self) -> None:
        """Check that the directory accepts writes, before SQL is committed. Raises ReadsOnly."""
        directory = self._directories.directory
        if not await directory.takes_writes():
            if directory.others_may_write:
                raise ChangedMeanwhile
            raise ReadsOnly(_UNWILLING)

    async def _failed(self) -> None:
        for work in self.session.failed:
            try:
                await work()
            except (DBAPIError, ApiError) as error:
                _log.error("ldap_failure_not_noted", kind=type(error).__name__)

    async def _execute(self, steps: Sequence[Step]) -> None:
        if any(isinstance(step, BulkStep) for step in steps):
            async with self._directories.bulk_steps:
                await self._recorded(steps)
        else:
            await self._recorded(steps)

    async def _recorded(self, steps: Sequence[Step]) -> None:
        state = self._directories.state
        directory = LockGuard(self._directories.directory, self._check)
        claim = CURRENT.get()
        # The journal tells later whether the write of a request with a key was made.
        fewest = 2 if claim is None else 1
        if sum(not isinstance(step, BulkStep) for step in steps) < fewest or self._locks is None:
            await self._plan(directory, steps)
            return
        record_id = await state.journal.write(self._locks.names, dump(steps), claim)
        try:
            await self._plan(directory, steps)
        except write_plan.UndoFailed:
            raise
        except LdapError:
            await state.journal.erase(record_id)
            raise
        await self._erase_record(self._locks, record_id, claim)

    async def _plan(self, directory: LockGuard, steps: Sequence[Step]) -> None:
        client = self._directories.directory
        if steps and client.is_one_of_several:
            await failover.execute(directory, steps, client)
        else:
            await write_plan.execute(directory, steps)

    async def _erase_record(self, locks: UnitLocks, record_id: str, claim: Claim | None) -> None:
        """Erase the journal record of a complete write: otherwise a recovery would undo it.

        While the state database is down no other process can take our locks, so retrying is safe.
        """
        while True:
            try:
                await self._directories.state.journal.complete(record_id, claim)
            except StateUnavailable:
                locks.check()
                await asyncio.sleep(_ERASE_SECONDS)
            else:
                return

    def _check(self) -> None:
        try:
            if self._locks is not None:
                self._locks.check()
        except ServerDown:
            raise Unavailable("the locks were lost", uncertain=False) from None

    async def _changed(self, steps: Sequence[Step]) -> None:
        try:
            await self._execute(steps)
        except ReadsOnly:
            if not self._directories.directory.others_may_write:
                raise
            # Run the unit again: it reads from the server that accepts writes.
            raise ChangedMeanwhile from None
        except (NoSuchValue, ValueExists, EntryExists, NoSuchEntry) as error:
            # Another program changed the entries. All steps are undone, so the unit can run again.
            _log.info("ldap_changed_meanwhile", code=error.code)
            raise ChangedMeanwhile from None

    async def close(self) -> None:
        """Close the SQL connections and release the locks."""
        try:
            await self.connections.close()
        finally:
            if self._locks is not None:
                await self._locks.release()


def is_transient(error: Exception) -> bool:
    """Tell whether the same unit may succeed if it runs again."""
    return isinstance(error, Busy)


def translated(error: Exception) -> Exception:
    """Return the API error of an LDAP error, without the server's text (except of ppolicy)."""
    if isinstance(error, Unavailable | Busy | write_plan.UndoFailed):
        return ServerDown(detail="The LDAP server cannot be reached.")
    if isinstance(error, PasswordRefused):
        return problem("password", "PW_REFUSED_BY_DIRECTORY", error.text)
    if isinstance(error, NotUnique):
        return Conflict(
            "ALREADY_EXISTS", "Another entry has a value that the directory allows only once."
        )
    if isinstance(error, ReadsOnly) or (isinstance(error, Refused) and error.code in {50, 53}):
        _log.error("ldap_reads_only", code=error.code)
        return ApiError("DIRECTORY_READ_ONLY", retry_after=2)
    if isinstance(error, InvalidData):
        _log.error("ldap_refused", code=error.code)
        return ApiError("INVALID_VALUE", "A value does not fit into the directory.")
    if isinstance(error, LdapError):
        _log.error("ldap_failed", code=error.code, kind=type(error).__name__)
    return error
