"""Sends events to webhooks: one process of all replicas, which holds a lease.

Each webhook has a courier: it reads the events in their order, and sends several at a time but
those of one account one after the other. An event stays open until the receiver takes it. How far a
courier has come is stored after a moment; what was sent and not stored yet is sent again by the
next process, under the same id.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from contextlib import suppress
from typing import Final

import structlog

from iredapi.runtime.context import AppContext
from iredapi.state import Lease, LockTimeout, StateUnavailable
from iredapi.workflows.webhook_courier import Courier
from iredapi.workflows.webhook_requests import tls_of

_LOCK: Final = "webhooks"
_LEASE: Final = 10.0
"""Seconds after which another process sends when this one does not answer any more."""
_CANDIDATE_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.5
_IDLE_SECONDS: Final = 2.0
"""While there are no webhooks."""
_CLOSE: Final = 10.0
"""Seconds that the end of the service waits for what is running."""
_log = structlog.get_logger(__name__)


class WebhookSender:
    """Runs in every process; sends in one."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._closing = asyncio.Event()
        self._couriers: dict[str, Courier] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        """Couriers that wait for what they are sending: others do not wait for them."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Send until ``close``, if the settings want that."""
        if self._context.settings.events and self._context.settings.webhooks:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End, after what is being sent now."""
        self._closing.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_CLOSE)
            self._task.cancel()

    async def _run(self) -> None:
        locks = self._context.state.locks
        while not self._closing.is_set():
            try:
                async with locks.hold(_LOCK, lease=_LEASE, wait=0.0) as lease:
                    await self._send(lease, await tls_of(self._context.settings))
            except LockTimeout:
                pass  # another process sends
            except StateUnavailable as error:
                _log.warning("webhooks_wait", reason=str(error))
            except Exception:
                _log.exception("webhooks_failed")
            await self._pause(_CANDIDATE_SECONDS * random.uniform(0.7, 1))  # noqa: S311 (no secret)

    async def _send(self, lease: Lease, tls: ssl.SSLContext) -> None:
        """Send until the end, or until the lease is lost. Raises LockLost."""
        state = self._context.state
        try:
            while not self._closing.is_set():
                lease.check()
                pause = _POLL_SECONDS
                # While the database is away couriers have nothing new; the lease ends by itself.
                self._forget_ended()
                with suppress(StateUnavailable):
                    there = {one.id: one for one in await state.webhooks.enabled()}
                    end = await state.events.end() if there else 0
                    for webhook_id, courier in [*self._couriers.items()]:
                        now = there.get(webhook_id)
                        if now is None or not courier.goes_on(now.generation):
                            del self._couriers[webhook_id]
                            self._ending[webhook_id] = asyncio.create_task(courier.stop())
                    for webhook_id, webhook in there.items():
                        if webhook_id in self._ending:
                            continue  # it is read again when that has ended
                        if webhook_id not in self._couriers:
                            self._couriers[webhook_id] = Courier(self._context, lease, tls, webhook)
                        self._couriers[webhook_id].tell(end)
                    if not there:
                        pause = _IDLE_SECONDS
                await self._pause(pause)
        finally:
            couriers, self._couriers = [*self._couriers.values()], {}
            ending = [*self._ending.values()]
            await asyncio.gather(*ending, *(courier.stop() for courier in couriers))
            self._forget_ended()

    def _forget_ended(self) -> None:
        for webhook_id, task in [*self._ending.items()]:
            if task.done():
                del self._ending[webhook_id]
                task.result()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
