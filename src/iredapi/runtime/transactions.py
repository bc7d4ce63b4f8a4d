"""Run operations in transactions: deadlines, retries, commit, audit log.

A read runs in autocommit. A write runs all its statements first, in open transactions. Then the
related databases commit, then the accounts, and at last the audit log is written. A deadlock, also
at COMMIT, or a connection that was lost before anything was committed, is retried.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import structlog

from iredapi.backends.protocols.backend import Backend, Transaction
from iredapi.backends.protocols.values import RetryUnit
from iredapi.backends.unit_of_work import (
    STRICT,
    AccessRevocations,
    ReadUnit,
    Rules,
    UnitOfWork,
    refuse_unless_exact,
)
from iredapi.concurrency.deadline import Deadline
from iredapi.concurrency.shield import finish
from iredapi.concurrency.ttl_cache import TTLCache
from iredapi.config.settings import Settings
from iredapi.domain.actors import Actor, Principal
from iredapi.domain.audit_events import Event
from iredapi.domain.change_events import ChangeEvent
from iredapi.domain.revisions import Revision
from iredapi.errors import ApiError, Conflict
from iredapi.observability import signals
from iredapi.observability.logging import REQUEST_ID
from iredapi.operations.preconditions import PRECONDITION
from iredapi.runtime.attempts import ATTEMPT
from iredapi.runtime.audit_writer import AuditEntry, Auditor
from iredapi.runtime.dry_run import DRY_RUN
from iredapi.runtime.dry_run_notes import watched
from iredapi.runtime.iredadmin_settings import CachedIredadminSettings
from iredapi.runtime.outbox import Outbox
from iredapi.runtime.retries import (
    COLLISION_SHARE,
    COLLISION_TRIES,
    TRIES,
    backoff,
    commit_error,
    may_run_again,
    only_policies_written,
    retry_read,
)
from iredapi.state.connections import StateUnavailable
from iredapi.state.database import State

Params = ParamSpec("Params")
Result = TypeVar("Result")
Reading = Callable[Concatenate[ReadUnit, Params], Awaitable[Result]]
"""An operation that only reads: ``ReadUnit`` has no method that writes."""
Writing = Callable[Concatenate[UnitOfWork, Params], Awaitable[Result]]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What the answer to a successful write reports besides "success"."""

    skipped: tuple[Mapping[str, str], ...] = ()
    changed: tuple[str, ...] | None = None
    """Names of parameters whose value is different now; None: created, removed or ended."""
    ignored: tuple[str, ...] = ()
    adjusted: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def from_unit(cls, unit: UnitOfWork) -> Self:
        """Return the result that a unit of work has recorded."""
        return cls(
            tuple(item.to_dict() for item in unit.skipped),
            None if unit.changed is None else tuple(sorted(unit.changed)),
            tuple(unit.ignored),
            tuple(item.to_dict() for item in unit.adjusted),
        )

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Return the result with these fields, such as ``asdict`` has returned."""
        changed = fields["changed"]
        return cls(
            tuple(fields["skipped"]),
            None if changed is None else tuple(changed),
            tuple(fields["ignored"]),
            tuple(fields["adjusted"]),
        )


@dataclass(slots=True)
class _Tried:
    """What the attempts of one write have left."""

    partly_committed: bool = False
    """Whether a related database was committed, but not the accounts."""
    dry: bool = False
    """Whether nothing is to be committed."""
    pending: list[ChangeEvent] = field(default_factory=list)
    """What the outbox has of the last attempt."""
    in_doubt: bool = False
    """Whether a commit was begun that may have been made."""


class Transactions:
    """Runs operations, each in a transaction of its own.

    ``sessions`` is the cache of principals by session id. It is invalidated after each commit.
    """

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        state: State,
        sessions: TTLCache[Principal],
        auditor: Auditor,
        iredadmin_settings: CachedIredadminSettings,
        outbox: Outbox,
    ) -> None:
        self._outbox = outbox
        self._timeout = settings.request_timeout
        self._tokens_outlive_password = settings.tokens_outlive_password
        self._backend = backend
        self._state = state
        self._sessions = sessions
        self._auditor = auditor
        self._iredadmin_settings = iredadmin_settings
        # TimeoutError: raised by a driver that gives up.
        self._errors: tuple[type[Exception], ...] = (TimeoutError, *backend.errors)
        self._reported: tuple[type[Exception], ...] = (ApiError, *self._errors)

    async def read(
        self,
        actor: Actor,
        operation: Reading[Params, Result],
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> Result:
        """Run an operation that only reads. Raises ApiError."""

        async def once() -> Result:
            transaction = await self._backend.begin_read()
            try:
                async with Deadline(self._timeout):
                    unit = await transaction.unit(actor, self._iredadmin_settings.configured_rules)
                    return await operation(unit, *args, **kwargs)
            finally:
                await transaction.close()

        return await retry_read(self._backend, once)

    async def write(
        self,
        actor: Actor,
        operation: Writing[Params, Any],
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> WriteResult:
        """Run an operation, commit it, and write the audit log. Raises ApiError."""
        rules = await self._iredadmin_settings.rules()
        condition, attempt, dry = PRECONDITION.get(), ATTEMPT.get(), DRY_RUN.get()
        tried = _Tried(dry=dry is not None)
        if self._outbox.wanted and dry is None:
            tried.pending = self._outbox.reuse()

        async def once(unit: UnitOfWork) -> None:
            if condition is not None and not condition.met:
                await condition.check(unit)
            if attempt is not None:
                await attempt.begin(unit)
            await operation(unit if dry is None else watched(unit, dry), *args, **kwargs)
            if STRICT.get():
                refuse_unless_exact(unit.ignored, unit.adjusted)
            if attempt is not None:
                result = asdict(WriteResult.from_unit(unit))
                visible = self._backend.sees_own_writes
                await attempt.before_commit(unit, result, sees_own_writes=visible)

        try:
            unit = await self._write(actor, rules, once, tried)
        except self._reported as error:
            if not tried.partly_committed:
                if not tried.in_doubt:
                    self._outbox.undone(tried.pending)
                raise
            raise only_policies_written(error) from error
        except asyncio.CancelledError:
            if not tried.in_doubt:
                self._outbox.undone(tried.pending)
            raise
        if condition is not None:
            condition.met = True
        if dry is not None:
            dry.end()
        if attempt is not None:
            attempt.committed()
        return WriteResult.from_unit(unit)

    async def _write(
        self,
        actor: Actor,
        rules: Rules,
        operation: Callable[[UnitOfWork], Awaitable[None]],
        tried: _Tried,
    ) -> UnitOfWork:
        retry_reason: RetryUnit | None = None
        until = time.monotonic() + self._timeout * COLLISION_SHARE
        for attempt in range(COLLISION_TRIES):
            transaction = await self._backend.begin(retry_reason=retry_reason)
            committing = done = False
            if attempt:
                signals.unit_retried()
            pause = backoff(attempt)
            try:
                async with Deadline(self._timeout):
                    unit = await transaction.unit(actor, rules)
                    await operation(unit)
                    if self._outbox.wanted and not tried.dry:
                        tried.pending = await self._outbox.begin_unit(unit, tried.pending)
                if tried.dry:
                    await transaction.rehearse()
                    break
                committing = tried.in_doubt = True
                # Shielded: a client that disconnects must not prevent the audit log.
                await finish(self._commit(transaction, unit, tried.pending))
                done = True
            except RetryUnit as retry:
                tried.in_doubt = False
                if attempt >= TRIES - 1:
                    raise Conflict("CHANGED_MEANWHILE") from retry
                retry_reason = retry
                pause = retry.seconds or pause
            except self._errors as error:
                if committing and not transaction.is_undone(error):
                    raise commit_error(self._backend, error) from error
                tried.in_doubt = False
                if not may_run_again(self._backend, error, attempt, until):
                    raise self._backend.translated(error) from error
            else:
                break
            finally:
                if not done:
                    tried.partly_committed |= transaction.partly_committed
                    await finish(transaction.close())
            await asyncio.sleep(pause)
        return unit

    async def audit(self, actor: Actor, events: Sequence[Event]) -> None:
        """Write events to iRedAdmin's log and to our own. Never raises."""
        await self._audit(actor, events, None)

    async def _audit(
        self, actor: Actor, events: Sequence[Event], revision: Revision | None
    ) -> None:
        if events:
            request_id = REQUEST_ID.get()
            *others, last = events
            entries = [AuditEntry(request_id, actor, event) for event in others]
            # The last event of an operation is the one that names the changed parameters.
            await self._auditor.append([*entries, AuditEntry(request_id, actor, last, revision)])

    async def _commit(
        self, transaction: Transaction, unit: UnitOfWork, pending: Sequence[ChangeEvent]
    ) -> None:
        try:
            await transaction.commit()
        finally:
            self._invalidate_principals(unit.affected_account)
        if pending:
            self._outbox.committed(pending)
        # SQLite has one writer at a time, and the audit log is the next one.
        await transaction.close()
        await self._audit(unit.actor, unit.events, unit.revision)
        if unit.revocations:
            await self._revoke(unit.revocations)

    async def _revoke(self, revocations: AccessRevocations) -> None:
        """End sessions and API tokens.

        Never raises: each session and token is compared with the stored account anyway when it is
        used.
        """
        try:
            for mail in sorted(revocations.sessions | revocations.demoted):
                await self._state.sessions.end_all(mail)
            ended = revocations.demoted
            if not self._tokens_outlive_password:
                ended = ended | revocations.tokens
            await self._state.tokens.end_owners(ended)
            for mail in sorted(revocations.demoted):
                await self._state.networks.forget(mail)
            for domain in sorted(revocations.domains):
                await self._state.sessions.end_domain(domain, but=revocations.exempt_admins)
                await self._state.tokens.end_domain(domain, but=revocations.exempt_admins)
        except StateUnavailable as error:
            _log.error("access_not_ended", reason=str(error))
        finally:
            self._sessions.invalidate()

    def _invalidate_principals(self, affected_account: str) -> None:
        """Invalidate the cached permissions of an account; empty: those of all accounts."""
        if affected_account:
            self._sessions.invalidate(lambda _, principal: principal.username == affected_account)
        else:
            self._sessions.invalidate()
