"""List membership: updates mailing lists after accounts were created, renamed or removed.

The account is committed first. Lists that could not be updated are reported as skipped. After a
time-out of the list server, further requests wait only briefly for it, for half a minute.

Calls of the list server are kept few. The account storage has owners and moderators, and one call
returns all subscriptions of an address. Only moderators of subscriptions are stored by mlmmj alone,
so the owners and moderators of each list of the domain are cached for half a minute. An update of
one list takes at most eight calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial
from typing import Any, Concatenate, Final, ParamSpec

import structlog

from iredapi.backends.protocols.mailing_lists import ListServer, Untouched
from iredapi.backends.unit_of_work import Skipped, UnitOfWork
from iredapi.concurrency.shield import finish
from iredapi.domain import list_updates
from iredapi.domain.actors import SYSTEM, Actor
from iredapi.domain.addresses import domain_of, fold
from iredapi.domain.lists import State
from iredapi.errors import ApiError, ServerDown
from iredapi.operations import lists
from iredapi.runtime.context import AppContext
from iredapi.runtime.transactions import WriteResult
from iredapi.state import StateUnavailable
from iredapi.workflows.mailing_list_steps import (
    lists_of_domain,
    lock_list,
    reachable,
    require_list_server,
    subscribe,
    subscribers_changed,
    unsubscribe,
    with_skipped,
)

Params = ParamSpec("Params")
Successor = Callable[[str], str]
"""Returns the new address of an account; an empty text: it was removed."""
_SECONDS: Final = 10.0
"""Time limit in seconds: after it no update of a further list is started."""
_BRIEF: Final = 2.0
"""The same after a time-out of the list server; also the minimum wait for the lock of a list."""
_AT_A_TIME: Final = 3
"""Lists read at the same time: mlmmjadmin has five processes, which others use too."""
_log = structlog.get_logger(__name__)


async def remove_or_rename(
    context: AppContext,
    actor: Actor,
    old: str,
    new: str,
    operation: Callable[Concatenate[UnitOfWork, Params], Awaitable[Any]],
    *args: Params.args,
    **kwargs: Params.kwargs,
) -> WriteResult:
    """Remove an account, or rename it to ``new``, by ``operation``; then update the lists."""
    server = context.list_server
    named: frozenset[str] = frozenset()
    if server is not None:
        named = await context.read(actor, lists.managed_by, (old,), ())
    done = await context.write(actor, operation, *args, **kwargs)
    if server is None or not server.accepts(old):
        return done
    others = await lists_of_domain(context, actor, domain_of(old))

    def successor(mail: str) -> str:
        return new if fold(mail) == fold(old) else mail

    return with_skipped(
        done, await finish(update_lists(context, actor, successor, named, others, old))
    )


async def join_default_lists(
    context: AppContext, actor: Actor, server: ListServer, mail: str
) -> list[Skipped]:
    """Subscribe a new user to the default lists of its domain; return the lists that failed."""
    end = _end(context)

    async def join(address: str) -> None:
        async with lock_list(context, address, _left(end)):
            if await server.exists(address):
                async with context.announced(actor, subscribers_changed(address)):
                    await subscribe(server, address, (mail,), "normal")

    wanted = await context.read(actor, lists.defaults, domain_of(mail))
    skipped: list[Skipped] = []
    await _each(context, server, wanted, join, end, skipped)
    return skipped


async def subscriptions_of(
    context: AppContext, mail: str
) -> tuple[frozenset[str] | None, list[Skipped]]:
    """Return the lists that an address is subscribed to (None: not known), and what was skipped.

    Failures of the list server are cached for some seconds, so that profiles are not slow.
    """
    server = context.list_server
    if server is None or not server.accepts(mail):
        return None if server is None else frozenset(), []
    # Without any list in the storage the list server is not called.
    if not await context.has_lists.get_or_load("", partial(context.read, SYSTEM, lists.exist)):
        return frozenset(), []
    reason = context.list_server_fails.get("")
    if reason is None:
        now = context.list_server_fails.generation
        try:
            async with asyncio.timeout(_BRIEF):
                return frozenset(await server.lists_of(mail)), []
        except (ApiError, TimeoutError) as error:
            reason = error.code if isinstance(error, ApiError) else "MLMMJADMIN_TIMEOUT"
        context.list_server_fails.put("", reason, now)
        _log.warning("list_memberships_not_read", reason=reason)
    return None, [Skipped("mailing_lists", mail, reason)]


async def update_lists(
    context: AppContext,
    actor: Actor,
    successor: Successor,
    named: Collection[str],
    others: Collection[str] = (),
    mail: str = "",
) -> list[Skipped]:
    """Replace or remove owners and moderators, and the subscriptions of ``mail``.

    ``named`` are lists with such owners or moderators; ``others`` have to be checked.
    """
    server = require_list_server(context)
    skipped: list[Skipped] = []
    end = _end(context)
    subscribed: dict[str, str] = {}

    async def replace(address: str) -> None:
        async with lock_list(context, address, _left(end)):
            await _replace_members(
                context, actor, server, address, successor, mail, address in subscribed
            )

    if mail:
        try:
            subscribed = await _read_before(end, server.lists_of(mail))
        except (ApiError, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                _remember_timeout(context)
            return [_not_updated(context, item, error) for item in (mail, *sorted(named))]
    try:
        known = {*named, *subscribed}
        if await _each(context, server, known, replace, end, skipped):
            left = [item for item in others if item not in known and reachable(server, item)]
            found = await _read_before(
                end, _with_owners_or_moderators(context, server, left, successor)
            )
            await _each(context, server, found, replace, end, skipped)
    except (ApiError, StateUnavailable, TimeoutError) as error:
        skipped.append(_not_updated(context, mail, error))
    return skipped


async def _each(
    context: AppContext,
    server: ListServer,
    addresses: Iterable[str],
    work: Callable[[str], Awaitable[None]],
    end: float,
    skipped: list[Skipped],
) -> bool:
    """Call ``work`` for each list; a failed list is skipped. A failed server ends the loop."""
    down: Exception | None = None
    for address in sorted(addresses):
        if not reachable(server, address):
            continue
        error = down
        if error is None:
            try:
                if asyncio.get_running_loop().time() > end:
                    raise TimeoutError
                await work(address)
            except (ApiError, StateUnavailable, TimeoutError) as failure:
                error = failure
        if error is not None:
            skipped.append(_not_updated(context, address, error))
            down = error if _is_down(error) else None
    return down is None


async def _replace_members(
    context: AppContext,
    actor: Actor,
    server: ListServer,
    address: str,
    successor: Successor,
    mail: str,
    subscribed: bool,
) -> None:
    control = await server.get(address)
    if control is None:
        return
    changes = list_updates.with_successors(address, control, successor)
    stored = await context.read(actor, lists.find, address) if changes else None
    if stored is not None:
        revised = list_updates.revise(State(stored, control), changes)
        await server.save(address, control, revised.control)
        await context.write(actor, lists.save, stored, revised.stored, changes, changes)
    if subscribed:
        present = await server.subscriptions(address, (mail,))
        new = successor(mail)
        async with context.announced(actor, subscribers_changed(address)):
            if mail in present and new and server.accepts(new):
                await subscribe(server, address, (new,), present[mail])
            await unsubscribe(server, address, (mail,), present)


async def _with_owners_or_moderators(
    context: AppContext, server: ListServer, addresses: list[str], successor: Successor
) -> list[str]:
    """Return the lists with owners or moderators that have a successor."""
    cache = context.list_owners_and_moderators

    async def managers_of(address: str) -> frozenset[str]:
        found = cache.get(address)
        if found is None:
            now = cache.generation
            control = await server.get(address)
            found = frozenset() if control is None else list_updates.owners_and_moderators(control)
            cache.put(address, found, now)
        return found

    found = []
    for start in range(0, len(addresses), _AT_A_TIME):
        some = addresses[start : start + _AT_A_TIME]
        answers = await asyncio.gather(*map(managers_of, some))
        found += [
            address
            for address, named in zip(some, answers, strict=True)
            if any(successor(mail) != mail for mail in named)
        ]
    return found


def _end(context: AppContext) -> float:
    slow = context.list_server_hangs.get("")
    return asyncio.get_running_loop().time() + (_BRIEF if slow else _SECONDS)


def _left(end: float) -> float:
    """Return how many seconds to wait for the lock of a list."""
    return max(end - asyncio.get_running_loop().time(), _BRIEF)


async def _read_before(end: float, asked: Awaitable[Any]) -> Any:
    """Await a read until ``end``. Raises TimeoutError. Writes are not interrupted."""
    async with asyncio.timeout_at(end):
        return await asked


def _is_down(error: Exception) -> bool:
    if isinstance(error, ApiError):
        return isinstance(error, (Untouched, ServerDown)) or error.code == "MLMMJADMIN_TIMEOUT"
    return True


def _not_updated(context: AppContext, address: str, error: Exception) -> Skipped:
    reason = error.code if isinstance(error, ApiError) else "SERVER_DOWN"
    if reason == "MLMMJADMIN_TIMEOUT":
        _remember_timeout(context)
    _log.warning("mailing_list_not_updated", list=address, reason=reason)
    return Skipped("mailing_lists", address, reason)


def _remember_timeout(context: AppContext) -> None:
    cache = context.list_server_hangs
    cache.put("", True, cache.generation)
