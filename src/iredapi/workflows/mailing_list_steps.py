"""Steps that every change of a mailing list is made of.

The lock keeps replicas apart. Subscribers are read again after they were written: lists have other
writers, and mlmmjadmin locks nothing.
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
"""Seconds to wait for a list that others are changing: sixty of them, on a slow machine."""
_PAGE: Final = 1000
_log = structlog.get_logger(__name__)


def require_list_server(context: AppContext) -> ListServer:
    """Return the list server. Raises NotSupported."""
    if context.list_server is None:
        raise NotSupported(detail="No list server is configured.")
    return context.list_server


def reachable(server: ListServer, address: str) -> bool:
    """Tell whether a list can be on the server: other addresses must not get to it."""
    return is_safe(address) and server.accepts(address)


async def get_control(server: ListServer, address: str) -> Control:
    """Return the settings of a list that the account storage knows. ApiError without them."""
    found = await server.get(address) if reachable(server, address) else None
    if found is None:
        _log.error("list_data_missing", list=address)
        raise ApiError("MAILING_LIST_DATA_MISSING")
    return found


@asynccontextmanager
async def lock_list(context: AppContext, address: str, wait: float = _WAIT) -> AsyncIterator[Lease]:
    """Hold a list against everybody else who changes it. Raises Overloaded."""
    try:
        async with context.state.locks.hold(f"list {address}", wait=wait) as lease:
            try:
                yield lease
            finally:
                context.list_owners_and_moderators.invalidate(lambda key, _: key == address)
                context.has_lists.invalidate()
    except LockTimeout:
        raise Overloaded("Somebody else is changing the list.") from None


class LastWrite:
    """The write to the account storage that ends a change.

    Whether an error leaves it undone is open only once it got as far as its commit: before that,
    a row that looks as wanted is somebody else's.
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
    """Subscribe people without asking them; ``present`` is what was just read of them."""
    for left in range(TRIES, -1, -1):
        if present is None:
            present = await server.subscriptions(address, mails) if mails else {}
        missing = [mail for mail in mails if present.get(mail) != version]
        if not missing:
            return
        if not left:
            raise ApiError("MLMMJADMIN_ERROR", "The list server did not take all subscribers.")
        # Nobody is in two versions: they would get everything twice.
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
    """Unsubscribe people without telling them; ``present`` are those who are subscribed."""
    for left in range(TRIES, -1, -1):
        if present is None:
            present = await server.subscriptions(address, mails) if mails else ()
        leaving = [mail for mail in mails if mail in present]
        if not leaving:
            return
        if not left:
            raise ApiError("MLMMJADMIN_ERROR", "The list server did not remove all subscribers.")
        await server.drop(address, leaving)
        present = None


def with_skipped(done: WriteResult, skipped: Collection[Skipped]) -> WriteResult:
    """Add to what the answer tells."""
    return replace(done, skipped=(*done.skipped, *(item.to_dict() for item in skipped)))
