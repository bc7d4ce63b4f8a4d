"""Steps of workflows on mailing lists: lock a list, change subscribers, write the last row.

The lock also works between replicas. Subscribers are read again after each write: there are other
writers, and mlmmjadmin has no locks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import structlog

from iredapi.backends.protocols.mailing_lists import ListServer
from iredapi.backends.unit_of_work import Skipped, UnitOfWork
from iredapi.domain.actors import Actor
from iredapi.domain.audit_events import Event, Subject, further_change
from iredapi.domain.lists import Control, is_safe
from iredapi.errors import ApiError, NotSupported, Overloaded
from iredapi.operations import lists
from iredapi.runtime.context import AppContext
from iredapi.runtime.transactions import WriteResult
from iredapi.state import Lease, LockTimeout

Params = ParamSpec("Params")
Result = TypeVar("Result")
TRIES: Final = 3
_WAIT: Final = 60.0
"""Seconds to wait for the lock of a list (sixty requests on a slow machine)."""
_PAGE: Final = 1000
_log = structlog.get_logger(__name__)


def require_list_server(context: AppContext) -> ListServer:
    """Return the list server. Raises NotSupported."""
    if context.list_server is None:
        raise NotSupported(detail="No list server is configured.")
    return context.list_server


def reachable(server: ListServer, address: str) -> bool:
    """Tell whether the server can have a list with this address; others must not be sent."""
    return is_safe(address) and server.accepts(address)


async def get_control(server: ListServer, address: str) -> Control:
    """Return the settings of an existing list from the server. Raises ApiError if it has none."""
    found = await server.get(address) if reachable(server, address) else None
    if found is None:
        _log.error("list_data_missing", list=address)
        raise ApiError("MAILING_LIST_DATA_MISSING")
    return found


@asynccontextmanager
async def lock_list(context: AppContext, address: str, wait: float = _WAIT) -> AsyncIterator[Lease]:
    """Lock a list for a change. Raises Overloaded."""
    try:
        async with context.state.locks.hold(f"list {address}", wait=wait) as lease:
            try:
                yield lease
            finally:
                context.list_owners_and_moderators.invalidate(lambda key, _: key == address)
                context.has_lists.invalidate()
    except LockTimeout:
        raise Overloaded("Another request is changing the list.") from None


def subscribers_changed(address: str) -> Event:
    """Return what other systems are told of a list whose subscribers are changed."""
    return further_change(Subject.LIST, address, "subscribers")


class LastWrite:
    """The last step of a change: the write to the account storage.

    ``commit_reached`` tells whether its commit was started. Only then an error leaves the outcome
    unknown; before, a row with the wanted values was written by another request.
    """

    def __init__(self) -> None:
        self.commit_reached = False

    async def run(
        self,
        context: AppContext,
        actor: Actor,
        operation: Callable[Concatenate[UnitOfWork, Params], Awaitable[Any]],
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> WriteResult:
        """Run the operation and commit it."""

        async def watched(unit: UnitOfWork) -> None:
            self.commit_reached = False
            await operation(unit, *args, **kwargs)
            self.commit_reached = True

        return await context.write(actor, watched)


async def lists_of_domain(context: AppContext, actor: Actor, name: str) -> list[str]:
    """Return the addresses of all lists of a domain."""
    found: list[str] = []
    while some := await context.read(
        actor, lists.addresses, name, found[-1] if found else "", _PAGE
    ):
        found += some
    return found


async def subscribe(
    server: ListServer,
    address: str,
    mails: Collection[str],
    version: str,
    present: Mapping[str, str] | None = None,
) -> None:
    """Subscribe addresses without confirmation; ``present`` are their subscriptions, if read."""
    for left in range(TRIES, -1, -1):
        if present is None:
            present = await server.subscriptions(address, mails) if mails else {}
        missing = [mail for mail in mails if present.get(mail) != version]
        if not missing:
            return
        if not left:
            raise ApiError("MLMMJADMIN_ERROR", "The list server did not add all subscribers.")
        # With two kinds of subscription an address would get all mail twice.
        if switching := [mail for mail in missing if mail in present]:
            await server.drop(address, switching)
        await server.add(address, missing, version)
        present = None


async def unsubscribe(
    server: ListServer,
    address: str,
    mails: Collection[str],
    present: Collection[str] | None = None,
) -> None:
    """Unsubscribe addresses without a notice; ``present`` are the subscribed ones, if read."""
    for left in range(TRIES, -1, -1):
        if present is None:
            present = await server.subscriptions(address, mails) if mails else ()
        to_drop = [mail for mail in mails if mail in present]
        if not to_drop:
            return
        if not left:
            raise ApiError("MLMMJADMIN_ERROR", "The list server did not remove all subscribers.")
        await server.drop(address, to_drop)
        present = None


def with_skipped(done: WriteResult, skipped: Collection[Skipped]) -> WriteResult:
    """Return a result with further skipped values."""
    return replace(done, skipped=(*done.skipped, *(item.to_dict() for item in skipped)))
