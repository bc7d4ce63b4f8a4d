"""Micro-batching of requests that create or change mail users (ADR 12).

Each request has its own result, which does not depend on the other requests of its batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from iredapi.backends.protocols.backend import Backend
from iredapi.backends.unit_of_work import STRICT, UnitOfWork
from iredapi.concurrency.batcher import Batcher
from iredapi.concurrency.deadline import Deadline
from iredapi.concurrency.shield import finish
from iredapi.concurrency.ttl_cache import TTLCache
from iredapi.domain.actors import SYSTEM, Actor, Principal
from iredapi.domain.audit_events import Event
from iredapi.domain.change_events import ChangeEvent, changes_of
from iredapi.domain.user_parameters import CREDENTIALS, new_row_parameters
from iredapi.errors import ApiError, OutcomeUnknown, ServerDown
from iredapi.observability.logging import REQUEST_ID
from iredapi.observability.query_counter import METER, Meter
from iredapi.operations import user_batches, users
from iredapi.operations.passwords import Passwords
from iredapi.operations.preconditions import PRECONDITION
from iredapi.operations.user_batches import BatchedChange, ChangeResult
from iredapi.runtime.attempts import ATTEMPT
from iredapi.runtime.audit_writer import AuditEntry, Auditor
from iredapi.runtime.dry_run import DRY_RUN
from iredapi.runtime.iredadmin_settings import CachedIredadminSettings
from iredapi.runtime.outbox import EVENT_ID, Outbox
from iredapi.runtime.retries import commit_error

_log = structlog.get_logger(__name__)
Done = bool | asyncio.Future[bool]
"""True, once the audit log is written: the change was made. False: run the request alone."""
Operation = Callable[[UnitOfWork, Sequence[BatchedChange], list[ChangeResult]], Awaitable[None]]
"""Sets each result as soon as it is known, so that committed changes survive a later error."""


class UserBatcher:
    """Two micro-batchers: one for creations, one for changes.

    ``timeout`` is the maximum in seconds for waiting in the queue, and for the work of one batch.
    """

    def __init__(
        self,
        backend: Backend,
        auditor: Auditor,
        sessions: TTLCache[Principal],
        iredadmin_settings: CachedIredadminSettings,
        outbox: Outbox,
        *,
        timeout: float,
    ) -> None:
        self._backend = backend
        self._batching = backend.user_batching
        max_batches = 1 if self._batching is None else self._batching.max_concurrent_batches
        self._auditor = auditor
        self._sessions = sessions
        self._iredadmin_settings = iredadmin_settings
        self._outbox = outbox
        self._timeout = timeout
        self._creations: Batcher[BatchedChange, bool] = Batcher(
            partial(self._run, user_batches.create),
            queue_timeout=timeout,
            kind="creations",
            max_concurrent_batches=max_batches,
        )
        self._changes: Batcher[BatchedChange, bool] = Batcher(
            partial(self._run, user_batches.change),
            queue_timeout=timeout,
            kind="changes",
            max_concurrent_batches=max_batches,
            wait_for_previous=True,
        )
        self._logging: set[asyncio.Task[None]] = set()

    async def create(
        self,
        actor: Actor,
        mail: str,
        changes: Mapping[str, Any],
        hashed: str,
        passwords: Passwords,
    ) -> BatchedChange | None:
        """Create a user; None: it must be created without a batch. Raises ApiError."""
        item = BatchedChange(actor, mail, changes, hashed, REQUEST_ID.get(), METER.get(), passwords)
        item.exact = STRICT.get()
        batching = self._batching
        if batching is None or not batching.gains_from_batching or not item.may_create(batching):
            return None
        if ATTEMPT.get() is not None or DRY_RUN.get() is not None:
            return None
        return item if _is_done(item, done=await self._done(self._creations, item)) else None

    async def change(
        self, actor: Actor, mail: str, changes: Mapping[str, Any], hashed: str
    ) -> BatchedChange | None:
        """Change a user; None: it must be changed without a batch. Raises ApiError."""
        item = BatchedChange(actor, mail, changes, hashed, REQUEST_ID.get(), METER.get())
        batching = self._batching
        if batching is None or not item.may_change(batching) or PRECONDITION.get() is not None:
            return None
        if ATTEMPT.get() is not None or DRY_RUN.get() is not None:
            return None
        if (
            not (item.needs_no_read and batching.updates_without_read)
            and not batching.has_row_versions
        ):
            return None
        if batching.gains_from_batching:
            done = await self._done(self._changes, item)
            return item if _is_done(item, done=done) else None
        # A batch of one item: it still saves statements.
        (found,) = await finish(self._run(user_batches.change, [item]))
        if isinstance(found, Exception):
            raise found
        done = found if isinstance(found, bool) else await asyncio.shield(found)
        return item if _is_done(item, done=done) else None

    def takes(self, changes: Mapping[str, Any]) -> bool:
        """Tell whether a creation with these parameters and a password may share a unit."""
        if changes.keys().isdisjoint(CREDENTIALS):
            return False
        return changes.keys() <= new_row_parameters(self._backend.created_together)

    async def create_all(
        self, items: Sequence[BatchedChange], *, dry_run: bool = False
    ) -> list[bool | Exception]:
        """Create users in one unit. False: the user must be created by itself.

        In a dry run nothing is committed. Each user has its own error.
        """
        try:
            found = await finish(self._run(user_batches.create, items, dry_run=dry_run))
        except ApiError as error:
            return [error for _ in items]
        return [
            await asyncio.shield(one) if isinstance(one, asyncio.Future) else one for one in found
        ]

    async def drain(self) -> None:
        """Wait for batches and log entries that are in progress, up to the time limit."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._creations.close()
                await self._changes.close()
                if self._logging:
                    await asyncio.wait(set(self._logging))

    async def _done(self, batcher: Batcher[BatchedChange, bool], item: BatchedChange) -> bool:
        try:
            return await batcher.submit(item)
        except TimeoutError:
            raise ServerDown(detail="A server behind the API did not answer in time.") from None

    async def _run(
        self, operation: Operation, items: Sequence[BatchedChange], *, dry_run: bool = False
    ) -> Sequence[Done | Exception]:
        rules = await self._iredadmin_settings.rules()
        results: list[ChangeResult] = [None] * len(items)
        transaction = await self._backend.begin()
        meter, working, committing = Meter(), False, False
        METER.set(meter)
        try:
            async with Deadline(self._timeout):
                if operation is user_batches.change:
                    # Some changes commit at once.
                    await self._announce(items, [_changed(item) for item in items])
                working = True
                await operation(await transaction.unit(SYSTEM, rules), items, results)
                if not dry_run:
                    await self._announce(items, results)
            if dry_run:
                return [_told(result) for result in results]
            committing = True
            if any(isinstance(result, Event) for result in results):
                await transaction.commit()
        except ServerDown as late:
            if operation is not user_batches.change or not working:
                raise
            # Items with a result are committed; for the others it is unknown.
            commit_outcome_unknown = commit_error(self._backend, late)
            results = [commit_outcome_unknown if result is None else result for result in results]
        except ApiError:
            self._outbox.undone(item.pending for item in items if item.pending and not committing)
            raise
        except Exception as error:
            foreseen = isinstance(error, self._backend.errors)
            if committing and foreseen and transaction.is_undone(error):
                # Somebody else has changed a row at the same time: each item is run alone.
                results = [None if isinstance(item, Event) else item for item in results]
            elif committing:
                commit_outcome_unknown = commit_error(self._backend, error)
                results = [
                    commit_outcome_unknown if isinstance(item, Event) else item for item in results
                ]
            else:
                if not foreseen:
                    _log.warning("user_batch_split", reason=type(error).__name__)
                # No user was created, and changes can be repeated. Each item is run alone now, so
                # that only the one that causes the error fails.
                if operation is user_batches.create:
                    results = [None] * len(items)
        finally:
            await transaction.close()
        for item in items:
            if item.meter is not None:
                item.meter.round_trips += meter.round_trips
                item.meter.seconds += meter.seconds
        self._publish(items, results)
        return self._logged(items, results)

    async def _announce(
        self, items: Sequence[BatchedChange], results: Sequence[ChangeResult]
    ) -> None:
        """Store what is about to be committed. Raises ApiError: then it must not be."""
        if not self._outbox.wanted:
            return
        some = [
            (item, _change_event(item, one, item.changes))
            for item, one in zip(items, results, strict=True)
            if isinstance(one, Event) and item.pending is None
        ]
        stored = await self._outbox.begin([event for _, event in some])
        for (item, _), event in zip(some, stored, strict=True):
            item.pending = event

    def _publish(self, items: Sequence[BatchedChange], results: Sequence[ChangeResult]) -> None:
        """Tell the outbox what has become of each item. One that is run alone keeps its event."""
        for item, result in zip(items, results, strict=True):
            if item.pending is None:
                continue
            if isinstance(result, Event):
                known = _change_event(item, result, item.changed)
                self._outbox.committed([replace(item.pending, body=known.body)])
            elif result is True or (
                isinstance(result, ApiError) and not isinstance(result, OutcomeUnknown)
            ):
                self._outbox.undone([item.pending])

    def _logged(
        self, items: Sequence[BatchedChange], results: Sequence[ChangeResult]
    ) -> list[Done | Exception]:
        """Start writing the audit log, in a task that does not end with the requests."""
        audit_entries = [
            AuditEntry(item.request_id, item.actor, result, item.revision)
            for item, result in zip(items, results, strict=True)
            if isinstance(result, Event)
        ]
        names = {item.event.username for item in audit_entries}
        self._sessions.invalidate(lambda _, principal: principal.username in names)
        logged: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if not audit_entries:
            logged.set_result(True)
            return _results(results, logged)
        task = asyncio.ensure_future(self._auditor.append(audit_entries))
        self._logging.add(task)
        task.add_done_callback(self._logging.discard)
        task.add_done_callback(partial(_set_logged, logged))
        return _results(results, logged)


def _is_done(item: BatchedChange, *, done: bool) -> bool:
    """Return whether an item is done. If not it is run alone; its event may be pending already."""
    if not done and item.pending is not None:
        EVENT_ID.set(item.pending.id)
    return done


def _changed(item: BatchedChange) -> Event:
    return users.changed(item.mail, item.changes)


def _change_event(item: BatchedChange, event: Event, fields: Collection[str] | None) -> ChangeEvent:
    (found,) = changes_of([event], fields, item.actor.username, item.request_id)
    return found


def _results(
    results: Sequence[ChangeResult], logged: asyncio.Future[bool]
) -> list[Done | Exception]:
    return [
        logged if isinstance(result, Event) else False if result is None else result
        for result in results
    ]


def _told(result: ChangeResult) -> bool | Exception:
    """Return the result of a dry run."""
    return result if isinstance(result, bool | Exception) else result is not None


def _set_logged(logged: asyncio.Future[bool], _: asyncio.Task[None]) -> None:
    if not logged.done():
        logged.set_result(True)
